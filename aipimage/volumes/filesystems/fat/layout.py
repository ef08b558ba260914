"""What the first sector of a FAT volume holds (fatgen103, Boot Sector and BPB)."""

from __future__ import annotations

import struct
from typing import NamedTuple

BOOT_BYTES = 512
"""What of the first sector has a meaning, whatever the sector size."""
SIGNATURE = b"\x55\xaa"
ENTRY_BYTES = 32
"""A directory entry."""
SECTORS_16_AT, SECTORS_16 = 19, struct.Struct("<H")
SECTORS_32_AT, SECTORS_32 = 32, struct.Struct("<I")
"""BPB_TotSec16 and BPB_TotSec32, one of which is in force."""
_COMMON = struct.Struct("<3s8sHBHBHHBHHHII")
_FAT32 = struct.Struct("<IHHIHH")
_EXTENDED = struct.Struct("<xBBI11s8s")
_EXTENDED_16, _EXTENDED_32 = 0x24, 0x40
_EXTENDED_SIGNATURES = (0x28, 0x29)


class BootSector(NamedTuple):
    """The fields of the BIOS parameter block, none of them verified.

    Attributes:
        jump, oem: BS_jmpBoot, BS_OEMName. sector_size: BPB_BytsPerSec, bytes. sectors_per_cluster:
            BPB_SecPerClus. reserved: BPB_RsvdSecCnt, sectors. fats: BPB_NumFATs. root_entries:
            BPB_RootEntCnt. media: BPB_Media.
        sectors: BPB_TotSec16, or BPB_TotSec32 where that is 0.
        is_32: BPB_FATSz16 is 0. fat_sectors: BPB_FATSz16, or BPB_FATSz32.
        flags, version, root_cluster, backup: BPB_ExtFlags, BPB_FSVer, BPB_RootClus and
            BPB_BkBootSec of FAT32, else 0.
        state: BS_Reserved1; bit 0 is set while the volume is mounted, bit 1 after errors.
        has_extension: BS_BootSig says that serial and type are there. serial: BS_VolID.
        type: BS_FilSysType. signature: the last two bytes.
        wide: ``sectors`` are those of BPB_TotSec32. info: BPB_FSInfo of FAT32, else 0.
    """

    jump: bytes
    oem: bytes
    sector_size: int
    sectors_per_cluster: int
    reserved: int
    fats: int
    root_entries: int
    media: int
    sectors: int
    is_32: bool
    fat_sectors: int
    flags: int
    version: int
    root_cluster: int
    backup: int
    state: int
    has_extension: bool
    serial: int
    type: bytes
    signature: bytes
    wide: bool
    info: int

    @property
    def shape(self) -> tuple[int, ...]:
        """What says where everything lies, for comparing a boot sector with its backup."""
        return (*self[2:13], self.version, self.root_cluster)


def decode_boot_sector(data: bytes) -> BootSector:
    """Decode 512 bytes; every value is taken as it is."""
    (
        jump, oem, sector_size, per_cluster, reserved, fats, root_entries, sectors_16, media,
        fat_16, _track, _heads, _hidden, sectors_32,
    ) = _COMMON.unpack_from(data)  # fmt: skip
    is_32 = fat_16 == 0
    wide = _FAT32.unpack_from(data, _COMMON.size) if is_32 else (0, 0, 0, 0, 0, 0)
    fat_32, flags, version, root_cluster, info, backup = wide
    at = _EXTENDED_32 if is_32 else _EXTENDED_16
    state, extended, serial, _label, type_name = _EXTENDED.unpack_from(data, at)
    return BootSector(
        jump, oem, sector_size, per_cluster, reserved, fats, root_entries, media,
        sectors_16 or sectors_32, is_32, fat_16 or fat_32, flags, version, root_cluster, backup,
        state, extended in _EXTENDED_SIGNATURES, serial, type_name,
        data[BOOT_BYTES - 2 : BOOT_BYTES], sectors_16 == 0, info,
    )  # fmt: skip
