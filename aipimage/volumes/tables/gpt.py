"""Records of a GUID partition table.

Source: UEFI Specification 2.10, section 5.3 "GUID Partition Table (GPT) Disk Layout": 5.3.2 "GPT
Header", 5.3.3 "GPT Partition Entry Array". All numbers are little-endian, addresses in logical
blocks.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

SIGNATURE = b"EFI PART"
REVISION_MAJOR = 1
HEADER_SIZE = 92
PRIMARY_LBA = 1
DEFAULT_ENTRIES_LBA = 2
ENTRY_SIZE = 128
ENTRY_SIZE_MAX = 4096
ARRAY_MAX = 4 << 20
"""Bytes of an entry array; Linux takes no larger one either (block/partitions/efi.c)."""
LEGACY_BIOS_BOOTABLE = 1 << 2
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_CRC_AT = 16


@dataclass(frozen=True, slots=True)
class GptHeader:
    """A header that passed its checks.

    Attributes:
        sector: the whole logical block that it was read from; what follows the fields is kept
            when the header is written again.
        header_size: bytes that its CRC covers.
        my_lba, alternate_lba, first_usable, last_usable, entries_lba: logical blocks.
        disk_guid: 16 bytes, as stored. entry_count, entry_size: of the array; bytes.
        entries_crc: CRC-32 of the array.
    """

    sector: bytes
    header_size: int
    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_lba: int
    entry_count: int
    entry_size: int
    entries_crc: int

    @property
    def array_size(self) -> int:
        """Bytes of the entry array."""
        return self.entry_count * self.entry_size

    @property
    def array_blocks(self) -> int:
        """Logical blocks of the entry array."""
        return -(-self.array_size // len(self.sector))

    def encoded(self) -> bytes:
        """Return the logical block, CRC redone."""
        fields = list(_HEADER.unpack_from(self.sector))
        fields[5:] = (
            self.my_lba,
            self.alternate_lba,
            self.first_usable,
            self.last_usable,
            self.disk_guid,
            self.entries_lba,
            self.entry_count,
            self.entry_size,
            self.entries_crc,
        )
        fields[3] = 0
        block = bytearray(_HEADER.pack(*fields) + self.sector[HEADER_SIZE:])
        struct.pack_into("<I", block, _CRC_AT, zlib.crc32(block[: self.header_size]))
        return bytes(block)

    def inside(self, other: GptHeader) -> GptHeader:
        """The same header, to be written over another one whose reserved bytes are kept."""
        return replace(self, sector=other.sector, header_size=other.header_size)


class GptEntry(NamedTuple):
    """A partition entry; GUIDs as 16 bytes as stored, ``last`` is the last block of it."""

    type_guid: bytes
    guid: bytes
    start: int
    last: int
    attributes: int
    name: bytes


def verified_header(sector: bytes, lba: int) -> GptHeader | str:
    """Return the header in a logical block that lies at ``lba``, or why it is none."""
    if sector[:8] != SIGNATURE:
        return "it is not there"
    fields = _HEADER.unpack_from(sector)
    revision, size, crc = fields[1], fields[2], fields[3]
    if not HEADER_SIZE <= size <= len(sector):
        return f"it says that it has {size} bytes"
    zeroed = sector[:_CRC_AT] + bytes(4) + sector[_CRC_AT + 4 : size]
    if zlib.crc32(zeroed) != crc:
        return "its checksum is wrong"
    header = GptHeader(sector, size, *fields[5:])
    return _mistake_of(header, revision, lba) or header


def _mistake_of(header: GptHeader, revision: int, lba: int) -> str | None:
    """What of a header with a right checksum cannot be."""
    if revision >> 16 != REVISION_MAJOR:
        return f"its revision is {revision:#x}"
    if header.my_lba != lba:
        return f"it says that it lies at block {header.my_lba}"
    if header.first_usable > header.last_usable:
        return "it has no usable blocks"
    size = header.entry_size
    if not ENTRY_SIZE <= size <= ENTRY_SIZE_MAX or size & (size - 1):
        return f"its entries have {size} bytes"
    if not 0 < header.entry_count <= ARRAY_MAX // size:
        return f"it has {header.entry_count} entries"
    if header.entries_lba < PRIMARY_LBA + 1:
        return f"its entries lie at block {header.entries_lba}"
    return None


def used_entries(array: bytes, entry_size: int) -> dict[int, GptEntry]:
    """Return the entries in use by their partition number, from 1."""
    found = {}
    for at in range(0, len(array), entry_size):
        if any(array[at : at + 16]):
            found[at // entry_size + 1] = GptEntry(*_ENTRY.unpack_from(array, at))
    return found


def with_entry(array: bytearray, entry_size: int, number: int, entry: GptEntry) -> None:
    """Put an entry into an array; bytes after its fields stay."""
    _ENTRY.pack_into(array, (number - 1) * entry_size, *entry)


def guid_text(stored: bytes) -> str:
    """Return a stored GUID as text in lower case."""
    return str(UUID(bytes_le=stored))


def guid_stored(text: str) -> bytes:
    """Return a GUID in text as it is stored."""
    return UUID(text).bytes_le


def random_guid(entropy: bytes) -> bytes:
    """Return a version 4 GUID as stored, from 16 random bytes."""
    return UUID(bytes=entropy, version=4).bytes_le


def name_text(stored: bytes) -> str:
    """Return a partition's name: UTF-16LE up to the first NUL."""
    return stored.decode("utf-16-le", "replace").split("\0", 1)[0]
