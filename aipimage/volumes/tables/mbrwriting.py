"""Writing an MBR for another disk: its four records, and where extended partitions go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aipimage.errors import RequestError
from aipimage.io.system import entropy
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.chainwriting import chain_of, lead_of, numbers_of
from aipimage.volumes.tables.mbr import MbrEntry
from aipimage.volumes.tables.model import Extended, PartitionTable
from aipimage.volumes.tables.placing import (
    NewIds,
    Rewrite,
    Span,
    cleared,
    new_signature,
    read_sector,
    refuse_outside,
    refuse_overlaps,
)
from aipimage.volumes.view import VolumeView

_GPT_BACKUP = {512: 33, 4096: 5}
"""Sectors of the backup of a usual GPT, by the sector size."""
Place = tuple[int, int]


def rewritten_mbr(
    table: PartitionTable,
    view: VolumeView,
    new_size: int,
    moved: Mapping[int, Place],
    new_ids: bool,
) -> Rewrite:
    """Return what makes the MBR one for a disk of ``new_size`` bytes; ``moved`` in sectors."""
    places = _NewPlaces(table, new_size, moved)
    places.verify()
    sector = table.sector_size
    head = read_sector(view, 0, sector)
    entries = [places.record(n, entry) for n, entry in enumerate(mbr.entries_of(head), 1)]
    head, ids = mbr.with_entries(head, entries), None
    if new_ids:
        head = new_signature(head, entropy.random_bytes(4))
        ids = NewIds(mbr.signature_of(head))
    patches, remains = [(0, head)], _old_backup(table, new_size)
    for outer in places.changed_chains():
        patches += chain_of(table, view, outer, places.places, places.boxes[outer.number])
        remains += [(row.offset, row.offset + sector) for row in outer.records]
    kept = [(at * sector, (at + count) * sector) for at, count in places.places.values()]
    kept += [(at, at + len(data)) for at, data in patches]
    return Rewrite(sorted(patches), cleared(remains, kept, new_size), ids)


def _old_backup(table: PartitionTable, new_size: int) -> list[tuple[int, int]]:
    """Where a target's own GPT may have its backup, on the part that the source does not have: a
    system that finds one there takes the disk for a damaged GPT.
    """
    end = new_size // table.sector_size * table.sector_size
    return [(max(table.size, end - _GPT_BACKUP[table.sector_size] * table.sector_size), end)]


class _NewPlaces:
    """Where everything lies afterwards, in sectors.

    Attributes:
        places: partitions by number. boxes: extended partitions by number.
    """

    def __init__(self, table: PartitionTable, new_size: int, moved: Mapping[int, Place]) -> None:
        self.table, self.moved, self._sector = table, moved, table.sector_size
        self._high, self._grew = new_size // table.sector_size, new_size >= table.size
        self.places = {
            part.number: moved.get(part.number, self._sectors(part.start, part.size))
            for part in table.partitions
        }
        self.boxes = {outer.number: self._box(outer) for outer in table.extended}

    def _sectors(self, start: int, size: int) -> Place:
        return start // self._sector, size // self._sector

    def record(self, number: int, entry: MbrEntry) -> MbrEntry:
        """A record of the MBR; what did not change keeps its CHS addresses too."""
        place = self.boxes.get(number, self.moved.get(number))
        if place is None or place == (entry.start, entry.sectors):
            return entry
        return mbr.placed(entry, *place)

    def changed_chains(self) -> list[Extended]:
        """Extended partitions whose boot records must be written anew."""
        return [
            outer
            for outer in self.table.extended
            if self.boxes[outer.number][0] != outer.start // self._sector
            or any(number in self.moved for number in numbers_of(outer))
        ]

    def _box(self, outer: Extended) -> Place:
        """An extended partition's place: as requested, as it was where all fits, else as small as
        it can be, with its first record as far before a logical partition as that one's own was.
        """
        numbers, old = numbers_of(outer), self._sectors(outer.start, outer.size)
        if outer.number in self.moved:
            return self.moved[outer.number]
        still = not any(number in self.moved for number in self.places)
        if not numbers or (still and self._grew):
            return old
        inside = [self.places[number] for number in numbers if number in self.places]
        others = [place for number, place in self.places.items() if number not in numbers]
        start, end, last = old[0], sum(old), max((sum(place) for place in inside), default=0)
        if any(at <= start for at, _ in inside) or _meets(start, start + 1, others):
            leads = [lead_of(self.table, outer, n) for n in numbers if n in self.places]
            start = min(at - lead for (at, _), lead in zip(inside, leads, strict=True))
        if end > self._high or last > end or _meets(start, end, others):
            end = max(last, start + 1)
        return start, end - start

    # Checks

    def verify(self) -> None:
        """Raise ``RequestError`` where the places would not be a right one."""
        for number, place in {**self.moved, **self.boxes}.items():
            if max(place) > mbr.SECTORS_MAX:
                raise RequestError(f"partition {number} is out of what an MBR can say")
        changed = {n for n, box in self.boxes.items() if box != self._was(n)}
        inside = {n: outer for outer in self.table.extended for n in numbers_of(outer)}
        primaries = [number for number in self.places if number not in inside]
        still = [number for number in self.places if number not in self.moved]
        unchanged = [number for number in self.boxes if number not in changed]
        refuse_overlaps(self._spans(set(self.moved) - set(self.boxes)), self._spans(still))
        refuse_overlaps(self._spans(changed), self._spans([*primaries, *unchanged]))
        going = [number for number in primaries if number in self.moved]
        refuse_overlaps(self._spans(going), self._spans(self.boxes))
        self._verify_ends()
        for number, outer in inside.items():
            if number in self.places and (number in self.moved or outer.number in changed):
                low, count = self.boxes[outer.number]
                refuse_outside(self._spans([number]), low + 1, low + count, self._sector)

    def _verify_ends(self) -> None:
        """What does not move may lie outside of the disk only where it did so before."""
        doubtful = {part.number for part in self.table.partitions if part.doubt}
        kept = {number for number in self.boxes if self.boxes[number] == self._was(number)}
        for number in [*self.places, *self.boxes]:
            if number in self.moved or not self._grew or number not in doubtful | kept:
                refuse_outside(self._spans([number]), 1, self._high, self._sector)

    def _was(self, number: int) -> Place:
        outer = next(outer for outer in self.table.extended if outer.number == number)
        return self._sectors(outer.start, outer.size)

    def _spans(self, numbers: Iterable[int]) -> list[Span]:
        places = {**self.places, **self.boxes}
        return [Span(places[n][0], sum(places[n]), f"partition {n}") for n in numbers]


def _meets(start: int, end: int, places: list[Place]) -> bool:
    return any(at < end and start < at + count for at, count in places)
