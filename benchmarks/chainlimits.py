"""The limits of chains: what finding, keeping and merging changes costs from Python at least.

As in ``limits.py`` every function runs in a process of its own through ``measure.call``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import blake3
import measure
import numpy as np
from limits import CLUSTER, FRAME, PIECE, data_pieces, on_threads


def keep_changed(path: str, changed: str, target: str, threads: int = 2) -> dict[str, Any]:
    """Limit of a tracked increment: digest the blocks that changed, write the changed clusters."""
    places = np.fromfile(changed, np.uint64).tolist()
    disk = os.open(path, os.O_RDONLY)

    def work(number: int) -> int:
        view, kept = memoryview(bytearray(FRAME)), 0
        for at in range(number, len(places), threads):
            block = places[at] // FRAME * FRAME
            count = os.preadv(disk, [view], block)
            blake3.blake3(view[:count]).digest()
            start = places[at] - block
            kept += os.pwrite(out, view[start : start + CLUSTER], at * CLUSTER)
        return kept

    with measure.timed():
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        kept = on_threads(threads, work)
        os.fsync(out)
        os.close(out)
    os.close(disk)
    return {"size": kept}


def hash_disk(path: str, threads: int = 2) -> dict[str, Any]:
    """Limit of comparing with digests: read all that may hold data, digest each 64 KiB of it."""
    disk = os.open(path, os.O_RDONLY)

    def work(number: int) -> int:
        view, total = memoryview(bytearray(PIECE)), 0
        for start, end in pieces:
            if os.preadv(disk, [view[: end - start]], start) != end - start:
                raise OSError(f"{path}: short read")
            for place in range(0, end - start, FRAME):
                blake3.blake3(view[place : min(place + FRAME, end - start)]).digest()
            total += end - start
        return total

    with measure.timed():
        pieces = iter(list(data_pieces(disk)))
        total = on_threads(threads, work)
    os.close(disk)
    return {"bytes": total}


def compare_disks(path: str, other: str, threads: int = 2) -> dict[str, Any]:
    """Lower bound of comparing data: read both raw states and find the clusters that differ.

    Holes of the later state ``path`` are passed over.
    """
    disks = [os.open(each, os.O_RDONLY) for each in (path, other)]

    def work(number: int) -> int:
        buffers, found = np.zeros((2, PIECE // 8), np.uint64), 0
        for start, end in pieces:
            now, was = buffers[:, : (end - start) // 8]
            for disk, buffer in zip(disks, (now, was), strict=True):
                os.preadv(disk, [buffer.data], start)
            differs = (now != was).reshape(-1, CLUSTER // 8).any(axis=1)
            found += int(np.count_nonzero(differs))
        return found

    with measure.timed():
        pieces = iter(list(data_pieces(disks[0])))
        found = on_threads(threads, work)
    for disk in disks:
        os.close(disk)
    return {"changed": found * CLUSTER}


def copy_file(path: str, target: str) -> dict[str, Any]:
    """Limit of merging: copy a file in pieces of 4 MiB, durably."""
    source, buffer = os.open(path, os.O_RDONLY), memoryview(bytearray(PIECE))
    total = 0
    with measure.timed():
        out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        while count := os.preadv(source, [buffer], total):
            total += os.pwrite(out, buffer[:count], total)
        os.fsync(out)
        os.close(out)
    os.close(source)
    if total != Path(path).stat().st_size:
        raise OSError(f"{target}: short write")
    return {"size": total}
