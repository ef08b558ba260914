"""Letting a file system grow to the size of its restored volume, by the system's own tools."""

from __future__ import annotations

from collections.abc import Callable

from aipimage.errors import AipImageError
from aipimage.io.sinks import TargetInfo, open_in_place
from aipimage.io.sources import open_source
from aipimage.io.storage import Storage
from aipimage.volumes.model import Volume
from aipimage.volumes.restoring.headers import resized_swap
from aipimage.volumes.restoring.shrinking import check_unknown_btrfs
from aipimage.volumes.restoring.tools import ToolError, may_mount, mounted, run_tool
from aipimage.volumes.view import LayoutError, VolumeView


def expand_volume(
    info: TargetInfo, volume: Volume, size: int, storage: Storage
) -> tuple[int | None, str]:
    """Let the file system of a restored volume fill its ``size`` bytes.

    Returns:
        the bytes that it fills now, or ``None`` and why it stays as it was: a sentence.
    """
    kind = volume.filesystem.kind if volume.filesystem else ""
    grow = _GROWERS.get(kind)
    if grow is None:
        return None, f"{kind or 'what is not known'} cannot grow: it was left as it is"
    if volume.whole_because is not None:
        return None, f"{kind} was left as it is: {volume.whole_because}"
    try:
        grow(info, storage)
    except (AipImageError, LayoutError) as error:
        return None, f"{kind} was restored, and left as large as it was: {error}"
    return size, ""


def _ext(info: TargetInfo, _: Storage) -> None:
    # resize2fs asks for a check; status 1: errors were corrected.
    run_tool("e2fsck", "-f", "-p", info.name, codes=(0, 1))
    run_tool("resize2fs", info.name)


def _ntfs(info: TargetInfo, _: Storage) -> None:
    run_tool("ntfsresize", "--force", info.name)


def _xfs(info: TargetInfo, _: Storage) -> None:
    _check_root("xfs")
    with mounted("xfs", info.name, info.is_device) as place:
        run_tool("xfs_growfs", "-d", place)


def _btrfs(info: TargetInfo, _: Storage) -> None:
    _check_root("btrfs")
    check_unknown_btrfs(info.name)
    with mounted("btrfs", info.name, info.is_device) as place:
        run_tool("btrfs", "filesystem", "resize", "max", place)


def _check_root(kind: str) -> None:
    if not may_mount():
        raise ToolError(f"only root can mount {kind} to let it grow")


def _swap(info: TargetInfo, storage: Storage) -> None:
    source = open_source(info.name, storage)
    try:
        patches = resized_swap(VolumeView(source, 0, source.size), source.size)
    finally:
        source.close()
    with open_in_place(info.name, force=True, storage=storage) as file:
        for offset, data in patches:
            file.pwrite(data, offset)
        file.sync()


_GROWERS: dict[str, Callable[[TargetInfo, Storage], None]] = {
    "ntfs": _ntfs,
    "xfs": _xfs,
    "btrfs": _btrfs,
    "swap": _swap,
    **dict.fromkeys(("ext2", "ext3", "ext4"), _ext),
}
