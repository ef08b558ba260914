"""Allocation maps: which clusters of a volume are free.

A map is kept in chunks of 2^20 clusters, each of them in its smallest form: all used, all free,
runs, or bits. So 4 TiB in clusters of 4 KiB take at most 128 MiB, and mostly some kilobytes,
whatever the order in which a file system lists them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.ranges import ByteRanges, clipped

CHUNK = 1 << 20
"""Clusters of a chunk."""
CLUSTERS_MAX = 1 << 42
_CHUNK_BYTES = CHUNK // 8
_RUNS_MAX = _CHUNK_BYTES // 8
Bits = npt.NDArray[np.uint8]
BitBuffer = bytes | bytearray | Bits
Runs = npt.NDArray[np.uint32]
"""Shape (n, 2): first cluster within the chunk, and clusters."""


class ClusterMap:
    """The free clusters of a volume; at first all are in use.

    Args:
        cluster_size: bytes, a multiple of 512. count: clusters. base: byte of the volume where
            cluster 0 begins.
        size: bytes of the volume; what lies past it, or in none of the clusters, is never free.
    """

    def __init__(self, cluster_size: int, count: int, base: int, size: int) -> None:
        if not 0 < count <= CLUSTERS_MAX or cluster_size % 512 or base % 512:
            raise RuntimeError(
                f"internal error: a map of {count} clusters of {cluster_size} bytes at {base}"
            )
        self.cluster_size, self.count, self.base, self.size = cluster_size, count, base, size
        # None: all used. True: all free. Else runs (two columns) or bits.
        self._chunks: dict[int, Bits | Runs | bool] = {}
        self._open: tuple[int, Bits] | None = None

    # Filling

    def set_free_bits(self, first: int, bits: BitBuffer, count: int) -> None:
        """Mark as free the clusters from ``first`` on whose bits are *set* among ``count`` bits,
        least significant first; clusters whose bits are clear stay as they are.
        """
        self._check(first, count)
        done = 0
        while done < count:
            chunk, inside = divmod(first + done, CHUNK)
            length = min(count - done, CHUNK - inside)
            self._set_bits(chunk, inside, _slice_of(bits, done, length), length)
            done += length

    def set_used_bits(self, first: int, bits: BitBuffer, count: int) -> None:
        """The same for bitmaps in which a set bit means a cluster in use: the others are free."""
        inverted = ~np.frombuffer(bits, np.uint8)
        self.set_free_bits(first, inverted, count)

    def set_free_runs(self, runs: npt.NDArray[np.uint64]) -> None:
        """Mark runs as free: shape (n, 2), first cluster and clusters, in any order."""
        self._set_runs(runs, free=True)

    def set_used_runs(self, runs: npt.NDArray[np.uint64]) -> None:
        """Mark runs as in use, whatever was said of them before."""
        self._set_runs(runs, free=False)

    def _set_runs(self, runs: npt.NDArray[np.uint64], free: bool) -> None:
        runs = runs[runs[:, 1] > 0].astype(np.uint64)
        if not len(runs):
            return
        first, ends = runs[:, 0], runs[:, 0] + runs[:, 1]
        if (ends < first).any() or int(ends.max()) > self.count:
            raise RuntimeError(f"internal error: runs of clusters past {self.count}")
        for chunk, rows in _by_chunk(first, ends):
            whole = len(rows) == 1 and int(rows[0, 1]) == self._chunk_count(chunk)
            if whole:
                self._set_whole(chunk, free)
            elif not self._is_all(chunk, free):
                bits = _core.extents_to_bitmap(rows, CHUNK)
                into = self._opened(chunk)
                np.bitwise_or(into, bits, into) if free else np.bitwise_and(into, ~bits, into)

    def _check(self, first: int, count: int) -> None:
        if first < 0 or count < 0 or first + count > self.count:
            raise RuntimeError(
                f"internal error: clusters {first} to {first + count} of {self.count}"
            )

    def _set_bits(self, chunk: int, inside: int, bits: Bits, count: int) -> None:
        if self._is_all(chunk, True):
            return
        into = self._opened(chunk)
        if inside % 8 == 0 and (count % 8 == 0 or inside + count == self._chunk_count(chunk)):
            whole, rest = divmod(count, 8)
            into[inside // 8 : inside // 8 + whole] |= bits[:whole]
            if rest:
                into[inside // 8 + whole] |= bits[whole] & np.uint8((1 << rest) - 1)
            return
        runs = _core.bitmap_to_extents(bits, count)
        runs[:, 0] += np.uint64(inside)
        into |= _core.extents_to_bitmap(runs, CHUNK)

    def _set_whole(self, chunk: int, free: bool) -> None:
        """Make a chunk one run; bits of it that are being filled are dropped."""
        if self._open is not None and self._open[0] == chunk:
            self._open = None
        self._chunks.pop(chunk, None)
        if free:
            self._chunks[chunk] = True

    def _is_all(self, chunk: int, free: bool) -> bool:
        """Whether a chunk is one run of that kind already, and not being filled."""
        is_open = self._open is not None and self._open[0] == chunk
        return not is_open and self._chunks.get(chunk) is (True if free else None)

    def _chunk_count(self, chunk: int) -> int:
        return min(CHUNK, self.count - chunk * CHUNK)

    def _opened(self, chunk: int) -> Bits:
        """The bits of a chunk, to be changed; the one that was open before is packed."""
        if self._open is not None and self._open[0] == chunk:
            return self._open[1]
        self._close()
        now = self._chunks.pop(chunk, None)
        bits: Bits
        if now is None:
            bits = np.zeros(_CHUNK_BYTES, np.uint8)
        elif isinstance(now, bool):
            count = self._chunk_count(chunk)
            bits = _core.extents_to_bitmap(np.array([(0, count)], np.uint64), CHUNK)
        elif now.ndim == 1:
            bits = now.astype(np.uint8, copy=False)
        else:
            bits = _core.extents_to_bitmap(now.astype(np.uint64), CHUNK)
        self._open = chunk, bits
        return bits

    def _close(self) -> None:
        if self._open is None:
            return
        chunk, bits = self._open
        self._open = None
        count = self._chunk_count(chunk)
        free = _core.bitmap_count(bits, count)
        if free == count:
            self._chunks[chunk] = True
        elif free:
            runs = next(_core.iter_bitmap_extents(bits, count, _RUNS_MAX))
            packs = len(runs) < _RUNS_MAX
            self._chunks[chunk] = runs.astype(np.uint32) if packs else bits

    # Reading

    @property
    def free_clusters(self) -> int:
        """How many are free."""
        self._close()
        total = 0
        for chunk, now in self._chunks.items():
            count = self._chunk_count(chunk)
            if isinstance(now, bool):
                total += count
            elif now.ndim == 1:
                total += _core.bitmap_count(now, count)
            else:
                total += int(now[:, 1].sum(dtype=np.uint64))
        return total

    @property
    def total(self) -> int:
        """Bytes that are free."""
        total = self.free_clusters * self.cluster_size
        # Clusters that reach past the end of the volume count as far as they lie inside.
        whole = max(0, min(self.count, (self.size - self.base) // self.cluster_size))
        cut = self.count - whole
        if cut:
            outside = sum(int(runs[:, 1].sum()) for runs in self.free_runs(whole, self.count))
            start = self.base + whole * self.cluster_size
            inside = sum(int(rows[:, 1].sum()) for rows in self.ranges(start, self.size))
            total += inside - outside * self.cluster_size
        return total

    def free_runs(self, first: int, last: int) -> Iterator[npt.NDArray[np.uint64]]:
        """Yield (first cluster, clusters) of the free runs of the clusters from ``first`` to below
        ``last``: arrays of at most 65,536 rows, ascending; a run may continue in the next array.
        """
        self._close()
        chunks = range(max(0, first) // CHUNK, -(-min(last, self.count) // CHUNK))
        for chunk in chunks if len(chunks) < len(self._chunks) else sorted(self._chunks):
            now = self._chunks.get(chunk)
            if now is None or chunk not in chunks:
                continue
            low, high = max(0, first - chunk * CHUNK), min(CHUNK, last - chunk * CHUNK)
            for rows in self._runs_of(chunk, now, low, high):
                rows[:, 0] += np.uint64(chunk * CHUNK)
                rows = clipped(rows, max(0, first), last)
                if len(rows):
                    yield rows

    def _runs_of(
        self, chunk: int, now: Bits | Runs | bool, low: int = 0, high: int = CHUNK
    ) -> Iterator[npt.NDArray[np.uint64]]:
        """Free runs of a chunk, cluster numbers within it; at least those that touch clusters from
        ``low`` to below ``high``.
        """
        count = self._chunk_count(chunk)
        if isinstance(now, bool):
            yield np.array([(0, count)], np.uint64)
        elif now.ndim == 1:
            # Only the bytes that are asked for: a sequential reader asks for a little each time.
            first, last = low // 8, min(-(-high // 8), -(-count // 8))
            for runs in _core.iter_bitmap_extents(
                now[first:last], min(count, last * 8) - first * 8
            ):
                runs[:, 0] += np.uint64(first * 8)
                yield runs
        else:
            ends = now[:, 0] + now[:, 1]
            begin = int(np.searchsorted(ends, low, "right"))
            yield now[begin : int(np.searchsorted(now[:, 0], high, "left"))].astype(np.uint64)

    def ranges(self, start: int, end: int) -> Iterator[ByteRanges]:
        """See :class:`aipimage.io.blocks.freespace.FreeSpace`; in bytes of the volume."""
        start, end = max(start, self.base), min(end, self.size)
        if start >= end:
            return
        size = np.uint64(self.cluster_size)
        first = (start - self.base) // self.cluster_size
        last = -(-(end - self.base) // self.cluster_size)
        for runs in self.free_runs(first, last):
            rows = runs * size
            rows[:, 0] += np.uint64(self.base)
            rows = clipped(rows, start, end)
            if len(rows):
                yield rows

    def used_end(self) -> int:
        """Byte of the volume past the last one that is in use (or lies in no cluster)."""
        self._close()
        end = self.count
        while end:
            chunk = (end - 1) // CHUNK
            now = self._chunks.get(chunk)
            if now is None:
                break
            last = None
            for rows in self._runs_of(chunk, now):
                last = rows[-1].tolist()
            assert last is not None
            if chunk * CHUNK + sum(last) < end:
                break
            end = chunk * CHUNK + last[0]
            if last[0]:
                break
        else:
            return self.base
        if end == self.count:
            return self.size
        return min(self.size, self.base + end * self.cluster_size)


def _slice_of(bits: BitBuffer, start: int, count: int) -> Bits:
    """``count`` bits from bit ``start`` on, as bytes that begin with the first of them."""
    data = np.frombuffer(bits, np.uint8)
    first, shift = divmod(start, 8)
    if not shift:
        return data[first : first + -(-count // 8)]
    unpacked = np.unpackbits(
        data[first : first + -(-(shift + count) // 8)], count=shift + count, bitorder="little"
    )
    return np.packbits(unpacked[shift:], bitorder="little")


def _by_chunk(
    first: npt.NDArray[np.uint64], ends: npt.NDArray[np.uint64]
) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Yield (chunk, rows within it) of runs from ``first`` to below ``ends``."""
    low = (first // np.uint64(CHUNK)).astype(np.int64)
    counts = ((ends - np.uint64(1)) // np.uint64(CHUNK)).astype(np.int64) - low + 1
    row = np.repeat(np.arange(len(first)), counts)
    chunk = low[row] + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start = (chunk * CHUNK).astype(np.uint64)
    begins = np.maximum(first[row], start) - start
    stops = np.minimum(ends[row] - start, np.uint64(CHUNK))
    order = np.argsort(chunk, kind="stable")
    chunk, rows = chunk[order], np.column_stack((begins, stops - begins))[order]
    heads = np.flatnonzero(np.diff(chunk, prepend=-1)).tolist()
    for low_row, high_row in zip(heads, [*heads[1:], len(chunk)], strict=True):
        yield int(chunk[low_row]), rows[low_row:high_row]
