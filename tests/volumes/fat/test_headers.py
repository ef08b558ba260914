"""Boot sectors of FAT volumes that become smaller, or were moved on their disk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.fat.headers import moved, shrunk
from aipimage.volumes.view import LayoutError
from tests.support.sources import view_of
from tests.support.tools import require_programs, run

MIB = 1 << 20


def test_another_place_stays(tmp_path: Path) -> None:
    """A field that did not hold the old place is nobody's to change; nor is a damaged region."""
    require_programs("mkfs.fat")
    path = tmp_path / "v"
    path.write_bytes(bytes(40 * MIB))
    run(["mkfs.fat", "-F", "32", "-h", "2048", path])
    data = bytearray(path.read_bytes())
    view = view_of(bytes(data))
    assert [at for at, _ in moved(view, MIB, 2 * MIB)] == [28, 6 * 512 + 28]
    assert moved(view, 2 * MIB, MIB) == []
    assert moved(view, MIB, 1 << 42) == []
    data[6 * 512 + 510] = 0
    assert [at for at, _ in moved(view_of(bytes(data)), MIB, 2 * MIB)] == [28]


def test_a_backup_outside_of_the_reserved_sectors_is_not_one(tmp_path: Path) -> None:
    """What lies there belongs to the FAT or to a file, even where it looks like a boot sector."""
    require_programs("mkfs.fat")
    path = tmp_path / "v"
    path.write_bytes(bytes(40 * MIB))
    run(["mkfs.fat", "-F", "32", "-h", "2048", path])
    data = bytearray(path.read_bytes())
    data[40_000 * 512 : 40_001 * 512] = data[:512]
    struct.pack_into("<H", data, 50, 40_000)
    assert [at for at, _ in moved(view_of(bytes(data)), MIB, 2 * MIB)] == [28]
    assert [at for at, _ in shrunk(view_of(bytes(data)), "fat32", 39 * MIB)] == [32, 512 + 488]


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
            patches = shrunk(view_of(data), kind, cut)
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
