"""Which frames are whole: runs of consecutive numbers, so that memory follows the damage and not
the size of the image.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from blake3 import blake3

from aipimage.format import constants as c

_ENTRY = struct.Struct("<QII32s")


class FramesDigest:
    """A digest over what a frame table must say of some frames that follow each other."""

    def __init__(self) -> None:
        self._hash = blake3()

    def add(self, place: int, length: int, plain_length: int, digest: bytes) -> None:
        """Add the next frame; ``place`` in the stream."""
        self._hash.update(_ENTRY.pack(place, length, plain_length, digest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FramesDigest) and self._hash.digest() == other._hash.digest()

    __hash__ = None  # type: ignore[assignment]


@dataclass(slots=True)
class WholeFrames:
    """Whole frames with consecutive numbers within a table leaf, in the order of the stream.

    Attributes:
        place, end: where the first begins and the last ends; other records may lie between.
        at, after: device and sector (docs/format.md, 6.1) of the first extent, and past the
            last.
        frames: a digest over places, lengths and digests of all, to compare table entries with.
    """

    origin: bytes
    first: int
    count: int
    place: int
    end: int
    at: int
    after: int
    frames: FramesDigest

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.first + self.count - 1


class FrameRuns:
    """The runs of one origin, collected in the order in which a walk meets the frames."""

    def __init__(self, origin: bytes) -> None:
        self.origin = origin
        self._runs: list[WholeFrames] = []
        self._open: dict[int, WholeFrames] = {}
        self._firsts: list[int] = []

    def add(
        self,
        number: int,
        place: int,
        end: int,
        at: int,
        after: int,
        plain_length: int,
        digest: bytes,
    ) -> None:
        """Note a whole frame; a frame that comes again begins a run beside the first."""
        run = self._open.pop(number, None)
        if run is not None and number % c.LEAF_FRAMES:
            run.count += 1
            run.end, run.after = end, after
        else:
            run = WholeFrames(self.origin, number, 1, place, end, at, after, FramesDigest())
            self._runs.append(run)
        run.frames.add(place, end - place, plain_length, digest)
        other = self._open.get(number + 1)
        if other is None or other.count <= run.count:
            self._open[number + 1] = run

    def settle(self) -> None:
        """Keep runs whose numbers and places ascend together, as many frames as that allows."""
        self._open.clear()
        self._runs = _ascending(self._runs)
        self._firsts = [run.first for run in self._runs]

    def keep(self, wanted: Callable[[WholeFrames], bool]) -> None:
        """Drop the runs that are not wanted, after :meth:`settle`."""
        self._runs = [run for run in self._runs if wanted(run)]
        self._firsts = [run.first for run in self._runs]

    @property
    def runs(self) -> list[WholeFrames]:
        """After :meth:`settle`: in ascending order."""
        return self._runs

    @property
    def count(self) -> int:
        """Frames that are whole."""
        return sum(run.count for run in self._runs)

    @property
    def end(self) -> int:
        """The number after that of the last whole frame."""
        return self._runs[-1].last + 1 if self._runs else 0

    def within(self, first: int, end: int) -> list[tuple[int, int]]:
        """The ranges (first, end) of whole frames among those numbered ``first`` to ``end``."""
        index = max(0, bisect_right(self._firsts, first) - 1)
        found: list[tuple[int, int]] = []
        for run in self._runs[index:]:
            if run.first >= end:
                break
            low, high = max(first, run.first), min(end, run.last + 1)
            if low >= high:
                continue
            if found and found[-1][1] == low:
                found[-1] = (found[-1][0], high)
            else:
                found.append((low, high))
        return found

    def of_leaf(self, leaf: int) -> list[WholeFrames]:
        """The runs of a table leaf."""
        low = bisect_left(self._firsts, leaf * c.LEAF_FRAMES)
        high = bisect_left(self._firsts, (leaf + 1) * c.LEAF_FRAMES)
        return self._runs[low:high]


def _ascending(runs: list[WholeFrames]) -> list[WholeFrames]:
    """The heaviest chain of runs in which numbers and places ascend; most often all of them."""
    runs = sorted(runs, key=lambda run: run.place)
    if all(a.last < b.first and a.end <= b.place for a, b in pairwise(runs)):
        return runs
    return _heaviest_chain(runs)


def _heaviest_chain(runs: list[WholeFrames]) -> list[WholeFrames]:
    """Weighted longest chain: runs begin in order of place, and count once they have ended."""
    lasts = sorted({run.last for run in runs})
    best: list[tuple[int, int]] = [(0, -1)] * (len(lasts) + 1)
    weight, before = [0] * len(runs), [-1] * len(runs)
    events = sorted(
        [(run.place, 1, index) for index, run in enumerate(runs)]
        + [(run.end, 0, index) for index, run in enumerate(runs)]
    )
    for _, begins, index in events:
        run = runs[index]
        if begins:
            above, before[index] = _best_below(best, bisect_left(lasts, run.first))
            weight[index] = above + run.count
        else:
            _raise(best, bisect_left(lasts, run.last) + 1, (weight[index], index))
    index = _best_below(best, len(lasts))[1]
    chain: list[WholeFrames] = []
    while index >= 0:
        chain.append(runs[index])
        index = before[index]
    return chain[::-1]


def _best_below(tree: list[tuple[int, int]], index: int) -> tuple[int, int]:
    found = (0, -1)
    while index > 0:
        found = max(found, tree[index])
        index -= index & -index
    return found


def _raise(tree: list[tuple[int, int]], index: int, value: tuple[int, int]) -> None:
    while index < len(tree):
        tree[index] = max(tree[index], value)
        index += index & -index
