"""Sets of byte ranges and of frame numbers, as small as a plan over millions of records needs them.

Both are numpy arrays: Python objects would take ten times the memory, and a loop a hundred times as
long.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from aipimage.format.segments import Segment

U64 = npt.NDArray[np.uint64]
_PENDING = 1 << 18
_LONG = 64
"""Frames from which on a run of them is filled byte by byte instead of bit by bit."""


class CopyRanges:
    """Ranges of a stream that are to be copied; neighbours join, but not across segments.

    Args:
        segments: of the stream, in its order.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._bounds = np.array([each.stream_start for each in segments], np.uint64)
        self._starts = self._ends = np.empty(0, np.uint64)
        self._pending = array("Q")

    def add(self, start: int, end: int) -> None:
        """Add the bytes ``start`` to ``end`` (without it), which lie in one segment."""
        self._pending.extend((start, end))
        if len(self._pending) >= _PENDING:
            self._join()

    def add_many(self, starts: U64, ends: U64) -> None:
        """Add many that ascend."""
        if not len(starts):
            return
        # Joined here already, because frames mostly follow each other.
        breaks = np.flatnonzero(self._apart(starts, ends)) + 1
        first = np.concatenate([[0], breaks])
        last = np.concatenate([breaks, [len(starts)]]) - 1
        pairs = np.column_stack([starts[first], ends[last]]).astype(np.uint64)
        self._pending.frombytes(pairs.tobytes())
        if len(self._pending) >= _PENDING:
            self._join()

    def _apart(self, starts: U64, ends: U64) -> npt.NDArray[np.bool_]:
        """Between which neighbours something lies, or the end of a segment."""
        inside = np.searchsorted(self._bounds, starts, "right")
        apart: npt.NDArray[np.bool_] = (starts[1:] > ends[:-1]) | (inside[1:] != inside[:-1])
        return apart

    def _join(self) -> None:
        pairs = np.frombuffer(self._pending, np.uint64).reshape(-1, 2)
        starts = np.concatenate([self._starts, pairs[:, 0]])
        ends = np.concatenate([self._ends, pairs[:, 1]])
        self._pending = array("Q")
        order = np.argsort(starts, kind="stable")
        # A record that two references lead to was added twice.
        starts, ends = starts[order], np.maximum.accumulate(ends[order])
        self._keep_breaks(starts, ends, self._apart(starts, ends))

    def _keep_breaks(self, starts: U64, ends: U64, apart: npt.NDArray[np.bool_]) -> None:
        breaks = np.flatnonzero(apart) + 1
        some = len(starts) > 0
        first = np.concatenate([[0], breaks]).astype(np.int64) if some else breaks
        last = np.concatenate([breaks, [len(starts)]]).astype(np.int64) - 1 if some else breaks
        self._starts, self._ends = starts[first], ends[last]

    def __len__(self) -> int:
        if self._pending:
            self._join()
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self._pending:
            self._join()
        for at in range(0, len(self._starts), _PENDING):
            part = slice(at, at + _PENDING)
            yield from zip(self._starts[part].tolist(), self._ends[part].tolist(), strict=True)

    @property
    def length(self) -> int:
        """Bytes of all ranges."""
        return int((self._ends - self._starts).sum()) if len(self) else 0

    def gaps(self) -> U64:
        """Lengths of the gaps between neighbours of one segment: these could be copied too."""
        if len(self) < 2:
            return np.empty(0, np.uint64)
        gaps: U64 = (self._starts[1:] - self._ends[:-1])[self._within()]
        return gaps

    def _within(self) -> npt.NDArray[np.bool_]:
        inside = np.searchsorted(self._bounds, self._starts, "right")
        within: npt.NDArray[np.bool_] = inside[1:] == inside[:-1]
        return within

    def bridge(self, longest: int) -> None:
        """Take in the gaps of at most ``longest`` bytes."""
        if len(self) > 1:
            gaps = self._starts[1:] - self._ends[:-1]
            apart = ~self._within() | (gaps > np.uint64(longest))
            self._keep_breaks(self._starts, self._ends, apart)


def bridge_to(all_ranges: Sequence[CopyRanges], count: int) -> bool:
    """Bridge the smallest gaps until at most ``count`` ranges are left, as far as that can be.

    Returns:
        whether anything was bridged.
    """
    surplus = sum(len(ranges) for ranges in all_ranges) - count
    if surplus <= 0:
        return False
    gaps = np.concatenate([ranges.gaps() for ranges in all_ranges])
    if not len(gaps):
        return False
    rank = min(surplus, len(gaps)) - 1
    longest = int(np.partition(gaps, rank)[rank])
    for ranges in all_ranges:
        ranges.bridge(longest)
    return True


class FrameSet:
    """Some frames of an origin, one bit each; nothing is touched before a frame is added."""

    def __init__(self, frames: int) -> None:
        self._bits = np.zeros(-(-frames // 8), np.uint8)

    def add(self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> None:
        """Add the frames ``first`` to ``last`` (with it) of each row."""
        count = last - first + 1
        long = count > _LONG
        for low, high in zip(first[long].tolist(), last[long].tolist(), strict=True):
            self._fill(low, high + 1)
        first, count = first[~long], count[~long]
        before = np.cumsum(count) - count
        numbers = np.repeat(first - before, count) + np.arange(int(count.sum()))
        bits = np.left_shift(1, numbers & 7).astype(np.uint8)
        np.bitwise_or.at(self._bits, numbers >> 3, bits)

    def _fill(self, low: int, high: int) -> None:
        begin, end = -(-low // 8), high // 8
        self._bits[begin:end] = 0xFF
        if low % 8:
            self._bits[low // 8] |= 0xFF << low % 8 & 0xFF
        if high % 8:
            self._bits[end] |= (1 << high % 8) - 1

    def rows(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Which of ``count`` frames from ``first``, a multiple of 8, on are in the set."""
        part = self._bits[first // 8 : -(-(first + count) // 8)]
        rows: npt.NDArray[np.int64] = np.flatnonzero(
            np.unpackbits(part, count=count, bitorder="little")
        )
        return rows
