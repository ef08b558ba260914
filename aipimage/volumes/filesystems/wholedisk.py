"""Disks that hold a part only of what their own partition table describes.

The first member of an array that spreads its content over whole disks begins with the array's
partition table, and even with the superblocks of its volumes; but what these name as free lies
elsewhere, or is something else's.
"""

from __future__ import annotations

from collections.abc import Sequence

from aipimage.volumes.filesystems.md.layout import SUPERBLOCK, bears_magic, decode, places
from aipimage.volumes.filesystems.opaque import FROM_END
from aipimage.volumes.filesystems.signatures import Signature, first_of
from aipimage.volumes.view import LayoutError, VolumeView

_MIRRORS = 1


def why_in_doubt(disk: VolumeView, partitions: Sequence[tuple[int, int]]) -> str | None:
    """Return why no volume of a disk can be trusted, or ``None``.

    Args:
        disk: all of it; at most 17 KiB are read. partitions: (first byte, bytes) of those that its
            table describes. What lies at the end of one of them belongs to it, and not to the disk.

    Raises:
        SourceError: the source failed; sectors that cannot be read are not a failure.
    """
    inside = [(start, size) for start, size in partitions if start + size <= disk.size]
    at_end = tuple(
        Signature(kind, disk.size - back, magic)
        for kind, back, magic in FROM_END
        if back <= disk.size and not _is_in(disk.size - back, inside)
    )
    try:
        found = first_of(disk, at_end)
    except LayoutError:
        return None
    if found is not None:
        return f"the disk is a member of an array ({found.kind})"
    return _why_md(disk, inside)


def _why_md(disk: VolumeView, inside: Sequence[tuple[int, int]]) -> str | None:
    for version, at in places(disk.size):
        if _is_in(at, inside):
            continue
        try:
            data = disk.read(at, SUPERBLOCK)
            if not bears_magic(data, version):
                continue
            member = decode(data, version, at, disk.size)
        except LayoutError:
            continue
        if member.level != _MIRRORS:
            return f"the disk is a member of an array (md {version}, level {member.level})"
    return None


def _is_in(at: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(start <= at < start + size for start, size in ranges)
