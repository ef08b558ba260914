"""Aged file systems made by the real tools: files came, grew, went and came again. Made once."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.preparing import Preparation
from tests.support.realistic import CLUSTER, RealisticDisk, clusters
from tests.support.tools import require_programs, run
from tests.volumes.ntfs import aged as ntfs_ageing
from tests.volumes.ntfs import made as ntfs_volumes

SIZE = 32 << 20
States = tuple[RealisticDisk, ...]


def _file(into: Path, chance: random.Random, name: str) -> Path:
    """A file of some kind of content and any size up to 400 KB."""
    rng = np.random.default_rng(chance.randrange(1 << 32))
    data = clusters(rng, chance.choice(["text", "random", "half", "zero"]), 100)
    path = into / name
    path.write_bytes(data[: int(len(data) * chance.random() ** 2) + 1])
    return path


def _state(volume: Path, number: int) -> RealisticDisk:
    """What the volume is now."""
    data = np.fromfile(volume, np.uint8)
    disk = RealisticDisk(len(data), volume.name)
    used = data[: len(data) // CLUSTER * CLUSTER].reshape(-1, CLUSTER).any(1)
    for first in np.flatnonzero(used).tolist():
        disk.write(first * CLUSTER, data[first * CLUSTER : (first + 1) * CLUSTER].tobytes())
    disk.mark = number
    return disk


def _ext4(work: Path, chance: random.Random) -> States:
    require_programs("mke2fs", "debugfs")
    volume, names, states = work / "ext4", list[str](), list[RealisticDisk]()
    with open(volume, "wb") as file:
        file.truncate(SIZE)
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", volume])
    for number in range(4):
        script = []
        for name in chance.sample(names, len(names) // 2):
            script.append(f"rm {name}")
            names.remove(name)
        for n in range(20):
            name = f"f{number}-{n}"
            script.append(f"write {_file(work, chance, name)} {name}")
            names.append(name)
        (work / "script").write_text("\n".join(script) + "\n")
        run(["debugfs", "-w", "-f", work / "script", volume])
        states.append(_state(volume, number))
    return tuple(states)


def _fat(work: Path, chance: random.Random) -> States:
    require_programs("mkfs.fat", "mcopy", "mdel")
    volume, names, states = work / "fat", list[str](), list[RealisticDisk]()
    with open(volume, "wb") as file:
        file.truncate(SIZE)
    run(["mkfs.fat", "-F", "16", volume])
    for number in range(4):
        gone = chance.sample(names, len(names) // 2)
        if gone:
            run(["mdel", "-i", volume, *(f"::{name}" for name in gone)])
        names = [name for name in names if name not in gone]
        new = [_file(work, chance, f"F{number}_{n}.BIN") for n in range(20)]
        run(["mcopy", "-i", volume, *new, "::"])
        names += [path.name for path in new]
        states.append(_state(volume, number))
    return tuple(states)


def _ntfs(work: Path, chance: random.Random) -> States:
    ntfs_volumes.require_ntfs()
    volume, states = work / "ntfs", list[RealisticDisk]()
    ntfs_volumes.make(volume, SIZE)
    for number in range(3):
        with ntfs_volumes.ntfs_3g(volume, work / "mounted") as at:
            if number:
                ntfs_ageing.delete(at, chance)
            ntfs_ageing.create(at, chance)
            ntfs_ageing.fragment(at, chance)
        states.append(_state(volume, number))
    return tuple(states)


KINDS: dict[str, Callable[[Path, random.Random], States]] = {
    "ext4": _ext4,
    "fat": _fat,
    "ntfs": _ntfs,
}


@functools.cache
def aged(kind: str) -> States:
    """A volume at some points of its life, aged by the last; skipped where tools are missing."""
    with tempfile.TemporaryDirectory(prefix="aged-") as work:
        return KINDS[kind](Path(work), random.Random(5))


def used_of(disk: RealisticDisk) -> BlockSource:
    """The volume without its free space, as a backup takes it."""
    return Preparation()(0, disk)


def used_content(disk: RealisticDisk) -> np.ndarray:
    """What an image of the used clusters reads as."""
    found = np.zeros(disk.size, np.uint8)
    used_of(disk).read_into(found.data, 0)
    return found


def differing(before: RealisticDisk, now: RealisticDisk) -> list[tuple[int, int]]:
    """(offset, length) of the clusters that differ."""
    count = now.size // CLUSTER
    pairs = (each.data[: count * CLUSTER].reshape(count, CLUSTER) for each in (before, now))
    rows = np.flatnonzero((next(pairs) != next(pairs)).any(1))
    return [(int(row) * CLUSTER, CLUSTER) for row in rows]
