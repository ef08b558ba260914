"""What the kernel makes of a volume in use, and of a copy without what a map calls free."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.volumes.model import Allocation
from tests.support.tools import mounted, run

GARBAGE = b"\xdb\x5a\xa5\x3c" * (1 << 18)
"""What a restored volume has where nothing was kept: anything, and nothing like a structure."""


def without_free(volume: Path, allocation: Allocation, into: Path) -> Path:
    """Copy a volume, and overwrite all that a map calls free."""
    shutil.copyfile(volume, into)
    with open(into, "r+b") as file:
        for rows in allocation.free.ranges(0, volume.stat().st_size):
            for offset, length in rows.tolist():
                file.seek(offset)
                for at in range(0, length, len(GARBAGE)):
                    file.write(GARBAGE[: length - at])
    return into


def hashes(at: Path) -> dict[str, str]:
    """What is below a directory: names, and digests of contents or what a link says."""
    found = {}
    for path in sorted(at.rglob("*")):
        name = str(path.relative_to(at))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def replayed(volume: Path, at: Path, *options: str) -> dict[str, str]:
    """Let the kernel mount a volume, which replays its journal; return its files."""
    with mounted(volume, at, *options) as there:
        found = hashes(there)
        run(["sync", "-f", there])
    return found


def ranges_of(allocation: Allocation, size: int) -> npt.NDArray[np.int64]:
    """The free bytes as (first, length)."""
    rows = [rows.astype(np.int64) for rows in allocation.free.ranges(0, size)]
    return np.concatenate(rows) if rows else np.empty((0, 2), np.int64)


def overlap(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """What lies in both of two sets of ascending (first, length)."""
    found = []
    at = 0
    for start, length in one.tolist():
        while at < len(other) and other[at].sum() <= start:
            at += 1
        index = at
        while index < len(other) and other[index, 0] < start + length:
            first, count = other[index].tolist()
            low, high = max(start, first), min(start + length, first + count)
            if high > low:
                found.append((low, high - low))
            index += 1
    return found


def same_bytes(one: Path, other: Path, ranges: list[tuple[int, int]]) -> bool:
    """Whether two files have the same content there."""
    with open(one, "rb") as first, open(other, "rb") as second:
        for start, length in ranges:
            first.seek(start)
            second.seek(start)
            if first.read(length) != second.read(length):
                return False
    return True
