"""Writing the boot records of an extended partition.

A record keeps its distance to its logical partition when that moves; the first one lies at the
beginning of the extended partition. What is not an address in a record stays. Addresses of logical
partitions count from their record, links from the beginning of the extended partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aipimage.errors import RequestError
from aipimage.volumes.patches import Patch
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.mbr import UNUSED, MbrEntry
from aipimage.volumes.tables.model import Extended, PartitionTable
from aipimage.volumes.tables.placing import read_sector
from aipimage.volumes.view import VolumeView


class _Logical(NamedTuple):
    """A logical partition at its new place, in sectors; ``record`` is where its record goes;
    ``old``, in bytes, where that was.
    """

    start: int
    end: int
    record: int
    old: int


def numbers_of(outer: Extended) -> list[int]:
    """Numbers of an extended partition's logical ones, in the order of the chain."""
    return [number for row in outer.records for number in row.numbers]


def lead_of(table: PartitionTable, outer: Extended, number: int) -> int:
    """Sectors from a logical partition's record to its first one, before anything moves."""
    part = table.partition(number)
    if part is None:
        raise RuntimeError(f"internal error: partition {number} has no place")
    return (part.start - _record_of(outer, number)) // table.sector_size


def _record_of(outer: Extended, number: int) -> int:
    return next(row.offset for row in outer.records if number in row.numbers)


def chain_of(
    table: PartitionTable,
    view: VolumeView,
    outer: Extended,
    places: Mapping[int, tuple[int, int]],
    box: tuple[int, int],
) -> list[Patch]:
    """Return the boot records of an extended partition that lies at ``box`` (first sector,
    sectors), its logical ones at ``places``.
    """
    if not outer.plain or any(number not in places for number in numbers_of(outer)):
        raise RequestError(
            f"the extended partition {outer.number} cannot be moved or changed: its boot records "
            "are damaged or of an unusual form"
        )
    sector, begin = table.sector_size, outer.start // table.sector_size
    rows = _logicals(table, outer, places, box)
    if not rows:
        empty = mbr.with_entries(read_sector(view, outer.start, sector), [UNUSED] * 4)
        return [(box[0] * sector, empty)]
    return [
        (row.record * sector, _record(view, sector, rows[index : index + 2], begin, box[0]))
        for index, row in enumerate(rows)
    ]


def _logicals(
    table: PartitionTable,
    outer: Extended,
    places: Mapping[int, tuple[int, int]],
    box: tuple[int, int],
) -> list[_Logical]:
    """The logical partitions in their order, each with a sector for its record."""
    found: list[_Logical] = []
    taken = [(at, at + count) for at, count in places.values()]
    used: set[int] = set()
    for number in numbers_of(outer):
        start, count = places[number]
        wanted = (start - lead_of(table, outer, number), start - 1) if found else (box[0],)
        free = [at for at in wanted if box[0] <= at < start and at not in used]
        record = next((at for at in free if not any(a <= at < b for a, b in taken)), None)
        if record is None:
            raise RequestError(f"there is no sector before partition {number} for its boot record")
        used.add(record)
        found.append(_Logical(start, start + count, record, _record_of(outer, number)))
    return found


def _record(
    view: VolumeView, sector_size: int, rows: list[_Logical], old_begin: int, begin: int
) -> bytes:
    """A boot record for the first of two logical partitions, with a link to the second; the
    extended partition begins at sector ``begin`` and began at ``old_begin``.
    """
    row = rows[0]
    sector = read_sector(view, row.old, sector_size)
    data, link, *rest = mbr.entries_of(sector)
    stays = row.record * sector_size == row.old
    data = _addressed(data, row.start, row.end, row.record, stays)
    if len(rows) > 1:
        link = link if link.is_extended else UNUSED._replace(type=min(mbr.EXTENDED))
        link = _addressed(link, rows[1].record, rows[1].end, begin, begin == old_begin)
    else:
        link = UNUSED
    return mbr.with_entries(sector, (data, link, *rest))


def _addressed(entry: MbrEntry, start: int, end: int, base: int, same_base: bool) -> MbrEntry:
    """A record for [start, end), counted from ``base``; as it is where that changes nothing."""
    if same_base and (entry.start, entry.sectors) == (start - base, end - start):
        return entry
    return mbr.placed(entry, start - base, end - start, base)
