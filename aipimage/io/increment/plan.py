"""What of a source an increment looks at, cut into pieces for the workers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aipimage.extents import Kind
from aipimage.format import constants as c
from aipimage.format.layers import Digests
from aipimage.io.chain.digests import DigestView
from aipimage.io.changes.byteranges import ByteRanges, aligned, joined, no_ranges
from aipimage.io.increment.scan import Method, Piece
from aipimage.io.sources import BlockSource

if TYPE_CHECKING:
    from aipimage.io.device import Device

PIECE = 4 << 20
"""Bytes that a worker looks at at a time."""
SAMPLES = 128
"""Blocks that a tracker calls unchanged and that are looked at all the same."""
_PORTION = 16 << 30
_PORTION_ROWS = 65_536


def must_take(source: BlockSource, old: Device | None, grain: int) -> ByteRanges:
    """Ranges that are taken whatever a tracker or a comparison says: what the parent could not
    keep, and what lies behind its end.
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
        source.data_ranges(start, end), kept, (tuple(row) for row in take.tolist())
    ]  # fmt: skip
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
    device: int, ranges: Iterable[tuple[int, int]], take: ByteRanges, method: Method,
    view: DigestView | None,
) -> Iterator[Piece]:  # fmt: skip
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
            taken = _clipped(take[row:last], at, stop)
            expected = _expected(view, at, stop) if view is not None else None
            segments = np.array([(at, stop - at)], np.uint64)
            yield Piece(device, segments, taken, method, expected)
            at = stop


def _expected(view: DigestView, start: int, stop: int) -> Digests:
    return view.read(start // c.BLOCK, -(-(stop - start) // c.BLOCK))


def _clipped(ranges: ByteRanges, start: int, stop: int) -> ByteRanges:
    if not len(ranges):
        return no_ranges()
    low = np.maximum(ranges[:, 0], np.uint64(start))
    high = np.minimum(ranges[:, 0] + ranges[:, 1], np.uint64(stop))
    return np.column_stack((low, high - low))


def tracked_pieces(
    device: int, take: ByteRanges, wide: int, size: int, method: Method
) -> Iterator[Piece]:
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


def _share_a_window(before: npt.NDArray[np.uint64], behind: npt.NDArray[np.uint64]) -> bool:
    return (int(before.sum()) - 1) // PIECE == int(behind[0]) // PIECE


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
) -> Iterator[Piece]:
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
        yield Piece(device, part, take[int(first) : int(last)], method, None)
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


def sample_offsets(take: ByteRanges, wide: int, end: int) -> list[int]:
    """Random offsets of units of ``wide`` bytes that no range touches: half of them anywhere, half
    next to what changed, where a tracker that rounds wrongly goes wrong.
    """
    units = end // wide
    touched = aligned(take, wide, end)
    low = touched[:, 0] // np.uint64(wide)
    high = (touched[:, 0] + touched[:, 1] + np.uint64(wide - 1)) // np.uint64(wide)
    wanted: set[int] = set()
    for attempt in range(4 * SAMPLES):
        if len(wanted) >= SAMPLES or not units:
            break
        unit = random.randrange(units)
        if len(low) and attempt % 2:
            row = random.randrange(len(low))
            unit = int(low[row]) - 1 if random.random() < 0.5 else int(high[row])
        if 0 <= unit < units and not _is_touched(unit, low, high):
            wanted.add(unit)
    return [unit * wide for unit in sorted(wanted)]


def _is_touched(unit: int, low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> bool:
    row = int(np.searchsorted(low, unit, "right")) - 1
    return row >= 0 and unit < int(high[row])
