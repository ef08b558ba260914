"""What of a source an increment looks at, cut into pieces for the workers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import Digests
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.blocks.usedsource import UsedSource, free_of
from aipimage.io.increment.scan import Method, ScanPiece
from aipimage.io.index.digests import DigestView
from aipimage.io.reading.device import Device
from aipimage.ranges import ByteRanges, aligned, clipped, cut, difference, joined, no_ranges

PIECE = 4 << 20
"""Bytes that a worker looks at at a time."""
SAMPLES = 128
"""Blocks that a tracker calls unchanged and that are looked at all the same."""
_TRIES = 64
"""Tries for each sample, so that it is found where a thirtieth of a disk is in use."""
_PORTION = 16 << 30
_PORTION_ROWS = 65_536
_FREED, _FREED_PIECE = 1 << 20, 1 << 30


def must_take(source: BlockSource, old: Device | None, grain: int) -> ByteRanges:
    """Ranges that are taken whatever a tracker or a comparison says: what the parent could not
    keep, and what lies past its end.
    """
    if old is None:
        return _data_ranges(source, 0, grain)
    kinds = [kind for kind in (Kind.UNREADABLE, Kind.LOST) if old.bytes_of(kind)]
    rows = [[(extent.start, extent.length) for extent in old.extents(kind)] for kind in kinds]
    found = [np.array(each, np.uint64).reshape(-1, 2) for each in rows]
    if source.size != old.size:
        # The last cluster may have been cut or padded at its end, and the digest of its block is
        # another one in any case where that ends elsewhere now.
        end = min(old.size, source.size)
        start = end - end % grain
        if end % c.BLOCK:
            start = (end - 1) - (end - 1) % grain
            found.append(np.array([(start, min(grain, source.size - start))], np.uint64))
        found.append(_data_ranges(source, start, grain))
    return aligned(joined(np.concatenate([no_ranges(), *found])), grain, source.size)


def changed_use(source: BlockSource, old: Device | None) -> ByteRanges:
    """Ranges that became used, or free, since the parent: they are taken whatever a tracker or a
    comparison says. What became used may still read as it did when it was free, and what is free
    is not to be kept.

    Both maps are walked beside each other, in pieces of bounded size.
    """
    free = source if isinstance(source, UsedSource) else None
    had_unused = old is not None and old.bytes_of(Kind.UNUSED) > 0
    if free is None and not had_unused:
        return no_ranges()
    found = [no_ranges()]
    end = 0
    if old is not None:
        end = min(old.size, source.size)
        for start, stop, was in _unused_parts(old, end):
            now = joined(free.free_within(start, stop)) if free is not None else no_ranges()
            if not np.array_equal(now, was):
                found += [difference(now, was), difference(was, now)]
    if free is not None:
        found += free.free_parts(end, source.size)
    return joined(np.concatenate(found))


def _unused_parts(old: Device, end: int) -> Iterator[tuple[int, int, ByteRanges]]:
    """(start, stop, unused ranges) of the parent's map, in bytes: neighbouring parts that cover
    everything before ``end``.
    """
    start = 0
    waiting: list[ByteRanges] = []
    rows = 0
    for first, block in old.map.walk(0, -(-end // SECTOR)):
        stops = np.uint64(first) + np.cumsum(block["length"])
        unused = block["kind"] == int(Kind.UNUSED)
        lengths = block["length"][unused]
        part = np.column_stack((stops[unused] - lengths, lengths)) * np.uint64(SECTOR)
        stop = min(int(stops[-1]) * SECTOR, end)
        waiting.append(cut(part, end))
        rows += len(part) + 1
        if rows > _PORTION_ROWS:
            yield start, stop, joined(np.concatenate(waiting))
            start, waiting, rows = stop, [], 0
    if waiting:
        yield start, end, joined(np.concatenate(waiting))


def freed_blocks(source: BlockSource, take: ByteRanges) -> ByteRanges:
    """What of ``take`` is free now and long: whole blocks that need no look at the source."""
    if not isinstance(source, UsedSource) or not len(take):
        return no_ranges()
    found = [no_ranges()]
    for start, length in take[take[:, 1] >= _FREED].tolist():
        for rows in source.free_parts(start, start + length):
            low = (rows[:, 0] + np.uint64(c.BLOCK - 1)) // np.uint64(c.BLOCK)
            high = rows.sum(1) // np.uint64(c.BLOCK)
            long = high >= low + np.uint64(_FREED // c.BLOCK)
            found.append(np.column_stack((low, high - low))[long] * np.uint64(c.BLOCK))
    return joined(np.concatenate(found))


def freed_pieces(device: int, freed: ByteRanges) -> Iterator[ScanPiece]:
    """Pieces of free space: nothing of them is read.

    Where a range lies across the end of a stripe, of whatever size, a piece begins there: else no
    checkpoint could stand there, and where every stripe's end is free, none anywhere.
    """
    for start, length in freed.tolist():
        end = start + length
        # The roundest place within: where the first and the last byte's numbers begin to differ.
        bit = (start ^ (end - 1)).bit_length() - 1
        middle = (end - 1) >> bit << bit
        cuts = [start, *range(middle, start, -_FREED_PIECE)[::-1]]
        cuts += [*range(middle + _FREED_PIECE, end, _FREED_PIECE), end]
        for at, stop in pairwise(cuts):
            segments = np.array([(at, stop - at)], np.uint64)
            yield ScanPiece(device, segments, segments, Method.FREED, None)


def without(ranges: Iterable[tuple[int, int]], left_out: ByteRanges) -> Iterator[tuple[int, int]]:
    """Yield ascending (offset, length) without what lies in other ranges."""
    starts, ends = left_out[:, 0], left_out.sum(1)
    for offset, length in ranges:
        at, stop = offset, offset + length
        first = int(np.searchsorted(ends, at, "right"))
        last = int(np.searchsorted(starts, stop, "left"))
        for low, high in zip(starts[first:last].tolist(), ends[first:last].tolist(), strict=True):
            if low > at:
                yield at, low - at
            at = high
        if at < stop:
            yield at, stop - at


def _data_ranges(source: BlockSource, start: int, grain: int) -> ByteRanges:
    rows = list(source.data_ranges(start, source.size))
    return aligned(np.array(rows, np.uint64).reshape(-1, 2), grain, source.size)


def compared_ranges(
    source: BlockSource, old: Device, take: ByteRanges, start: int
) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of all that has to be looked at in a comparison, ascending and joined:
    what may hold data in the source, and what did in the parent. All else was and is zeros.
    """
    end = source.size
    kept = (
        (extent.start, min(extent.length, end - extent.start))
        for extent in old.extents()
        if extent.kind not in (Kind.ZERO, Kind.UNUSED) and extent.start < end
    )
    ways: list[Iterable[tuple[int, int]]] = [
        source.data_ranges(start, end),
        kept,
        (tuple(row) for row in take.tolist()),
    ]
    low = high = start
    for offset, length in heapq.merge(*ways):
        first = max(start, offset - offset % c.BLOCK)
        last = min(-(-(offset + length) // c.BLOCK) * c.BLOCK, end)
        if last <= high:
            continue
        if first > high:
            if high > low:
                yield low, high - low
            low = first
        high = last
    if high > low:
        yield low, high - low


def compared_pieces(
    device: int,
    ranges: Iterable[tuple[int, int]],
    take: ByteRanges,
    method: Method,
    view: DigestView | None,
) -> Iterator[ScanPiece]:
    """Pieces of neighbouring ranges, none across a multiple of :data:`PIECE`."""
    row = 0
    starts, stops = take[:, 0], take[:, 0] + take[:, 1]
    for offset, length in ranges:
        at, end = offset, offset + length
        while at < end:
            stop = min(end, at - at % PIECE + PIECE)
            while row < len(take) and stops[row] <= at:
                row += 1
            last = int(np.searchsorted(starts, stop, "left"))
            taken = clipped(take[row:last], at, stop)
            expected = _expected(view, at, stop) if view is not None else None
            segments = np.array([(at, stop - at)], np.uint64)
            yield ScanPiece(device, segments, taken, method, expected)
            at = stop


def _expected(view: DigestView, start: int, stop: int) -> Digests:
    return view.read(start // c.BLOCK, -(-(stop - start) // c.BLOCK))


def tracked_pieces(
    device: int, take: ByteRanges, wide: int, size: int, method: Method
) -> Iterator[ScanPiece]:
    """Pieces that gather changed ranges from afar, read in units of ``wide`` bytes (a block where
    digests are kept); each ends where a range of :data:`PIECE` does.
    """
    for portion in _portions(take):
        yield from _gathered(device, portion, wide, size, method)


def _portions(ranges: ByteRanges) -> Iterator[ByteRanges]:
    """Cut ranges into some of which few pieces come, however long or many they are; no two
    portions touch one range of :data:`PIECE`.
    """
    ranges, low = _with_heads_apart(ranges), 0
    while low < len(ranges):
        start, length = ranges[low].tolist()
        if length > _PORTION:
            cut = (start + _PORTION) // PIECE * PIECE
            yield np.array([(start, cut - start)], np.uint64)
            ranges = ranges[low:].copy()
            ranges[0], low = (cut, start + length - cut), 0
            continue
        ends = np.cumsum(ranges[low : low + _PORTION_ROWS, 1])
        high = low + max(1, int(np.searchsorted(ends, _PORTION, "right")))
        while high < len(ranges) and _share_a_window(ranges[high - 1], ranges[high]):
            high += 1
        yield ranges[low:high]
        low = high


def _share_a_window(before: npt.NDArray[np.uint64], after: npt.NDArray[np.uint64]) -> bool:
    return (int(before.sum()) - 1) // PIECE == int(after[0]) // PIECE


def _with_heads_apart(ranges: ByteRanges) -> ByteRanges:
    """Cut long ranges so that their long part begins at a multiple of :data:`PIECE`."""
    long = np.flatnonzero((ranges[:, 1] > _PORTION) & (ranges[:, 0] % np.uint64(PIECE) > 0))
    if not len(long):
        return ranges
    heads = np.uint64(PIECE) - ranges[long, 0] % np.uint64(PIECE)
    rest = np.column_stack((ranges[long, 0] + heads, ranges[long, 1] - heads))
    cut = ranges.copy()
    cut[long, 1] = heads
    return np.insert(cut, long + 1, rest, axis=0)


def _gathered(
    device: int, take: ByteRanges, wide: int, size: int, method: Method
) -> Iterator[ScanPiece]:
    take = _cut_at_pieces(take)
    segments = aligned(take, wide, size)
    segments = _cut_at_pieces(segments)
    windows = segments[:, 0] // np.uint64(PIECE)
    # Whole windows are put together until they have as much to read as a piece has.
    heads = (
        np.flatnonzero(np.concatenate(([True], windows[1:] != windows[:-1])))
        if len(windows)
        else np.empty(0, np.int64)
    )
    sums = np.concatenate(([0], np.cumsum(segments[:, 1]))).astype(np.int64)
    low = 0
    for position in range(len(heads)):
        stop = int(heads[position + 1]) if position + 1 < len(heads) else len(segments)
        following = int(heads[position + 2]) if position + 2 < len(heads) else len(segments)
        if stop < len(segments) and sums[following] - sums[low] <= PIECE:
            continue
        part = segments[low:stop]
        first = np.searchsorted(take[:, 0], part[0, 0], "left")
        last = np.searchsorted(take[:, 0], part[-1, 0] + part[-1, 1], "left")
        yield ScanPiece(device, part, take[int(first) : int(last)], method, None)
        low = stop


def _cut_at_pieces(ranges: ByteRanges) -> ByteRanges:
    """Cut ranges at multiples of :data:`PIECE`."""
    first = ranges[:, 0] // np.uint64(PIECE)
    last = (ranges[:, 0] + ranges[:, 1] - np.uint64(1)) // np.uint64(PIECE)
    counts = (last - first + np.uint64(1)).astype(np.int64)
    row = np.repeat(np.arange(len(ranges)), counts)
    window = np.repeat(first, counts) + (
        np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    ).astype(np.uint64)
    low = np.maximum(ranges[row, 0], window * np.uint64(PIECE))
    high = np.minimum(ranges[row, 0] + ranges[row, 1], (window + np.uint64(1)) * np.uint64(PIECE))
    return np.column_stack((low, high - low))


def sample_offsets(
    take: ByteRanges, wide: int, end: int, source: BlockSource | None = None
) -> list[int]:
    """Random offsets of units of ``wide`` bytes that no range touches: half of them anywhere, half
    next to what changed, where a tracker that rounds wrongly goes wrong. Units of which ``source``
    knows that they are free show nothing, however large their part of a disk is.
    """
    units = end // wide
    touched = aligned(take, wide, end)
    low = touched[:, 0] // np.uint64(wide)
    high = (touched[:, 0] + touched[:, 1] + np.uint64(wide - 1)) // np.uint64(wide)
    wanted: set[int] = set()
    attempts = 4 * SAMPLES if source is None else _TRIES * SAMPLES
    for attempt in range(attempts):
        if len(wanted) >= SAMPLES or not units:
            break
        unit = random.randrange(units)
        if len(low) and attempt % 2:
            row = random.randrange(len(low))
            unit = int(low[row]) - 1 if random.random() < 0.5 else int(high[row])
        if not 0 <= unit < units or unit in wanted or _is_touched(unit, low, high):
            continue
        if source is None or not _is_free(source, unit * wide, wide):
            wanted.add(unit)
    return [unit * wide for unit in sorted(wanted)]


def _is_free(source: BlockSource, offset: int, length: int) -> bool:
    return int(free_of(source, offset, offset + length)[:, 1].sum()) == length


def _is_touched(unit: int, low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> bool:
    row = int(np.searchsorted(low, unit, "right")) - 1
    return row >= 0 and unit < int(high[row])
