"""What of an array's member is free: where the member alone holds the array's whole content in
order, what the file system in it calls free. That is so for mirrors and for arrays of one disk.
"""

from __future__ import annotations

import struct

import numpy as np

from aipimage import _core
from aipimage.io.blocks.freespace import MappedFree
from aipimage.volumes.filesystems.md.layout import SUPERBLOCK, Member, bears_magic, decode, places
from aipimage.volumes.filesystems.within import MappedRun, content_of
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import READ_MAX, LayoutError, VolumeView

MIRRORS = 1
_IN_ORDER_ALONE = (-1, 0)
"""Levels linear and RAID-0: in order where the array has only one disk."""
_BITMAP = struct.Struct("<4sI16sQQQIIII")
_BITMAP_HEADER = 256
_BITMAP_MAGIC = b"bitm"
_BITMAP_LITTLE_ENDIAN = 4


def _found(view: VolumeView) -> tuple[Member | None, str] | None:
    """The superblock that the volume has and what is wrong with it, or ``None`` without one."""
    found: list[tuple[str, int, bytes]] = []
    for version, at in places(view.size):
        data = view.read(at, SUPERBLOCK)
        if bears_magic(data, version):
            found.append((version, at, data))
    if not found:
        return None
    try:
        members = [decode(data, version, at, view.size) for version, at, data in found]
    except LayoutError as error:
        return None, str(error)
    if len(members) > 1:
        return members[0], "it has superblocks of several arrays"
    return members[0], members[0].refused


def probe(view: VolumeView) -> FileSystem | None:
    """A member of an array has a superblock at one of four places."""
    try:
        found = _found(view)
    except LayoutError:
        return None
    if found is None:
        return None
    member = found[0]
    if member is None:
        return FileSystem("md", size=view.size)
    return FileSystem("md", label=member.name, uuid=member.uuid, size=view.size)


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See :class:`aipimage.volumes.model.Parser`."""
    found = _found(view)
    if found is None:
        raise LayoutError("its superblock has gone")
    member, because = found
    if member is not None and not _is_in_order(member):
        raise LayoutError("its array spreads its content over several disks")
    if member is None or because:
        raise LayoutError(because)
    _check_place(view, member, dict(places(view.size))[member.version])
    if member.bitmap:
        _check_bitmap(view, member)
    pieces = [MappedRun(0, member.data, member.size)]
    name = f"{view.source.name}: array {member.name or member.uuid}"
    inner = content_of(view, pieces, name, options)
    if inner.whole_because is not None:
        raise LayoutError(f"its array holds {inner.kind}: {inner.whole_because}")
    content = inner.allocation
    parts = [(member.data, content.free, 0, member.size)]
    about = (f"its array holds {inner.kind}", *content.notes)
    return Allocation(MappedFree(parts), 0, content.left_out, about)


def _is_in_order(member: Member) -> bool:
    """Whether one disk alone has the array's content, in its order."""
    return member.level == MIRRORS or (member.level in _IN_ORDER_ALONE and member.disks == 1)


def _check_place(view: VolumeView, member: Member, superblock: int) -> None:
    end = member.data + member.size
    if not 0 <= member.data < end <= view.size:
        raise LayoutError("the content of its array does not lie inside of it")
    if member.data < superblock + SUPERBLOCK and superblock < end:
        raise LayoutError("the content of its array lies over its superblock")


def _check_bitmap(view: VolumeView, member: Member) -> None:
    """No region may be marked as written to some of the disks only."""
    head = view.read(member.bitmap, _BITMAP_HEADER)
    magic, version, uuid, _, _, sectors, state, chunk, _, _ = _BITMAP.unpack_from(head)
    if magic != _BITMAP_MAGIC or version != _BITMAP_LITTLE_ENDIAN or uuid != member.bitmap_uuid:
        raise LayoutError("its write-intent bitmap is of an unknown kind or of another array")
    if state or not chunk or chunk % 512 or chunk & (chunk - 1) or not sectors:
        raise LayoutError("its write-intent bitmap is not up to date")
    count = -(-sectors * 512 // chunk)
    length = -(-count // 8)
    if length > READ_MAX:
        raise LayoutError("its write-intent bitmap is larger than can be looked at")
    end = member.bitmap + _BITMAP_HEADER + length
    if member.bitmap < member.data + member.size and member.data < end:
        raise LayoutError("its write-intent bitmap lies in the content of its array")
    view.allow(length)
    bits = view.read_array(member.bitmap + _BITMAP_HEADER, length)
    if _core.bitmap_count(np.ascontiguousarray(bits), count):
        raise LayoutError("its write-intent bitmap marks regions that may differ between its disks")
