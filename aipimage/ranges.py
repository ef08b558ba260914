"""Sets of byte ranges of a disk, and the bitmaps that they come from.

A set is an array of rows (offset, length); no loop runs per range. :func:`joined` makes a set of
any rows; :func:`clipped`, :func:`difference` and :func:`intersection` make one set of others;
:func:`aligned` widens one to whole granules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import RequestError

ByteRanges = npt.NDArray[np.uint64]
"""Shape (n, 2): offset and length in bytes, none empty; ascending, disjoint and not adjacent."""

GRANULARITY_MIN, GRANULARITY_MAX = 512, 1 << 30
RANGES_MAX = 1 << 24
"""A bitmap with more runs than this (256 MiB of ranges) is read at a coarser granularity."""

Runs = Iterable[tuple[int, "_core.AnyBuffer", int]]
"""Pieces of a bitmap, ascending: number of the first granule, packed bits, granules."""


def no_ranges() -> ByteRanges:
    """Return the empty set."""
    return np.empty((0, 2), np.uint64)


def verified_granularity(granularity: int) -> int:
    """Return a power of two from 512 to 2^30 (bytes), else ``RequestError``."""
    inside = GRANULARITY_MIN <= granularity <= GRANULARITY_MAX
    if not inside or granularity & (granularity - 1):
        raise RequestError(
            f"the granularity is {granularity} bytes; pass a power of two from "
            f"{GRANULARITY_MIN} to {GRANULARITY_MAX}"
        )
    return granularity


def granules_of(size: int, granularity: int) -> int:
    """Return how many granules a disk has; the last may be short."""
    return -(-size // granularity)


def joined(rows: npt.NDArray[np.uint64]) -> ByteRanges:
    """Return any rows (offset, length) as a set: sorted, joined, without the empty ones.

    No row may end beyond 2^64 - 1.
    """
    rows = rows[rows[:, 1] != 0]
    starts, ends = rows[:, 0], rows[:, 0] + rows[:, 1]
    order = np.argsort(starts, kind="stable")
    return _joined(starts[order], np.maximum.accumulate(ends[order]))


def are_disjoint(rows: npt.NDArray[np.uint64]) -> bool:
    """Whether no two of some rows (offset, length), in any order, have anything in common.

    No row may end beyond 2^64 - 1.
    """
    rows = rows[rows[:, 1] != 0]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return not (rows[1:, 0] < rows[:-1, 0] + rows[:-1, 1]).any()


def aligned(ranges: ByteRanges, grain: int, size: int) -> ByteRanges:
    """Return the ranges widened to multiples of ``grain``, cut at ``size`` and joined.

    ``grain`` is in bytes, a power of two from 512 on; ``size`` is the disk's in bytes.
    """
    if grain < GRANULARITY_MIN or grain & (grain - 1):
        raise RuntimeError(f"internal error: {grain} bytes is not a grain to align to")
    ranges = cut(ranges, size)
    shift, up = np.uint64(grain.bit_length() - 1), np.uint64(grain - 1)
    starts = ranges[:, 0] >> shift << shift
    ends = (ranges[:, 0] + ranges[:, 1] + up) >> shift << shift
    return _joined(starts, np.minimum(ends, np.uint64(size)))


def difference(a: ByteRanges, b: ByteRanges) -> ByteRanges:
    """Return what is in ``a`` and not in ``b``; both ascend and are disjoint."""
    return _chosen(a, b, wanted_in_b=False)


def intersection(a: ByteRanges, b: ByteRanges) -> ByteRanges:
    """Return what is in ``a`` and in ``b``; both ascend and are disjoint."""
    return _chosen(a, b, wanted_in_b=True)


def _chosen(a: ByteRanges, b: ByteRanges, wanted_in_b: bool) -> ByteRanges:
    if not len(a) or not len(b):
        return no_ranges() if wanted_in_b else a
    # Sorted by hand: what numpy's unique does first takes five times as long.
    bounds = np.sort(np.concatenate((a[:, 0], a.sum(1), b[:, 0], b.sum(1))))
    bounds = bounds[np.concatenate(([True], bounds[1:] != bounds[:-1]))]
    starts, stops = bounds[:-1], bounds[1:]
    chosen = _covers(a, starts) & (_covers(b, starts) == wanted_in_b)
    return _joined(starts[chosen], stops[chosen])


def _covers(ranges: ByteRanges, points: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    row = np.searchsorted(ranges[:, 0], points, "right") - 1
    covered: npt.NDArray[np.bool_] = (row >= 0) & (points < ranges.sum(1)[row])
    return covered


def clipped(ranges: ByteRanges, start: int, end: int) -> ByteRanges:
    """Return what of the ranges lies in [start, end), as new rows; they ascend and are disjoint.

    A sum of offset and length may not be over 2^64 - 1.
    """
    first = int(np.searchsorted(ranges[:, 0] + ranges[:, 1], np.uint64(start), "right"))
    last = int(np.searchsorted(ranges[:, 0], np.uint64(end), "left"))
    if start >= end or first >= last:
        return no_ranges()
    rows = ranges[first:last]
    low = np.maximum(rows[:, 0], np.uint64(start))
    high = np.minimum(rows[:, 0] + rows[:, 1], np.uint64(end))
    return np.column_stack((low, high - low))


def cut(ranges: ByteRanges, size: int) -> ByteRanges:
    """Return what of the ranges, in any order, lies before ``size``.

    No sum of offset and length is made, so that numbers from a file may be passed unverified.
    """
    inside = ranges[ranges[:, 0] < np.uint64(size)]
    return np.column_stack((inside[:, 0], np.minimum(inside[:, 1], np.uint64(size) - inside[:, 0])))


def _joined(starts: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64]) -> ByteRanges:
    """Join neighbours that touch; both arrays ascend."""
    if not len(starts):
        return no_ranges()
    heads = np.flatnonzero(np.concatenate(([True], starts[1:] > ends[:-1])))
    lasts = np.append(heads[1:], len(starts)) - 1
    return np.column_stack((starts[heads], ends[lasts] - starts[heads]))


def ranges_of_runs(runs: Runs, granularity: int, size: int, limit: int = RANGES_MAX) -> ByteRanges:
    """Return the bytes whose granules are set, cut at ``size``.

    Where there are more than ``limit`` ranges they are widened until there are fewer, so that a
    bitmap of alternating bits cannot fill the memory. A wider set is always right.
    """
    found, total, grain = [no_ranges()], 0, granularity
    for rows in _scaled(runs, granularity):
        found.append(rows)
        total += len(rows)
        while total > limit:
            grain *= 2
            found = [aligned(np.concatenate(found), grain, size)]
            total = len(found[0])
    return aligned(np.concatenate(found), grain, size)


def _scaled(runs: Runs, granularity: int) -> Iterator[ByteRanges]:
    for first, bits, count in runs:
        for extents in _core.iter_bitmap_extents(bits, count):
            extents[:, 0] += np.uint64(first)
            extents *= np.uint64(granularity)
            yield extents


def bitmap_of(ranges: ByteRanges, granularity: int, size: int) -> npt.NDArray[np.uint8]:
    """Return packed bits, least significant first, one for each granule that the ranges touch."""
    granules = granule_ranges(ranges, granularity, size)
    return _core.extents_to_bitmap(granules, granules_of(size, granularity))


def granule_ranges(ranges: ByteRanges, granularity: int, size: int) -> ByteRanges:
    """Return the granules that the ranges touch, as (first, count)."""
    shift = np.uint64(granularity.bit_length() - 1)
    wide = aligned(ranges, granularity, size)
    wide[:, 1] += np.uint64(granularity - 1)
    return wide >> shift
