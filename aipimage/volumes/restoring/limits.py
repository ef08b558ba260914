"""How small a volume can become, and by what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.filesystems.fat.headers import least_size
from aipimage.volumes.model import Volume
from aipimage.volumes.restoring import extresizing
from aipimage.volumes.view import LayoutError, VolumeView

_EXT = ("ext2", "ext3", "ext4")
_FAT = ("fat12", "fat16", "fat32")
_KNOWN_END = frozenset({"ntfs", "exfat", "xfs", "btrfs", "swap", *_EXT, *_FAT})
"""File systems that have nothing past the end that they name."""
TOOLS = {
    "ntfs": ("ntfsresize",),
    "btrfs": ("mount", "umount", "btrfs", "blkid"),
    **dict.fromkeys(_EXT, extresizing.TOOLS),
}
"""Programs that make a file system smaller."""
_FAT_MARGIN = 16
"""Clusters: so near to the limits of its kind, drivers disagree about it (Microsoft FAT
specification 1.03, "FAT Type Determination").
"""
_MIB = 1 << 20
_BTRFS_LEAST = 256 * _MIB
"""`btrfs filesystem resize` goes no further down."""


@dataclass(frozen=True, slots=True)
class Limits:
    """All in bytes of the volume.

    Attributes:
        kept: the end of its file system: what lies past it can be cut off.
        least: how small its file system may be made, perhaps: its own tool has the last word.
        why: why it cannot become smaller than ``kept``, a short clause; empty where it can.
    """

    kept: int
    least: int
    why: str = ""


def limits_of(source: BlockSource, volume: Volume) -> Limits:
    """Say how small a volume of a disk can become. In any doubt it stays as it is."""
    if volume.filesystem is None:
        return Limits(volume.size, volume.size, "it holds no known file system")
    if volume.whole_because is not None:
        return Limits(volume.size, volume.size, volume.whole_because)
    kind = volume.filesystem.kind
    if kind not in _KNOWN_END or not volume.filesystem.size:
        return Limits(volume.size, volume.size, f"restores do not shrink {kind}")
    # The backup of the boot sector of NTFS lies after its last cluster.
    end = volume.filesystem.size + (4096 if kind == "ntfs" else 0)
    kept = min(volume.size, end)
    if volume.allocation.fixed:
        return Limits(kept, kept, volume.allocation.fixed)
    floor = _FLOORS.get(kind)
    if floor is None:
        return Limits(kept, kept, f"restores do not shrink {kind}")
    least = floor(source, volume)
    if least is None:
        return Limits(kept, kept, "where its last cluster in use ends is not known")
    return Limits(kept, min(kept, least))


def _by_tool(_: BlockSource, volume: Volume) -> int:
    """The tools move what lies past the cut; some room is needed for that."""
    return volume.used + max(volume.used // 16, 2 * _MIB)


def _btrfs(_: BlockSource, volume: Volume) -> int:
    return max(_BTRFS_LEAST, volume.used + volume.used // 2)


def _fat(source: BlockSource, volume: Volume) -> int | None:
    assert volume.filesystem is not None
    view = VolumeView(source, volume.start, volume.size)
    try:
        least = least_size(view, volume.filesystem.kind, _FAT_MARGIN)
    except LayoutError:
        return None
    if not volume.allocation.used_end:
        return None
    return max(volume.allocation.used_end, least)


def _swap(_: BlockSource, __: Volume) -> int:
    return _MIB


_FLOORS: dict[str, Callable[[BlockSource, Volume], int | None]] = {
    "ntfs": _by_tool,
    "btrfs": _btrfs,
    "swap": _swap,
    **dict.fromkeys(_EXT, _by_tool),
    **dict.fromkeys(_FAT, _fat),
}
