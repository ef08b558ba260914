"""The plan of a restore to a disk of another size: what stays, moves and becomes smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aipimage.errors import TargetError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.results import PartitionChange
from aipimage.volumes.model import Volume
from aipimage.volumes.restoring.fitting import ALIGNMENT, DoesNotFitError, Placement, Slot, fit
from aipimage.volumes.restoring.limits import Limits, limits_of
from aipimage.volumes.tables.model import Extended, Partition, PartitionTable
from aipimage.volumes.tables.writing import usable_range

FIXED_TYPES = {
    "21686148-6449-6e6f-744e-656564454649": "the boot code knows it by its sectors",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "it belongs to dynamic disks of Windows",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "it belongs to dynamic disks of Windows",
    "0x42": "it belongs to dynamic disks of Windows",
}
"""Partition types that cannot be moved: BIOS boot, and those that a database names by place."""
_GRUB = b"GRUB"
_GRUB_SECTOR = slice(0x5C, 0x64)
"""Where GRUB's boot sector keeps the first sector of its core (grub, boot.S, kernel_sector)."""


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """Where the partitions of a disk go.

    Attributes:
        size: bytes of the target. placements: of all partitions, by number.
        changes: those that are not where or as large as they were.
        shrunk: volumes whose file systems have to become smaller, by number: bytes.
        extended: where extended partitions go, by number.
    """

    size: int
    placements: Mapping[int, Placement]
    changes: tuple[PartitionChange, ...] = ()
    shrunk: Mapping[int, int] = field(default_factory=dict)
    extended: Mapping[int, Placement] = field(default_factory=dict)


def plan_fit(
    table: PartitionTable,
    limits: Mapping[int, Limits],
    size: int,
    head: bytes = b"",
    name: str = "the target",
) -> PartitionPlan:
    """Plan a restore to a disk of ``size`` bytes.

    Args:
        table: of the source. limits: how small each volume can become; one that is not named stays.
        head: the first sector of the source, which says what its boot code needs.
        name: of the target, for messages.

    Raises:
        TargetError: the partitions do not fit; says how much is missing and what stands in the way.
    """
    slots = slots_of(table, limits, head)
    limit = usable_range(table, size)[1]
    if all(slot.end <= limit for slot in slots):
        return PartitionPlan(
            size, {slot.number: Placement(slot.start, slot.size) for slot in slots}
        )
    doubt = _doubt_of(table)
    if doubt is not None:
        raise TargetError(f"{name}: too small for the disk as it was, and {doubt}")
    try:
        # What lies in front of the first partition may be a boot loader: it stays.
        found = fit(slots, min(slot.start - slot.lead for slot in slots), limit)
    except DoesNotFitError as error:
        raise TargetError(_too_small(table, limits, error, name)) from None
    return _plan_of(table, slots, found, limits, size, limit)


def _plan_of(
    table: PartitionTable,
    slots: Sequence[Slot],
    found: dict[int, Placement],
    limits: Mapping[int, Limits],
    size: int,
    limit: int,
) -> PartitionPlan:
    changes = tuple(
        PartitionChange(slot.number, slot.start, slot.size, *found[slot.number])
        for slot in slots
        if found[slot.number] != (slot.start, slot.size)
    )
    shrunk = {
        change.number: change.size
        for change in changes
        if change.number in limits and change.size < limits[change.number].kept
    }
    extended = {
        each.number: _container(table, each, slots, found, limit)
        for each in table.extended
        if _inside(table, each)
    }
    return PartitionPlan(size, found, changes, shrunk, extended)


def _container(
    table: PartitionTable,
    extended: Extended,
    slots: Sequence[Slot],
    found: Mapping[int, Placement],
    limit: int,
) -> Placement:
    """Where an extended partition goes: it begins where it did, or at the record of its first
    logical one; and ends where it did, or before what comes next.
    """
    inside = [part.number for part in _inside(table, extended)]
    lead = next(slot.lead for slot in slots if slot.number == inside[0])
    start = min(extended.start, found[inside[0]].start - lead)
    last = found[inside[-1]]
    after = [place.start for n, place in found.items() if n not in inside]
    room = min([limit, *(at for at in after if at >= last.start + last.size)])
    return Placement(start, max(last.start + last.size, min(extended.end, room)) - start)


