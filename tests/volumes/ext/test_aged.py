"""Volumes that the kernel's driver and e2fsprogs have worked on, compared after each step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ext.aged import Ageing
from tests.volumes.ext.made import MIB, TOOLS, agree, make

# Name, size in MiB, options, and what is mounted with.
AGED: dict[str, tuple[int, str, str]] = {
    "ext2": (16, "-t ext2 -b 1024", "ext2"),
    "ext3": (24, "-t ext3 -b 1024", "ext3"),
    "ext4": (40, "-t ext4 -b 4096", "ext4"),
    "ext4-1k": (40, "-t ext4 -b 1024", "ext4"),
    "crc16": (40, "-t ext4 -b 1024 -O ^64bit,^metadata_csum,uninit_bg", "ext4"),
    "no-flex": (40, "-t ext4 -b 1024 -O ^flex_bg,^resize_inode -N 2000", "ext4"),
    "meta-bg": (40, "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode -N 8000", "ext4"),
    "bigalloc": (60, "-t ext4 -b 4096 -C 16384 -O bigalloc", "ext4"),
    "bigalloc-1k": (40, "-t ext4 -b 1024 -C 4096 -g 4096 -O bigalloc", "ext4"),
    "sparse2": (30, "-t ext4 -b 1024 -O sparse_super2,inline_data", "ext4"),
    "orphan-file": (30, "-t ext4 -b 2048 -O orphan_file,fast_commit", "ext4"),
    "no-journal": (30, "-t ext4 -b 1024 -O ^has_journal,mmp -G 4", "ext4"),
}


def may_resize() -> bool:
    """Whether this process has CAP_SYS_RESOURCE, bit 24."""
    status = Path("/proc/self/status")
    found = re.search(r"CapEff:\s+(\w+)", status.read_text()) if status.exists() else None
    return found is not None and bool(int(found[1], 16) >> 24 & 1)


def age(path: Path, at: Path, kind: str, seed: int, steps: int) -> None:
    """Mount, work, unmount and compare, several times: partly, full, thinned out, empty."""
    largest = path.stat().st_size // 60
    for turn in range(steps):
        with mounted(path, at, "-t", kind) as there:
            ageing = Ageing(there, seed + turn, largest)
            ageing.run(40)
            if turn % 4 == 1:
                ageing.fill()
            elif turn % 4 == 2:
                ageing.remove(0.5)
            elif turn % 4 == 3:
                ageing.remove(0.95)
        agree(path)


@pytest.mark.parametrize("name", AGED)
def test_aged(name: str, tmp_path: Path) -> None:
    require_programs(*TOOLS)
    require_loop_devices()
    megabytes, options, kind = AGED[name]
    path = make(tmp_path / "volume", megabytes * MIB, *options.split())
    age(path, tmp_path / "at", kind, 1, 4)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", AGED)
def test_aged_longer(name: str, seed: int, tmp_path: Path) -> None:
    require_programs(*TOOLS)
    require_loop_devices()
    megabytes, options, kind = AGED[name]
    path = make(tmp_path / "volume", (megabytes + seed) * MIB, *options.split())
    age(path, tmp_path / "at", kind, seed * 100, 12)


@pytest.mark.parametrize(
    "options",
    [
        "-t ext4 -b 1024",
        "-t ext4 -b 1024 -O ^flex_bg",
        "-t ext3 -b 1024",
        "-t ext4 -b 1024 -O meta_bg,^resize_inode",
        "-t ext4 -b 1024 -O ^resize_inode",
        "-t ext4 -b 1024 -O sparse_super2",
        "-t ext4 -b 1024 -O ^64bit,^metadata_csum,uninit_bg",
    ],
)
def test_grown_and_shrunk(options: str, tmp_path: Path) -> None:
    """The volume stays as it is; its file system takes more or less of it."""
    require_programs(*TOOLS)
    path = make(tmp_path / "volume", 300 * MIB, *options.split(), blocks="20M")
    for size in ("90M", "40M", "299M", "100M"):
        run(["e2fsck", "-f", "-y", path], codes=(0, 1))
        run(["resize2fs", path, size])
        agree(path)


@pytest.mark.skipif(not may_resize(), reason="the kernel lets only CAP_SYS_RESOURCE do it")
@pytest.mark.parametrize(
    "options",
    ["-t ext4 -b 1024 -E resize=20480", "-t ext4 -b 1024 -O ^resize_inode", "-t ext3 -b 1024"],
)
def test_grown_while_mounted(options: str, tmp_path: Path) -> None:
    """Grown by the kernel, which turns to meta_bg where descriptors have no reserved room left."""
    require_programs(*TOOLS)
    require_loop_devices()
    path = make(tmp_path / "volume", 250 * MIB, *options.split(), blocks="10M")
    for size in ("20M", "61M", "249M"):
        with mounted(path, tmp_path / "at", "-t", "ext4") as there:
            device = run(["findmnt", "-n", "-o", "SOURCE", there]).strip()
            run(["resize2fs", device, size])
            Ageing(there, 5, 200_000).run(20)
        agree(path)


@pytest.mark.parametrize("options", ["", ",^64bit", ",^flex_bg", ",sparse_super2,^sparse_super"])
def test_descriptors_of_both_kinds(options: str, tmp_path: Path) -> None:
    """The first descriptors lie together and the later ones in their groups, as it is where a
    kernel has grown a volume whose reserved room was used up.
    """
    require_programs(*TOOLS)
    features = "^resize_inode,^has_journal" + options
    more = ["-t", "ext4", "-b", "1024", "-g", "1024", "-O", features, "-N", "300"]
    path = make(tmp_path / "volume", 290 * MIB, *more, blocks="15M")
    run(["debugfs", "-w", "-R", "feature meta_bg", path])
    run(["debugfs", "-w", "-R", "ssv first_meta_bg 1", path])
    for size in ("20M", "120M", "70M", "290M"):
        run(["e2fsck", "-f", "-y", path], codes=(0, 1))
        run(["resize2fs", path, size])
        agree(path)
    assert "First meta block group:   1\n" in run(["dumpe2fs", "-h", path])


def test_changed_by_tune2fs(tmp_path: Path) -> None:
    """Features that come and go, and another UUID."""
    require_programs(*TOOLS)
    path = make(tmp_path / "volume", 30 * MIB, "-t", "ext2", "-b", "1024", "-L", "  spaced ")
    agree(path)
    changes = (
        ["-j"],
        ["-O", "uninit_bg"],
        ["-O", "extents"],
        ["-O", "^uninit_bg,metadata_csum"],
        ["-U", "random"],
        ["-O", "metadata_csum_seed"],
        ["-U", "random"],
        ["-L", "zwölf Grad"],
        ["-O", "^has_journal"],
        ["-O", "orphan_file"],
        ["-O", "quota"],
    )
    for change in changes:
        run(["e2fsck", "-f", "-y", path], codes=(0, 1))
        if change == ["-O", "orphan_file"]:
            run(["tune2fs", "-j", path])
        run(["tune2fs", *change, path])
        run(["e2fsck", "-f", "-y", path], codes=(0, 1))
        agree(path)
