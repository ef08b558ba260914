"""What the boot sectors of FAT and NTFS say of the disk that they lie on.

Both begin with the same BIOS parameter block (Microsoft FAT specification 1.03, "Boot Sector and
BPB Structure": BPB_BytsPerSec, BPB_SecPerTrk, BPB_NumHeads, BPB_HiddSec). Boot code uses these
fields; the file systems themselves do not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from aipimage.volumes.patches import Patch
from aipimage.volumes.view import VolumeView

SECTOR_SIZES = (512, 1024, 2048, 4096)
_FIELDS = struct.Struct("<11xH11xHHI")
_HIDDEN = struct.Struct("<I")
_HIDDEN_AT = _FIELDS.size - _HIDDEN.size


class DiskFields(NamedTuple):
    """Fields of the BIOS parameter block.

    Attributes:
        sector_size: bytes, one of ``SECTOR_SIZES``. track: sectors a track. heads: of the disk.
        hidden: sectors of the disk before the volume.
    """

    sector_size: int
    track: int
    heads: int
    hidden: int


def decode_disk_fields(sector: bytes) -> DiskFields | None:
    """Decode a boot sector; ``None`` where its sectors have no possible size."""
    found = DiskFields._make(_FIELDS.unpack_from(sector))
    return found if found.sector_size in SECTOR_SIZES else None


def moved_hidden_sectors(
    view: VolumeView, places: Iterable[int], old_start: int, start: int
) -> list[Patch]:
    """Return what to write so that boot sectors name the new place of their volume.

    A field that held something else than the old place stays as it is.

    Args:
        places: bytes of the volume where a boot sector or a copy of it begins. old_start, start:
            byte of its disk where the volume began, and begins now.

    Raises:
        LayoutError: a boot sector cannot be read.
    """
    fields = decode_disk_fields(view.read(0, _FIELDS.size))
    if fields is None:
        return []
    size = fields.sector_size
    if old_start % size or start % size or start // size >= 1 << 32:
        return []
    old, new = _HIDDEN.pack(old_start // size & 0xFFFFFFFF), _HIDDEN.pack(start // size)
    fields_at = [place + _HIDDEN_AT for place in places]
    return [(at, new) for at in fields_at if view.read(at, _HIDDEN.size) == old]
