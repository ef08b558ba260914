"""CHS addresses in an MBR, and what boot sectors say of their disk, against a new disk.

Sources: UEFI Specification 2.10, section 5.2 (partition records); Microsoft FAT specification 1.03,
BPB_SecPerTrk, BPB_NumHeads, BPB_HiddSec; exFAT specification, section 3.1.4 (PartitionOffset). The
NTFS boot sector has the same BIOS parameter block as FAT.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.vmdk.geometry import geometry_of
from aipimage.vmdk.guest.contents import Content, Disk
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.mbr import MbrEntry

_BPB = struct.Struct("<11xH11xHHI")
_EXFAT_OFFSET_AT, _EXFAT_SHIFT_AT = 64, 108
_SECTOR_SIZES = (512, 1024, 2048, 4096)
_LAST_CYLINDER = 1023
_HEADS = (255, 240, 128, 64, 32, 16)
"""What BIOSes have presented: as few as drives have, doubled, or all; 240 on some notebooks."""
_TRACKS = (63, 32, 17)
_CHS_ONLY = frozenset({0x01, 0x04, 0x06, 0x0B})
"""Types of partitions that are addressed by CHS; 0x0c and 0x0e are the same by LBA."""


class Chs(NamedTuple):
    """An address: ``sector`` counts from 1."""

    cylinder: int
    head: int
    sector: int

    @classmethod
    def decode(cls, stored: bytes) -> Chs | None:
        """From a partition record; ``None`` where it says that there is no such address."""
        head, low, high = stored
        found = cls((low & 0xC0) << 2 | high, head, low & 0x3F)
        return found if found.sector and found.cylinder < _LAST_CYLINDER else None

    def lba(self, heads: int, sectors: int) -> int | None:
        """The sector on a disk of that geometry, if it has such an address."""
        if self.head >= heads or self.sector > sectors:
            return None
        return (self.cylinder * heads + self.head) * sectors + self.sector - 1


def bios_heads(sectors: int, adapter: str) -> set[int]:
    """Return how many heads a BIOS may present of a disk of so many sectors: those that it is given
    and, of an IDE disk, those that its BIOS makes of them so that 1,024 cylinders reach further.
    """
    given = geometry_of(sectors, adapter).heads
    if adapter != "ide":
        return {given}
    enough = (heads for heads in (16, 32, 64, 128) if sectors <= heads * 63 * 1024)
    return {given, next(enough, 255)}


def chs_texts(disk: Disk, sectors: int, adapter: str) -> Iterator[str]:
    """Say where the CHS addresses of an MBR are those of another geometry than the new disk's."""
    if disk.table.scheme != "mbr" or disk.table.sector_size != mbr.SIZE:
        return
    entries = [entry for entry in mbr.entries_of(disk.head) if entry.is_used]
    fitting = [
        (heads, track) for heads in _HEADS for track in _TRACKS if _fits(entries, heads, track)
    ]
    new = bios_heads(sectors, adapter)
    if not fitting or any(heads in new and track == 63 for heads, track in fitting):
        return
    heads, track = fitting[0]
    chs_only = [entry for entry in entries if entry.type in _CHS_ONLY]
    who = "a FAT partition of it is addressed by them" if chs_only else "only old systems use them"
    yield (
        f"the CHS addresses in the partition table are for {heads} heads and {track} sectors a "
        f"track, and the new disk has {max(new)} and 63: {who}"
    )


def _fits(entries: list[MbrEntry], heads: int, track: int) -> bool:
    """Whether all addresses of the table that say something are those of a geometry."""
    pairs = [(entry.first_chs, entry.start) for entry in entries]
    pairs += [(entry.last_chs, entry.end - 1) for entry in entries]
    known = [(Chs.decode(stored), at) for stored, at in pairs]
    said = [chs.lba(heads, track) == at for chs, at in known if chs is not None]
    return bool(said) and all(said)


def boot_warnings(disk: Disk, sectors: int, adapter: str) -> Iterator[str]:
    """Say what in the boot sector of the volume that a BIOS starts does not fit a new disk of so
    many sectors.
    """
    for each in disk.contents:
        if each.has_boot_sector and each.partition.active and not each.partition.logical:
            yield from _place_warning(each)
            yield from _drive_warning(each, sectors, adapter)


def _place_warning(content: Content) -> Iterator[str]:
    hidden = hidden_sectors(content)
    if hidden is None or hidden == (first := content.partition.start // _unit(content)):
        return
    yield (
        f"partition {content.partition.number} starts at sector {first:,}, and its boot sector "
        f"says {hidden:,} (hidden sectors): its boot code may not find it"
    )


def _drive_warning(content: Content, sectors: int, adapter: str) -> Iterator[str]:
    drive, new = drive_of(content), geometry_of(sectors, adapter)
    if drive is None or (drive[1] == new.sectors and drive[0] in bios_heads(sectors, adapter)):
        return
    yield (
        f"the boot sector of partition {content.partition.number} says {drive[0]} heads and "
        f"{drive[1]} sectors a track, and the new disk has {new.heads} and {new.sectors}: boot "
        "code that addresses by them, as Windows had it up to 2003 and DOS, will not start"
    )


def _unit(content: Content) -> int:
    """Bytes of the sectors that a boot sector counts in."""
    if content.kind == "exfat":
        return 1 << content.sector[_EXFAT_SHIFT_AT]
    return int(_BPB.unpack_from(content.sector)[0])


def hidden_sectors(content: Content) -> int | None:
    """Return the place of the volume on its disk as its boot sector has it, in sectors of its own
    size; ``None`` where it has no such field.
    """
    if content.kind == "exfat":
        shift = content.sector[_EXFAT_SHIFT_AT]
        at = _EXFAT_OFFSET_AT
        return int.from_bytes(content.sector[at : at + 8], "little") if 9 <= shift <= 12 else None
    if not _has_bpb(content):
        return None
    return int(_BPB.unpack_from(content.sector)[3])


def drive_of(content: Content) -> tuple[int, int] | None:
    """Return the heads, and sectors a track, of the disk as a boot sector has them."""
    if not _has_bpb(content):
        return None
    _, track, heads, _ = _BPB.unpack_from(content.sector)
    return int(heads), int(track)


def _has_bpb(content: Content) -> bool:
    known = content.kind == "ntfs" or content.kind.startswith("fat")
    return known and _BPB.unpack_from(content.sector)[0] in _SECTOR_SIZES
