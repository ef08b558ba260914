"""Records of exFAT (exFAT specification, sections 3.1, 6.2, 7.1, 7.2 and 7.3)."""

from __future__ import annotations

import struct
from typing import NamedTuple

BOOT_BYTES = 512
NAME = b"EXFAT   "
JUMP = b"\xeb\x76\x90"
SIGNATURE = b"\x55\xaa"
REGION_SECTORS = 12
"""Of the main boot region, and of the backup after it (section 2)."""
CHECKED_SECTORS = 11
"""Those of a boot region that its checksum, in the sector after them, covers (section 3.4)."""
FLAG_SECOND_FAT, FLAG_DIRTY, FLAG_MEDIA_FAILURE = 0x1, 0x2, 0x4
FIRST_CLUSTER = 2
CLUSTERS_MAX = 2**32 - 11
CLUSTER_SHIFT_MAX = 25
FAT_ENTRY_BYTES = 4
FAT_BAD, FAT_END = 0xFFFF_FFF7, 0xFFFF_FFFF
ENTRY_BYTES = 32
ENTRY_END, ENTRY_BITMAP, ENTRY_UPCASE, ENTRY_LABEL = 0x00, 0x81, 0x82, 0x83
ENTRY_FILE, ENTRY_STREAM = 0x85, 0xC0
ENTRY_IN_USE, ENTRY_SECONDARY = 0x80, 0x40
"""Bits of EntryType (section 6.2.1)."""
FLAG_ALLOCATION, FLAG_NO_FAT_CHAIN = 0x1, 0x2
"""Bits of GeneralSecondaryFlags (section 6.4.2)."""
ATTRIBUTE_DIRECTORY = 0x10
LABEL_MAX = 11
PARTITION_OFFSET_AT, PARTITION_OFFSET = 64, struct.Struct("<Q")
_BOOT = struct.Struct("<3s8s53sQQIIIIIIHHBBB")
_ALLOCATED = struct.Struct("<BB18xIQ")


class BootSector(NamedTuple):
    """Section 3.1, none of the fields verified.

    Attributes:
        jump, name, zeros: JumpBoot, FileSystemName, MustBeZero.
        partition_offset, volume_length, fat_offset, fat_length, heap_offset: in sectors.
        clusters: ClusterCount. root_cluster: FirstClusterOfRootDirectory. serial, revision, flags.
        sector_shift, cluster_shift: BytesPerSectorShift, SectorsPerClusterShift.
        fats: NumberOfFats.
        signature: the last two bytes.
    """

    jump: bytes
    name: bytes
    zeros: bytes
    partition_offset: int
    volume_length: int
    fat_offset: int
    fat_length: int
    heap_offset: int
    clusters: int
    root_cluster: int
    serial: int
    revision: int
    flags: int
    sector_shift: int
    cluster_shift: int
    fats: int
    signature: bytes

    @property
    def sector_size(self) -> int:
        """Bytes; only of a verified boot sector."""
        return 1 << self.sector_shift

    @property
    def cluster_size(self) -> int:
        """Bytes; only of a verified boot sector."""
        return 1 << self.sector_shift + self.cluster_shift

    @property
    def size(self) -> int:
        """Bytes of the file system; only of a verified boot sector."""
        return self.volume_length << self.sector_shift

    @property
    def heap_start(self) -> int:
        """Byte of the first cluster; only of a verified boot sector."""
        return self.heap_offset << self.sector_shift

    def cluster_start(self, cluster: int) -> int:
        """Byte where a cluster of that number begins."""
        return self.heap_start + (cluster - FIRST_CLUSTER) * self.cluster_size


class Allocated(NamedTuple):
    """A directory entry that has clusters: sections 7.1 and 7.2.

    Attributes:
        type: EntryType. flags: BitmapFlags; of other entries something else. first_cluster.
        length: DataLength, bytes.
    """

    type: int
    flags: int
    first_cluster: int
    length: int


def decode_boot_sector(data: bytes) -> BootSector:
    """Decode 512 bytes; every value is taken as it is."""
    return BootSector._make((*_BOOT.unpack_from(data), data[BOOT_BYTES - 2 : BOOT_BYTES]))


def decode_allocated(data: bytes) -> Allocated:
    """Decode the entry of an allocation bitmap or an up-case table, 32 bytes."""
    return Allocated(*_ALLOCATED.unpack_from(data))


def decode_label(data: bytes) -> str:
    """The text of a volume label entry (section 7.3)."""
    length = min(data[1], LABEL_MAX)
    text = data[2 : 2 + 2 * length].decode("utf-16-le", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def without_state(sectors: bytes | bytearray) -> bytes | bytearray:
    """A boot sector, and what follows it, without VolumeFlags (bytes 106 and 107) and PercentInUse
    (112), which the checksum leaves out, and which may be older in a backup.
    """
    return sectors[:106] + sectors[108:112] + sectors[113:]


def boot_checksum(sectors: bytes | bytearray) -> int:
    """The checksum of the first 11 sectors of a boot region (section 3.4, figure 1)."""
    total = 0
    for byte in without_state(sectors):
        total = ((total << 31 | total >> 1) + byte) & 0xFFFF_FFFF
    return total


def checksum_sector(total: int, size: int) -> bytes:
    """The sector that follows, of ``size`` bytes: the checksum again and again (section 3.4)."""
    return total.to_bytes(4, "little") * (size // 4)
