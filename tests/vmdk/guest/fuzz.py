"""A fuzz target for what is said of a disk: table, boot sectors, names on FAT and NTFS."""

from __future__ import annotations

import struct

from aipimage.errors import RequestError
from aipimage.vmdk.p2v import p2v_report
from tests.support.sources import SparseSource
from tests.volumes.fat.built import END, FatVolume, fat12, fat32
from tests.volumes.ntfs import small as ntfs_small
from tests.volumes.tables.fuzz import chain_disk, gpt_disk
from tests.volumes.tables.made import mbr_sector

FAT_AT, NTFS_AT = 1 << 20, 2 << 20
SIZE = 4 << 20
TABLE, FAT, NTFS = range(3)
_CODE = bytes(range(1, 101)).ljust(440, b"\0")


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


def seeds() -> list[bytes]:
    """A table, a FAT volume, an NTFS volume; the first byte says which."""
    return [
        bytes([TABLE]) + chain_disk(),
        bytes([TABLE]) + gpt_disk(),
        bytes([TABLE]) + gpt_disk(hybrid=True),
        bytes([FAT]) + efi_volume(),
        bytes([FAT]) + efi_volume(fat32()),
        bytes([NTFS]) + ntfs_small.parts(),
    ]


def disk(data: bytes) -> SparseSource:
    """A disk with a mutant in its place, and all else sound."""
    which, data = data[0] % 3 if data else 0, data[1:]
    if which == TABLE:
        return SparseSource(SIZE, {0: data} if data else {})
    table = mbr_sector([(0x80, 0x0C, 2048, 2048), (0, 7, 4096, 4000)], code=_CODE)
    if which == FAT:
        return SparseSource(SIZE, {0: table, FAT_AT: data})
    volume, at = bytes(ntfs_small.small_volume()), 0
    for offset, length in ntfs_small.PIECES:
        piece = data[at : at + length]
        volume = volume[:offset] + piece + volume[offset + len(piece) :]
        at += length
    return SparseSource(SIZE, {0: table, NTFS_AT: volume})


def target(data: bytes) -> None:
    """A report, or the one refusal; bounded reading either way."""
    source = disk(data)
    try:
        found = p2v_report(source)
    except RequestError as error:
        texts = [str(error)]
    else:
        texts = [*found.notes, *found.warnings, *found.info.reasons]
    assert all(text.isprintable() and len(text) < 600 for text in texts)
    assert source.bytes_read < (8 << 20) * 128
