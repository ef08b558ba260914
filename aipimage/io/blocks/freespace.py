"""Free space of a disk or volume: the ranges that its file systems know not to be in use.

The code that finds free space (:mod:`aipimage.volumes`) and the code that leaves it out of an image
meet here. Ranges come in arrays of bounded size, so that a map of any fragmentation needs no more
memory than its own form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np

from aipimage.ranges import ByteRanges, clipped


class FreeSpace(Protocol):
    """What is free of a range of bytes.

    Attributes:
        total: bytes that are free.
    """

    @property
    def total(self) -> int: ...

    def ranges(self, start: int, end: int) -> Iterator[ByteRanges]:
        """Yield what is free in [start, end), in bytes: arrays of (offset, length), ``uint64``,
        none empty; all ascending and disjoint, cut at ``start`` and ``end``. A range may be
        continued by the next one.
        """
        ...


class NoFreeSpace:
    """Everything is in use, or counts as such."""

    total = 0

    def ranges(self, start: int, end: int) -> Iterator[ByteRanges]:
        """See ``FreeSpace.ranges``."""
        return iter(())


class RangesFree:
    """Free space that is known as a set of ranges."""

    def __init__(self, ranges: ByteRanges) -> None:
        """``ranges``: ascending and disjoint, in bytes."""
        self._ranges = ranges
        self.total = int(ranges[:, 1].sum())

    def ranges(self, start: int, end: int) -> Iterator[ByteRanges]:
        """See ``FreeSpace.ranges``."""
        rows = clipped(self._ranges, start, end)
        if len(rows):
            yield rows


class MappedFree:
    """Free space of parts that lie elsewhere: a volume on its disk, a logical volume on its
    physical one.

    Args:
        parts: (offset here, free space of the part, first byte of it, bytes), ascending and
            disjoint by their offset here.
    """

    def __init__(self, parts: Sequence[tuple[int, FreeSpace, int, int]]) -> None:
        self._parts = list(parts)

    @cached_property
    def total(self) -> int:
        """Bytes that are free; counted when it is asked for."""
        return sum(
            int(rows[:, 1].sum())
            for _, free, first, length in self._parts
            for rows in free.ranges(first, first + length)
        )

    def ranges(self, start: int, end: int) -> Iterator[ByteRanges]:
        """See ``FreeSpace.ranges``."""
        for offset, free, first, length in self._parts:
            low, high = max(start, offset), min(end, offset + length)
            if low >= high:
                continue
            for rows in free.ranges(first + low - offset, first + high - offset):
                moved = rows.copy()
                # In two steps, since the difference may be negative.
                moved[:, 0] -= np.uint64(first)
                moved[:, 0] += np.uint64(offset)
                yield moved
