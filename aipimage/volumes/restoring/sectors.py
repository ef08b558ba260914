"""Sector sizes: whether what is written to a device can be used in the sectors that it has.

Linux mounts no file system whose sectors or blocks are smaller than the sectors of its device.
Windows takes an NTFS, FAT or exFAT volume for not formatted where the two differ either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipimage.io.blocks.sinks import TargetInfo
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.view import LayoutError, VolumeView

if TYPE_CHECKING:
    from aipimage.volumes.model import FileSystem, Volume

_PARAMETER_BLOCK = ("ntfs", "fat12", "fat16", "fat32")
_EXT = ("ext2", "ext3", "ext4")
_WINDOWS = (*_PARAMETER_BLOCK, "exfat")


def sector_warnings(source: BlockSource, info: TargetInfo) -> tuple[str, ...]:
    """What a user should know about a disk, or a volume without a table, that is written to a
    target: a partition table counts in sectors, and means nothing on a disk with others.
    """
    if not info.is_device:
        return ()
    # Only a device has sectors: a restore to a file loads no parser.
    from aipimage.volumes.filesystems.registry import filesystem_of
    from aipimage.volumes.tables.reading import read_table

    table = read_table(source)
    if table.partitions or table.scheme != "none":
        if table.sector_size == info.sector_size:
            return ()
        return (
            f"the disk had sectors of {table.sector_size} bytes, and {info.name} has sectors of "
            f"{info.sector_size}: a system will not find its partitions there",
        )
    view = VolumeView(source, 0, source.size, 0)
    return tuple(_warnings(view, filesystem_of(view), info))


def volume_sector_warnings(view: VolumeView, volume: Volume, info: TargetInfo) -> list[str]:
    """The same for a volume that is written to a target."""
    return _warnings(view, volume.filesystem, info) if info.is_device else []


def _warnings(view: VolumeView, filesystem: FileSystem | None, info: TargetInfo) -> list[str]:
    size, there = _sector_of(view, filesystem), f"{info.name} has sectors of {info.sector_size}"
    kind = filesystem.kind if filesystem else "volume"
    if not size:
        if view.sector_size == info.sector_size:
            return []
        return [
            f"the {kind} comes from sectors of {view.sector_size} bytes, and {there}: what is in "
            "it may not be usable there"
        ]
    what = f"the {kind} has {_unit(kind)} of {size} bytes, and {there}"
    if size < info.sector_size:
        return [f"{what}: it cannot be {'used' if kind == 'swap' else 'mounted'} there"]
    if size > info.sector_size and kind in _WINDOWS:
        return [f"{what}: Windows takes it for not formatted there"]
    return []


def _unit(kind: str) -> str:
    return {"swap": "pages", **dict.fromkeys(_EXT, "blocks")}.get(kind, "sectors")


def _sector_of(view: VolumeView, filesystem: FileSystem | None) -> int:
    """Bytes of the least that a file system reads and writes; 0 where it is not known."""
    kind = filesystem.kind if filesystem else ""
    if filesystem is not None and kind == "swap":
        return filesystem.cluster_size
    view.allow(1 << 10)
    try:
        if kind in _PARAMETER_BLOCK:
            return int.from_bytes(view.read(11, 2), "little")
        if kind == "exfat":
            return 1 << min(view.read(108, 1)[0], 16)
        if kind in _EXT:
            return 1024 << min(int.from_bytes(view.read(1024 + 24, 4), "little"), 10)
        if kind == "xfs":
            return int.from_bytes(view.read(102, 2), "big")
        if kind == "btrfs":
            return int.from_bytes(view.read((64 << 10) + 0x90, 4), "little")
    except LayoutError:
        pass
    return 0
