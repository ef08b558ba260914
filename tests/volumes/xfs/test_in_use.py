"""XFS volumes in use: what is kept is all that a mount of the copy needs."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.xfs.inuse import read_log
from aipimage.volumes.filesystems.xfs.superblock import read_superblock
from aipimage.volumes.journals.xfslog.records import Log
from aipimage.volumes.journals.xfslog.ring import Ring
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import VolumeView
from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes.journals.busy import Load, host, snapshot
from tests.volumes.journals.judge import hashes, overlap, ranges_of, replayed, without_free
from tests.volumes.xfs.aged import age
from tests.volumes.xfs.judge import MIB, TOOLS, free_by_xfs_db, look, make, reason

FROZEN = "in use: it was frozen or idle, and its log holds nothing but its superblock"


def require() -> None:
    require_programs("mount", "umount", "xfs_freeze", "xfs_io", *TOOLS)
    require_loop_devices()


def same_after_replay(copy: Path, tmp_path: Path, wanted: dict[str, str]) -> None:
    """Without what is free, a copy replays, has all files, and is accepted by xfs_repair."""
    _, allocation = look(copy)
    volume = without_free(copy, allocation, tmp_path / "without free")
    found = replayed(volume, tmp_path / "replayed", "-o", "nouuid")
    assert {name: found.get(name) for name in wanted} == wanted
    run(["xfs_repair", "-n", "-f", volume])


@pytest.mark.parametrize("options", ["", "-m rmapbt=1", "-m reflink=0,finobt=0 -i sparse=0"])
def test_class_50_a_frozen_volume(tmp_path: Path, options: str) -> None:
    """Aged and frozen: used blocks only, with a note; deleted files that are open keep theirs."""
    require()
    volume, copy = make(tmp_path / "volume", 48 * MIB, *options.split()), tmp_path / "copy"
    for number, step in enumerate(("create", "churn", "delete", "scatter", "attributes", "delete")):
        age(volume, tmp_path / "mounted", step, number)
    with mounted(volume, tmp_path / "mounted") as at:
        age_now = [at / f"new{number}" for number in range(20)]
        for path in age_now:
            path.write_bytes(os.urandom(70_000))
        descriptor = os.open(at / "open", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, bytes(1_000_000))
        (at / "open").unlink()
        run(["xfs_freeze", "-f", at])
        wanted = hashes(at)
        shutil.copyfile(volume, copy)
        run(["xfs_freeze", "-u", at])
        os.close(descriptor)
    filesystem, allocation = look(copy)
    assert allocation.notes == (FROZEN,)
    later = look(volume)[1].free.total
    assert 0 < allocation.free.total <= later - 1_000_000
    assert allocation.used_end == filesystem.size
    same_after_replay(copy, tmp_path, wanted)


def test_class_50_what_may_change_is_taken_whole(tmp_path: Path) -> None:
    """An idle volume looks like a frozen one; where it is mounted, that says nothing."""
    require()
    volume = make(tmp_path / "volume", 40 * MIB)
    with mounted(volume, tmp_path / "mounted") as at:
        run(["xfs_freeze", "-f", at])
        found = reason(volume, SurveyOptions(changing=lambda: "it is mounted at /there"))
        frozen = reason(volume)
        run(["xfs_freeze", "-u", at])
    assert found is not None
    assert "it is mounted at /there" in found
    assert frozen is None
    assert reason(volume, SurveyOptions(changing=lambda: "it is mounted at /there")) is None


class Kind(NamedTuple):
    """How a volume is made and mounted."""

    options: str = ""
    mount: str = "defaults"
    size: int = 300 * MIB


KINDS = {
    "plain": Kind(),
    "all maps": Kind("-m rmapbt=1,reflink=1"),
    "few features": Kind("-m reflink=0,finobt=0,bigtime=0,inobtcount=0 -i sparse=0,size=1024"),
    "blocks of 1 KiB": Kind("-b size=1k -l size=4m", size=128 * MIB),
    "large counts": Kind("-i nrext64=1", "logbsize=256k"),
    "short log": Kind("-d agcount=8 -l size=6m"),
    "sectors of 4 KiB": Kind("-s size=4096 -l su=32k", "logbsize=64k"),
}


@pytest.mark.parametrize("name", KINDS)
def test_class_50_copies_of_busy_volumes(tmp_path: Path, name: str) -> None:
    """What is left out is what the kernel's replay leaves free, and every file is whole without."""
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
    require()
    chance = random.Random(seed)
    with host(tmp_path) as there:
        volume = make(there / "volume", kind.size, *kind.options.split())
        copies = []
        with mounted(volume, tmp_path / "at", "-o", kind.mount) as at, Load(at, seed) as load:
            for index in range(number):
                wanted = load.wait(chance.uniform(0.3, 1.5))
                copies.append((snapshot(volume, there / f"copy{index}"), wanted))
        return [check(copy, wanted, tmp_path) for copy, wanted in copies]


