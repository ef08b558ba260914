"""Btrfs: maps of volumes that mkfs.btrfs and the kernel made, compared with btrfs-progs, and proved
by filling all that is free with garbage.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from aipimage.volumes.view import LayoutError
from tests.support import require_loop_devices
from tests.support.soon import SOON
from tests.support.tools import mounted, require_programs, run
from tests.volumes.btrfs import judge as truth
from tests.volumes.btrfs.aged import KINDS, Kind, age, in_use, make


def kernel_knows_btrfs() -> None:
    """Skip where the driver is missing."""
    require_loop_devices()
    require_programs("mkfs.btrfs", "btrfs", "partclone.btrfs", "blkid", "losetup")
    run(["sh", "-c", "grep -q btrfs /proc/filesystems || modprobe btrfs"])


def compare(volume: Path) -> None:
    """The map against the trees as btrfs-progs and partclone read them; then garbage into all that
    is free, and a check of everything."""
    found, allocation = truth.survey(volume)
    wanted = truth.used_by_tools(volume)
    used = truth.used_by_parser(allocation, found.size)
    # What is no whole sector at the end, or behind the file system, is in use.
    assert (used[: len(wanted)] == wanted).all()
    assert used[len(wanted) :].all()
    assert allocation.free.total == 4096 * int((~wanted).sum())
    fields = truth.superblock(volume)
    assert found.size == allocation.used_end == int(fields["dev_item.total_bytes"])
    assert found.cluster_size == int(fields["sectorsize"])
    told = dict(
        line.split("=", 1)
        for line in run(["blkid", "-p", "-o", "export", volume]).splitlines()
        if "=" in line
    )
    assert found.uuid == told["UUID"]
    assert found.label == told.get("LABEL", "").replace("\\ ", " ")
    truth.fill_with_garbage(volume, allocation)
    truth.check(volume)


def history(kind: Kind, tmp_path: Path, seed: int) -> int:
    """Make a volume and let it age, with a comparison behind every step; return how many."""
    volume, at = tmp_path / "volume", tmp_path / "mounted"
    make(kind, volume, seed)
    compare(volume)
    steps, before = kind.steps.split(), None
    for number, step in enumerate(steps):
        with in_use(volume, at, kind):
            assert before is None or truth.contents(at) == before
            age(step, volume, at, kind, seed * 100 + number)
            before = truth.contents(at)
        compare(volume)
    with mounted(volume, at, "-o", "ro"):
        assert before is None or truth.contents(at) == before
    return 1 + len(steps)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_map_is_what_the_tools_say_and_all_that_is_free_can_be_garbage(
    kind: Kind, tmp_path: Path
) -> None:
    kernel_knows_btrfs()
    assert history(kind, tmp_path, 1) == 1 + len(kind.steps.split())


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_map_over_more_seeds(kind: Kind, seed: int, tmp_path: Path) -> None:
    kernel_knows_btrfs()
    assert history(kind, tmp_path, seed) == 1 + len(kind.steps.split())


def test_at_least_sixty_volumes_are_compared() -> None:
    assert sum(1 + len(kind.steps.split()) for kind in KINDS) >= 60


def plain(tmp_path: Path, options: str = "", size: int = 128 << 20) -> Path:
    """A new volume."""
    kernel_knows_btrfs()
    volume = tmp_path / "volume"
    make(Kind("plain", options, size), volume, 1)
    return volume


@pytest.mark.parametrize(
    "options", ["-s 16384", "-s 65536 -n 65536 --csum xxhash", "-M -s 8192 -n 8192"]
)
def test_class_48_rare_sector_sizes_are_legal(options: str, tmp_path: Path) -> None:
    compare(plain(tmp_path, options))


@pytest.mark.parametrize("option", ["-m", "-S1"])
def test_class_48_a_changed_uuid_and_a_seed_device_are_legal(option: str, tmp_path: Path) -> None:
    """A volume that got a new UUID keeps the old one in its nodes; one that others grow from is
    only marked."""
    volume, at = plain(tmp_path), tmp_path / "mounted"
    with mounted(volume, at):
        (at / "file").write_bytes(bytes(range(256)) * 100)
    run(["btrfstune", "-f", option, volume])
    compare(volume)
    with mounted(volume, at, "-o", "ro"):
        assert (at / "file").read_bytes() == bytes(range(256)) * 100


def test_class_48_a_converted_volume_is_legal(tmp_path: Path) -> None:
    """What btrfs-convert made has its chunks where the old file system had its blocks."""
    kernel_knows_btrfs()
    require_programs("mkfs.ext4", "btrfs-convert")
    volume, at = tmp_path / "volume", tmp_path / "mounted"
    volume.touch()
    os.truncate(volume, 256 << 20)
    run(["mkfs.ext4", "-q", "-b", "4096", volume])
    with mounted(volume, at):
        for number in range(50):
            (at / f"f{number}").write_bytes(bytes([number]) * 50_000)
    run(["btrfs-convert", volume])
    compare(volume)
    run(["btrfs-convert", "--rollback", volume])
    run(["e2fsck", "-fn", volume])


def test_one_of_several_devices_takes_the_whole_volume(tmp_path: Path) -> None:
    kernel_knows_btrfs()
    files = [tmp_path / "one", tmp_path / "two"]
    for file in files:
        file.touch()
        os.truncate(file, 128 << 20)
    run(["mkfs.btrfs", "-q", *files])
    for file in files:
        with pytest.raises(LayoutError, match="one of 2 devices"):
            truth.survey(file)


def test_volume_with_all_copies_of_the_superblock(tmp_path: Path) -> None:
    """The last copy is at 256 GiB; the volume grows over it."""
    volume, at = plain(tmp_path, size=255 << 30), tmp_path / "mounted"
    os.truncate(volume, 257 << 30)
    with mounted(volume, at):
        run(["btrfs", "filesystem", "resize", "max", at])
        (at / "file").write_bytes(bytes(100_000))
    found, allocation = truth.survey(volume)
    wanted = truth.used_by_tools(volume)
    assert (truth.used_by_parser(allocation, found.size) == wanted).all()
    with volume.open("r+b") as file:
        file.seek((256 << 30) + 0x48)
        file.write(b"\1")
    with pytest.raises(LayoutError, match="copy at 262144 MiB does not have the checksum"):
        truth.survey(volume)


def test_four_terabytes_in_two_seconds(tmp_path: Path) -> None:
    volume, at = plain(tmp_path, size=4 << 40), tmp_path / "mounted"
    with mounted(volume, at):
        for number in range(200):
            with (at / f"f{number}").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1 << 30)
    start = time.process_time()
    _, allocation = truth.survey(volume)
    assert time.process_time() - start < SOON
    used = (4 << 40) - allocation.free.total
    assert 200 << 30 < used < 201 << 30


def test_data_of_partclone_is_in_use(tmp_path: Path) -> None:
    """Partclone keeps one of two copies and rounds up to nodes and stripes, so that only data can
    be compared: what it clones of the chunks of data is what the map has, and the rounding."""
    kind = next(kind for kind in KINDS if kind.name == "nodes of 4 KiB")
    volume, at = tmp_path / "volume", tmp_path / "mounted"
    kernel_knows_btrfs()
    make(kind, volume, 1)
    with in_use(volume, at, kind):
        age("filled", volume, at, kind, 1)
        age("churned", volume, at, kind, 2)
    found, allocation = truth.survey(volume)
    used = truth.used_by_parser(allocation, found.size)
    cloned = truth.used_by_partclone(volume, tmp_path / "log")
    data = truth.data_by_tools(volume)
    assert data.sum() > 1000
    assert cloned[data].all()
    assert used[data].all()
