"""What structures of XFS version 5 say of themselves: log sequence number, UUID and checksum.

"XFS Algorithms & Data Structures", section Self-Describing Metadata.
"""

from __future__ import annotations

from typing import NamedTuple

SUPERBLOCK = b"XFSB"


class Stamp(NamedTuple):
    """Where the fields lie in a structure; bytes. The checksum is of all of its buffer."""

    lsn: int
    uuid: int
    crc: int


_SHORT, _LONG = Stamp(24, 32, 52), Stamp(32, 40, 64)
_DIRECTORY, _NODE = Stamp(16, 24, 4), Stamp(24, 32, 12)
_BY_MAGIC = {
    b"AB3B": _SHORT, b"AB3C": _SHORT, b"RMB3": _SHORT, b"R3FC": _SHORT, b"IAB3": _SHORT,
    b"FIB3": _SHORT, b"BMA3": _LONG,
    b"XAGF": Stamp(208, 64, 216), b"XAGI": Stamp(320, 296, 312), b"XAFL": Stamp(24, 8, 32),
    SUPERBLOCK: Stamp(240, 32, 224), b"XSLM": Stamp(48, 16, 12),
    b"XDB3": _DIRECTORY, b"XDD3": _DIRECTORY, b"XDF3": _DIRECTORY,
}  # fmt: skip
_BY_NODE_MAGIC = {b"\x3d\xf1": _NODE, b"\x3d\xff": _NODE, b"\x3e\xbe": _NODE, b"\x3b\xee": _NODE}
"""Blocks of directories and attributes, which have their magic at byte 8."""
_META_UUID_AT = 248

INODE_MAGIC = b"IN"
INODE_CRC_AT, INODE_LSN_AT, INODE_UNLINKED_AT = 100, 112, 96
DQUOT_SIZE, DQUOT_CRC_AT, DQUOT_LSN_AT = 136, 108, 112


def stamp_of(data: bytes | bytearray, has_meta_uuid: bool) -> Stamp | None:
    """Return where the fields of a structure lie; ``None`` for one that says nothing."""
    found = _BY_MAGIC.get(bytes(data[:4]))
    if found is not None:
        is_superblock = bytes(data[:4]) == SUPERBLOCK
        return found._replace(uuid=_META_UUID_AT) if is_superblock and has_meta_uuid else found
    return _BY_NODE_MAGIC.get(bytes(data[8:10]))
