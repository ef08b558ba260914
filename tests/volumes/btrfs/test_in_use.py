"""Btrfs volumes in use: what is kept is all that a replay of the log needs."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError
from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes.btrfs import judge as truth
from tests.volumes.btrfs.aged import MIB, Kind, in_use, make
from tests.volumes.journals.busy import Load, host, snapshot
from tests.volumes.journals.judge import replayed, without_free

LATE = "commit=300"
KINDS = {
    "default": Kind("", size=256 * MIB),
    "no commits but those of the driver": Kind("", size=256 * MIB, mount=LATE),
    "all doubled": Kind("", "-m dup -d dup", 384 * MIB, LATE),
    "mixed": Kind("", "-M", 160 * MIB, LATE),
    "nodes of 4 KiB": Kind("", "-n 4096", 256 * MIB, LATE),
    "compressed": Kind("", "--csum xxhash", 256 * MIB, f"{LATE},compress-force=zstd"),
    "holes": Kind("", "-O ^no-holes -R ^free-space-tree", 256 * MIB, f"{LATE},space_cache=v1"),
    "block group tree": Kind("", "-m dup", 256 * MIB, LATE, groups=True),
    "another UUID": Kind("", "-n 4096", 256 * MIB, LATE),
}


def require() -> None:
    """Skip where the driver or a program is missing."""
    require_loop_devices()
    require_programs("mkfs.btrfs", "btrfs", "btrfstune", "mkfs.xfs", "losetup")
    run(["sh", "-c", "grep -q btrfs /proc/filesystems || modprobe btrfs"])


@pytest.mark.parametrize("name", KINDS)
def test_class_50_copies_of_busy_volumes(tmp_path: Path, name: str) -> None:
    """The map is that of btrfs-progs, and every file is whole without all that is free."""
    assert any(copies_of(tmp_path, name, 1, 2))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", KINDS)
def test_class_50_many_copies(tmp_path: Path, name: str, seed: int) -> None:
    assert any(copies_of(tmp_path, name, seed, 8))


def copies_of(tmp_path: Path, name: str, seed: int, number: int) -> list[bool]:
    """Put load on two subvolumes, copy the volume at moments by chance, and check the copies;
    return for each whether it had a log.
    """
    require()
    kind, chance = KINDS[name], random.Random(seed)
    with host(tmp_path) as there:
        volume = there / "volume"
        make(kind, volume, seed)
        if name == "another UUID":
            run(["btrfstune", "-f", "-m", volume])
        copies = []
        with in_use(volume, tmp_path / "at", kind) as at:
            run(["btrfs", "subvolume", "create", at / "other"])
            with (
                Load(at, seed, writers=1) as load,
                Load(at / "other", seed + 1000, writers=1) as second,
            ):
                for index in range(number):
                    wanted = load.wait(chance.uniform(0.2, 0.9))
                    wanted |= {f"other/{path}": has for path, has in second.wait(0).items()}
                    copies.append((snapshot(volume, there / f"copy{index}"), wanted))
                run(["btrfs", "subvolume", "snapshot", at, at / "snapshot"])
        return [check(copy, wanted, tmp_path, kind) for copy, wanted in copies]


def check(copy: Path, wanted: dict[str, str], tmp_path: Path, kind: Kind) -> bool:
    """Compare a copy with btrfs-progs, and what it becomes with what it becomes without free
    space; return whether it had a log.
    """
    found, allocation = truth.survey(copy)
    has_log = truth.superblock(copy)["log_root"] != "0"
    assert bool(allocation.notes) == has_log
    used = truth.used_by_tools(copy)
    if has_log:
        assert allocation.notes[0].startswith("in use: ")
        log = truth.log_by_tools(copy)
        kept = truth.SECTOR * int((log & ~used).sum())
        assert kept
        assert allocation.notes[0].endswith(f" {kept:,} bytes are kept beyond its map")
        used |= log
    ours = truth.used_by_parser(allocation, found.size)[: len(used)]
    assert np.array_equal(ours, used)

    left = without_free(copy, allocation, copy.with_name("left"))
    plain = snapshot(copy, copy.with_name("plain"))
    options = ("-o", kind.mount) if kind.mount else ()
    files = replayed(plain, tmp_path / "replayed", *options)
    assert replayed(left, tmp_path / "replayed", *options) == files
    assert {path: files.get(path) for path in wanted} == wanted
    truth.check(left)
    return has_log


def test_class_50_a_frozen_volume_has_no_log(tmp_path: Path) -> None:
    require()
    volume, copy = tmp_path / "volume", tmp_path / "copy"
    make(Kind("", size=128 * MIB), volume, 1)
    with mounted(volume, tmp_path / "at", "-o", LATE) as at:
        synced(at / "file", 100_000)
        run(["fsfreeze", "-f", at])
        shutil.copyfile(volume, copy)
        run(["fsfreeze", "-u", at])
    assert truth.survey(copy)[1].notes == ()
    assert truth.survey(copy)[1].free.total


def test_class_50_what_may_change_is_taken_whole(tmp_path: Path) -> None:
    """A log that the file system itself is writing is not believed; a closed volume is."""
    require()
    volume, copy = tmp_path / "volume", tmp_path / "copy"
    make(Kind("", size=128 * MIB), volume, 1)
    with mounted(volume, tmp_path / "at", "-o", LATE) as at:
        synced(at / "file", 100_000)
        shutil.copyfile(volume, copy)
    options = SurveyOptions(changing=lambda: "it is mounted at /there")
    assert truth.survey(copy)[1].notes
    with pytest.raises(LayoutError, match="it is mounted at /there"):
        truth.survey(copy, options)
    truth.survey(volume, options)


def synced(path: Path, size: int) -> None:
    """Write a file that a log tree has."""
    with path.open("wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())
