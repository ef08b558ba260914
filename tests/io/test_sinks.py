"""Block sinks: every refusal comes before the first write; targets stay thin; crashes are safe."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import AipImageError, RequestError, StorageError, TargetError
from aipimage.io.blocks.sinks import BlockSink, DeviceSink, FileSink, open_target
from aipimage.io.system.mounts import SystemUse
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from tests.support import loop_device, require, require_loop_devices
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import TRANSFERS, Fault, FaultySystemCalls, each_fault

MIB = 1 << 20


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def fill(sink: BlockSink) -> bytes:
    """Write a little data and much nothing into a sink of 1 MiB; return what it must hold."""
    sink.write(b"a" * 4096, 0)
    sink.zero(4096, MIB // 2 - 4096)
    sink.write(memoryview(b"b" * 8192), MIB // 2)
    sink.zero(MIB // 2 + 8192, MIB // 2 - 8192)
    expected = bytearray(MIB)
    expected[:4096] = b"a" * 4096
    expected[MIB // 2 : MIB // 2 + 8192] = b"b" * 8192
    return bytes(expected)


# New files


def test_new_file(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    assert isinstance(sink, FileSink)
    assert isinstance(sink, BlockSink)
    assert sink.size == MIB
    assert sink.name == str(tmp_path / "disk")
    expected = fill(sink)
    assert names(tmp_path) == ["disk.partial"]
    sink.finish()
    sink.abort()
    assert names(tmp_path) == ["disk"]
    assert (tmp_path / "disk").read_bytes() == expected
    assert allocated(tmp_path / "disk") < MIB // 4


def test_new_file_that_grows(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", None)
    assert sink.size is None
    sink.write(b"x" * 10, 100)
    sink.zero(110, 1000)
    sink.finish()
    assert (tmp_path / "disk").read_bytes() == bytes(100) + b"x" * 10 + bytes(1000)


def test_new_file_with_nothing_written(tmp_path: Path) -> None:
    open_target(tmp_path / "disk", 1000).finish()
    assert (tmp_path / "disk").read_bytes() == bytes(1000)


def test_abort_removes_a_new_file(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    fill(sink)
    sink.abort()
    sink.abort()
    assert names(tmp_path) == []


def test_a_name_that_was_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    (tmp_path / "disk").write_bytes(b"somebody else's")
    with pytest.raises(StorageError, match="already there"):
        sink.finish()
    sink.abort()
    assert (tmp_path / "disk").read_bytes() == b"somebody else's"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/disk")
    sink = open_target(tmp_path / "link", 4)
    sink.write(b"data", 0)
    sink.finish()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "folder") == ["disk"]
    with pytest.raises(TargetError, match="not empty"):
        open_target(tmp_path / "link", 4)


def test_hostile_60_two_restores_to_one_name(tmp_path: Path) -> None:
    first = open_target(tmp_path / "disk", MIB)
    with pytest.raises(
        TargetError, match=r"disk\.partial: already exists: a restore was interrupted"
    ):
        open_target(tmp_path / "disk", MIB)
    with pytest.raises(TargetError, match="another process is writing"):
        open_target(tmp_path / "disk", MIB, force=True)
    expected = fill(first)
    first.finish()
    assert (tmp_path / "disk").read_bytes() == expected


def test_force_removes_what_an_interrupted_restore_left(tmp_path: Path) -> None:
    (tmp_path / "disk.partial").write_bytes(b"left" * 1000)
    with pytest.raises(TargetError, match="already exists"):
        open_target(tmp_path / "disk", 4)
    sink = open_target(tmp_path / "disk", 8, force=True)
    sink.write(b"new!", 0)
    sink.finish()
    assert (tmp_path / "disk").read_bytes() == b"new!" + bytes(4)


# Existing files


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100)
    with pytest.raises(TargetError, match=r"\(force=True\)"):
        open_target(path, 100)
    assert path.read_bytes() == b"old" * 100


def test_nothing_is_lost_before_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100)
    open_target(path, 300, force=True).abort()
    assert path.read_bytes() == b"old" * 100


@pytest.mark.parametrize("first", ["write", "zero", "finish"])
def test_old_content_never_shines_through(tmp_path: Path, first: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100_000)
    sink = open_target(path, 300_000, force=True)
    expected = bytearray(300_000)
    if first == "write":
        sink.write(b"x", 5)
        expected[5:6] = b"x"
    elif first == "zero":
        sink.zero(0, 10)
    sink.finish()
    assert path.read_bytes() == expected
    assert allocated(path) <= 65536
    assert names(tmp_path) == ["disk"]


@pytest.mark.parametrize(
    ("old", "needed", "set_size", "final"),
    [(0, 50, False, 50), (100, 50, False, 100), (100, 50, True, 50), (10, 50, True, 50)],
)
def test_sizes_of_existing_files(
    tmp_path: Path, old: int, needed: int, set_size: bool, final: int
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"o" * old)
    sink = open_target(path, needed, force=bool(old), set_size=set_size)
    sink.write(b"n" * 50, 0)
    sink.finish()
    assert path.read_bytes() == b"n" * 50 + bytes(final - 50)


def test_too_small_names_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"o" * 10)
    with pytest.raises(TargetError, match="too small: it has 10 bytes, 50 are needed"):
        open_target(path, 50, force=True)
    assert path.read_bytes() == b"o" * 10


def test_refused_targets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null", "", "a\0b"):
        with pytest.raises(RequestError):
            open_target(path, 10, force=True)
    for path in (tmp_path / "none" / "disk", tmp_path / "file" / "disk"):
        with pytest.raises(TargetError, match="no such directory"):
            open_target(path, 10)
    assert names(tmp_path) == ["fifo", "file"]


def test_bounds(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", 100)
    for offset in (-1, 91):
        with pytest.raises(RuntimeError, match="internal error"):
            sink.write(b"x" * 10, offset)
        with pytest.raises(RuntimeError, match="internal error"):
            sink.zero(offset, 10)
    sink.abort()


operations = st.lists(
    st.tuples(st.booleans(), st.integers(0, 20_000), st.integers(0, 20_000)), max_size=20
)


@given(operations=operations, holes=st.booleans())
def test_any_order_of_writes_and_zeros(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[bool, int, int]], holes: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis-target"
    fault = Fault(0, 0 if holes else errno.EOPNOTSUPP, ("punch_hole",), permanent=True)
    path.unlink(missing_ok=True)
    sink = open_target(path, 40_000, storage=Storage(FaultySystemCalls(fault)))
    expected = bytearray(40_000)
    for number, (is_zero, offset, length) in enumerate(operations):
        data = bytes(length) if is_zero else bytes([number + 1]) * length
        expected[offset : offset + length] = data
        if is_zero:
            sink.zero(offset, length)
        else:
            sink.write(data, offset)
    sink.finish()
    assert path.read_bytes() == expected


# Faults


fresh = itertools.count()


def restore(directory: Path, system: SystemCalls, *, over: bytes | None) -> Path:
    """Restore with `system`, to a new file or over one that holds `over`; return the target."""
    place = directory / str(next(fresh))
    place.mkdir()
    target = place / "disk"
    if over is not None:
        target.write_bytes(over)
    storage = Storage(system)
    sink = open_target(target, MIB, force=True, set_size=True, storage=storage)
    try:
        fill(sink)
        sink.zero(0, 4096)
        sink.finish()
    except AipImageError:
        sink.abort()
        raise
    return target


@pytest.mark.parametrize("over", [None, b"old" * 1000])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_hostile_57_every_call_fails_once(tmp_path: Path, over: bytes | None, number: int) -> None:
    expected = restore(tmp_path, SystemCalls(), over=over).read_bytes()
    assert expected[:4096] == bytes(4096)

    for fault in each_fault(lambda system: restore(tmp_path, system, over=over), errnos=(number,)):
        system = FaultySystemCalls(fault)
        before = len(os.listdir("/proc/self/fd"))
        try:
            target = restore(tmp_path, system, over=over)
        except AipImageError:
            assert number != errno.EINTR, fault
            place = max(tmp_path.iterdir(), key=lambda path: int(path.name))
            # A new file is there whole or not at all, but for a lock or a look that failed.
            if over is None:
                assert names(place) in ([], ["disk"]), fault
                if names(place):
                    assert (place / "disk").read_bytes() == expected
        else:
            assert target.read_bytes() == expected
        assert len(os.listdir("/proc/self/fd")) == before, fault


@pytest.mark.parametrize("over", [None, b"old" * 1000])
def test_hostile_57_short_writes(tmp_path: Path, over: bytes | None) -> None:
    system = FaultySystemCalls(Fault(0, 0, TRANSFERS, short=True, permanent=True))
    target = restore(tmp_path, system, over=over)
    assert target.read_bytes() == restore(tmp_path, SystemCalls(), over=over).read_bytes()


def test_hostile_58_a_failed_sync_leaves_no_target(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.EIO, ("fsync",)))
    sink = open_target(tmp_path / "disk", MIB, storage=Storage(system))
    fill(sink)
    for _ in range(2):
        with pytest.raises(StorageError):
            sink.finish()
    sink.abort()
    assert names(tmp_path) == []


def test_hostile_59_a_crash_at_any_point(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    recorder = RecordingSystemCalls(live)
    sink = open_target(live / "disk", MIB, storage=Storage(recorder))
    expected = fill(sink)
    sink.finish()
    recorder.mark("restored")
    for number, state in enumerate(crash_states(recorder, shuffles=4)):
        place = state.materialise(tmp_path / f"state{number}")
        if "restored" in state.marks or (place / "disk").exists():
            assert (place / "disk").read_bytes() == expected, state.label
        shutil.rmtree(place)


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
