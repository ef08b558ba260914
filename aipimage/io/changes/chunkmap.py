"""A sparse bitmap of granules: chunks of 32,768 bits by their number, made when a bit is set.

A chunk that is part of a frozen set is never changed again, so that sets may share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aipimage import _core
from aipimage.ranges import ByteRanges, granule_ranges, ranges_of_runs

CHUNK = 4096
"""Bytes of a chunk."""
CHUNK_SHIFT = 15
CHUNK_GRANULES = 1 << CHUNK_SHIFT

Chunks = dict[int, bytearray]
FrozenChunks = Mapping[int, bytes | bytearray]


def set_granules(chunks: Chunks, first: int, last: int) -> None:
    """Set the bits of granules ``first`` to ``last``, both included."""
    for number in range(first >> CHUNK_SHIFT, (last >> CHUNK_SHIFT) + 1):
        base = number << CHUNK_SHIFT
        low = max(first - base, 0)
        high = min(last - base, CHUNK_GRANULES - 1)
        _fill(_chunk(chunks, number), low, high)


def set_ranges(chunks: Chunks, ranges: ByteRanges, granularity: int, size: int) -> None:
    """Set the bits of all granules that a set of byte ranges touches."""
    granules = granule_ranges(ranges, granularity, size)
    first, count = granules[:, 0], granules[:, 1]
    owner = first >> np.uint64(CHUNK_SHIFT)
    within = owner == (first + count - np.uint64(1)) >> np.uint64(CHUNK_SHIFT)
    for start, length in granules[~within].tolist():
        set_granules(chunks, start, start + length - 1)
    _set_within(chunks, granules[within])


def _set_within(chunks: Chunks, granules: ByteRanges) -> None:
    """Set ranges of which none crosses from one chunk into the next, chunk by chunk."""
    owner = granules[:, 0] >> np.uint64(CHUNK_SHIFT)
    heads = np.flatnonzero(np.diff(owner)) + 1
    for rows in np.split(granules, heads) if len(granules) else ():
        number = int(rows[0, 0]) >> CHUNK_SHIFT
        inside = rows - np.array([number << CHUNK_SHIFT, 0], np.uint64)
        bits = np.frombuffer(_chunk(chunks, number), np.uint8)
        np.bitwise_or(bits, _core.extents_to_bitmap(inside, CHUNK_GRANULES), out=bits)


def merged(sets: Sequence[FrozenChunks]) -> FrozenChunks:
    """Return the union; a chunk that only one set has is shared with it."""
    result: dict[int, bytes | bytearray] = {}
    for chunks in sets:
        for number, bits in chunks.items():
            other = result.get(number)
            if other is not None:
                bits = _core.bitmap_or(other, bits, CHUNK_GRANULES).tobytes()
            result[number] = bits
    return result


def chunk_ranges(chunks: FrozenChunks, granularity: int, size: int) -> ByteRanges:
    """Return the bytes whose granules are set, cut at ``size``."""
    return ranges_of_runs(_runs(chunks), granularity, size)


def _runs(chunks: FrozenChunks) -> Iterator[tuple[int, bytes, int]]:
    """Yield neighbouring chunks as one bitmap."""
    numbers = np.array(sorted(chunks), np.uint64)
    heads = np.flatnonzero(np.diff(numbers) != 1) + 1
    for run in np.split(numbers, heads) if len(numbers) else ():
        bits = b"".join([chunks[number] for number in run.tolist()])
        yield int(run[0]) << CHUNK_SHIFT, bits, len(bits) * 8


def _chunk(chunks: Chunks, number: int) -> bytearray:
    chunk = chunks.get(number)
    if chunk is None:
        chunk = chunks[number] = bytearray(CHUNK)
    return chunk


def _fill(chunk: bytearray, low: int, high: int) -> None:
    """Set bits ``low`` to ``high`` of a chunk, both included."""
    first, last = low >> 3, high >> 3
    head, tail = 0xFF << (low & 7) & 0xFF, 0xFF >> (7 - (high & 7))
    if first == last:
        chunk[first] |= head & tail
        return
    chunk[first] |= head
    chunk[last] |= tail
    chunk[first + 1 : last] = b"\xff" * (last - first - 1)
