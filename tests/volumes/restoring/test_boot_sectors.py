"""Boot sectors of moved volumes, whatever they hold."""

from __future__ import annotations

import random
import struct

import pytest

from aipimage.volumes.filesystems.fat.headers import shrunk
from aipimage.volumes.restoring.moving import moved_boot_sectors
from aipimage.volumes.view import LayoutError
from tests.support.sources import view_of

MIB = 1 << 20
KINDS = ("ntfs", "exfat", "fat12", "fat16", "fat32")


def test_nothing_is_changed_where_no_boot_sector_names_a_place() -> None:
    """Nor where the volume stays; the same field of a FAT volume is changed."""
    data = bytearray(512)
    struct.pack_into("<H", data, 11, 512)
    struct.pack_into("<I", data, 28, MIB // 512)
    view = view_of(bytes(data), MIB)
    assert moved_boot_sectors(view, "fat16", MIB, 2 * MIB) == [(28, struct.pack("<I", 4096))]
    assert moved_boot_sectors(view, "fat16", MIB, MIB) == []
    for kind in ("ext4", "swap", "fat", ""):
        assert moved_boot_sectors(view, kind, MIB, 2 * MIB) == []


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
                    patches += shrunk(view, kind, chance.randrange(size))
                except LayoutError:
                    continue
        assert all(at >= 0 and at + len(part) <= size for at, part in patches)
