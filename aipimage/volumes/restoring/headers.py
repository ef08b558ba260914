"""Volumes that become smaller or larger by a change of their header alone: FAT and swap.

Sources: Microsoft FAT specification 1.03, "Boot Sector and BPB Structure", "FAT Type Determination"
and "FSInfo Sector Structure"; the Linux kernel's include/linux/swap.h, ``union swap_header``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aipimage.volumes.view import LayoutError, VolumeView

Patches = list[tuple[int, bytes]]
_BPB = struct.Struct("<HBHBHHBHHHII")
"""From byte 11 on: BytsPerSec to TotSec32."""
_BPB_AT = 11
_TOTAL16_AT, _TOTAL32_AT = 19, 32
_FAT32 = struct.Struct("<IHHIHH")
"""From byte 36 on: FATSz32, ExtFlags, FSVer, RootClus, FSInfo, BkBootSec."""
_FEWEST = {"fat12": 1, "fat16": 4085, "fat32": 65525}
"""Clusters: with fewer the volume would count as one with a narrower FAT."""
_FSINFO_FREE_AT = 488
_UNKNOWN = 0xFFFFFFFF
_SWAP_MAGIC = b"SWAPSPACE2"
_SWAP_VERSION_AT, _SWAP_LAST_PAGE_AT = 1024, 1028


@dataclass(frozen=True, slots=True)
class FatGeometry:
    """What of a FAT boot sector tells where its clusters lie, bytes but for ``sectors`` and
    ``clusters``.
    """

    kind: str
    sector: int
    cluster: int
    data: int
    sectors: int
    wide: bool
    fsinfo: int
    backup: int

    @property
    def clusters(self) -> int:
        """Whole clusters of the data region."""
        return (self.sectors * self.sector - self.data) // self.cluster

    @property
    def fewest(self) -> int:
        """Bytes that a volume of this kind has at least."""
        return self.data + _FEWEST[self.kind] * self.cluster


def fat_geometry(view: VolumeView, kind: str) -> FatGeometry:
    """Read the boot sector of a FAT volume.

    Raises:
        LayoutError: it is not one, or not of this kind.
    """
    head = view.read(0, 512)
    sector, per, reserved, fats, roots, total16, _, fat16, _, _, _, total32 = _BPB.unpack_from(
        head, _BPB_AT
    )
    if sector not in (512, 1024, 2048, 4096) or per not in {1 << n for n in range(8)}:
        raise LayoutError("its boot sector has impossible sizes")
    fat32, _, _, _, fsinfo, backup = _FAT32.unpack_from(head, 36)
    each = fat16 or fat32
    root = -(-roots * 32 // sector)
    data = (reserved + fats * each + root) * sector
    is_32 = kind == "fat32"
    found = FatGeometry(
        kind,
        sector,
        per * sector,
        data,
        total16 or total32,
        not total16,
        fsinfo * sector if is_32 else 0,
        backup * sector if is_32 else 0,
    )
    if found.clusters < _FEWEST.get(kind, 1 << 32) or found.sectors * sector > view.size:
        raise LayoutError("its boot sector disagrees with its kind or size")
    return found


def shrunk_fat(view: VolumeView, kind: str, size: int) -> Patches:
    """Return what to write over a FAT volume so that it ends within ``size`` bytes. All clusters
    behind that must be free; the FATs stay longer than needed, which is legal.

    Raises:
        LayoutError: it would be too small for its kind, or its boot sector is damaged.
    """
    old = fat_geometry(view, kind)
    sectors = min(size // old.sector, old.sectors)
    lost = old.clusters - max(0, sectors * old.sector - old.data) // old.cluster
    if old.clusters - lost < _FEWEST[kind]:
        raise LayoutError(f"a {kind} volume cannot be that small")
    field = struct.pack("<I", sectors) if old.wide else struct.pack("<H", sectors)
    at = _TOTAL32_AT if old.wide else _TOTAL16_AT
    places = [0] + ([old.backup] if _is_boot_sector(view, old.backup) else [])
    patches = [(place + at, field) for place in places]
    last = old.clusters - lost + 1
    for place in places if old.fsinfo else ():
        patches += _shrunk_fsinfo(view, place + old.fsinfo, lost, last)
    return patches


def _is_boot_sector(view: VolumeView, place: int) -> bool:
    return bool(place) and view.read(place + 510, 2) == b"\x55\xaa"


def _shrunk_fsinfo(view: VolumeView, place: int, lost: int, last: int) -> Patches:
    """Free clusters, and where to look for the next one, both of which are hints."""
    data = view.read(place, 512)
    if data[:4] != b"RRaA" or data[484:488] != b"rrAa":
        return []
    free, following = struct.unpack_from("<II", data, _FSINFO_FREE_AT)
    if free != _UNKNOWN:
        free = free - lost if free >= lost else _UNKNOWN
    if following > last:
        following = _UNKNOWN
    return [(place + _FSINFO_FREE_AT, struct.pack("<II", free, following))]


def resized_swap(view: VolumeView, size: int) -> Patches:
    """Return what to write over a swap area so that it fills ``size`` bytes.

    Raises:
        LayoutError: it is none, is smaller than ten pages, or names bad pages.
    """
    for page in (4096, 8192, 16384, 32768, 65536):
        if page <= view.size and view.read(page - 10, 10) == _SWAP_MAGIC:
            break
    else:
        raise LayoutError("it has no signature of a swap area")
    version, _, bad = struct.unpack("<III", view.read(_SWAP_VERSION_AT, 12))
    order = "<" if version == 1 else ">"
    pages = size // page
    if pages < 10 or pages > 1 << 32 or bad:
        raise LayoutError("a swap area cannot have that size")
    return [(_SWAP_LAST_PAGE_AT, struct.pack(f"{order}I", pages - 1))]
