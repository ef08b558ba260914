"""The map of XFS volumes as the kernel's driver leaves them, against xfs_db and xfs_repair."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from aipimage.volumes.view import LayoutError
from tests.support.tools import mounted, require_programs, run
from tests.volumes.xfs.aged import STEPS, age
from tests.volumes.xfs.judge import KIB, MIB, TOOLS, agree, free_runs, look, make, reason


class Kind(NamedTuple):
    """One way to make and use volumes.

    Attributes:
        size: bytes. options: of mkfs.xfs. mount: options. steps: what happens to it, in turn.
    """

    size: int
    options: str
    steps: str
    mount: str = "defaults"


IN_USE = re.compile("in use: its log was read, [0-9,]+ transaction")
SMALL_BLOCKS = ("-b", "size=1k", "-d", "agcount=2")

KINDS = {
    "plain": Kind(
        64 * MIB,
        "",
        "create,delete,scatter,share,churn,grow,delete,attributes,fill,delete,repair,new uuid,"
        "create,log cleared,churn",
    ),
    "reverse map": Kind(
        48 * MIB,
        "-m rmapbt=1,reflink=1",
        "create,share,scatter,delete,attributes,grow,share,fill,delete,repair,churn",
    ),
    "blocks of 1 KiB": Kind(
        72 * MIB,
        "-b size=1k -d agcount=2 -m rmapbt=1",
        "create,scatter,scatter,delete,share,fill,delete,repair,log cleared,create",
    ),
    "few features": Kind(
        48 * MIB,
        "-b size=2k -m reflink=0,finobt=0,bigtime=0 -i sparse=0,size=1024",
        "create,attributes,delete,scatter,fill,delete,grow,churn",
    ),
    "blocks of 64 KiB": Kind(
        300 * MIB, "-b size=64k -d agcount=2", "create,delete,scatter,share,grow,delete,churn"
    ),
    "sectors of 4 KiB": Kind(
        64 * MIB, "-s size=4096 -l su=32k", "create,churn,delete,scatter,new uuid,grow,share"
    ),
    "stripes": Kind(
        300 * MIB,
        "-l su=256k -d su=64k,sw=4,agcount=2",
        "create,churn,delete,scatter,share",
        mount="logbsize=256k",
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_volumes_of_all_ages(tmp_path: Path, name: str) -> None:
    require_programs("mount", "umount", "xfs_growfs", *TOOLS)
    kind = KINDS[name]
    volume = make(tmp_path / "volume", kind.size, *kind.options.split())
    agree(volume)
    for number, step in enumerate(kind.steps.split(",")):
        age(volume, tmp_path / "mounted", step, number, "-o", kind.mount)
        agree(volume)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_volumes_of_many_histories(tmp_path: Path, seed: int) -> None:
    require_programs("mount", "umount", "xfs_growfs", *TOOLS)
    chance = random.Random(seed)
    kind = chance.choice(sorted(KINDS.values()))
    volume = make(tmp_path / "volume", kind.size, *kind.options.split())
    steps = [*STEPS, "delete", "delete", "repair", "new uuid", "log cleared"]
    for number in range(14):
        step = "grow" if number == 7 else chance.choice(steps)
        age(volume, tmp_path / "mounted", step, chance.randrange(1000), "-o", kind.mount)
        agree(volume)


def _levels(volume: Path) -> int:
    text = run(["xfs_db", "-r", "-c", "agf 0", "-c", "p bnolevel", volume])
    return int(text.split("=")[1])


def test_trees_of_three_levels(tmp_path: Path) -> None:
    """Thousands of single free blocks in one group."""
    require_programs("mount", "umount", *TOOLS)
    volume = make(tmp_path / "volume", 72 * MIB, *SMALL_BLOCKS)
    for step in ("pieces", "create"):
        age(volume, tmp_path / "mounted", step)
        _, allocation = agree(volume)
    assert _levels(volume) == 3
    assert sum(len(rows) for rows in allocation.free.ranges(0, 72 * MIB)) > 6000


def test_class_50_logs_go_round(tmp_path: Path) -> None:
    """Unmount records everywhere in the log, also over its end."""
    require_programs("mount", "umount", *TOOLS)
    volume = make(tmp_path / "volume", 40 * MIB, *SMALL_BLOCKS)
    cycles = []
    for number in range(16):
        option = "logbsize=256k" if number % 3 else "logbsize=32k"
        with mounted(volume, tmp_path / "mounted", "-o", option) as at:
            paths = [at / f"file{name}" for name in range(300)]
            for turn in range(9):
                for path in paths:
                    path.touch()
                    os.utime(path, (turn, number))
                run(["sync", "-f", at])
        agree(volume, checked=number % 4 == 3)
        with open(volume, "rb") as file:
            file.seek(_log_offset(volume))
            words = struct.unpack(">II", file.read(8))
        cycles.append(words[words[0] == 0xFEEDBABE])
    assert cycles == sorted(cycles)
    assert cycles[-1] > 2


def _log_offset(volume: Path) -> int:
    with open(volume, "rb") as file:
        fields = file.read(264)
    block, (log,) = struct.unpack_from(">I", fields, 4)[0], struct.unpack_from(">Q", fields, 48)
    bits, (each,) = fields[124], struct.unpack_from(">I", fields, 84)
    return int(((log >> bits) * each + (log & ((1 << bits) - 1))) * block)


def test_class_50_what_was_not_unmounted(tmp_path: Path) -> None:
    """A copy of a volume in use, and one that was cut off, have a log to be replayed: it is read
    here, and replayed by the kernel, or thrown away by xfs_repair.
    """
    require_programs("mount", "umount", "xfs_io", *TOOLS)
    volume = make(tmp_path / "volume", 40 * MIB)
    age(volume, tmp_path / "mounted", "create")
    with mounted(volume, tmp_path / "mounted") as at:
        (at / "new").write_bytes(bytes(100_000))
        run(["sync", "-f", at])
        (tmp_path / "copy").write_bytes(volume.read_bytes())
    agree(volume)
    assert IN_USE.match(look(tmp_path / "copy")[1].notes[0])

    with mounted(volume, tmp_path / "mounted") as at:
        (at / "other").write_bytes(bytes(100_000))
        run(["xfs_io", "-x", "-c", "shutdown -f", at])
    found = look(volume)[1]
    assert IN_USE.match(found.notes[0])
    with mounted(volume, tmp_path / "mounted"):
        pass
    assert agree(volume)[1].free.total == found.free.total

    run(["xfs_repair", "-f", "-L", tmp_path / "copy"])
    agree(tmp_path / "copy")


def test_class_50_every_place_at_which_a_log_is_cut_off(tmp_path: Path) -> None:
    """Copies between the steps of a mounted volume: in each there is less that is free."""
    require_programs("mount", "umount", *TOOLS)
    volume = make(tmp_path / "volume", 40 * MIB, *SMALL_BLOCKS)
    before = look(volume)[1].free.total
    copies = []
    with mounted(volume, tmp_path / "mounted") as at:
        for number in range(12):
            (at / f"file{number}").write_bytes(bytes(9000 * (number + 1)))
            run(["sync", "-f", at])
            copies.append(tmp_path / f"copy{number}")
            shutil.copyfile(volume, copies[-1])
    for copy in copies:
        found = look(copy)[1]
        assert IN_USE.match(found.notes[0])
        assert found.free.total <= before
        before = found.free.total
    assert look(volume)[1].free.total <= before


def test_class_50_totally_zeroed_logs(tmp_path: Path) -> None:
    """A mount would take it for clean; nothing says that it is."""
    volume = make(tmp_path / "volume", 40 * MIB)
    agree(volume)
    with open(volume, "r+b") as file:
        file.seek(_log_offset(volume))
        file.write(bytes(MIB))
    assert reason(volume) == "its log is empty, without an unmount record"


def test_a_damaged_copy_is_whole_or_the_same(tmp_path: Path) -> None:
    """Random bytes in the first blocks of a real volume."""
    volume = make(tmp_path / "volume", 40 * MIB, "-d", "agcount=2")
    filesystem, allocation = look(volume)
    wanted = free_runs(allocation, filesystem).tolist()
    chance = random.Random(4)
    plain = volume.read_bytes()
    for _ in range(60):
        place = chance.choice([0, 20 * MIB]) + chance.randrange(16 * KIB)
        with open(volume, "r+b") as file:
            file.seek(place)
            file.write(chance.randbytes(chance.choice([1, 4, 512])))
        try:
            filesystem, allocation = look(volume)
        except LayoutError:
            pass
        except AssertionError:
            assert place < 4
        else:
            assert free_runs(allocation, filesystem).tolist() == wanted
        with open(volume, "r+b") as file:
            file.seek(place)
            file.write(plain[place : place + 512])
