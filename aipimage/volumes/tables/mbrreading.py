"""Reading an MBR and the chains of its extended partitions, numbered as Linux does
(block/partitions/msdos.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.bootsectors import has_content, is_blank
from aipimage.volumes.tables.doubts import Claim, Reserved, judged, placed
from aipimage.volumes.tables.mbr import MbrEntry
from aipimage.volumes.tables.model import (
    PARTITIONS_MAX,
    BootRecord,
    Extended,
    Partition,
    PartitionTable,
)
from aipimage.volumes.view import LayoutError, VolumeView

SECTOR_SIZES = (512, 4096)
_FIRST_LOGICAL = 5


def read_mbr(view: VolumeView, head: bytes) -> PartitionTable:
    """Return the table of a disk whose first sector is an MBR without a GPT."""
    sector, unclear = _sector_size(view, mbr.entries_of(head))
    reader = _Reader(view, sector)
    reader.primaries(mbr.entries_of(head))
    parts, missing = placed(reader.found, view.size)
    reserved = [Reserved(0, sector, "the partition table"), *reader.reserved()]
    parts = list(judged(parts, reserved))
    if unclear:
        parts = [replace(part, doubt=part.doubt or unclear) for part in parts]
    return PartitionTable(
        "mbr",
        view.size,
        sector,
        tuple(parts),
        tuple(reader.extended),
        signature=mbr.signature_of(head),
        is_empty=not any(entry.is_used for entry in mbr.entries_of(head)),
        warnings=tuple(reader.warnings + missing),
    )


def _sector_size(view: VolumeView, entries: tuple[MbrEntry, ...]) -> tuple[int, str | None]:
    """Return the unit that a table counts in, and why that is not certain.

    A file has no sector size of its own, so 512 gives way to 4,096 where something begins at the
    places that this makes, and nothing at those of 512. The partition that would lie first must
    also be blank up to there: else it may be an unknown volume, and what was found a remnant in it.
    """
    own = view.sector_size if view.sector_size in SECTOR_SIZES else SECTOR_SIZES[0]
    other = sum(SECTOR_SIZES) - own
    used = [entry for entry in entries if entry.is_used]
    if not used or any(entry.end * other > view.size for entry in used):
        return own, None
    seen, elsewhere = _contents(view, used, own), _contents(view, used, other)
    first = min(entry.start for entry in used)
    unclear = "it is not clear whether the table counts sectors of 512 or of 4,096 bytes"
    if elsewhere and not seen:
        certain = own < other and is_blank(view, first * own, first * other)
        return other, None if certain else unclear
    return own, unclear if elsewhere > seen else None


def _contents(view: VolumeView, entries: list[MbrEntry], sector: int) -> int:
    return sum(has_content(view, entry.start * sector, entry.is_extended) for entry in entries)


class _Span(NamedTuple):
    """Where a chain may go, in sectors."""

    start: int
    end: int


class _Reader:
    """Collects partitions; Linux numbers logical ones on through all containers."""

    def __init__(self, view: VolumeView, sector: int) -> None:
        self.view, self.sector = view, sector
        self.found: list[Claim] = []
        self.extended: list[Extended] = []
        self.warnings: list[str] = []
        self._next = _FIRST_LOGICAL
        self._seen: set[int] = set()

    def reserved(self) -> list[Reserved]:
        """Containers are not for primary partitions, nor boot records for any."""
        what = "a boot record of an extended partition"
        return [
            Reserved(row.offset, row.offset + self.sector, what)
            for outer in self.extended
            for row in outer.records
        ]

    def primaries(self, entries: tuple[MbrEntry, ...]) -> None:
        """Take the four records, then the chains in their order."""
        outer = [(n, e) for n, e in enumerate(entries, 1) if e.is_extended]
        for number, entry in enumerate(entries, 1):
            if entry.is_used and not entry.is_extended:
                doubt = next(
                    (
                        f"it overlaps the extended partition {n}"
                        for n, e in outer
                        if entry.start < e.end and e.start < entry.end
                    ),
                    None,
                )
                self._take(number, entry, 0, doubt)
        for number, entry in outer:
            self._chain(number, entry)

    def _take(self, number: int, entry: MbrEntry, base: int, doubt: str | None) -> None:
        start = (base + entry.start) * self.sector
        part = Partition(
            number,
            start,
            0,
            f"{entry.type:#04x}",
            active=entry.status == mbr.ACTIVE,
            logical=number >= _FIRST_LOGICAL,
            doubt=doubt,
        )
        self.found.append(Claim(part, start + entry.sectors * self.sector))

    def _chain(self, number: int, entry: MbrEntry) -> None:
        """Follow the records of a container; what breaks the chain ends it with a warning."""
        span, at, size = _Span(entry.start, entry.end), entry.start, entry.sectors
        records: list[BootRecord] = []
        plain, broken = True, None
        while True:
            record = self._record(at)
            if isinstance(record, str):
                broken = record
                break
            numbers, simple = self._data(record, at, size, span)
            records.append(BootRecord(at * self.sector, numbers))
            plain = plain and simple
            link = _link_of(record)
            if link is None:
                break
            at, size = span.start + link.start, link.sectors
            if not span.start < at < span.end:
                broken = f"a link leads to sector {at}, which is outside of it"
                break
        if broken:
            self.warnings.append(
                f"The chain of the extended partition {number} is broken: {broken}; "
                "logical partitions after that are not seen."
            )
        outer = Extended(
            number,
            entry.start * self.sector,
            entry.sectors * self.sector,
            f"{entry.type:#04x}",
            tuple(records),
            plain and not broken,
        )
        self.extended.append(outer)

    def _record(self, at: int) -> tuple[MbrEntry, ...] | str:
        """The entries of a boot record, or what is wrong with it."""
        if at in self._seen:
            return f"it comes back to sector {at}"
        if at == 0:
            return "it begins at the first sector"
        if max(len(self._seen), self._next) >= PARTITIONS_MAX:
            return "it is too long"
        self._seen.add(at)
        try:
            sector = self.view.read(at * self.sector, mbr.SIZE)
        except LayoutError:
            return f"sector {at} is not on the disk or cannot be read"
        return mbr.entries_of(sector) if mbr.has_magic(sector) else f"sector {at} has no record"

    def _data(
        self, record: tuple[MbrEntry, ...], at: int, size: int, span: _Span
    ) -> tuple[tuple[int, ...], bool]:
        """Take the logical partitions of a record; Linux believes entries 3 and 4 only inside."""
        numbers = []
        for index, entry in enumerate(record):
            if not entry.is_used or entry.is_extended:
                continue
            start, end = at + entry.start, at + entry.end
            inside = span.start <= start and end <= span.end
            if index >= 2 and (entry.end > size or not inside):
                continue
            doubt = None if inside else "it leaves its extended partition"
            self._take(self._next, entry, at, doubt)
            numbers.append(self._next)
            self._next += 1
        first, *others = (entry.is_used and not entry.is_extended for entry in record)
        links = [index for index, entry in enumerate(record) if entry.is_extended]
        return tuple(numbers), not any(others) and links in ([], [1]) and bool(
            first or at == span.start
        )


def _link_of(record: tuple[MbrEntry, ...]) -> MbrEntry | None:
    """The first link; Linux takes no more than one, and none with the address 0."""
    return next((entry for entry in record if entry.is_extended and entry.start), None)
