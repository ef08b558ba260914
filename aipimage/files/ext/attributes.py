"""Extended attributes: in the inode, in a block, in inodes of their own.

ext4 Data Structures, "Extended Attributes". They are shown as the system shows them: lists of
access rights in the form of its calls.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.files.errors import DamagedVolumeError
from aipimage.files.ext import layout
from aipimage.files.ext.inodes import Inode
from aipimage.files.window import Window
from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext.superblock import Superblock


class Attribute(NamedTuple):
    """An attribute: number of the prefix, rest of the name, value; or the inode that holds it."""

    prefix: int
    name: bytes
    value: bytes
    number: int
    size: int


def attributes_of(window: Window, sb: Superblock, inode: Inode) -> Iterator[Attribute]:
    """Yield those of the inode, then those of its block.

    Raises:
        DamagedVolumeError: a checksum is wrong, or a record does not fit.
    """
    yield from in_inode(inode)
    if inode.acl:
        yield from _in_block(window, sb, inode.acl)


def in_inode(inode: Inode) -> Iterator[Attribute]:
    """Yield those that lie after the fields of the inode."""
    start = layout.CORE_SIZE + inode.extra
    if not inode.extra or start + 8 > len(inode.raw):
        return
    (magic,) = struct.unpack_from("<I", inode.raw, start)
    if magic == layout.XATTR_MAGIC:
        body = inode.raw[start + 4 :]
        yield from _records(body, 0, body)


def _in_block(window: Window, sb: Superblock, block: int) -> Iterator[Attribute]:
    if not sb.first_data_block < block < sb.blocks:
        raise DamagedVolumeError(f"damaged: its attributes lie in block {block:,}")
    data = window.structure(block * sb.block_size, sb.block_size)
    magic, _, blocks, _, checksum = layout.XATTR_HEADER.unpack_from(data)
    if magic != layout.XATTR_MAGIC or blocks != 1:
        raise DamagedVolumeError("damaged: the block of its attributes is none")
    at = layout.XATTR_CHECKSUM_AT
    body = struct.pack("<Q", block) + data[:at] + bytes(4) + data[at + 4 :]
    if sb.has_metadata_csum and crc32c(body, sb.seed) != checksum:
        raise DamagedVolumeError("damaged: the block of its attributes has a wrong checksum")
    yield from _records(data, layout.XATTR_HEADER.size, data)


def _records(data: bytes, at: int, values: bytes) -> Iterator[Attribute]:
    """Records from ``at`` on, up to four zeros; their values are in ``values``."""
    while at + 4 <= len(data) and data[at : at + 4] != bytes(4):
        if at + layout.XATTR_ENTRY.size > len(data):
            raise DamagedVolumeError("damaged: its attributes do not end")
        length, index, place, number, size, _ = layout.XATTR_ENTRY.unpack_from(data, at)
        at += layout.XATTR_ENTRY.size
        name = data[at : at + length]
        outside = place + size > len(values) if not number else size > layout.XATTR_VALUE_MAX
        if len(name) < length or outside:
            raise DamagedVolumeError("damaged: an attribute of it does not fit")
        yield Attribute(index, name, b"" if number else values[place : place + size], number, size)
        at += -(-length // 4) * 4


def full_name(each: Attribute) -> str | None:
    """The name as the system shows it; ``None`` where it shows none."""
    text = layout.XATTR_PREFIXES.get(each.prefix)
    if text is None or (each.prefix == layout.XATTR_SYSTEM and each.name == b"data"):
        return None
    return text + each.name.decode("utf-8", "surrogateescape")


def acl_as_shown(value: bytes) -> bytes:
    """A list of access rights as ``getxattr`` gives it: version 2, with an id in every entry."""
    (version,) = layout.ACL_VERSION.unpack_from(value.ljust(4, b"\0"))
    if version != 1 or len(value) % 4:
        raise DamagedVolumeError("damaged: its list of access rights cannot be read")
    found, at = [layout.ACL_VERSION.pack(2)], 4
    while at < len(value):
        tag, rights = layout.ACL_ENTRY.unpack_from(value, at)
        at += layout.ACL_ENTRY.size
        id_ = b"\xff" * 4
        if tag in layout.ACL_WITH_ID:
            id_ = value[at : at + 4]
            at += 4
        if len(id_) < 4:
            raise DamagedVolumeError("damaged: its list of access rights is cut off")
        found.append(layout.ACL_ENTRY.pack(tag, rights) + id_)
    return b"".join(found)
