"""Changing the boot sector of a FAT volume: a smaller volume, and another place on its disk.

Source: fatgen103, "Boot Sector and BPB Structure", "FAT Type Determination" and "FSInfo Sector
Structure and Backup Boot Sector".
"""

from __future__ import annotations

import struct

from aipimage.volumes.filesystems.bpb import moved_hidden_sectors
from aipimage.volumes.filesystems.fat.geometry import (
    FAT12_MAX,
    FAT16_MAX,
    Geometry,
    verified_geometry,
)
from aipimage.volumes.filesystems.fat.layout import (
    BOOT_BYTES,
    SECTORS_16,
    SECTORS_16_AT,
    SECTORS_32,
    SECTORS_32_AT,
    SIGNATURE,
    BootSector,
    decode_boot_sector,
)
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import LayoutError, VolumeView

_FEWEST = {"fat12": 1, "fat16": FAT12_MAX + 1, "fat32": FAT16_MAX + 1}
"""Clusters: with fewer the volume would count as one with a narrower FAT."""
_FSINFO = struct.Struct("<4s480x4sII")
"""FSI_LeadSig, FSI_StrucSig, FSI_Free_Count, FSI_Nxt_Free."""
_FSINFO_SIGNATURES = (b"RRaA", b"rrAa")
_HINTS = struct.Struct("<II")
_HINTS_AT = _FSINFO.size - _HINTS.size
_UNKNOWN = 0xFFFFFFFF


def least_size(view: VolumeView, kind: str, spare: int) -> int:
    """Return the bytes that a volume has at least, with ``spare`` clusters above the fewest of its
    kind.

    Raises:
        LayoutError: its boot sector is damaged, or is not of this kind.
    """
    _, geometry = _verified(view, kind)
    return geometry.data_start + (_FEWEST[kind] + spare) * geometry.cluster_size


def shrunk(view: VolumeView, kind: str, size: int) -> list[Patch]:
    """Return what to write over a volume so that it ends within ``size`` bytes.

    All clusters past that must be free. The FATs stay longer than needed, which is legal.

    Raises:
        LayoutError: it would be too small for its kind, or its boot sector is damaged.
    """
    boot, old = _verified(view, kind)
    sectors = min(size // boot.sector_size, boot.sectors)
    left = max(0, sectors * boot.sector_size - old.data_start) // old.cluster_size
    if left < _FEWEST[kind]:
        raise LayoutError(f"a {kind} volume cannot be that small")
    at, field = (SECTORS_32_AT, SECTORS_32) if boot.wide else (SECTORS_16_AT, SECTORS_16)
    places = [0, *_backups(view, boot)]
    patches = [(place + at, field.pack(sectors)) for place in places]
    for place in places if boot.info else ():
        sector = place // boot.sector_size + boot.info
        if sector < boot.reserved:
            patches += _shrunk_fsinfo(view, sector * boot.sector_size, old.clusters, left)
    return patches


def moved(view: VolumeView, old_start: int, start: int) -> list[Patch]:
    """Return what to write over a volume that was moved on its disk from byte ``old_start`` to
    ``start``: hidden sectors.

    Raises:
        LayoutError: a boot sector cannot be read.
    """
    boot = decode_boot_sector(view.read(0, BOOT_BYTES))
    return moved_hidden_sectors(view, [0, *_backups(view, boot)], old_start, start)


def _verified(view: VolumeView, kind: str) -> tuple[BootSector, Geometry]:
    boot = decode_boot_sector(view.read(0, BOOT_BYTES))
    geometry = verified_geometry(boot, view.size)
    if geometry.kind != kind:
        raise LayoutError(f"its boot sector is one of {geometry.kind}, and it is {kind}")
    return boot, geometry


def _backups(view: VolumeView, boot: BootSector) -> list[int]:
    """The byte where the backup of a FAT32 boot sector begins, if there is one."""
    place = boot.backup * boot.sector_size
    if not 0 < boot.backup < boot.reserved or place + BOOT_BYTES > view.size:
        return []
    return [place] if view.read(place, BOOT_BYTES).endswith(SIGNATURE) else []


def _shrunk_fsinfo(view: VolumeView, place: int, old: int, left: int) -> list[Patch]:
    """Free clusters, and where to look for the next one, both of which are hints."""
    *signatures, free, following = _FSINFO.unpack(view.read(place, _FSINFO.size))
    if tuple(signatures) != _FSINFO_SIGNATURES:
        return []
    lost, last = old - left, left + 1
    if free != _UNKNOWN:
        free = free - lost if free >= lost else _UNKNOWN
    if following > last:
        following = _UNKNOWN
    return [(place + _HINTS_AT, _HINTS.pack(free, following))]
