"""Boot sectors that name the place of their volume on the disk, for a volume that was moved.

NTFS and FAT keep it as "hidden sectors" (Microsoft FAT specification 1.03, BPB_HiddSec; the NTFS
boot sector has the same BIOS parameter block), exFAT as PartitionOffset (exFAT specification,
section 3.1.4), inside of the boot region's checksum (section 3.4). Boot code uses it; the file
system itself does not.
"""

from __future__ import annotations

import struct

from aipimage.volumes.view import LayoutError, VolumeView

Patches = list[tuple[int, bytes]]
_HIDDEN = struct.Struct("<I")
_HIDDEN_AT = 28
_OFFSET = struct.Struct("<Q")
_OFFSET_AT = 64
_EXFAT_BACKUP = 12
_EXFAT_SUM_AT = 11
_FAT32_BACKUP_AT = 50
_NTFS_SECTORS_AT = 40


def moved_boot_sectors(view: VolumeView, kind: str, old_start: int, start: int) -> Patches:
    """Return what to write over a volume of ``view`` that lay at byte ``old_start`` of its disk and
    now lies at ``start``; offsets within the volume. A field that held something else stays.
    """
    if old_start == start:
        return []
    try:
        if kind == "exfat":
            return _exfat(view, old_start, start)
        if kind == "ntfs" or kind.startswith("fat"):
            return _hidden(view, kind, old_start, start)
    except LayoutError:
        return []  # what cannot be read is not a boot sector that anybody starts from
    return []


def _hidden(view: VolumeView, kind: str, old_start: int, start: int) -> Patches:
    sector = _sector_size(view.read(11, 2))
    if sector is None or start // sector >= 1 << 32 or old_start % sector or start % sector:
        return []
    old, new = _HIDDEN.pack(old_start // sector & 0xFFFFFFFF), _HIDDEN.pack(start // sector)
    places = [0, _backup_ntfs(view, sector) if kind == "ntfs" else _backup_fat(view, kind, sector)]
    return [
        (place + _HIDDEN_AT, new)
        for place in dict.fromkeys(places)
        if place is not None and view.read(place + _HIDDEN_AT, _HIDDEN.size) == old
    ]


def _sector_size(field: bytes) -> int | None:
    size = int.from_bytes(field, "little")
    return size if size in (512, 1024, 2048, 4096) else None


def _backup_ntfs(view: VolumeView, sector: int) -> int | None:
    """The last sector of an NTFS volume, behind those that the boot sector counts."""
    place = int.from_bytes(view.read(_NTFS_SECTORS_AT, 8), "little") * sector
    if place + sector > view.size or view.read(place + 3, 8) != b"NTFS    ":
        return None
    return place


def _backup_fat(view: VolumeView, kind: str, sector: int) -> int | None:
    if kind != "fat32":
        return None
    place = int.from_bytes(view.read(_FAT32_BACKUP_AT, 2), "little") * sector
    if not place or place + sector > view.size or view.read(place + 510, 2) != b"\x55\xaa":
        return None
    return place


def _exfat(view: VolumeView, old_start: int, start: int) -> Patches:
    shift = view.read(108, 1)[0]
    if not 9 <= shift <= 12 or old_start % (1 << shift) or start % (1 << shift):
        return []
    patches: Patches = []
    for region in (0, _EXFAT_BACKUP):
        patches += _exfat_region(view, region << shift, shift, old_start, start)
    return patches


def _exfat_region(view: VolumeView, place: int, shift: int, old_start: int, start: int) -> Patches:
    """The field and the checksum of one boot region."""
    data = bytearray(view.read(place, (_EXFAT_SUM_AT + 1) << shift))
    body, stored = data[: _EXFAT_SUM_AT << shift], bytes(data[_EXFAT_SUM_AT << shift :])
    whole = stored == _repeated(boot_checksum(body), shift)
    found = _OFFSET.unpack_from(body, _OFFSET_AT)[0]
    if not whole or body[3:11] != b"EXFAT   " or found != old_start >> shift:
        return []
    body[_OFFSET_AT : _OFFSET_AT + 8] = _OFFSET.pack(start >> shift)
    return [
        (place + _OFFSET_AT, _OFFSET.pack(start >> shift)),
        (place + len(body), _repeated(boot_checksum(body), shift)),
    ]


def _repeated(checksum: int, shift: int) -> bytes:
    return struct.pack("<I", checksum) * ((1 << shift) // 4)


def boot_checksum(sectors: bytes | bytearray) -> int:
    """The checksum of the first 11 sectors of a boot region (exFAT specification, figure 1): all
    bytes but VolumeFlags and PercentInUse.
    """
    total = 0
    for at, byte in enumerate(sectors):
        if at not in (106, 107, 112):
            total = ((total >> 1 | total << 31) + byte) & 0xFFFFFFFF
    return total
