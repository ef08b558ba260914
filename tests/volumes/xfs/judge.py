"""What the parser of XFS and the tools of XFS say of the same volume."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.filesystems.xfs import PARSER
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.tools import require_programs, run

TOOLS = ("mkfs.xfs", "xfs_db", "xfs_repair", "blkid")
KIB, MIB = 1 << 10, 1 << 20
Runs = npt.NDArray[np.int64]

# mkfs.xfs refuses volumes below 300 MB unless it is run by the tests of XFS.
SMALL = {"TEST_DIR": "/nowhere", "TEST_DEV": "/nowhere", "QA_CHECK_FS": "1"}


def make(path: Path, size: int, *options: str | Path) -> Path:
    """A sparse file of ``size`` bytes with a file system."""
    require_programs(*TOOLS)
    path.unlink(missing_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    run(["env", *settings, "mkfs.xfs", "-q", "-f", *options, path])
    return path


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


def reason(source: BlockSource | Path, options: SurveyOptions | None = None) -> str | None:
    """Why the whole volume is taken."""
    try:
        look(source, options)
    except LayoutError as error:
        return str(error)
    return None


def joined(runs: Runs) -> Runs:
    """Ascending (first, blocks), neighbours joined."""
    runs = runs[np.argsort(runs[:, 0])]
    heads = np.flatnonzero(np.append(True, runs[1:, 0] != runs[:-1].sum(axis=1))[: len(runs)])
    ends = runs.sum(axis=1)[np.append(heads[1:], len(runs))[: len(heads)] - 1]
    return np.column_stack((runs[heads, 0], ends - runs[heads, 0]))


def free_runs(allocation: Allocation, filesystem: FileSystem) -> Runs:
    """The free blocks as (first, blocks)."""
    rows = [rows.astype(np.int64) for rows in allocation.free.ranges(0, filesystem.size)]
    if not rows:
        return np.empty((0, 2), np.int64)
    found = np.concatenate(rows)
    assert not (found % filesystem.cluster_size).any()
    return joined(found // filesystem.cluster_size)


def free_by_xfs_db(path: Path) -> tuple[Runs, dict[str, int]]:
    """The free blocks by block and, compared, by length, as xfs_db has them; and the superblock.

    xfs_db counts the blocks of free lists as free, which are told first for each group.
    """
    names = ("blocksize", "dblocks", "agblocks", "agcount", "fdblocks")
    text = run(["xfs_db", "-r", *_commands("sb 0", *(f"p {name}" for name in names)), path])
    fields = {name: int(value) for name, value in re.findall(r"^(\w+) = (\d+)$", text, re.M)}
    groups = range(fields["agcount"])
    counts = _commands(*(line for group in groups for line in (f"agf {group}", "p flcount")))
    text = run(["xfs_db", "-r", *counts, path]) if len(groups) < 64 else _many(path, counts)
    listed = [int(value) for value in re.findall(r"^flcount = (\d+)$", text, re.M)]
    by_block, by_count = (
        _free_extents(run(["xfs_db", "-r", "-c", f"freesp -d {option}", path]), listed, fields)
        for option in ("", "-c")
    )
    assert np.array_equal(by_block, by_count)
    return by_block, fields


def _commands(*lines: str) -> list[str]:
    return [word for line in lines for word in ("-c", line)]


def _many(path: Path, commands: list[str]) -> str:
    parts = [commands[at : at + 256] for at in range(0, len(commands), 256)]
    return "".join(run(["xfs_db", "-r", *part, path]) for part in parts)


def _free_extents(text: str, listed: list[int], fields: dict[str, int]) -> Runs:
    rows = np.array(re.findall(r"^ +(\d+) +(\d+) +(\d+)$", text, re.M), np.int64).reshape(-1, 3)
    kept = np.ones(len(rows), np.bool_)
    for group, count in enumerate(listed):
        kept[np.flatnonzero(rows[:, 0] == group)[:count]] = False
    rows = rows[kept]
    return joined(np.column_stack((rows[:, 0] * fields["agblocks"] + rows[:, 1], rows[:, 2])))


def agree(path: Path, checked: bool = True) -> tuple[FileSystem, Allocation]:
    """Assert that the parser, xfs_db and blkid say the same of a volume that xfs_repair accepts."""
    require_programs(*TOOLS)
    if checked:
        run(["xfs_repair", "-n", "-f", "-o", "force_geometry", path])
    filesystem, allocation = look(path)
    wanted, fields = free_by_xfs_db(path)
    assert np.array_equal(free_runs(allocation, filesystem), wanted)
    assert allocation.free.total == int(wanted[:, 1].sum()) * fields["blocksize"]
    assert filesystem.size == allocation.used_end == fields["dblocks"] * fields["blocksize"]
    assert filesystem.size <= os.path.getsize(path)
    assert filesystem.cluster_size == fields["blocksize"]
    values = run(["blkid", "-p", "-o", "export", path])
    named = dict(line.split("=", 1) for line in values.splitlines() if "=" in line)
    assert (filesystem.kind, filesystem.uuid) == (named["TYPE"], named["UUID"])
    assert filesystem.label == named.get("LABEL", "")
    return filesystem, allocation
