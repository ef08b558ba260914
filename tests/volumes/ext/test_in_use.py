"""ext3 and ext4 volumes in use, against the kernel's replay and that of e2fsprogs."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.groups import read_groups
from aipimage.volumes.filesystems.ext.inuse import replay
from aipimage.volumes.filesystems.ext.trust import verified_superblock
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support import loop_device
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ext.made import MIB, TOOLS, free_by_dumpe2fs, look, make
from tests.volumes.journals.busy import Load, host, snapshot
from tests.volumes.journals.judge import overlap, ranges_of, replayed, same_bytes, without_free


class Kind(NamedTuple):
    """How a volume is made and mounted; ``is_exact``: debugfs replays all of its
    journal.
    """

    options: str
    mount: str = "defaults"
    size: int = 192 * MIB
    is_exact: bool = True


KINDS = {
    "ext4": Kind("-t ext4 -b 4096", "commit=1"),
    "ext3": Kind("-t ext3 -O ^extents", "commit=1"),
    "blocks of 1 KiB": Kind("-t ext4 -b 1024 -J size=2", size=64 * MIB),
    "data in the journal": Kind("-t ext4 -J size=8", "data=journal,commit=1"),
    "checksums of version 1": Kind("-t ext4 -O ^metadata_csum,^64bit", "journal_checksum"),
    "asynchronous commits": Kind("-t ext4", "journal_async_commit,data=writeback,commit=1"),
    "clusters": Kind("-t ext4 -O bigalloc -C 16384", "commit=1"),
    "meta_bg": Kind("-t ext4 -O meta_bg,^resize_inode -b 1024 -J size=4", size=96 * MIB),
    "fast commits": Kind("-t ext4 -b 4096 -O fast_commit", is_exact=False),
    "fast commits, short": Kind("-t ext4 -O fast_commit -J size=5", is_exact=False),
}


@pytest.mark.parametrize("name", KINDS)
def test_class_50_copies_of_busy_volumes(tmp_path: Path, name: str) -> None:
    """Nothing that is left out is used after the replay, and every file is whole without it."""
    assert sum(copies_of(tmp_path, KINDS[name], 1, 2)) > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("name", KINDS)
def test_class_50_many_copies(tmp_path: Path, name: str, seed: int) -> None:
    assert sum(copies_of(tmp_path, KINDS[name], seed, 6)) > 0


def copies_of(tmp_path: Path, kind: Kind, seed: int, number: int) -> list[int]:
    """Put load on a volume, copy it at moments by chance, and check the copies; return how many
    transactions each has.
    """
    require_programs(*TOOLS, "mount", "umount")
    chance = random.Random(seed)
    with host(tmp_path) as there:
        volume = make(there / "volume", kind.size, *kind.options.split())
        copies = []
        with mounted(volume, tmp_path / "at", "-o", kind.mount) as at, Load(at, seed) as load:
            for index in range(number):
                wanted = load.wait(chance.uniform(0.3, 1.5))
                copies.append((snapshot(volume, there / f"copy{index}"), wanted))
        return [check(copy, wanted, tmp_path, kind) for copy, wanted in copies]


def check(copy: Path, wanted: dict[str, str], tmp_path: Path, kind: Kind) -> int:
    """Compare a copy with what becomes of it; return the transactions in its journal."""
    _, allocation = look(copy)
    assert allocation.notes[0].startswith("in use: its journal was read, ")
    mount = ("-o", kind.mount)
    plain = snapshot(copy, copy.with_name("plain"))
    if "fast_commit" in kind.options and not can_be_mounted(plain, tmp_path / "replayed"):
        # Cut off within the first fast commit after a transaction, where Linux refuses it.
        return 0
    files = replayed(plain, tmp_path / "replayed", *mount)
    used = in_use_by_dumpe2fs(plain)
    ours = ranges_of(allocation, copy.stat().st_size)
    taken = overlap(ours, used)
    # What a driver takes while it replays fast commits, it writes itself.
    assert not taken or "fast_commit" in kind.options
    assert int(ours[:, 1].sum()) > 0

    left = without_free(copy, allocation, copy.with_name("left"))
    assert replayed(left, tmp_path / "replayed", *mount) == files
    assert same_bytes(plain, left, taken)
    # Linux itself does not always leave a whole directory after fast commits.
    verdict = said_by_e2fsck(left)
    assert not verdict or ("fast_commit" in kind.options and verdict == said_by_e2fsck(plain))
    assert {path: files.get(path) for path in wanted} == wanted
    if kind.is_exact:
        same_as_debugfs(copy)
    return int(allocation.notes[0].split(", ")[1].split()[0].replace(",", ""))


def said_by_e2fsck(volume: Path) -> list[str]:
    """What e2fsck finds amiss; nothing where it finds the volume whole."""
    text = run(["e2fsck", "-fn", volume], codes=(0, 4))
    beside = re.compile("$|Pass |e2fsck |/|.*could be (shorter|narrower)")
    return [line for line in text.splitlines() if not beside.match(line)]


def can_be_mounted(volume: Path, at: Path) -> bool:
    """Whether the kernel replays a journal."""
    at.mkdir(exist_ok=True)
    with loop_device(volume) as device:
        if "mount:" in run(["mount", device, at], codes=(0, 32)):
            return False
        run(["umount", at])
    return True


def in_use_by_dumpe2fs(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The bytes in use as (first, length)."""
    free, _ = free_by_dumpe2fs(path)
    edges = np.concatenate(([0], free.reshape(-1), [path.stat().st_size])).reshape(-1, 2)
    return np.column_stack((edges[:, 0], edges[:, 1] - edges[:, 0]))


