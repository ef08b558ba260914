"""Where partitions go on a disk that is too small for them as they lie: pure arithmetic.

Partitions keep their order. They are pushed down into the gaps between them, from the last one on
and no further than needed, and become smaller only where that is not enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 1 << 20
"""Bytes: what partitioning tools keep to."""
_PHYSICAL = 4096
"""Bytes of the sectors inside of most disks: what began at such a sector does so afterwards."""


class Slot(NamedTuple):
    """A partition, and what may be done to it. All in bytes.

    Attributes:
        number: of the partition. start, size: on the source.
        kept: what it has to keep when its content is not changed: up to the end of its file system.
        least: what it has to keep when its file system becomes smaller.
        lead: in front of it, what moves with it: the boot record of a logical partition.
        fixed: it cannot be moved.
    """

    number: int
    start: int
    size: int
    kept: int
    least: int
    lead: int = 0
    fixed: bool = False

    @property
    def end(self) -> int:
        """Byte past it."""
        return self.start + self.size

    @property
    def alignment(self) -> int:
        """What its place is a multiple of, at most 1 MiB."""
        return min(self.start & -self.start, ALIGNMENT) if self.start else ALIGNMENT


def alignments(slots: Sequence[Slot]) -> list[int]:
    """What each of the partitions has to begin at a multiple of, when it moves: 1 MiB where all do
    so, else what all keep to; but whole physical sectors where it begins at one.
    """
    common = min([ALIGNMENT, *(slot.alignment for slot in slots if not slot.fixed)])
    return [max(common, min(slot.alignment, _PHYSICAL)) for slot in slots]


class Placement(NamedTuple):
    """Where a partition lies on the target, in bytes."""

    start: int
    size: int


class DoesNotFitError(Exception):
    """The partitions do not fit: it never leaves this package.

    Attributes:
        missing: bytes. number: of the partition that stands in the way: the one that takes most of
            the room, or cannot be moved; ``None`` where there is none.
    """

    def __init__(self, missing: int, number: int | None) -> None:
        super().__init__(f"{missing} bytes are missing")
        self.missing, self.number = missing, number


class _Lacking(NamedTuple):
    """Bytes that are missing, and from which slot on space must be found."""

    missing: int
    first: int


def fit(slots: Sequence[Slot], low: int, limit: int) -> dict[int, Placement]:
    """Return where each partition goes.

    Args:
        slots: ascending and disjoint, their leads too. low: byte before which none may begin.
            limit: byte past which none may end.

    Raises:
        DoesNotFitError: they do not fit.
    """
    sizes = [slot.size for slot in slots]
    aligned = alignments(slots)
    grain = max([_PHYSICAL, *aligned])
    found = _pushed(slots, sizes, aligned, low, limit)
    for floors in ([slot.kept for slot in slots], [slot.least for slot in slots]):
        # Each round ends the search, or takes all that one partition can give.
        while isinstance(found, _Lacking) and _cut_one(sizes, floors, found, grain):
            found = _pushed(slots, sizes, aligned, low, limit)
    if isinstance(found, _Lacking):
        raise DoesNotFitError(found.missing, _in_the_way(slots, sizes, found.first, low))
    return {
        slot.number: Placement(start, size)
        for slot, start, size in zip(slots, found, sizes, strict=True)
    }


def _pushed(
    slots: Sequence[Slot], sizes: Sequence[int], aligned: Sequence[int], low: int, limit: int
) -> list[int] | _Lacking:
    """Starts of partitions of these sizes, or how much is missing."""
    starts = [slot.start for slot in slots]
    bound = limit
    for at in range(len(slots) - 1, -1, -1):
        slot = slots[at]
        if slot.start + sizes[at] > bound:
            if slot.fixed:
                return _Lacking(slot.start + sizes[at] - bound, at)
            starts[at] = (bound - sizes[at]) // aligned[at] * aligned[at]
        bound = starts[at] - slot.lead
    # The first lead begins at low or above, so only what was pushed can be below it.
    return _Lacking(low - bound, 0) if bound < low else starts


def _cut_one(sizes: list[int], floors: Sequence[int], lacking: _Lacking, grain: int) -> bool:
    """Make one partition smaller by what is missing, or by all that it can give. It is the last one
    that has twice as much to give, so that few others move; else the one that has most.
    """
    wanted = -(-lacking.missing // grain) * grain
    spare = [
        (sizes[at] - floors[at]) // grain * grain if at >= lacking.first else 0
        for at in range(len(sizes))
    ]
    plenty = [at for at in range(len(sizes)) if spare[at] >= 2 * wanted]
    chosen = plenty[-1] if plenty else max(range(len(sizes)), key=lambda at: spare[at])
    if spare[chosen] <= 0:
        return False
    sizes[chosen] -= min(wanted, spare[chosen])
    return True


def _in_the_way(slots: Sequence[Slot], sizes: Sequence[int], first: int, low: int) -> int | None:
    """The partition that cannot be moved, where there may be room in front of it; else the largest
    of those that could give space.
    """
    if not slots:
        return None
    blocking = slots[first]
    if blocking.fixed and blocking.start - blocking.lead > low:
        return blocking.number
    movable = [at for at in range(first, len(slots)) if not slots[at].fixed] or [first]
    return slots[max(movable, key=lambda at: sizes[at])].number
