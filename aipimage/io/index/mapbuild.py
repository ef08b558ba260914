"""Writing a device's map page by page while its extents come in order (docs/format.md, section
7).
"""

from __future__ import annotations

import numpy as np

from aipimage.errors import RequestError
from aipimage.extents import DATA, EXTENT_DTYPE, PAGE, ExtentArray, Kind, coalesce, sectors_by_kind
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.mappage import MapPage, encode_map_page, page_sectors, root_level
from aipimage.format.record import Reference
from aipimage.io.index.origins import NamedOrigins
from aipimage.io.records.records import RecordWriter


class MapBuilder:
    """Takes extents of one device in ascending order and writes pages as their ranges are complete.

    Memory is bounded by one page a level: a leaf of a stripe, and lists of at most 16 extents for
    each page of the levels above.

    Args:
        origins: what the extents' ``origin`` column numbers.

    Attributes:
        sectors: of the device. position: sectors that were added.
        root_level: level of the root page. spans: sectors that a page of each level covers.
        counts: sectors of each kind that were added, by :class:`Kind`; those of kind page lie in
            pages that were taken over.
    """

    def __init__(
        self,
        writer: RecordWriter,
        device: int,
        sectors: int,
        origins: NamedOrigins,
        stripe_shift: int,
        fanout_shift: int,
    ) -> None:
        self._writer, self._device, self.sectors, self._origins = writer, device, sectors, origins
        self.root_level = root_level(sectors, stripe_shift, fanout_shift)
        if self.root_level >= c.MAP_LEVELS:
            raise RequestError(f"a device of {sectors} sectors needs larger stripes or pages")
        self.spans = [
            page_sectors(level, stripe_shift, fanout_shift) for level in range(self.root_level + 1)
        ]
        self._lists: list[list[ExtentArray]] = [[] for _ in self.spans]
        self._refs: dict[int, Reference] = {}
        self._next_ref = 0
        self.position = 0
        self.counts = np.zeros(len(Kind), np.uint64)
        self.root: Reference | None = None

    def add(self, extents: ExtentArray) -> None:
        """Add extents (``EXTENT_DTYPE``) that follow on the ones before."""
        while len(extents):
            room = self.spans[0] - self.position % self.spans[0]
            ends = np.cumsum(extents["length"], dtype=np.uint64)
            fitting = int(np.searchsorted(ends, room, "right"))
            if fitting:
                self._take(0, extents[:fitting], int(ends[fitting - 1]))
                extents = extents[fitting:]
            else:
                extents = self._split(extents)

    def add_run(self, length: int, kind: Kind) -> None:
        """Add one extent without data, of any length."""
        if length:
            self.add(np.array([(length, 0, 0, kind)], EXTENT_DTYPE))

    def reach(self, stop: int, level: int) -> tuple[int, int]:
        """Which list, at most that of ``level``, takes the extents up to ``stop`` from here, and up
        to which sector.

        It is the highest one of which a child begins here and ends before ``stop``. A list takes
        whole children only, each with few extents: a long run, or what an old page had of them.
        """
        for above in range(min(level, self.root_level), 0, -1):
            span = self.spans[above - 1]
            if self.position % span == 0:
                end = min(stop, self._page_end(above))
                end -= end % span if end != self.sectors else 0
                if end > self.position:
                    return above, end
        return 0, min(stop, self._page_end(0))

    def add_listed(self, level: int, extents: ExtentArray, refs: list[Reference]) -> None:
        """Add extents of an old page to the list of a level, as :meth:`reach` says.

        Args:
            extents: the builder's from now on; those of kind page belong to ``refs``, in order.
        """
        if refs:
            keys = range(self._next_ref, self._next_ref + len(refs))
            extents["position"][extents["kind"] == PAGE] = keys
            self._refs.update(zip(keys, refs, strict=True))
            self._next_ref += len(refs)
        self._take(level, extents, int(extents["length"].sum()))

    def _page_end(self, level: int) -> int:
        """Where the page of a level ends that the position lies in, without the device's end."""
        return self.position - self.position % self.spans[level] + self.spans[level]

    def _split(self, extents: ExtentArray) -> ExtentArray:
        """Take of the first extent, which is longer than its stripe, what one list can take."""
        level, end = self.reach(self.position + int(extents["length"][0]), self.root_level)
        taken = end - self.position
        head, rest = extents[:1].copy(), extents.copy()
        head["length"] = taken
        rest["length"][0] -= np.uint64(taken)
        if rest["kind"][0] == DATA:
            rest["position"][0] += np.uint64(taken)
        self._take(level, head, taken)
        return rest[1:] if rest["length"][0] == 0 else rest

    def _take(self, level: int, extents: ExtentArray, sectors: int) -> None:
        self._lists[level].append(extents)
        self.counts += sectors_by_kind(extents)
        self.position += sectors
        for complete in range(len(self.spans)):
            ended = self.position % self.spans[complete] == 0 or self.position == self.sectors
            if ended and self._lists[complete]:
                self._complete(complete)
            elif not ended:
                break

    def _complete(self, level: int) -> None:
        """A page's range is complete: store it, or put its few extents into the page above."""
        parts, self._lists[level] = self._lists[level], []
        # With the dtype, numpy need not look for one that all of the parts fit.
        extents = coalesce(np.concatenate(parts, dtype=EXTENT_DTYPE))
        if level == self.root_level:
            if self.position == self.sectors:
                self.root = self._write_root(extents)
            return
        if len(extents) > c.INLINE_EXTENTS:
            length = int(extents["length"].sum())
            self._refs[self._next_ref] = self._write(level, extents)
            extents = np.array([(length, self._next_ref, 0, PAGE)], EXTENT_DTYPE)
            self._next_ref += 1
        self._lists[level + 1].append(extents)

    def _write_root(self, extents: ExtentArray) -> Reference:
        if len(extents) == 1 and extents["kind"][0] == PAGE:
            # The device shrank to what an old page covers, which is the root now.
            return self._refs.pop(int(extents["position"][0]))
        return self._write(self.root_level, extents)

    def _write(self, level: int, extents: ExtentArray) -> Reference:
        below = extents["kind"] == PAGE
        refs = tuple(self._refs.pop(int(key)) for key in extents["position"][below])
        stored = extents.copy()
        stored["position"][below] = 0
        data = stored["kind"] == DATA
        used, local = np.unique(stored["origin"][data], return_inverse=True)
        stored["origin"][data] = local
        length = int(stored["length"].sum())
        names = tuple(self._origins.id_of(int(number)) for number in used)
        page = MapPage(
            self._device,
            level,
            self.position - length,
            length,
            stored,
            names,
            refs,
            self._origins.listed(names, refs),
        )
        return self._writer.write(RecordType.MAP, encode_map_page(page))

    def finish(self) -> Reference:
        """Return the root once the whole device was added."""
        if self.root is None or self.position != self.sectors:
            raise RuntimeError("internal error: the map does not cover its device")
        return self.root
