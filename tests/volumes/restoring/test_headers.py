"""Boot sectors and swap headers that are changed by hand, and a device of an image as a source."""

from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.errors import AipImageError, TargetError
from aipimage.io.blocks.sinks import open_target
from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError
from aipimage.io.reading.restore import PartitionChange
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.restoring.disk import restore_disk
from aipimage.volumes.restoring.headers import resized_swap, shrunk_fat
from aipimage.volumes.restoring.hidden import moved_boot_sectors
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.placing import layout_of
from aipimage.volumes.restoring.planning import Placement, Plan
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support import loop_device
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run

MIB = 1 << 20
KINDS = ("ntfs", "exfat", "fat12", "fat16", "fat32")


def view_of(data: bytes, size: int | None = None) -> VolumeView:
    """A view of bytes in memory."""
    size = len(data) if size is None else size
    return VolumeView(SparseSource(size, {0: data}), 0, size)


@pytest.mark.parametrize("sector", [512, 4096])
def test_exfat_moved(tmp_path: Path, sector: int) -> None:
    """Both boot regions and their checksums; fsck has nothing against it."""
    require_programs("mkfs.exfat", "fsck.exfat", "dump.exfat")
    path = tmp_path / "v"
    path.write_bytes(bytes(16 * MIB))
    with loop_device(path, "--sector-size", str(sector)) as device:
        run(["mkfs.exfat", device])
        data = bytearray(path.read_bytes())
        assert moved_boot_sectors(view_of(bytes(data)), "exfat", MIB, 2 * MIB) == []
        patches = moved_boot_sectors(view_of(bytes(data)), "exfat", 0, 3 * MIB)
        assert len(patches) == 4
        for offset, part in patches:
            data[offset : offset + len(part)] = part
        path.write_bytes(data)
        run(["fsck.exfat", "-n", device])
    for region in (0, 12 * sector):
        assert struct.unpack_from("<Q", data, region + 64)[0] == 3 * MIB // sector


