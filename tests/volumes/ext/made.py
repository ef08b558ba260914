"""Volumes of ext2, ext3 and ext4 made by e2fsprogs, and what its tools say of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.filesystems.ext import PARSER
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.tools import require_programs, run

TOOLS = ("mke2fs", "dumpe2fs", "e2fsck", "debugfs", "resize2fs", "tune2fs", "blkid")
KIB, MIB = 1 << 10, 1 << 20
Ranges = npt.NDArray[np.int64]


def make(
    path: Path, size: int, *options: str | Path, content: Path | None = None, blocks: str = ""
) -> Path:
    """A sparse file of ``size`` bytes with a file system, filled from a directory; it takes all of
    the file, or what mke2fs reads ``blocks`` as.
    """
    with open(path, "wb") as file:
        file.truncate(size)
    more = ["-d", content] if content else []
    run(["mke2fs", "-q", "-F", "-E", "nodiscard", *more, *options, path, *blocks.split()])
    return path


def some_files(at: Path, seed: int = 1, most: int = 60_000, count: int = 30) -> Path:
    """A directory of files of any size up to ``most`` bytes."""
    chance = random.Random(seed)
    for number in range(count):
        folder = at / f"folder{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number}").write_bytes(chance.randbytes(chance.randint(0, most)))
    (at / "sparse").write_bytes(bytes(8))
    with open(at / "sparse", "r+b") as file:
        file.seek(most)
        file.write(b"end")
    (at / "link").symlink_to("folder0/file0")
    return at


def look(
    source: BlockSource | Path, options: SurveyOptions | None = None
) -> tuple[FileSystem, Allocation]:
    """What the parser finds; ``LayoutError`` where the whole volume is taken."""
    opened = open_source(source) if isinstance(source, Path) else source
    try:
        view = VolumeView(opened, 0, opened.size)
        filesystem = PARSER.probe(view)
        assert filesystem is not None
        assert PARSER.allocation is not None
        return filesystem, PARSER.allocation(view, filesystem, options or SurveyOptions())
    finally:
        if isinstance(source, Path):
            opened.close()


def reason(source: BlockSource | Path) -> str | None:
    """Why the whole volume is taken."""
    try:
        look(source)
    except LayoutError as error:
        return str(error)
    return None


def merged(rows: Sequence[tuple[int, int]] | npt.NDArray[np.integer]) -> Ranges:
    """Ascending (first, behind the last), neighbours joined."""
    array = np.array(rows, np.int64).reshape(-1, 2)
    if not len(array):
        return array
    heads = np.flatnonzero(np.append(True, array[1:, 0] != array[:-1, 1]))
    return np.column_stack((array[heads, 0], array[np.append(heads[1:], len(array)) - 1, 1]))


def free_ranges(allocation: Allocation, size: int) -> Ranges:
    """The free bytes as (first, behind the last)."""
    rows = [rows.astype(np.int64) for rows in allocation.free.ranges(0, size)]
    if not rows:
        return merged([])
    found = np.concatenate(rows)
    return merged(np.column_stack((found[:, 0], found[:, 0] + found[:, 1])))


def free_by_dumpe2fs(path: Path) -> tuple[Ranges, dict[str, str]]:
    """The free bytes of all groups, and the superblock's fields, as dumpe2fs prints them."""
    text = run(["dumpe2fs", path])
    fields = dict(re.findall(r"^([A-Z][^:\n]*):\s+(.*)$", text, re.MULTILINE))
    block = int(fields["Block size"])
    # With bigalloc a range ends with the first block of its last cluster.
    cluster = int(fields.get("Cluster size", block))
    rows = []
    for line in re.findall(r"^  Free blocks: (.+)$", text, re.MULTILINE):
        for piece in line.split(", "):
            first, _, last = piece.partition("-")
            rows.append((int(first) * block, int(last or first) * block + cluster))
    return merged(rows), fields


def agree(path: Path, checked: bool = True) -> tuple[FileSystem, Allocation]:
    """Assert that the parser, dumpe2fs and blkid say the same of a volume that e2fsck accepts."""
    require_programs(*TOOLS)
    if checked:
        run(["e2fsck", "-f", "-n", path])
    filesystem, allocation = look(path)
    wanted, fields = free_by_dumpe2fs(path)
    size = int(fields["Block count"]) * int(fields["Block size"])
    wanted = np.minimum(wanted, size)
    assert np.array_equal(free_ranges(allocation, path.stat().st_size), wanted)
    assert allocation.free.total == int((wanted[:, 1] - wanted[:, 0]).sum())
    assert allocation.free.total == int(fields["Free blocks"]) * int(fields["Block size"])
    assert filesystem.size == allocation.used_end == size
    found = filesystem.kind, filesystem.uuid, filesystem.label
    for name, value in zip(("TYPE", "UUID", "LABEL"), found, strict=True):
        printed = run(["blkid", "-p", "-o", "value", "-s", name, path])
        assert printed.removesuffix("\n") == value
    assert filesystem.cluster_size == int(fields.get("Cluster size", fields["Block size"]))
    return filesystem, allocation
