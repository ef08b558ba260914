"""States of a disk whose file systems live on, and what an image of each must read as."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aipimage.ranges import ByteRanges, joined
from aipimage.volumes.survey import DiskSurvey
from tests.support.tools import run
from tests.volumes.wholedisk.made import (
    MIB,
    PATTERN,
    Disk,
    Mounted,
    attached,
    hashes_in,
    look_at,
    mounted,
    pieces_of,
    populate,
    surveyed,
)

GRAIN = 4096
FILLED = ("ext4", "ntfs")
"""Kinds that are full at times, so that the same bytes come to lie in the same clusters again."""


@dataclass(frozen=True)
class State:
    """A disk as it was at one time.

    Attributes:
        disk: a copy, with the files that were there. seen: a file of what an image of it must read
            as: zeros where it is free.
        free: bytes of it, as ranges. clusters: one element for each 4 KiB, whether all of it is.
        changed: likewise, whether it differs from the state before, as a tracker of all writes
            knows at least; all of it in the first state.
        most: bytes of clusters with data that an increment on the state before has to keep: those
            that differ, and those that became used.
    """

    disk: Disk
    seen: Path
    free: ByteRanges
    clusters: np.ndarray
    changed: np.ndarray
    most: int


def state_of(disk: Disk, number: int, before: State | None) -> State:
    """Keep the disk as it is now."""
    path = disk.path.with_name(f"state{number}.raw")
    run(["cp", "--sparse=always", disk.path, path])
    kept = Disk(path, disk.parts, disk.places, dict(disk.files), dict(disk.blkid))
    look_at(kept)
    found = surveyed(path)
    assert all(volume.whole_because is None for volume in found.volumes)
    free = joined(np.concatenate(list(found.free.ranges(0, found.size))))
    clusters = np.zeros(found.size // GRAIN, np.bool_)
    for start, length in free.tolist():
        clusters[-(-start // GRAIN) : (start + length) // GRAIN] = True
    seen = without_free(path, found)
    if before is None:
        return State(kept, seen, free, clusters, np.ones_like(clusters), 0)
    wanted = differing(before.seen, seen) | (before.clusters & ~clusters)
    most = 0
    for begin, data in pieces_of(seen):
        there = np.asarray(np.frombuffer(data, np.uint64).reshape(-1, GRAIN // 8).any(1))
        part = wanted[begin // GRAIN : begin // GRAIN + len(there)]
        most += int((there & part).sum()) * GRAIN
    return State(kept, seen, free, clusters, differing(before.disk.path, path), most)


def without_free(path: Path, found: DiskSurvey) -> Path:
    """A copy of a disk with zeros where it is free."""
    seen = path.with_suffix(".seen")
    with open(seen, "wb") as file:
        for begin, data in pieces_of(path):
            part = bytearray(data)
            for rows in found.free.ranges(begin, begin + len(data)):
                for start, length in rows.tolist():
                    part[start - begin : start - begin + length] = bytes(length)
            if any(part):
                file.seek(begin)
                file.write(part)
        file.truncate(found.size)
    return seen


def differing(one: Path, other: Path) -> np.ndarray:
    """Which 4 KiB of two disks differ."""
    found = np.zeros(one.stat().st_size // GRAIN, np.bool_)
    for path in (one, other):
        with open(other if path == one else one, "rb") as there:
            for begin, data in pieces_of(path):
                was = np.frombuffer(os.pread(there.fileno(), len(data), begin), np.uint64)
                differ = was != np.frombuffer(data, np.uint64)
                rows = differ.reshape(-1, GRAIN // 8).any(1)
                found[begin // GRAIN : begin // GRAIN + len(rows)] |= rows
    return found


def change(disk: Disk, step: Callable[[str, Path], None]) -> None:
    """Do something in every volume of a disk, through its driver."""
    with attached(disk.path) as device:
        for number, part in disk.parts.items():
            work = disk.path.parent / f"work{number}"
            with mounted(part.kind, f"{device}p{number}", work / "mnt") as place:
                step(part.kind, place)
                run(["sync", "-f", place])
                disk.files[number] = hashes_in(place)


def fill(kind: str, place: Path) -> None:
    """Write the same bytes as ever until a volume is full; into a large one 8 MiB."""
    data = PATTERN * 128
    with open(place / "fill.bin", "wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(1 << 16 if kind in FILLED else 128):
            assert file.write(data)


def scratch(place: Path) -> None:
    """Random bytes that reach the disk and are deleted again."""
    path = place / "scratch.bin"
    with open(path, "wb") as file:
        file.write(random.Random(str(place)).randbytes(4 * MIB))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def ranges_of(clusters: np.ndarray) -> ByteRanges:
    """Set elements as ranges of bytes."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], clusters.view(np.int8), [0]))))
    pairs = edges.reshape(-1, 2).astype(np.uint64) * np.uint64(GRAIN)
    return np.column_stack((pairs[:, 0], pairs[:, 1] - pairs[:, 0]))


class History:
    """Random life of a volume, the same for the same seed; a full one loses files and goes on."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def step(self, kind: str, place: Path) -> None:
        """Do some operations in a volume that is mounted."""
        for _ in range(self.chance.randrange(1, 12)):
            try:
                self._one(kind, place)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                for path in self._some(place):
                    path.unlink()

    def _some(self, place: Path) -> list[Path]:
        paths = sorted(path for path in place.rglob("*.bin") if path.is_file())
        return [path for path in paths if self.chance.random() < 0.3]

    def _one(self, kind: str, place: Path) -> None:
        what = self.chance.choice(("make", "remove", "rewrite", "cut", "scratch", "fill", "empty"))
        if what == "make":
            populate(Mounted(place), self.chance.random(), files=self.chance.randrange(1, 10))
        elif what == "scratch":
            scratch(place)
        elif what == "fill":
            fill(kind, place)
        elif what == "empty":
            (place / "fill.bin").unlink(missing_ok=True)
            run(["sync", "-f", place])
        for path in self._some(place) if what in ("remove", "rewrite", "cut") else []:
            if what == "remove":
                path.unlink()
            elif what == "cut":
                os.truncate(path, self.chance.randrange(200_000))
            else:
                with open(path, "r+b") as file:
                    file.seek(self.chance.randrange(100_000))
                    file.write(self.chance.randbytes(5000))