def same_as_debugfs(copy: Path) -> None:
    """The replayed view is what the replay of e2fsprogs makes of the volume, but for superblock and
    journal. (e2fsck itself also deletes what was deleted while it was open.)
    """
    done = snapshot(copy, copy.with_name("by debugfs"))
    # Without checksums, since those of the bitmaps are not right before the replay.
    run(["debugfs", "-n", "-w", "-R", "journal_run", done])
    with contextlib.closing(open_source(copy)) as source:
        _same_as(done, source)


def _same_as(done: Path, source: BlockSource) -> None:
    view = VolumeView(source, 0, source.size)
    sb = verified_superblock(view.read(1024, 1024), view.size, in_use=True)
    found = replay(view, sb, read_groups(view, sb))
    skipped = {sb.superblock_block}
    for _, block, count in found.file.runs.tolist():
        skipped |= set(range(block, block + count))
    if sb.incompat & layout.INCOMPAT_META_BG:
        # There debugfs writes copies of descriptors that nothing has logged.
        starts = np.arange(sb.groups) * sb.blocks_per_group + sb.first_data_block
        skipped |= {*starts.tolist(), *(starts + 1).tolist()} - {*found.log.blocks.tolist()}
    step = 4 * MIB
    found.view.allow(2 * source.size)
    with open(done, "rb") as file:
        for at in range(0, source.size, step):
            ours = found.view.read_array(at, min(step, source.size - at)).reshape(-1, sb.block_size)
            theirs = np.frombuffer(file.read(step), np.uint8).reshape(-1, sb.block_size)
            unlike = np.flatnonzero((ours != theirs).any(axis=1)) + at // sb.block_size
            assert set(unlike.tolist()) <= skipped


def test_class_50_what_may_change_is_taken_whole(tmp_path: Path) -> None:
    """A journal that its own file system is writing to is not believed."""
    require_programs(*TOOLS)
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4")
    with mounted(path, tmp_path / "at") as there:
        (there / "file").write_bytes(b"x" * 100_000)
        run(["sync", "-f", there])
        shutil.copyfile(path, tmp_path / "copy")
    assert look(tmp_path / "copy")[1].free.total
    with pytest.raises(LayoutError, match="may change while it is read: it is mounted"):
        look(tmp_path / "copy", SurveyOptions(changing=lambda: "it is mounted at /there"))