def check(copy: Path, wanted: dict[str, str], tmp_path: Path) -> int:
    """Compare a copy with what becomes of it; return the transactions in its log."""
    _, allocation = look(copy)
    plain = snapshot(copy, copy.with_name("plain"))
    files = replayed(plain, tmp_path / "replayed", "-o", "nouuid")
    left_out_is_free(copy, plain)
    left = without_free(copy, allocation, copy.with_name("left"))
    assert replayed(left, tmp_path / "replayed", "-o", "nouuid") == files
    run(["xfs_repair", "-n", "-f", left])
    assert {path: files.get(path) for path in wanted} == wanted
    found = re.match(r"in use: its log was read, ([\d,]+) transaction", allocation.notes[0])
    assert found or allocation.notes[0] == FROZEN
    same_as_kernel(copy, tmp_path)
    return int(found[1].replace(",", "")) if found else 0


def left_out_is_free(copy: Path, after: Path) -> None:
    """What a copy's map calls free is free after the kernel's replay too. (That also frees what was
    deleted while it was open, and the like.)
    """
    filesystem, allocation = look(copy)
    free = free_by_xfs_db(after)[0] * filesystem.cluster_size
    ours = ranges_of(allocation, copy.stat().st_size)
    assert sum(length for _, length in overlap(ours, free)) == int(ours[:, 1].sum())
    assert int(ours[:, 1].sum()) > 0


def same_as_kernel(copy: Path, tmp_path: Path) -> None:
    """All that a log names is, after the replay here, what the kernel makes of it, but for the
    superblock, which is written when it is mounted.
    """
    done = snapshot(copy, copy.with_name("by kernel"))
    replayed(done, tmp_path / "replayed", "-o", "ro,nouuid")
    with contextlib.closing(open_source(copy)) as source, open(done, "rb") as file:
        view = VolumeView(source, 0, source.size, 1 << 20)
        found = read_log(view, read_superblock(view), SurveyOptions())
        if found.overlay is None or found.result is None:
            return
        with contextlib.closing(found.overlay) as overlay:
            unlike = set()
            for start, length in found.result.places.tolist():
                file.seek(start)
                ours = bytes(overlay.read(start, length))
                if ours != file.read(length):
                    unlike.add(ours[:4])
    # Where a file was deleted while it was open, the kernel has deleted it now.
    assert b"XAGI" in unlike or unlike <= {b"XFSB"}


@pytest.mark.parametrize(
    "mount", ["defaults", pytest.param("logbsize=256k", marks=pytest.mark.long)]
)
def test_class_50_logs_that_are_torn(tmp_path: Path, mount: str) -> None:
    """The last records damaged or never written, also those before the last: the head is where the
    kernel finds it. One that cannot have been in flight: taken whole, and not mounted.
    """
    require()
    with host(tmp_path) as there:
        volume = make(there / "volume", 300 * MIB)
        with mounted(volume, tmp_path / "at", "-o", mount) as at, Load(at, 7) as load:
            load.wait(2, 20)
            copy = snapshot(volume, there / "copy")
        with contextlib.closing(open_source(copy)) as source:
            view = VolumeView(source, 0, source.size, 1 << 20)
            superblock = read_superblock(view)
            start = superblock.logstart * superblock.blocksize
            ring = Ring(view, start, superblock.logblocks * superblock.blocksize)
            log = Log(ring, (superblock.uuid,), True)
            blocks = [record.block for record in log.records(log.open_span())]
        assert len(blocks) > 20
        maps = set()
        for back, inside, data in (
            (1, 700, b"\xff"), (1, 512, bytes(512)), (1, 0, bytes(1024)), (3, 600, b"\xff\xee"),
            (4, 512, bytes(512)), (7, 0, bytes(512)), (8, 800, b"\xff"),
        ):  # fmt: skip
            torn = snapshot(copy, there / "torn")
            with open(torn, "r+b") as file:
                file.seek(start + blocks[-back] * 512 + inside)
                file.write(data)
            after = snapshot(torn, there / "after")
            replayed(after, tmp_path / "replayed", "-o", "nouuid")
            left_out_is_free(torn, after)
            same_as_kernel(torn, tmp_path)
            maps.add(look(torn)[1].notes[0])
        assert len(maps) > 3
        with open(copy, "r+b") as file:
            file.seek(start + blocks[len(blocks) // 2] * 512 + 600)
            file.write(b"\xff\xfe\xfd")
        assert "of its log is damaged" in (reason(copy) or "")
