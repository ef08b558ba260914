"""Directories: the names in their blocks, whether they are hashed or not.

ext4 Data Structures, "Directory Entries". The blocks of a hashed directory look like linear ones to
whoever does not know hashes: those that hold only hashes look empty. So all are read in order.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.files.errors import DamagedVolumeError
from aipimage.files.ext import layout
from aipimage.files.ext.inodes import Inode
from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext.superblock import Superblock

_DOTS = (b".", b"..")


class DirectoryEntry(NamedTuple):
    """A name, as bytes, and the number of its inode."""

    name: bytes
    number: int


def entries_in_block(sb: Superblock, inode: Inode, block: bytes) -> Iterator[DirectoryEntry]:
    """Yield what is in a block of a directory.

    Raises:
        DamagedVolumeError: its checksum is wrong, or a record does not fit.
    """
    if sb.has_metadata_csum:
        _check(inode, block)
    return _records(sb, block, 0)


def entries_inline(sb: Superblock, data: bytes) -> Iterator[DirectoryEntry]:
    """Yield what is in a directory that lies in its inode: 60 bytes of it, of which the first four
    are the number of its parent, and the rest as an attribute.
    """
    yield from _records(sb, data[: layout.INLINE_MAX], layout.INLINE_PARENT_SIZE)
    yield from _records(sb, data[layout.INLINE_MAX :], 0)


def text_of(name: bytes, encrypted: bool) -> str:
    """A name as text. One that is encrypted is shown in base64 (RFC 4648, section 5)."""
    if encrypted:
        return base64.urlsafe_b64encode(name).rstrip(b"=").decode("ascii")
    return name.decode("utf-8", "surrogateescape")


def _records(sb: Superblock, data: bytes, at: int) -> Iterator[DirectoryEntry]:
    count = len(data)
    while at < count:
        if count - at < layout.DIRENT.size:
            raise DamagedVolumeError("damaged: a record of the directory is cut off")
        number, length, name_length, _ = layout.DIRENT.unpack_from(data, at)
        if count >= 1 << 16:
            # Blocks of 64 KiB and more: a length may not fit in 16 bits.
            length = count if length in (0, 0xFFFF) else length & 0xFFFC | (length & 3) << 16
        least = layout.DIRENT.size + name_length
        if length < layout.DIRENT_MIN or length % 4 or at + length > count or least > length:
            raise DamagedVolumeError("damaged: a record of the directory does not fit")
        if number:
            name = data[at + layout.DIRENT.size : at + least]
            if name not in _DOTS:
                if not name or number > sb.inodes_count:
                    raise DamagedVolumeError("damaged: a record of the directory makes no sense")
                yield DirectoryEntry(name, number)
        at += length


def _check(inode: Inode, block: bytes) -> None:
    """A block of names ends with a record that holds the checksum. One of hashes has it elsewhere,
    and nothing that it holds is used here: one record stands for all of it, or the first two are
    those of the directory itself and its parent. Such a block may end with an old record.
    """
    if inode.flags & layout.INDEX_FL and _is_hashes(block):
        return
    size = layout.DIRENT_TAIL_SIZE
    tail = layout.DIRENT.unpack_from(block, len(block) - size)
    if tail != (0, size, 0, layout.DIRENT_TAIL_TYPE):
        raise DamagedVolumeError("damaged: a block of the directory has no checksum")
    if crc32c(block[:-size], inode.seed) != int.from_bytes(block[-4:], "little"):
        raise DamagedVolumeError("damaged: a block of the directory has a wrong checksum")


def _is_hashes(block: bytes) -> bool:
    whole = len(block) if len(block) < 1 << 16 else 0
    number, length, _, _ = layout.DIRENT.unpack_from(block)
    if number == 0:
        return int(length) in (whole, 0xFFFF)
    if length != layout.DIRENT_MIN:
        return False
    _, length, _, _ = layout.DIRENT.unpack_from(block, layout.DIRENT_MIN)
    left = len(block) - layout.DIRENT_MIN
    return int(length) in (left, left & 0xFFFC | left >> 16)
