"""A fuzz target for what is said of a disk: table, boot sectors, names on FAT and NTFS."""

from __future__ import annotations

from aipimage.errors import RequestError
from aipimage.vmdk.p2v import p2v_report
from tests.support.sources import SparseSource
from tests.volumes.fat.built import fat32
from tests.volumes.fat.efi import efi_volume
from tests.volumes.ntfs import small as ntfs_small
from tests.volumes.tables.fuzz import chain_disk, gpt_disk
from tests.volumes.tables.made import mbr_sector

FAT_AT, NTFS_AT = 1 << 20, 2 << 20
SIZE = 4 << 20
TABLE, FAT, NTFS = range(3)
_CODE = bytes(range(1, 101)).ljust(440, b"\0")


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
