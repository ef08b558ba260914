"""Which bytes of a stream were looked at: a set of ranges that joins neighbours."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator


class Coverage:
    """Ranges that were added; its memory follows their fragmentation, not their number."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, length: int) -> None:
        """Add a range; overlaps are allowed."""
        end = start + length
        ranges = self._ranges
        low = bisect_right(ranges, (start,))
        if low and ranges[low - 1][1] >= start:
            low -= 1
        high = low
        while high < len(ranges) and ranges[high][0] <= end:
            start, end = min(start, ranges[high][0]), max(end, ranges[high][1])
            high += 1
        ranges[low:high] = []
        insort(ranges, (start, end))

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of what was not added between ``start`` and ``end``."""
        at = start
        for low, high in self._ranges:
            if low >= end:
                break
            if low > at:
                yield at, low
            at = max(at, high)
        if at < end:
            yield at, end