def _doubt_of(table: PartitionTable) -> str | None:
    """Why partitions of a table must not be moved or cut, as the end of a sentence."""
    if table.doubt is not None:
        return f"its partition table cannot be trusted: {table.doubt}"
    for part in table.partitions:
        if part.doubt is not None:
            return f"partition {part.number} cannot be trusted: {part.doubt}"
    return None


def slots_of(table: PartitionTable, limits: Mapping[int, Limits], head: bytes = b"") -> list[Slot]:
    """The partitions of a table as they can be placed, ascending. An extended partition without
    logical ones counts as a partition; any other moves with what it holds.
    """
    core = _core_sector(head, table.sector_size)
    leads = {number: lead for each in table.extended for number, lead in _leads(table, each)}
    slots = [
        _slot(part, limits.get(part.number), leads.get(part.number, 0), core)
        for part in table.partitions
    ]
    for each in table.extended:
        if not any(part.number in leads for part in _inside(table, each)):
            slots.append(Slot(each.number, each.start, each.size, each.size, each.size, fixed=True))
    return sorted(slots, key=lambda slot: slot.start)


def _slot(part: Partition, limits: Limits | None, lead: int, core: int) -> Slot:
    kept, least = (part.size, part.size) if limits is None else (limits.kept, limits.least)
    fixed = part.type in FIXED_TYPES or part.start <= core < part.end
    # What does not move, such as a boot loader's core, is not cut either.
    if fixed:
        kept = least = part.size
    return Slot(part.number, part.start, part.size, kept, least, lead, fixed)


def _inside(table: PartitionTable, extended: Extended) -> list[Partition]:
    return sorted(
        (p for p in table.partitions if p.logical and extended.start <= p.start < extended.end),
        key=lambda part: part.start,
    )


def _leads(table: PartitionTable, extended: Extended) -> list[tuple[int, int]]:
    """(number, bytes) of the space in front of logical partitions where their records lie; the
    first one's lies at the start of the extended partition, which may be far before it.
    """
    found: list[tuple[int, int]] = []
    done = extended.start
    places = {number: record.offset for record in extended.records for number in record.numbers}
    for part in _inside(table, extended):
        place = extended.start if not found else places.get(part.number, done)
        lead = part.start - max(place, done)
        found.append((part.number, lead if found else min(lead, ALIGNMENT)))
        done = part.end
    return found


def _core_sector(head: bytes, sector_size: int) -> int:
    """Byte of the disk where GRUB's core begins, as the boot code knows it; 0 without GRUB."""
    if _GRUB not in head[:440]:
        return 0
    return int.from_bytes(head[_GRUB_SECTOR], "little") * sector_size


def _too_small(
    table: PartitionTable, limits: Mapping[int, Limits], error: DoesNotFitError, name: str
) -> str:
    message = f"{name}: too small: {error.missing} more bytes are needed"
    part = None if error.number is None else table.partition(error.number)
    if part is None:
        return message
    if part.type in FIXED_TYPES:
        return f"{message}; partition {part.number} cannot be moved: {FIXED_TYPES[part.type]}"
    found = limits.get(part.number)
    if found is None:
        return f"{message}; partition {part.number} cannot become smaller"
    if found.why:
        return f"{message}; partition {part.number} cannot become smaller: {found.why}"
    return f"{message}; partition {part.number} needs {found.least} bytes of its {part.size}"


def limits_by_number(source: BlockSource, volumes: Sequence[Volume]) -> dict[int, Limits]:
    """How small each volume of a disk can become."""
    return {volume.number: limits_of(source, volume) for volume in volumes}