def test_another_place_stays(tmp_path: Path) -> None:
    """A field that did not hold the old place is nobody's to change; nor is a damaged region."""
    require_programs("mkfs.fat")
    path = tmp_path / "v"
    path.write_bytes(bytes(40 * MIB))
    run(["mkfs.fat", "-F", "32", "-h", "2048", path])
    data = bytearray(path.read_bytes())
    view = view_of(bytes(data))
    assert [at for at, _ in moved_boot_sectors(view, "fat32", MIB, 2 * MIB)] == [28, 6 * 512 + 28]
    assert moved_boot_sectors(view, "fat32", 2 * MIB, MIB) == []
    assert moved_boot_sectors(view, "fat32", MIB, MIB) == []
    assert moved_boot_sectors(view, "ext4", MIB, 2 * MIB) == []
    assert moved_boot_sectors(view, "fat32", MIB, 1 << 42) == []
    data[6 * 512 + 510] = 0
    assert [at for at, _ in moved_boot_sectors(view_of(bytes(data)), "fat32", MIB, 2 * MIB)] == [28]


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_fat_volume_never_becomes_one_of_another_kind(tmp_path: Path, bits: int) -> None:
    """The number of clusters tells which it is."""
    require_programs("mkfs.fat", "fsck.fat")
    path, size = tmp_path / "v", {12: 2, 16: 16, 32: 40}[bits] * MIB
    path.write_bytes(bytes(size))
    run(["mkfs.fat", "-F", str(bits), "-s", "1", path])
    kind, data = f"fat{bits}", path.read_bytes()
    smallest = None
    for cut in range(size, 0, -(size // 16)):
        changed = bytearray(data)
        try:
            patches = shrunk_fat(view_of(data), kind, cut)
        except LayoutError:
            break
        for offset, part in patches:
            changed[offset : offset + len(part)] = part
        path.write_bytes(changed[:cut])
        text = run(["fsck.fat", "-n", "-v", path])
        assert f" {bits} bit entries" in text, text
        smallest = cut
    assert smallest is not None
    assert smallest < size


def test_swap_headers() -> None:
    """Any page size and byte order; bad pages and other contents are refused."""
    for page, order in ((4096, "<"), (65536, "<"), (4096, ">")):
        data = bytearray(page)
        data[-10:] = b"SWAPSPACE2"
        struct.pack_into(f"{order}III", data, 1024, 1, 99, 0)
        patches = resized_swap(view_of(bytes(data), 100 * page), 50 * page + 5)
        assert patches == [(1028, struct.pack(f"{order}I", 49))]
        with pytest.raises(LayoutError):
            resized_swap(view_of(bytes(data), 100 * page), 9 * page)
        struct.pack_into(f"{order}I", data, 1032, 1)
        with pytest.raises(LayoutError):
            resized_swap(view_of(bytes(data), 100 * page), 50 * page)
    with pytest.raises(LayoutError):
        resized_swap(view_of(bytes(MIB)), MIB)


@pytest.mark.parametrize("seed", range(20))
def test_class_45_46_nonsense_is_refused(seed: int) -> None:
    """Boot sectors of random bytes, and of nothing but small changes to good ones: a typed error
    or patches that lie inside of the volume.
    """
    chance = random.Random(seed)
    for _ in range(60):
        data = bytearray(chance.randbytes(64 * 1024))
        for at, text in ((3, b"EXFAT   "), (510, b"\x55\xaa"), (4086, b"SWAPSPACE2")):
            if chance.random() < 0.7:
                data[at : at + len(text)] = text
        if chance.random() < 0.7:
            struct.pack_into("<HBHBHHBHHHII", data, 11, 512, 1, chance.randrange(40), 2, 512,
                             chance.choice([0, 9000]), 0, 16, 1, 1, 2048, 9000)  # fmt: skip
            data[50:52] = struct.pack("<H", chance.choice([0, 6, 127, 65535]))
            data[108] = chance.choice([9, 12, 255])
        size = chance.choice([65536, 9000 * 512, 1 << 40])
        view = view_of(bytes(data), size)
        patches = []
        for kind in KINDS:
            patches += moved_boot_sectors(view, kind, 2048 * 512, 4096 * 512)
            view.allow(MIB)
            if kind.startswith("fat"):
                try:
                    patches += shrunk_fat(view, kind, chance.randrange(size))
                except LayoutError:
                    continue
        assert all(at >= 0 and at + len(part) <= size for at, part in patches)


def test_an_image_as_a_source(tmp_path: Path) -> None:
    """It reads like the disk; what could not be read then cannot be read now either."""
    source = SparseSource(
        4 * MIB + 100, {0: b"a" * 5000, 2 * MIB: b"b" * 9000}, bad=((3 * MIB, 4096),)
    )
    aipimage.create(tmp_path / "s.aiv", [source])
    with aipimage.open(tmp_path / "s.aiv") as image:
        seen = ImageSource(image.devices[0])
        assert isinstance(seen, BlockSource)
        assert (seen.size, seen.sector_size) == (4 * MIB + 100, 512)
        buffer = bytearray(3 * MIB)
        seen.read_into(buffer, 0)
        assert bytes(buffer) == source.content(0, 3 * MIB)
        ranges = list(seen.data_ranges(4096, seen.size))
        assert ranges[0][0] == 4096
        assert [row for row in ranges if row[0] <= 3 * MIB < sum(row)]
        assert not [row for row in ranges if row[0] <= MIB < sum(row)]
        assert not list(seen.data_ranges(seen.size, seen.size))
        with pytest.raises(UnreadableRangeError):
            seen.read_into(bytearray(8192), 3 * MIB - 4096)
        tail = bytearray(200)
        seen.read_into(tail, seen.size - 200)
        with pytest.raises(RuntimeError, match="internal error"):
            seen.read_into(bytearray(200), seen.size - 100)
        assert seen.fingerprint()["digest"] == image.digest
        seen.close()


def test_discarding(tmp_path: Path) -> None:
    """A file reads as zeros there; a device is told of whole MiB, and keeps the rest, but for the
    ends of a long range, where an old superblock may lie.
    """
    path = tmp_path / "file"
    path.write_bytes(b"\xa5" * 8 * MIB)
    sink = open_target(path, 8 * MIB, force=True)
    sink.discard(0, 8 * MIB)
    sink.write(b"x", 8 * MIB - 1)
    sink.discard(0, 8 * MIB)
    sink.finish()
    assert path.read_bytes() == bytes(8 * MIB)
    path.write_bytes(b"\xa5" * 8 * MIB)
    with loop_device(path) as device:
        sink = open_target(device, 8 * MIB)
        sink.discard(MIB + 512, 6 * MIB)
        sink.discard(7 * MIB + 1024, 4096)
        sink.discard(7 * MIB + 8192, MIB - 8192)
        sink.finish()
    kept = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 512).all(axis=1)
    wanted = np.ones(16_384, np.bool_)
    wanted[2049:4097] = False
    wanted[3 * 2048 : 6 * 2048] = False
    wanted[6 * 2048 + 1 : 7 * 2048 + 1] = False
    assert (kept == wanted).all()


def test_a_mistyped_device_becomes_no_file() -> None:
    with pytest.raises(TargetError, match="no such device"):
        open_target("/dev/aipimage-there-is-none", MIB)
    assert not os.path.exists("/dev/aipimage-there-is-none.partial")


def test_a_volume_that_was_left_out_is_left_alone_on_a_device(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(b"\xa5" * 16 * MIB)
    with loop_device(path) as device:
        sink = open_target(device, 16 * MIB, untouched=[(4 * MIB, 6 * MIB), (8 * MIB, 16 * MIB)])
        sink.discard(2 * MIB, 14 * MIB)
        sink.finish()
    kept = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, MIB).all(axis=1)
    assert np.flatnonzero(~kept).tolist() == [2, 3, 6, 7]


def moved_disk(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """An image of an MBR disk with two partitions and a gap, and what they hold by number."""
    head = bytearray(512)
    held = {1: b"one" * 1000, 2: b"two" * 1000}
    for row, (start, count) in enumerate(((8, 64), (1024, 128))):
        struct.pack_into("<B3sB3sII", head, 446 + 16 * row, 0, b"", 0x83, b"", start, count)
    head[510:] = b"\x55\xaa"
    pieces = {0: bytes(head), 8 * 512: held[1], 1024 * 512: held[2]}
    aipimage.create(tmp_path / "m.aiv", [SparseSource(MIB, pieces)])
    return tmp_path / "m.aiv", held


def test_class_57_every_call_fails_once(tmp_path: Path) -> None:
    """Whatever fails in a restore that moves partitions: an error of ours, and no target that
    looks whole; or all of it is right.
    """
    path, held = moved_disk(tmp_path)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "t.raw"

    def restored(system: SystemCalls) -> None:
        with aipimage.open(path) as image:
            restore_disk(image, target, size=MIB // 2, threads=1, storage=Storage(system))

    def clear() -> None:
        for each in target.parent.iterdir():
            each.unlink()

    failed = 0
    for fault in each_fault(restored, errnos=(errno.EIO, errno.ENOSPC)):
        clear()
        try:
            restored(FaultySystemCalls(fault))
        except AipImageError:
            failed += 1
            # The name may be there where only making it durable failed: then it is whole.
        if target.exists():
            data = target.read_bytes()
            start = int.from_bytes(data[470:474], "little") * 512
            assert start == 448 << 10
            assert data[start : start + 3000] == held[2]
            assert data[4096 : 4096 + 3000] == held[1]
    assert failed > 10
    clear()


def test_the_layout_of_a_plan() -> None:
    """What lies before the first change is one range; behind it partitions, and zeros between."""
    plan = Plan(
        30 * MIB,
        {1: Placement(MIB, MIB), 2: Placement(4 * MIB, 2 * MIB), 3: Placement(7 * MIB, MIB)},
        (
            PartitionChange(2, 5 * MIB, 4 * MIB, 4 * MIB, 2 * MIB),
            PartitionChange(3, 20 * MIB, MIB, 7 * MIB, MIB),
        ),
    )
    layout = layout_of(plan, 40 * MIB, [2])
    assert layout.placed == [(0, 4 * MIB, 0), (20 * MIB, MIB, 7 * MIB)]
    assert layout.copies == [(4 * MIB, 2, 2 * MIB)]
    assert layout.zeros == [(6 * MIB, MIB), (8 * MIB, 22 * MIB)]
    assert layout_of(Plan(30 * MIB, {}), 40 * MIB, []).placed == [(0, 30 * MIB, 0)]
