"""Whether a device begins with a partition table: enough to tell a disk from a volume."""

from __future__ import annotations

import struct

from aipimage import Device

_ENTRY = struct.Struct("<B3xB3xII")
_FILE_SYSTEMS = ((3, b"NTFS    "), (3, b"EXFAT   "), (54, b"FAT1"), (82, b"FAT32"))
"""Boot sectors of volumes that end in 55 AA as well, and hold code where a table would be."""


def partition_table(device: Device) -> str | None:
    """Return ``a GPT``, ``an MBR partition table``, or ``None`` (UEFI 2.10, 5.2 and 5.3)."""
    head = bytearray(8192)
    file = device.open()
    count = file.readinto(head)
    head = head[:count]
    if any(head[size : size + 8] == b"EFI PART" for size in (512, 4096)):
        return "a GPT"
    if len(head) < 512 or head[510:512] != b"\x55\xaa":
        return None
    if any(head[at : at + len(name)] == name for at, name in _FILE_SYSTEMS):
        return None
    sectors = device.size // device.sector_size
    return "an MBR partition table" if _has_entries(head, sectors) else None


def _has_entries(sector: bytearray, sectors: int) -> bool:
    """Whether there are entries, and all are such as a table has: boot code would not pass."""
    used = 0
    for status, kind, start, length in _ENTRY.iter_unpack(sector[446:510]):
        if status not in (0x00, 0x80):
            return False
        if kind and length:
            if not 0 < start < sectors:
                return False
            used += 1
    return used > 0
