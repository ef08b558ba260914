"""Letting a file system grow to the size of its restored volume, by the system's own tools."""

from __future__ import annotations

from collections.abc import Callable

from aipimage.errors import AipImageError
from aipimage.io.blocks.sinks import TargetInfo, open_in_place
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import Storage
from aipimage.volumes.filesystems import swap
from aipimage.volumes.model import FileSystem, Volume
from aipimage.volumes.restoring import extresizing, ntfsresizing
from aipimage.volumes.restoring.checking import verify_sound
from aipimage.volumes.restoring.patched import verify_patched
from aipimage.volumes.restoring.shrinking import check_unknown_btrfs
from aipimage.volumes.restoring.tools import ToolError, may_mount, missing_of, mounted, run_tool
from aipimage.volumes.view import LayoutError, VolumeView

_EXT = ("ext2", "ext3", "ext4")
_Grow = Callable[[TargetInfo, int, Storage], None]


def expand_volume(
    info: TargetInfo, volume: Volume, size: int, storage: Storage, restore_again: Callable[[], None]
) -> tuple[int | None, str]:
    """Let the file system of a restored volume fill its ``size`` bytes.

    Its own check must find it whole afterwards. What a tool damages is restored again, and another
    way is tried; in the end it stays as large as it was.

    Args:
        restore_again: writes the volume to the target once more.

    Returns:
        the bytes that it fills now, or ``None`` and why it stays as it was: a sentence.
    """
    kind = volume.filesystem.kind if volume.filesystem else ""
    ways = _WAYS.get(kind)
    if ways is None:
        return None, f"{kind or 'what is not known'} cannot grow: it was left as it is"
    if volume.whole_because is not None:
        return None, f"{kind} was left as it is: {volume.whole_because}"
    why = _hindrance(kind, info)
    for grow in () if why else ways:
        try:
            grow(info, size, storage)
            _verify(kind, info, size, storage)
            return size, ""
        except (AipImageError, LayoutError) as error:
            why = why or str(error)
            restore_again()
    return None, f"{kind} was restored, and left as large as it was: {why}"


def _hindrance(kind: str, info: TargetInfo) -> str:
    """What keeps it from being tried at all."""
    if kind in _MOUNTED and not may_mount():
        return f"only root can mount {kind} to let it grow"
    missing = missing_of(_TOOLS[kind])
    if missing:
        return f"{missing[0]} is not installed"
    if kind == "btrfs":
        try:
            check_unknown_btrfs(info.name)
        except ToolError as error:
            return str(error)
    return ""


def _verify(kind: str, info: TargetInfo, size: int, storage: Storage) -> None:
    """Check the target: its file system, and the length of its file, which some tools cut."""
    if not info.is_device:
        with open_in_place(info.name, force=True, storage=storage) as file:
            if file.size() != size:
                file.truncate(size)
                file.sync()
    if kind != "swap":
        verify_sound(kind, info.name, is_device=info.is_device)


def _ext(without: tuple[str, ...]) -> _Grow:
    return lambda info, size, _: extresizing.resize_ext(info.name, size, without)


def _ntfs(info: TargetInfo, _: int, __: Storage) -> None:
    ntfsresizing.resize_ntfs(info.name)


def _xfs(info: TargetInfo, _: int, __: Storage) -> None:
    with mounted("xfs", info.name, info.is_device) as place:
        run_tool("xfs_growfs", "-d", place)


def _btrfs(info: TargetInfo, _: int, __: Storage) -> None:
    with mounted("btrfs", info.name, info.is_device) as place:
        run_tool("btrfs", "filesystem", "resize", "max", place)


def _swap(info: TargetInfo, size: int, storage: Storage) -> None:
    source = open_source(info.name, storage)
    try:
        patches = swap.resized(VolumeView(source, 0, source.size), source.size)
        verify_patched(source, Volume(0, 0, size, filesystem=FileSystem("swap")), size, patches)
    finally:
        source.close()
    with open_in_place(info.name, force=True, storage=storage) as file:
        for offset, data in patches:
            file.pwrite(data, offset)
        file.sync()


_MOUNTED = ("xfs", "btrfs")
_TOOLS: dict[str, tuple[str, ...]] = {
    "ntfs": ("ntfsresize",),
    "xfs": ("mount", "umount", "xfs_growfs", "xfs_repair"),
    "btrfs": ("mount", "umount", "btrfs", "blkid"),
    "swap": (),
    **dict.fromkeys(_EXT, extresizing.TOOLS),
}
_WAYS: dict[str, tuple[_Grow, ...]] = {
    "ntfs": (_ntfs,),
    "xfs": (_xfs,),
    "btrfs": (_btrfs,),
    "swap": (_swap,),
    **dict.fromkeys(_EXT, tuple(map(_ext, extresizing.WAYS))),
}
"""What is tried, one after the other."""
