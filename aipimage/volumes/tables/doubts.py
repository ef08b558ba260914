"""Which partitions cannot be trusted: those that leave the disk or share bytes with others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from aipimage.volumes.tables.model import Partition


class Reserved(NamedTuple):
    """Bytes of a disk that no partition may cover; ``what`` they are, for messages."""

    start: int
    end: int
    what: str


class Claim(NamedTuple):
    """A partition as its table states it, before anything is checked; ``end`` may be anything."""

    partition: Partition
    end: int


def placed(found: Iterable[Claim], size: int) -> tuple[list[Partition], list[str]]:
    """Return what of the partitions lies on the disk, in doubt where it was cut, and a warning
    for each that is left out altogether.
    """
    inside, warnings = [], []
    for part, end in found:
        if end <= part.start:
            warnings.append(f"Partition {part.number} ends before it begins; it is left out.")
        elif part.start >= size:
            warnings.append(
                f"Partition {part.number} begins past the end of the disk; it is left out."
            )
        elif end > size:
            doubt = part.doubt or "it reaches beyond the end of the disk"
            inside.append(replace(part, size=size - part.start, doubt=doubt))
        else:
            inside.append(replace(part, size=end - part.start))
    return inside, warnings


def judged(partitions: Iterable[Partition], reserved: Iterable[Reserved]) -> tuple[Partition, ...]:
    """Return the partitions by number, in doubt where they share bytes with anything."""
    parts = sorted(partitions, key=lambda part: part.number)
    spans = [(part.start, part.end, index) for index, part in enumerate(parts)]
    kept = [row for row in reserved if row.start < row.end]
    spans += [(row.start, row.end, ~index) for index, row in enumerate(kept)]
    doubts: dict[int, str] = {}
    for first, second in _overlaps(sorted(spans)):
        for one, other in ((first, second), (second, first)):
            if one >= 0:
                what = f"partition {parts[other].number}" if other >= 0 else kept[~other].what
                doubts.setdefault(one, f"it overlaps {what}")
    return tuple(
        replace(part, doubt=doubts[index]) if index in doubts and not part.doubt else part
        for index, part in enumerate(parts)
    )


def _overlaps(spans: list[tuple[int, int, int]]) -> Iterable[tuple[int, int]]:
    """Yield pairs that overlap, so that each span that overlaps another is in one; not all pairs.

    Reserved spans may overlap one another, so a longer partition is not forgotten for one
    of them: the furthest of each kind is remembered.
    """
    furthest: dict[bool, tuple[int, int]] = {}
    for start, end, index in spans:
        is_partition = index >= 0
        for kind, (other_end, other) in furthest.items():
            if start < other_end and (is_partition or kind):
                yield other, index
        if end > furthest.get(is_partition, (0, 0))[0]:
            furthest[is_partition] = end, index
