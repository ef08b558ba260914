"""The limits: what is possible from Python on two threads over the same bytes.

Every function here runs in a process of its own through ``measure.call``; ``measure.timed`` marks
what counts.  "The data" of a disk is its 4 KiB clusters that are not all zero, packed one after the
other and cut into frames, as an image stores them; holes are skipped with SEEK_DATA and SEEK_HOLE.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import blake3
import measure
import numpy as np
import numpy.typing as npt
import zstandard

CLUSTER = 4096
FRAME = 64 * 1024
MIB = 1 << 20
PIECE = 4 * MIB
SLICE = 256 * MIB
LEVEL = 1

Clusters = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Extents = list[tuple[int, int, int]]
"""(offset on the disk, start in the frame, end in the frame), in bytes."""


def on_threads(threads: int, function: Callable[[int], int]) -> int:
    """Run ``function(0)`` … on as many threads; return the sum of what they return."""
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(function, range(threads)))


# --- the data of a disk -----------------------------------------------------------------------


def data_pieces(handle: int) -> Iterator[tuple[int, int]]:
    """Give (start, end) of the file's data, not its holes, in pieces of at most ``PIECE``."""
    size, end = os.fstat(handle).st_size, 0
    if size % CLUSTER:
        raise ValueError(f"the file's size, {size} bytes, is no multiple of {CLUSTER}")
    while end < size:
        try:
            begin = os.lseek(handle, end, os.SEEK_DATA) // CLUSTER * CLUSTER
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = -(-os.lseek(handle, begin, os.SEEK_HOLE) // CLUSTER) * CLUSTER
        for start in range(begin, end, PIECE):
            yield start, min(start + PIECE, end)


def used(clusters: Clusters) -> npt.NDArray[np.bool_]:
    """Tell for each row whether it holds anything but zeros; two words settle most."""
    words = clusters.view(np.uint64)
    mask: npt.NDArray[np.bool_] = (words[:, 0] | words[:, -1]) != 0
    unsure = np.flatnonzero(~mask)
    mask[unsure] = np.bitwise_or.reduce(words[unsure], axis=1) != 0
    return mask


def packed(
    handle: int, pieces: Iterable[tuple[int, int]], frame: int
) -> Iterator[tuple[Clusters, Numbers]]:
    """Read ``pieces`` and give their used clusters with their numbers, whole frames at a time.

    The arrays given are overwritten by the next step; only the last may end inside a frame.
    """
    each = frame // CLUSTER
    buffer = np.empty((PIECE // CLUSTER + each, CLUSTER), np.uint8)
    numbers = np.empty(len(buffer), np.int64)
    kept = 0
    for start, end in pieces:
        place = buffer[kept : kept + (end - start) // CLUSTER]
        if os.preadv(handle, [place.reshape(-1).data], start) != end - start:
            raise OSError(errno.EIO, "short read")
        mask = used(place)
        found = np.flatnonzero(mask)
        if len(found) < len(place):
            place[: len(found)] = place[mask]
        numbers[kept : kept + len(found)] = start // CLUSTER + found
        kept += len(found)
        whole = kept - kept % each
        if whole:
            yield buffer[:whole], numbers[:whole]
            buffer[: kept - whole] = buffer[whole:kept]
            numbers[: kept - whole] = numbers[whole:kept]
            kept -= whole
    if kept:
        yield buffer[:kept], numbers[:kept]


def frames_of(clusters: Clusters, frame: int) -> Iterator[memoryview]:
    """Cut packed clusters into frames without copying."""
    view = clusters.reshape(-1).data
    for start in range(0, len(view), frame):
        yield view[start : start + frame]


def choose_offsets(
    path: str, target: str, count: int, seed: int = 1, repeat: bool = True
) -> dict[str, Any]:
    """Write byte offsets of ``count`` random used clusters, as native 64-bit words.

    Without ``repeat`` no cluster comes twice.
    """
    handle = os.open(path, os.O_RDONLY)
    found = [numbers.copy() for _, numbers in packed(handle, data_pieces(handle), FRAME)]
    os.close(handle)
    clusters = np.concatenate(found)
    chosen = np.random.default_rng(seed).choice(clusters, count, replace=repeat)
    (chosen.astype(np.uint64) * CLUSTER).tofile(target)
    return {"bytes": len(clusters) * CLUSTER}


# --- creating ---------------------------------------------------------------------------------


def compress(path: str, frame: int = FRAME, threads: int = 2) -> dict[str, Any]:
    """Limit of creating: read and compress all data, dropping the output."""
    handle = os.open(path, os.O_RDONLY)
    pieces = iter(list(data_pieces(handle)))
    done = [0] * threads

    def work(number: int) -> int:
        compressor, size = zstandard.ZstdCompressor(level=LEVEL), 0
        for clusters, _ in packed(handle, pieces, frame):
            done[number] += clusters.nbytes
            for view in frames_of(clusters, frame):
                size += len(compressor.compress(view))
        return size

    with measure.timed():
        size = on_threads(threads, work)
    os.close(handle)
    return {"size": size, "bytes": sum(done)}


def compress_only(path: str, frame: int = FRAME, threads: int = 2) -> dict[str, Any]:
    """Limit of compressing alone: the clock runs only while data in memory is compressed."""
    handle = os.open(path, os.O_RDONLY)
    store = np.empty((SLICE + PIECE + frame) // CLUSTER * CLUSTER, np.uint8)
    filled = total = size = 0

    def flush() -> int:
        views = iter(list(frames_of(store[:filled], frame)))

        def work(number: int) -> int:
            compressor = zstandard.ZstdCompressor(level=LEVEL)
            return sum(len(compressor.compress(view)) for view in views)

        with measure.timed():
            return on_threads(threads, work)

    for clusters, _ in packed(handle, data_pieces(handle), frame):
        store[filled : filled + clusters.nbytes] = clusters.reshape(-1)
        filled += clusters.nbytes
        total += clusters.nbytes
        if filled >= SLICE:
            size += flush()
            filled = 0
    size += flush()
    os.close(handle)
    return {"size": size, "bytes": total}


# --- restoring and verifying ------------------------------------------------------------------


def store_frames(path: str, target: str, frame: int = FRAME, threads: int = 2) -> dict[str, Any]:
    """Prepare: compress all data of a disk into ``target``, its index into ``target``.npz."""
    handle = os.open(path, os.O_RDONLY)
    ends, clusters_found = [0], []
    local = [zstandard.ZstdCompressor(level=LEVEL) for _ in range(threads)]

    def work(item: tuple[int, list[memoryview]]) -> list[bytes]:
        return [local[item[0]].compress(view) for view in item[1]]

    with ThreadPoolExecutor(threads) as pool, open(target, "wb") as file:
        for clusters, numbers in packed(handle, data_pieces(handle), frame):
            clusters_found.append(numbers.copy())
            views = list(frames_of(clusters, frame))
            share = -(-len(views) // threads)
            shares = [(n, views[n * share : (n + 1) * share]) for n in range(threads)]
            for blob in (blob for blobs in pool.map(work, shares) for blob in blobs):
                ends.append(ends[-1] + file.write(blob))
    size = os.fstat(handle).st_size
    os.close(handle)
    numbers = np.concatenate(clusters_found)
    np.savez(f"{target}.npz", ends=np.array(ends), numbers=numbers, facts=np.array([size, frame]))
    return {"size": ends[-1], "bytes": len(numbers) * CLUSTER}


class Stored:
    """Frames made by ``store_frames``: ``jobs`` lists (offset, length, extents on the disk)."""

    def __init__(self, path: str) -> None:
        with np.load(f"{path}.npz") as index:
            ends, numbers = index["ends"], index["numbers"]
            self.disk_size, frame = map(int, index["facts"])
        self.handle = os.open(path, os.O_RDONLY)
        self.bytes = len(numbers) * CLUSTER
        each = frame // CLUSTER
        self.jobs: list[tuple[int, int, Extents]] = [
            (int(begin), int(end - begin), extents_of(numbers[at * each : (at + 1) * each]))
            for at, (begin, end) in enumerate(itertools.pairwise(ends))
        ]


def extents_of(numbers: Numbers) -> Extents:
    """Join neighbouring clusters of one frame into extents."""
    cuts = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
    return [
        (int(numbers[low]) * CLUSTER, low * CLUSTER, high * CLUSTER)
        for low, high in itertools.pairwise(cuts)
    ]


def restore(store: str, target: str, threads: int = 2) -> dict[str, Any]:
    """Limit of restoring: decompress stored frames and write them to their places in a new file."""
    stored = Stored(store)
    jobs = iter(stored.jobs)
    with measure.timed():
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.ftruncate(out, stored.disk_size)

        def work(number: int) -> int:
            decompressor, total = zstandard.ZstdDecompressor(), 0
            for offset, length, extents in jobs:
                blob = os.pread(stored.handle, length, offset)
                view = memoryview(decompressor.decompress(blob))
                for place, start, end in extents:
                    total += os.pwrite(out, view[start:end], place)
            return total

        total = on_threads(threads, work)
        os.close(out)
    if total != stored.bytes:
        raise OSError(errno.EIO, "short write")
    return {"bytes": total}


def verify(store: str, threads: int = 2) -> dict[str, Any]:
    """Limit of verifying: decompress stored frames and digest what comes out with BLAKE3."""
    stored = Stored(store)
    jobs = iter(stored.jobs)

    def work(number: int) -> int:
        decompressor, total = zstandard.ZstdDecompressor(), 0
        for offset, length, _ in jobs:
            data = decompressor.decompress(os.pread(stored.handle, length, offset))
            blake3.blake3(data).digest()
            total += len(data)
        return total

    with measure.timed():
        total = on_threads(threads, work)
    return {"bytes": total}


def keyless(path: str, piece: int = MIB, threads: int = 2) -> dict[str, Any]:
    """Limit of verifying without a key: BLAKE3 over the stored bytes in pieces."""
    size = Path(path).stat().st_size
    starts = iter(range(0, size, piece))

    def work(number: int) -> int:
        total, buffer = 0, memoryview(bytearray(piece))
        for start in starts:
            count = os.preadv(handle, [buffer], start)
            blake3.blake3(buffer[:count]).digest()
            total += count
        return total

    handle = os.open(path, os.O_RDONLY)
    with measure.timed():
        total = on_threads(threads, work)
    os.close(handle)
    return {"bytes": total}


# --- random reads -----------------------------------------------------------------------------


def raw_reads(path: str, offsets: str, threads: int = 1) -> dict[str, Any]:
    """Ceiling of random reads: 4 KiB ``os.preadv`` of a raw file at the given offsets."""
    places = np.fromfile(offsets, np.uint64).tolist()
    handle = os.open(path, os.O_RDONLY)

    def work(number: int) -> int:
        buffer, share = [bytearray(CLUSTER)], places[number::threads]
        for place in share:
            os.preadv(handle, buffer, place)
        return len(share)

    with measure.timed():
        count = on_threads(threads, work)
    os.close(handle)
    return {"reads": count}


# --- the sparse giant -------------------------------------------------------------------------


def sparse_giant(path: str, size: int, pieces: int, piece: int = MIB) -> dict[str, Any]:
    """Make a sparse file with half-compressible ``pieces`` spread evenly; return when it took."""
    start = time.perf_counter()
    with open(path, "wb") as file:
        file.truncate(size)
        for number in range(pieces):
            file.seek(number * (size // pieces))
            file.write(giant_piece(number, piece))
    return {"size": os.stat(path).st_blocks * 512, "took": time.perf_counter() - start}


def giant_piece(number: int, piece: int = MIB) -> bytes:
    """Return the bytes of one piece of the giant: each cluster half random and half text."""
    rng = random.Random(number)
    half = CLUSTER // 2
    text = (f"piece {number} of a sparse disk. ".encode() * half)[:half]
    return b"".join(rng.randbytes(half) + text for _ in range(piece // CLUSTER))
