"""A logged inode, and what it is on the disk.

The log has it as it is in memory: numbers in the order of bytes of the machine, and the root of a
B+tree of extents with the header of a whole block. "XFS Algorithms & Data Structures", sections
Inode Core and Log Items; Linux, xlog_recover_inode_commit_pass2.
"""

from __future__ import annotations

import struct
from typing import Final

from aipimage.volumes.journals.xfslog.items import InodeItem
from aipimage.volumes.journals.xfslog.stamps import INODE_MAGIC
from aipimage.volumes.view import LayoutError

CORE_SIZE = 176
_BIGTIME, _LARGE_COUNTS = 1 << 3, 1 << 4
_FLAGS2_AT = 120
_DEVICE = 1 << 5
_DATA, _EXTENTS, _ROOT = 2, 4, 8
_ATTR_DATA, _ATTR_EXTENTS, _ATTR_ROOT = 0x40, 0x80, 0x100
_BLOCK_HEADER, _ROOT_HEADER, _ENTRY = 72, 4, 16
_FORK_OFFSET_AT = 82

_NUMBERS: Final = (
    (0, "H"), (2, "H"), (6, "H"), (8, "I"), (12, "I"), (16, "I"), (20, "H"), (22, "H"), (56, "Q"),
    (64, "Q"), (72, "I"), (84, "I"), (88, "H"), (90, "H"), (92, "I"), (104, "Q"), (120, "Q"),
    (128, "I"), (152, "Q"),
)  # fmt: skip
"""Offset and kind of the numbers that are the same in all inodes."""
_BYTES: Final = (4, 5, 82, 83)
_TIMES: Final = (32, 40, 48, 144)
_UUID: Final = slice(160, 176)


def core_on_disk(item: InodeItem, now: bytes | bytearray, lsn: int) -> bytearray:
    """Return the core of an inode as it is written, over the one that is there ``now``: where the
    list of unlinked inodes goes on, and the checksum, are not in the log.
    """
    log, core = item.core, bytearray(now[:CORE_SIZE])
    if len(log) < CORE_SIZE or bytes(log[:2]) != INODE_MAGIC[::-1] or log[4] != 3:
        raise LayoutError("an inode in its log is damaged")
    for at, kind in _NUMBERS:
        _turn(log, core, at, kind)
    for at in _BYTES:
        core[at] = log[at]
    (flags2,) = struct.unpack_from("<Q", log, _FLAGS2_AT)
    for at in _TIMES:
        for place, kind in ((at, "Q"),) if flags2 & _BIGTIME else ((at, "I"), (at + 4, "I")):
            _turn(log, core, place, kind)
    core[24:32] = bytes(8)
    for place, kind in ((24, "Q"), (76, "I"), (80, "H"))[not flags2 & _LARGE_COUNTS :]:
        _turn(log, core, place, kind)
    core[132:144] = bytes(12)
    struct.pack_into(">Q", core, 112, lsn)
    core[_UUID] = log[_UUID]
    return core


def _turn(log: bytes | bytearray, core: bytearray, at: int, kind: str) -> None:
    struct.pack_into(f">{kind}", core, at, *struct.unpack_from(f"<{kind}", log, at))


def forks_on_disk(item: InodeItem, core: bytearray, size: int) -> list[tuple[int, bytes]]:
    """Return what is logged of the forks: (offset in the inode, bytes).

    Args:
        core: on the disk. size: bytes of an inode.
    """
    found, forks = [], list(item.forks)
    split = CORE_SIZE + 8 * core[_FORK_OFFSET_AT]
    data_end = split if core[_FORK_OFFSET_AT] else size
    if data_end > size:
        raise LayoutError("an inode in its log is damaged")
    if item.fields & _DEVICE:
        found.append((CORE_SIZE, struct.pack(">I", item.device)))
    kinds = (
        (_DATA | _EXTENTS | _ROOT, _ROOT, CORE_SIZE, data_end),
        (_ATTR_DATA | _ATTR_EXTENTS | _ATTR_ROOT, _ATTR_ROOT, split, size),
    )
    for mask, root, start, end in kinds:
        if not item.fields & mask:
            continue
        if not forks:
            raise LayoutError("an inode in its log is damaged")
        data = forks.pop(0)
        data = _root_on_disk(data, end - start) if item.fields & root else bytes(data)
        if start + len(data) > end:
            # What is logged is rounded up to four bytes.
            raise LayoutError("an inode in its log is larger than its place")
        found.append((start, data))
    return found


def _root_on_disk(data: bytes | bytearray, room: int) -> bytes:
    """The root of a tree of extents: level and number, keys, and, after room for more, pointers."""
    if len(data) < _BLOCK_HEADER:
        raise LayoutError("an inode in its log is damaged")
    level, number = struct.unpack_from(">HH", data, 4)
    most, there = (room - _ROOT_HEADER) // _ENTRY, (len(data) - _BLOCK_HEADER) // _ENTRY
    if not 0 < number <= min(most, there):
        raise LayoutError("an inode in its log is damaged")
    keys = data[_BLOCK_HEADER : _BLOCK_HEADER + 8 * number]
    at = _BLOCK_HEADER + 8 * there
    pointers = data[at : at + 8 * number]
    return struct.pack(">HH", level, number) + bytes(keys).ljust(8 * most, b"\0") + bytes(pointers)
