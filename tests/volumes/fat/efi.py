"""A FAT volume by hand with the folders from which a machine with UEFI starts."""

from __future__ import annotations

import struct

from tests.volumes.fat.built import END, FatVolume, fat12


def entry(name: bytes, cluster: int, attributes: int = 0x10) -> bytes:
    """A directory entry with a short name of 11 bytes."""
    return struct.pack("<11sB8xH4xHI", name, attributes, cluster >> 16, cluster & 0xFFFF, 0)


def long_entry(text: str, number: int) -> bytes:
    """One part of a long name (fatgen103, FAT Long Directory Entries)."""
    data = text.encode("utf-16-le").ljust(26, b"\0")
    return bytes([number]) + data[:10] + b"\x0f\0\0" + data[10:22] + b"\0\0" + data[22:26]


def efi_volume(volume: FatVolume | None = None) -> bytes:
    """A FAT volume with ``\\EFI\\a longer name!`` and ``\\EFI\\BOOT\\BOOTX64.EFI``: the root in its
    place or in cluster 2, ``EFI`` in 3, ``BOOT`` in 4.
    """
    volume = volume or fat12()
    wide = volume.bits == 32
    end = END[volume.bits]
    volume = volume.but(entries=(end, end, end), root=entry(b"EFI        ", 3))
    data = bytearray(volume.head_bytes().ljust(volume.data_start + 8 * 512, b"\0"))
    for cluster, rows in (
        (
            3,
            long_entry("!", 0x42)
            + long_entry("a longer name", 1)
            + entry(b"ALONGE~1   ", 5)
            + entry(b"BOOT       ", 4),
        ),
        (4, entry(b"BOOTX64 EFI", 6, 0x20)),
    ):
        at = volume.data_start + (cluster - 2) * volume.per_cluster * volume.sector
        data[at : at + len(rows)] = rows
    assert len(data) <= 1 << 16 or wide
    return bytes(data)
