"""CHS addresses in an MBR, and what boot sectors say of their disk, against a new disk.

Sources: UEFI Specification 2.10, section 5.2 (partition records); Microsoft FAT specification 1.03,
BPB_SecPerTrk, BPB_NumHeads, BPB_HiddSec; exFAT specification, section 3.1.4 (PartitionOffset). The
NTFS boot sector has the same BIOS parameter block as FAT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aipimage.vmdk.geometry import geometry_of
from aipimage.vmdk.guest.contents import Content, Disk
from aipimage.volumes.filesystems.bpb import DiskFields, decode_disk_fields
from aipimage.volumes.filesystems.exfat.layout import decode_boot_sector
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.mbr import MbrEntry

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


class _Place(NamedTuple):
    """Where a volume begins on its disk: sectors, and bytes of each."""

    sectors: int
    sector_size: int


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
    said = _said_place(content)
    if said is None or said.sectors == (first := content.partition.start // said.sector_size):
        return
    yield (
        f"partition {content.partition.number} starts at sector {first:,}, and its boot sector "
        f"says {said.sectors:,} (hidden sectors): its boot code may not find it"
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


def _said_place(content: Content) -> _Place | None:
    """The place of the volume as its boot sector has it; ``None`` where it has no such field."""
    if content.kind == "exfat":
        boot = decode_boot_sector(content.sector)
        possible = 9 <= boot.sector_shift <= 12
        return _Place(boot.partition_offset, boot.sector_size) if possible else None
    fields = _disk_fields(content)
    return _Place(fields.hidden, fields.sector_size) if fields else None


def drive_of(content: Content) -> tuple[int, int] | None:
    """Return the heads, and sectors a track, of the disk as a boot sector has them."""
    fields = _disk_fields(content)
    return (fields.heads, fields.track) if fields else None


def _disk_fields(content: Content) -> DiskFields | None:
    known = content.kind == "ntfs" or content.kind.startswith("fat")
    return decode_disk_fields(content.sector) if known else None
