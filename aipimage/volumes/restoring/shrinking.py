"""Making a file system smaller before its volume is written: on a copy, which its own check must
find whole, or by its header.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from aipimage.errors import TargetError
from aipimage.io.blocks.sinks import open_target
from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.io.reading.restore import Placed
from aipimage.io.system.storage import Storage
from aipimage.volumes.filesystems import swap
from aipimage.volumes.filesystems.fat import headers as fat
from aipimage.volumes.model import Volume
from aipimage.volumes.patches import Patch
from aipimage.volumes.restoring import extresizing, ntfsresizing
from aipimage.volumes.restoring.checking import check_of, verify_sound
from aipimage.volumes.restoring.job import RestoreJob
from aipimage.volumes.restoring.limits import TOOLS
from aipimage.volumes.restoring.patched import verify_patched
from aipimage.volumes.restoring.tools import (
    ToolError,
    find_tool,
    may_mount,
    missing_of,
    mounted,
    run_tool,
)
from aipimage.volumes.view import LayoutError, VolumeView

_FAT = ("fat12", "fat16", "fat32")


class CannotShrinkError(TargetError):
    """A volume cannot become as small as a plan wants it.

    Attributes:
        number: of the volume. least: bytes that it may be made, as far as its tool says; 0: not
            known.
    """

    def __init__(self, message: str, number: int, least: int = 0) -> None:
        super().__init__(message)
        self.number, self.least = number, least


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
    def copied(self) -> bool:
        """Whether it is made smaller on a copy: by a tool, or so that a tool can check it; else
        its header is changed on the target.
        """
        return self.kind in TOOLS or (self.kind in _FAT and bool(find_tool(check_of(self.kind))))


def check_tools(smaller: Smaller, name: str) -> None:
    """``CannotShrinkError`` unless what makes the volume smaller can be run here."""
    if smaller.kind not in TOOLS:
        return
    number = smaller.volume.number
    what = f"{name}: too small as it is: {_called(smaller)} has to become smaller"
    missing = missing_of(TOOLS[smaller.kind])
    if missing:
        raise CannotShrinkError(f"{what}, and {' and '.join(missing)} is not installed", number)
    if smaller.kind == "btrfs" and not may_mount():
        raise CannotShrinkError(f"{what}, and only root can mount it for that", number)


def _called(smaller: Smaller) -> str:
    number = smaller.volume.number
    return f"volume {number} ({smaller.kind})" if number else f"its {smaller.kind}"


def header_patches(source: BlockSource, smaller: Smaller) -> list[Patch]:
    """What to write over a volume that becomes smaller by its header, by offset in the volume."""
    volume = smaller.volume
    view = VolumeView(source, volume.start, volume.size)
    try:
        if smaller.kind == "swap":
            patches = swap.resized(view, smaller.size)
        else:
            patches = fat.shrunk(view, smaller.kind, smaller.size)
        verify_patched(source, volume, smaller.size, patches)
    except LayoutError as error:
        raise CannotShrinkError(
            f"{_called(smaller)} cannot become smaller: {error}", volume.number
        ) from error
    return patches


def shrink_copy(job: RestoreJob, smaller: Smaller, directory: str) -> BlockSource:
    """Restore a volume to a sparse file, make its file system smaller there, and return the file as
    a source. What a tool damages is thrown away, and another way is tried.

    Raises:
        CannotShrinkError: no tool can do it; nothing was written to the target.
    """
    storage = job.options.storage
    path = os.path.join(directory, f"volume-{smaller.volume.number}")
    first, least = None, 0
    for shrink in _WAYS[smaller.kind]:
        _restore_copy(job, smaller.volume, path)
        try:
            least = least or _least_of(smaller.kind, path)
            shrink(path, smaller.size, storage)
            _cut(path, smaller.size, storage)
            if smaller.kind not in _FAT:
                verify_sound(smaller.kind, path)
        except (ToolError, LayoutError) as error:
            first = first or error
            storage.remove(path)
        else:
            return open_source(path, storage)
    raise CannotShrinkError(
        f"{_called(smaller)} cannot become as small as {smaller.size} bytes: {first}",
        smaller.volume.number,
        least,
    ) from first


def _restore_copy(job: RestoreJob, volume: Volume, path: str) -> None:
    sink = open_target(path, volume.size, storage=job.options.storage)
    try:
        written, unused, bad = job.counts.written, job.counts.unused, job.counts.unreadable
        job.ranges([Placed(volume.start, volume.size, 0)], sink)
        # What counts is what is read of the copy later on; its first reading counts for the rest.
        job.counts.written = written
        if volume.number in job.copied:
            job.counts.unused, job.counts.unreadable = unused, bad
        job.copied.add(volume.number)
        sink.finish()
    except BaseException:
        sink.abort()
        raise


def _least_of(kind: str, path: str) -> int:
    least = _LEAST.get(kind)
    return least(path) if least else 0


def _cut(path: str, size: int, storage: Storage) -> None:
    """Give a copy the length that it will have on the target, so that the check sees the same."""
    with storage.open_update(path) as file:
        file.truncate(size)


def _ntfs(path: str, size: int, _: Storage) -> None:
    ntfsresizing.resize_ntfs(path, size)


def _btrfs(path: str, size: int, _: Storage) -> None:
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


def _fat(kind: str) -> Callable[[str, int, Storage], None]:
    return lambda path, size, storage: _shrink_fat(kind, path, size, storage)


def _shrink_fat(kind: str, path: str, size: int, storage: Storage) -> None:
    """By its header. Where the check found faults before, they may be there afterwards."""
    source = open_source(path, storage)
    try:
        patches = fat.shrunk(VolumeView(source, 0, source.size), kind, size)
    finally:
        source.close()
    before = _fault_of(kind, path)
    with storage.open_update(path) as file:
        for offset, data in patches:
            file.pwrite(data, offset)
        file.truncate(size)
    after = _fault_of(kind, path)
    if after and not before:
        raise ToolError(after)


def _fault_of(kind: str, path: str) -> str:
    try:
        verify_sound(kind, path)
    except ToolError as error:
        return str(error)
    return ""


def _ext(without: tuple[str, ...]) -> Callable[[str, int, Storage], None]:
    return lambda path, size, _: extresizing.resize_ext(path, size, without)


_WAYS: dict[str, tuple[Callable[[str, int, Storage], None], ...]] = {
    "ntfs": (_ntfs,),
    "btrfs": (_btrfs,),
    **{kind: (_fat(kind),) for kind in _FAT},
    **dict.fromkeys(("ext2", "ext3", "ext4"), tuple(map(_ext, extresizing.WAYS))),
}
"""What is tried, one after the other, each on a new copy."""
_LEAST: dict[str, Callable[[str], int]] = {
    "ntfs": ntfsresizing.least_ntfs,
    **dict.fromkeys(("ext2", "ext3", "ext4"), extresizing.least_ext),
}
