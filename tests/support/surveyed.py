"""What the tests of FAT and exFAT share: surveying a volume, filling it, wiping what is free."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.model import Allocation, FileSystem, Parser, SurveyOptions
from aipimage.volumes.view import VolumeView
from tests.support.tools import run

Mask = npt.NDArray[np.bool_]


def surveyed(parser: Parser, source: BlockSource) -> tuple[FileSystem, Allocation]:
    """Probe a volume and read its map; what is wrong with it is raised."""
    view = VolumeView(source, 0, source.size)
    filesystem = parser.probe(view)
    assert filesystem is not None
    assert parser.allocation is not None
    allocation = parser.allocation(view, filesystem, SurveyOptions())
    check_ranges(allocation, source.size)
    return filesystem, allocation


def surveyed_file(parser: Parser, path: Path) -> tuple[FileSystem, Allocation]:
    """The same for a volume in a file."""
    source = open_source(path)
    try:
        return surveyed(parser, source)
    finally:
        source.close()


def check_ranges(allocation: Allocation, size: int) -> None:
    """Free ranges ascend, are disjoint and inside; at most the last one lies past ``used_end``."""
    before = total = last = 0
    for rows in allocation.free.ranges(0, size):
        starts, ends = rows[:, 0], rows[:, 0] + rows[:, 1]
        assert (rows[:, 1] > 0).all()
        assert (starts[1:] >= ends[:-1]).all()
        assert int(starts[0]) >= before
        begins = np.append(before, ends[:-1]) != starts
        last = int(starts[begins][-1]) if begins.any() else last
        before, total = int(ends[-1]), total + int(rows[:, 1].sum())
    assert before <= size
    assert total == allocation.free.total
    assert last <= allocation.used_end <= size


def used_of(allocation: Allocation) -> Mask:
    """Which clusters are in use."""
    free = allocation.free
    assert isinstance(free, ClusterMap)
    used = np.ones(free.count, np.bool_)
    for rows in free.free_runs(0, free.count):
        for first, length in rows.tolist():
            used[first : first + length] = False
    return used


def wipe_free(path: Path, allocation: Allocation) -> None:
    """Write 0xA5 over everything that is free."""
    with open(path, "r+b") as file:
        for rows in allocation.free.ranges(0, path.stat().st_size):
            for offset, length in rows.tolist():
                file.seek(offset)
                file.write(b"\xa5" * length)


def write_files(into: Path, rng: random.Random, prefix: str, count: int, most: int) -> None:
    """Write files of random lengths, all alike by their seed."""
    into.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (into / f"{prefix}{number}.bin").write_bytes(rng.randbytes(rng.randrange(most)))


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def partclone_used(program: str, path: Path) -> int:
    """The blocks that partclone takes, of those that it names."""
    image, log = path.with_suffix(".pc"), path.with_suffix(".log")
    text = run([program, "-c", "-F", "-s", path, "-O", image, "-L", log])
    image.unlink()
    log.unlink()
    found = re.search(r"Space in use:.*= (\d+) Blocks", text)
    assert found, text
    return int(found[1])


def blkid_says(path: Path) -> dict[str, str]:
    """What ``blkid`` reads from a volume."""
    text = run(["blkid", "-p", "-o", "export", path])
    lines = [line.replace("\\", "") for line in text.splitlines()]
    return dict(line.split("=", 1) for line in lines if "=" in line)
