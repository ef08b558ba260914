"""Changing the boot sector of an NTFS volume that was moved on its disk ("NTFS Documentation", file
$Boot): it has the BIOS parameter block of FAT.
"""

from __future__ import annotations

from aipimage.volumes.filesystems.bpb import SECTOR_SIZES, moved_hidden_sectors
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.boot import is_ntfs
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import VolumeView


def moved(view: VolumeView, old_start: int, start: int) -> list[Patch]:
    """Return what to write over a volume that was moved on its disk from byte ``old_start`` to
    ``start``: hidden sectors.

    Raises:
        LayoutError: a boot sector cannot be read.
    """
    return moved_hidden_sectors(view, [0, *_backups(view)], old_start, start)


def _backups(view: VolumeView) -> list[int]:
    """The byte of the copy of the boot sector, in the sector after those that it counts."""
    sector_size, _, sectors, *_ = layout.BOOT.unpack_from(view.read(0, layout.BOOT_BYTES))
    place = sectors * sector_size
    if not place or sector_size not in SECTOR_SIZES or place + layout.BOOT_BYTES > view.size:
        return []
    return [place] if is_ntfs(view.read(place, layout.BOOT_BYTES)) else []
