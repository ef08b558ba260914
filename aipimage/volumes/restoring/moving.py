"""Boot sectors that name the place of their volume on the disk, for a volume that was moved."""

from __future__ import annotations

from collections.abc import Callable

from aipimage.volumes.filesystems.exfat import headers as exfat
from aipimage.volumes.filesystems.fat import headers as fat
from aipimage.volumes.filesystems.ntfs import headers as ntfs
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import LayoutError, VolumeView

_MOVED: dict[str, Callable[[VolumeView, int, int], list[Patch]]] = {
    "exfat": exfat.moved,
    "ntfs": ntfs.moved,
    **dict.fromkeys(("fat12", "fat16", "fat32"), fat.moved),
}


def moved_boot_sectors(view: VolumeView, kind: str, old_start: int, start: int) -> list[Patch]:
    """Return what to write over a volume of ``view`` that lay at byte ``old_start`` of its disk and
    now lies at ``start``; offsets within the volume. A field that held something else stays.
    """
    moved = _MOVED.get(kind)
    if moved is None or old_start == start:
        return []
    try:
        return moved(view, old_start, start)
    except LayoutError:
        return []  # No system starts from a boot sector that cannot be read.
