"""Sinks that are block devices, and the tables of what is in use."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from aipimage.errors import StorageError, TargetError
from aipimage.io.blocks.sinks import BlockSink, DeviceSink, open_target
from aipimage.io.system.mounts import SystemUse
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from tests.io.sinkparts import MIB, allocated, fill, fresh
from tests.support import loop_device, require, require_loop_devices

# Devices


def test_device(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (4 * MIB))
    with loop_device(disk) as device:
        (tmp_path / "link").symlink_to(device)
        sink = open_target(tmp_path / "link", MIB)
        assert isinstance(sink, DeviceSink)
        assert isinstance(sink, BlockSink)
        assert sink.size == 4 * MIB
        assert sink.name == device
        with pytest.raises(TargetError, match="in use"):
            open_target(device, MIB)
        expected = fill(sink)
        sink.zero(2 * MIB + 100, 8000)
        sink.zero(3 * MIB + 100, 10)
        sink.finish()
    rest = bytearray(b"\xff" * (3 * MIB))
    rest[MIB + 100 : MIB + 8100] = bytes(8000)
    rest[2 * MIB + 100 : 2 * MIB + 110] = bytes(10)
    assert disk.read_bytes() == expected + rest
    assert allocated(disk) < 4 * MIB - MIB // 2


@pytest.mark.parametrize("seed", range(4))
def test_device_any_order_of_writes_and_zeros(tmp_path: Path, seed: int) -> None:
    disk = tmp_path / "disk"
    chance = random.Random(seed)
    expected = bytearray(chance.randbytes(256 * 1024))
    disk.write_bytes(expected)
    grain = chance.choice([1, 512, 4096])
    with loop_device(disk) as device:
        sink = open_target(device, None)
        for _ in range(200):
            offset = chance.randrange(0, len(expected), grain)
            length = min(chance.randrange(0, 131_072, grain), len(expected) - offset)
            if chance.random() < 0.5:
                sink.zero(offset, length)
                expected[offset : offset + length] = bytes(length)
            else:
                data = chance.randbytes(length)
                sink.write(data, offset)
                expected[offset : offset + length] = data
        sink.finish()
    assert disk.read_bytes() == expected


def test_small_ranges_of_a_device_are_written_and_large_ones_unmapped(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * MIB)

    class Counting(SystemCalls):
        def __init__(self) -> None:
            super().__init__()
            self.unmapped: list[tuple[int, int]] = []

        def punch_hole(self, descriptor: int, offset: int, length: int) -> None:
            self.unmapped.append((offset, length))
            super().punch_hole(descriptor, offset, length)

    system, expected = Counting(), bytearray(b"\xff" * MIB)
    with loop_device(disk) as device:
        sink = open_target(device, MIB, storage=Storage(system))
        for offset, length in ((0, 65_536), (98_304, 65_535), (200_704, 4096), (262_144, 69_632)):
            sink.zero(offset, length)
            expected[offset : offset + length] = bytes(length)
        sink.finish()
    assert disk.read_bytes() == expected
    assert system.unmapped == [(0, 65_536), (262_144, 69_632)]
    assert allocated(disk) <= MIB - 131_072


@pytest.mark.parametrize("broken", [("punch_hole",), ("punch_hole", "ioctl")])
def test_device_that_cannot_zero_itself(tmp_path: Path, broken: tuple[str, ...]) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (2 * MIB))

    class Plain(SystemCalls):
        """A device without unmapping, and without BLKZEROOUT when ``broken`` says so."""

        asked = 0

        def punch_hole(self, descriptor: int, offset: int, length: int) -> None:
            self.asked += 1
            raise OSError(errno.EOPNOTSUPP, "no")

        def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
            if len(argument) == 16 and "ioctl" in broken:
                raise OSError(errno.ENOTTY, "no")
            return super().ioctl(descriptor, request, argument)

    system = Plain()
    with loop_device(disk) as device:
        sink = open_target(device, MIB, storage=Storage(system))
        expected = fill(sink)
        sink.finish()
    assert disk.read_bytes() == expected + b"\xff" * MIB
    assert system.asked == 1


def test_device_too_small(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * MIB)
    with (
        loop_device(disk) as device,
        pytest.raises(TargetError, match=f"too small: it has {MIB} bytes, {MIB + 1} are needed"),
    ):
        open_target(device, MIB + 1, force=True)
    assert disk.read_bytes() == b"\xff" * MIB


def test_a_file_behind_a_loop_device(tmp_path: Path) -> None:
    disk = tmp_path / "a disk"
    disk.write_bytes(b"\xff" * MIB)
    with (
        loop_device(disk) as device,
        pytest.raises(TargetError, match=f"attached to the loop device {device}"),
    ):
        open_target(disk, MIB, force=True)
    open_target(disk, MIB, force=True).abort()


def test_a_device_behind_a_loop_device(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * MIB)
    with (
        loop_device(disk) as lower,
        loop_device(Path(lower)) as upper,
        pytest.raises(TargetError, match=f"held by {upper}"),
    ):
        open_target(lower, MIB, force=True)


def test_mounted_devices(tmp_path: Path) -> None:
    require_loop_devices()
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "sfdisk", "mount", "umount", "partx"))
    require(tools, "mkfs.ext4, sfdisk, mount, partx")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    table = "label: gpt\nsize=16MiB\nsize=16MiB\n"
    subprocess.run(["sfdisk", "-q", str(disk)], input=table, text=True, check=True)
    point = tmp_path / "mount point"
    point.mkdir()
    with loop_device(disk, "--partscan") as device:
        first, second = f"{device}p1", f"{device}p2"
        if not os.path.exists(first):
            # A kernel without partition tables of its own can still be told.
            subprocess.run(["partx", "--add", device], check=True)
        subprocess.run(["mkfs.ext4", "-q", first], check=True)
        subprocess.run(["mount", first, str(point)], check=True)
        try:
            for target in (device, first):
                with pytest.raises(TargetError, match=r"is mounted at .*mount point"):
                    open_target(target, MIB, force=True)
                # Without the tables, the kernel's own claim refuses.
                with pytest.raises(TargetError, match="in use by the system"):
                    open_target(target, MIB, force=True, use=fake_use(tmp_path))
            open_target(second, MIB).abort()
        finally:
            subprocess.run(["umount", str(point)], check=True)
        for target in (device, first, second):
            open_target(target, MIB).abort()


# The tables of what is in use, from a fake /proc and /sys


def fake_use(
    place: Path, mounts: str = "", swaps: str = "", devices: dict[str, str] | None = None
) -> SystemUse:
    """Build a snapshot from tables; `devices` maps ``disk`` or ``disk/partition`` to numbers."""
    root = place / f"root{next(fresh)}"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "proc/swaps").write_text("Filename Type Size Used Priority\n" + swaps)
    (root / "sys/class/block").mkdir(parents=True)
    for path, number in (devices or {}).items():
        folder = root / "sys/devices" / path
        (folder / "holders").mkdir(parents=True)
        (folder / "slaves").mkdir()
        (folder / "dev").write_text(f"{number}\n")
        if "/" in path:
            (folder / "partition").write_text("1\n")
        (root / "sys/class/block" / folder.name).symlink_to(folder)
    for holder, slave in (("md0", "b1"), ("dm-0", "md0")):
        if devices and holder in devices:
            block = root / "sys/class/block"
            (block / slave / "holders" / holder).symlink_to(block / holder)
            (block / holder / "slaves" / slave).symlink_to(block / slave)
    return SystemUse(DEFAULT, str(root))


DEVICES = {"a": "8:0", "a/a1": "8:1", "a/a2": "8:2", "b": "8:16", "b/b1": "8:17"}


def line(number: str, point: str, source: str = "none") -> str:
    return f"36 35 {number} / {point} rw,noatime master:1 - ext4 {source} rw\n"


def test_use_of_partitions(tmp_path: Path) -> None:
    use = fake_use(tmp_path, line("8:1", "/mnt/a\\040b"), devices=DEVICES)
    assert use.of_device(os.makedev(8, 1)) == "it is mounted at /mnt/a b"
    assert "a1, which shares sectors with it, is mounted" in (use.of_device(os.makedev(8, 0)) or "")
    assert use.of_device(os.makedev(8, 2)) is None
    assert use.of_device(os.makedev(8, 16)) is None
    assert use.of_device(os.makedev(99, 99)) is None


def test_use_of_a_disk_refuses_its_partitions(tmp_path: Path) -> None:
    use = fake_use(tmp_path, line("8:0", "/"), devices=DEVICES)
    for minor in (0, 1, 2):
        assert "mounted at /" in (use.of_device(os.makedev(8, minor)) or "")


def test_use_through_raid_and_lvm(tmp_path: Path) -> None:
    devices = DEVICES | {"md0": "9:0", "dm-0": "253:0"}
    mounted = fake_use(tmp_path, line("253:0", "/srv"), devices=devices)
    for number in ((8, 16), (8, 17), (9, 0), (253, 0)):
        assert "mounted at /srv" in (mounted.of_device(os.makedev(*number)) or "")
    held = fake_use(tmp_path, devices=devices)
    assert held.of_device(os.makedev(8, 16)) == "/dev/b1 is held by /dev/md0"
    assert held.of_device(os.makedev(9, 0)) == "/dev/md0 is held by /dev/dm-0"
    assert held.of_device(os.makedev(253, 0)) is None
    below = fake_use(tmp_path, line("8:17", "/srv"), devices=devices)
    assert "mounted at /srv" in (below.of_device(os.makedev(253, 0)) or "")


def test_use_by_swap(tmp_path: Path) -> None:
    swap = tmp_path / "swap file"
    swap.write_bytes(b"x" * 4096)
    escaped = str(swap).replace(" ", "\\040")
    use = fake_use(tmp_path, swaps=f"{escaped} file 4096 0 -2\n")
    with pytest.raises(TargetError, match="in use as swap"):
        open_target(swap, 4096, force=True, use=use)
    assert swap.read_bytes() == b"x" * 4096


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a line that cannot be read"):
        fake_use(tmp_path, "nonsense\n")
    (tmp_path / "disk").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError):
        SystemUse(DEFAULT, str(tmp_path / "empty"))
