"""A device's extents from what is left of its map, its frames and its parent (docs/format.md,
sections 6.1, 7, 9.4 and 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from aipimage.errors import AipImageError
from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.mappage import MapPage, decode_map_page, root_level
from aipimage.format.origins import OriginEntry
from aipimage.format.record import Reference
from aipimage.format.tables import unpack_at
from aipimage.io.index.origins import NamedOrigins, Origins
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.records import RecordReader
from aipimage.io.repair.facts import Facts
from aipimage.io.repair.survey import Survey
from aipimage.io.repair.timeline import Timeline, clipped_extents, run_of


class MapOrigins:
    """The origins that the new map names, numbered as they come; the new image's own is 0.

    Args:
        held: origins of the damaged file. foreign: whether those of other files may be named.
        make: returns the new entry of an origin that the file holds, by what is known of it.

    Attributes:
        names: the same, for the writer of pages.
    """

    def __init__(
        self,
        own: bytes,
        survey: Survey,
        held: set[bytes],
        foreign: bool,
        make: Callable[[bytes, OriginEntry | None], OriginEntry],
    ) -> None:
        self._survey, self._held, self._may_be_foreign, self._make = survey, held, foreign, make
        self._size = survey.beginning.header.frame_sectors
        self._known: dict[bytes, OriginEntry] = {}
        self._placed = Origins()
        self.names = NamedOrigins(own)
        self.names.inherit(self._placed, lambda entry: entry.file_name)

    def learn(self, entries: Iterable[OriginEntry]) -> None:
        """Note what a seal or a page says."""
        self._known |= {entry.origin: entry for entry in entries}

    def place_of(self, origin: bytes) -> int:
        """The number of an origin, which may be named from now on."""
        if origin != self.names.image_id and origin not in self._placed:
            known = self._known.get(origin)
            entry = self._make(origin, known) if origin in self._held else known
            assert entry is not None
            self._placed.learn([entry])
        return self.names.number(origin)

    def place_runs(self, origin: bytes) -> None:
        """Let all runs of the image be listed whose run an origin is."""
        known = self._known.get(origin)
        if known is not None or origin in self._held:
            self.place_of(origin)
        for entry in list(self._known.values()):
            if known is not None and entry.holder == known.holder:
                self.place_of(entry.origin)

    def _is_foreign(self, origin: bytes) -> bool:
        return self._may_be_foreign and origin not in self._held and origin in self._known

    def checked(self, names: list[bytes], rows: ExtentArray) -> Iterator[ExtentArray]:
        """Yield the rows with the numbers of their origins, and lost where a frame is.

        Args:
            names: the ids that the rows' ``origin`` indexes.
        """
        for start in range(0, len(rows), 4096):
            yield from self._checked_some(names, rows[start : start + 4096].copy())

    def _checked_some(self, names: list[bytes], rows: ExtentArray) -> Iterator[ExtentArray]:
        data = rows["kind"] == Kind.DATA
        whole = True
        for index in np.unique(rows["origin"][data]).tolist():
            mine = rows[data & (rows["origin"] == index)]
            first = int(mine["position"].min()) // self._size
            end = -(-int((mine["position"] + mine["length"]).max()) // self._size)
            whole = whole and self._ranges(names[index], first, end) == [(first, end)]
        if whole:
            table = np.zeros(len(names) or 1, np.uint16)
            for index in np.unique(rows["origin"][data]).tolist():
                table[index] = self.place_of(names[index])
            rows["origin"][data] = table[rows["origin"][data]]
            yield rows
            return
        for row in range(len(rows)):
            yield from self._checked_row(names, rows[row : row + 1])

    def _ranges(self, origin: bytes, first: int, end: int) -> list[tuple[int, int]]:
        """Which frames of ``first`` to ``end`` can be read."""
        if self._is_foreign(origin):
            return [(first, end)]
        frames = self._survey.frames.get(origin)
        return frames.within(first, end) if frames and origin in self._held else []

    def _checked_row(self, names: list[bytes], row: ExtentArray) -> Iterator[ExtentArray]:
        length, position, index, kind = row[0].item()
        if kind != Kind.DATA:
            yield row
            return
        at, stop, size = position, position + length, self._size
        for low, high in self._ranges(names[index], at // size, -(-stop // size)):
            start, end = max(at, low * size), min(stop, high * size)
            if start > at:
                yield run_of(start - at, Kind.LOST)
            place = self.place_of(names[index])
            yield np.array([(end - start, start, place, Kind.DATA)], EXTENT_DTYPE)
            at = end
        if at < stop:
            yield run_of(stop - at, Kind.LOST)


class DeviceMapping:
    """Yields the extents of one device, from its start to its end.

    Args:
        records: of this file, by their addresses, and of other files of the chain.
        parent: the image that this one builds on, where it was found.

    Attributes:
        pages: map pages that were used. guessed: sectors that only frames and checkpoints describe.
    """

    def __init__(
        self,
        survey: Survey,
        facts: Facts,
        records: RecordReader,
        origins: MapOrigins,
        timeline: Timeline | None,
        parent: ImageReader | None,
        device: int,
        trust_pages: bool,
    ) -> None:
        self._survey, self._facts, self._records = survey, facts, records
        self._origins, self._timeline, self._device = origins, timeline, device
        self._parent, self._trust = parent, trust_pages
        self._runs = list(survey.runs)
        self._end = facts.devices[device].sectors
        header = survey.beginning.header
        self._shifts = header.stripe_shift, header.fanout_shift
        self.pages = self.guessed = 0
        self.root_found = False

    def extents(self) -> Iterator[ExtentArray]:
        """All of the device."""
        entry = self._facts.devices[self._device].entry
        level = root_level(self._end, *self._shifts)
        ref = entry.map_root if entry is not None and self._trust else None
        self.root_found = (
            ref is not None and self._fetched(ref, 0, self._end, level + 1) is not None
        )
        yield from self._range(ref, 0, self._end, level + 1)

    def _range(
        self, ref: Reference | None, first: int, end: int, above: int
    ) -> Iterator[ExtentArray]:
        """What a page of a level below ``above`` says of a range, or what can be known without."""
        page = self._fetched(ref, first, end, above) if ref is not None else None
        if page is not None:
            yield from self._rows(page)
            return
        at = first
        while at < end:
            page = self._loose(at, end, above)
            if page is not None:
                yield from self._rows(page)
                at += page.sectors
                continue
            stop = self._survey.maps.next_first(self._device, at, end) if self._trust else end
            yield from self._without_page(at, stop)
            at = stop

    def _fetched(self, ref: Reference, first: int, end: int, above: int) -> MapPage | None:
        try:
            plain = self._records.fetch(ref, RecordType.MAP).plain
            page = decode_map_page(plain, *self._shifts)
        except AipImageError as error:
            self._facts.note(error)
            found = self._survey.pages.find(self._survey.scanner, ref, RecordType.MAP)
            loose = self._survey.maps.decoded(found.opened) if found is not None else None
            if loose is None:
                return None
            page = loose
        stated = (page.device, page.first, page.first + page.sectors)
        fits = stated == (self._device, first, end) and page.level < above
        return page if fits else None

    def _loose(self, at: int, end: int, above: int) -> MapPage | None:
        """The widest whole page that begins here, though nothing leads to it."""
        if not self._trust:
            return None
        for level in range(above, 0, -1):
            described = self._survey.maps.widest_at(self._device, at, end, self._end, level)
            if described is None:
                return None
            found = self._survey.scanner.record_at(described.place)
            if found is not None and found.header.origin in self._facts.origins:
                return self._survey.maps.decoded(found.opened)
        return None

    def _rows(self, page: MapPage) -> Iterator[ExtentArray]:
        self.pages += 1
        names = list(page.origins)
        self._origins.learn(page.entries)
        below = np.flatnonzero(page.extents["kind"] == Kind.PAGE).tolist()
        starts = np.cumsum(page.extents["length"]) - page.extents["length"]
        row = 0
        for index, ref in zip(below, page.refs, strict=True):
            if index > row:
                yield from self._origins.checked(names, page.extents[row:index])
            start = page.first + int(starts[index])
            length = int(page.extents["length"][index])
            yield from self._range(ref, start, start + length, page.level)
            row = index + 1
        if row < len(page.extents):
            yield from self._origins.checked(names, page.extents[row:])

    # Without a page

    def _without_page(self, first: int, end: int) -> Iterator[ExtentArray]:
        self.guessed += end - first
        if self._timeline is None:
            yield run_of(end - first, Kind.LOST)
            return
        gap = self._kept_nothing if self._is_full() else self._as_in_parent
        for rows in self._timeline.pieces(self._device, first, end, gap):
            yield from self._origins.checked(self._runs, rows)

    def _is_full(self) -> bool:
        return self._facts.place.kind == ImageKind.FULL

    @staticmethod
    def _kept_nothing(at: int, stop: int) -> Iterator[ExtentArray]:
        yield run_of(stop - at, Kind.ZERO)

    def _as_in_parent(self, at: int, stop: int) -> Iterator[ExtentArray]:
        """Section 9.4, as far as checkpoints say what became zeros."""
        assert self._timeline is not None
        high = min(stop, max(at, self._timeline.settled))
        if at < high:
            _, sector = unpack_at(at)
            yield from self._from_parent(sector, sector + high - at)
        if high < stop:
            yield run_of(stop - high, Kind.LOST)

    def _from_parent(self, first: int, end: int) -> Iterator[ExtentArray]:
        parent = self._parent
        if parent is None or not self._is_same_device():
            yield run_of(end - first, Kind.LOST)
            return
        device = parent.devices[self._device]
        at, old_end = first, min(end, max(first, device.entry.sectors))
        try:
            for start, block in device.map.walk(first, old_end) if at < old_end else ():
                rows = clipped_extents(block, max(0, first - start), max(0, old_end - start))
                if len(rows):
                    at += int(rows["length"].sum())
                    names = list(parent.origins)
                    self._origins.learn(parent.origins.entries())
                    # The timeline's caller counts runs; these are named here already.
                    yield from self._named(names, rows)
        except AipImageError as error:
            self._facts.note(error)
            yield run_of(old_end - at, Kind.LOST)
        if old_end < end:
            yield run_of(end - old_end, Kind.ZERO)

    def _named(self, names: list[bytes], rows: ExtentArray) -> Iterator[ExtentArray]:
        """Rows of the parent, with numbers after those of the runs."""
        rows = rows.copy()
        data = rows["kind"] == Kind.DATA
        for index in np.unique(rows["origin"][data]).tolist():
            if names[index] not in self._runs:
                self._runs.append(names[index])
        table = np.array(
            [self._runs.index(name) if name in self._runs else 0 for name in names], np.uint16
        )
        rows["origin"][data] = table[rows["origin"][data]]
        yield rows

    def _is_same_device(self) -> bool:
        """Whether the parent's device of this number is the same one."""
        told = self._facts.description.get("devices")
        parent = self._parent
        if parent is None or self._device >= len(parent.devices) or not isinstance(told, list):
            return False
        mine = told[self._device] if self._device < len(told) else None
        theirs = parent.devices[self._device].metadata
        return isinstance(mine, dict) and any(
            mine.get(key) is not None and mine.get(key) == theirs.get(key)
            for key in ("source", "name")
        )
