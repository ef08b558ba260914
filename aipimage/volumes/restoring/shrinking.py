"""Making a file system smaller before its volume is written: on a copy, by its own tools."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from aipimage.errors import TargetError
from aipimage.io.restore import Placed
from aipimage.io.sinks import open_target
from aipimage.io.sources import BlockSource, open_source
from aipimage.volumes.model import Volume
from aipimage.volumes.restoring.headers import resized_swap, shrunk_fat
from aipimage.volumes.restoring.job import Job, Patch
from aipimage.volumes.restoring.limits import TOOLS
from aipimage.volumes.restoring.tools import ToolError, may_mount, missing_of, mounted, run_tool
from aipimage.volumes.view import LayoutError, VolumeView


class Smaller(NamedTuple):
    """A volume whose file system has to become smaller: bytes of the volume then."""

    volume: Volume
    size: int

    @property
    def kind(self) -> str:
        """Its file system."""
        assert self.volume.filesystem is not None
        return self.volume.filesystem.kind

    @property
    def by_tool(self) -> bool:
        """Whether a tool of the system does it; else its header is changed."""
        return self.kind in TOOLS


def check_tools(smaller: Smaller, name: str) -> None:
    """``TargetError`` unless what makes the volume smaller can be run here."""
    if not smaller.by_tool:
        return
    what = f"{name}: too small as it is: {_called(smaller)} has to become smaller"
    missing = missing_of(TOOLS[smaller.kind])
    if missing:
        raise TargetError(f"{what}, and {' and '.join(missing)} is not installed")
    if smaller.kind == "btrfs" and not may_mount():
        raise TargetError(f"{what}, and only root can mount it for that")


def _called(smaller: Smaller) -> str:
    number = smaller.volume.number
    return f"volume {number} ({smaller.kind})" if number else f"its {smaller.kind}"


def header_patches(source: BlockSource, smaller: Smaller) -> list[Patch]:
    """What to write over a volume that becomes smaller by its header, by offset in the volume."""
    volume = smaller.volume
    view = VolumeView(source, volume.start, volume.size)
    try:
        if smaller.kind == "swap":
            return resized_swap(view, smaller.size)
        return shrunk_fat(view, smaller.kind, smaller.size)
    except LayoutError as error:
        raise TargetError(f"{_called(smaller)} cannot become smaller: {error}") from error


def shrink_copy(job: Job, smaller: Smaller, directory: str) -> BlockSource:
    """Restore a volume to a sparse file, make its file system smaller there, and return the file as
    a source.

    Raises:
        TargetError: the tool cannot do it; nothing was written to the target.
    """
    volume = smaller.volume
    path = os.path.join(directory, f"volume-{volume.number}")
    sink = open_target(path, volume.size, storage=job.options.storage)
    try:
        written = job.counts.written
        job.ranges([Placed(volume.start, volume.size, 0)], sink)
        job.counts.written = written
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    try:
        _SHRINKERS[smaller.kind](path, smaller.size)
    except ToolError as error:
        raise TargetError(
            f"{_called(smaller)} cannot become as small as {smaller.size} bytes: {error}"
        ) from error
    return open_source(path, job.options.storage)


def _ext(path: str, size: int) -> None:
    # Status 1: errors were corrected, such as a count that the kernel keeps only roughly.
    run_tool("e2fsck", "-f", "-p", path, codes=(0, 1))
    run_tool("resize2fs", path, f"{size // 1024}K")


def _ntfs(path: str, size: int) -> None:
    run_tool("ntfsresize", "--force", "--size", str(size), path)


def _btrfs(path: str, size: int) -> None:
    check_unknown_btrfs(path)
    with mounted("btrfs", path, is_device=False) as place:
        run_tool("btrfs", "filesystem", "resize", str(size), place)


def check_unknown_btrfs(path: str) -> None:
    """``ToolError`` where a Btrfs of the same UUID is mounted: the kernel would take the two for
    one, and resize the other.
    """
    uuid = run_tool("blkid", "--probe", "--output", "value", "--match-tag", "UUID", path).strip()
    if os.path.exists(f"/sys/fs/btrfs/{uuid}"):
        raise ToolError(f"a Btrfs of the same UUID, {uuid}, is mounted; unmount it first")


_SHRINKERS: dict[str, Callable[[str, int], None]] = {
    "ntfs": _ntfs,
    "btrfs": _btrfs,
    **dict.fromkeys(("ext2", "ext3", "ext4"), _ext),
}
