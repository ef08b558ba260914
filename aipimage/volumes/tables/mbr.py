"""Records of the MBR and of extended boot records.

Source: UEFI Specification 2.10, section 5.2 "LBA 0 Format" (Legacy MBR, Partition Record); extended
boot records have the same form, with addresses that are relative (entry 1: to the record itself;
entry 2, the link: to the extended partition).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

SIZE = 512
BOOT_CODE = 440
SIGNATURE = slice(440, 444)
ENTRIES = 446
MAGIC = b"\x55\xaa"
EXTENDED = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE = 0xEE
ACTIVE = 0x80
SECTORS_MAX = 0xFFFFFFFF
LARGEST_CHS = b"\xfe\xff\xff"
"""Head 254, sector 63, cylinder 1023: what tools store for a sector without a CHS address."""
UNREPRESENTABLE_CHS = b"\xff\xff\xff"
"""The same for a protective MBR (UEFI, section 5.2.3)."""
_ENTRY = struct.Struct("<B3sB3sII")
_HEADS, _SECTORS, _CYLINDERS = 255, 63, 1024


class MbrEntry(NamedTuple):
    """A partition record. ``start`` and ``sectors`` are in logical sectors.

    Attributes:
        status: 0x80 active, 0 not; anything else is not a partition table.
        first_chs, last_chs: three bytes each, as stored.
    """

    status: int
    first_chs: bytes
    type: int
    last_chs: bytes
    start: int
    sectors: int

    @property
    def is_used(self) -> bool:
        """As Linux decides: by the size, whatever the type."""
        return self.sectors != 0

    @property
    def is_extended(self) -> bool:
        return self.sectors != 0 and self.type in EXTENDED

    @property
    def end(self) -> int:
        """Sector past the last one."""
        return self.start + self.sectors


UNUSED = MbrEntry(0, bytes(3), 0, bytes(3), 0, 0)


def entries_of(sector: bytes) -> tuple[MbrEntry, ...]:
    """Return the four records of a sector of at least 512 bytes."""
    area = sector[ENTRIES : ENTRIES + 4 * _ENTRY.size]
    return tuple(MbrEntry(*fields) for fields in _ENTRY.iter_unpack(area))


def with_entries(sector: bytes, entries: Sequence[MbrEntry]) -> bytes:
    """Return the sector with these four records; all else stays."""
    area = b"".join(_ENTRY.pack(*entry) for entry in entries)
    return sector[:ENTRIES] + area + sector[ENTRIES + len(area) :]


def has_magic(sector: bytes) -> bool:
    """Whether the sector ends as boot sectors do: 55 AA at byte 510."""
    return sector[510:512] == MAGIC


def is_table(sector: bytes) -> bool:
    """Whether it can be an MBR: 55 AA, and no boot indicator but 00 and 80."""
    return has_magic(sector) and all(e.status in (0, ACTIVE) for e in entries_of(sector))


def signature_of(sector: bytes) -> str:
    """Return the disk signature as eight hex digits."""
    return f"{int.from_bytes(sector[SIGNATURE], 'little'):08x}"


def chs_of(sector: int) -> bytes:
    """Return a sector's CHS address for 255 heads and 63 sectors, or the largest one."""
    cylinder, rest = divmod(sector, _HEADS * _SECTORS)
    if cylinder >= _CYLINDERS:
        return LARGEST_CHS
    head, number = divmod(rest, _SECTORS)
    return bytes((head, (number + 1) | cylinder >> 2 & 0xC0, cylinder & 0xFF))


def placed(entry: MbrEntry, start: int, sectors: int, base: int = 0) -> MbrEntry:
    """Return a record with another place, CHS addresses redone; unchanged where it lies there.

    ``start`` is what is stored, ``base`` the sector that it is relative to.
    """
    absolute = base + start
    return entry._replace(
        start=start,
        sectors=sectors,
        first_chs=chs_of(absolute),
        last_chs=chs_of(absolute + sectors - 1),
    )
