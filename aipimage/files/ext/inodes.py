"""Inodes: read from their tables, verified, decoded (ext4 Data Structures, "Index Nodes")."""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aipimage.files.errors import DamagedVolumeError, NoFileError
from aipimage.files.ext import layout
from aipimage.files.model import UNKNOWN, Node, Time
from aipimage.files.window import Window
from aipimage.volumes.crc32c import crc32c, crc32c_rows
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.layout import RO_HUGE_FILE
from aipimage.volumes.filesystems.ext.superblock import Superblock

_TABLES_KEPT = 256
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Inode:
    """An inode, with what its structures' checksums begin with.

    Attributes:
        number: from 1. raw: all its bytes. mode, links, flags, size, generation: its fields.
        blocks: i_block, 60 bytes. acl: block of its extended attributes, or 0.
        extra: bytes of fields after the first 128. sectors: i_blocks, in 512 bytes.
        seed: of the checksums of its directory and extent blocks.
    """

    number: int
    raw: bytes
    mode: int
    links: int
    flags: int
    size: int
    generation: int
    blocks: bytes
    acl: int
    extra: int
    sectors: int
    seed: int

    @property
    def kind(self) -> str:
        """As in :class:`~aipimage.files.model.Node`."""
        return layout.KINDS.get(self.mode & layout.S_IFMT, UNKNOWN)


class Inodes:
    """The inodes of a volume. A block of them is verified at once and kept for the next."""

    def __init__(self, window: Window, sb: Superblock, groups: Groups) -> None:
        self._window, self._sb, self._groups = window, sb, groups
        self._tables: OrderedDict[int, tuple[bytes, npt.NDArray[np.bool_]]] = OrderedDict()

    def inode(self, number: int) -> Inode:
        """Return an inode.

        Raises:
            NoFileError: it is not in use. DamagedVolumeError: there is none of that number, or its
                checksum is wrong.
        """
        if not 0 < number <= self._sb.inodes_count:
            raise NoFileError(f"there is no inode {number:,}")
        size, per_block = self._sb.inode_size, self._sb.block_size // self._sb.inode_size
        group, index = divmod(number - 1, self._sb.inodes_per_group)
        block, slot = divmod(index, per_block)
        block += int(self._groups.inode_table[group])
        data, is_right = self._table(block, number - slot)
        raw = data[slot * size : (slot + 1) * size]
        (links,) = struct.unpack_from("<H", raw, layout.LINKS_AT)
        if not links:
            raise NoFileError(f"inode {number:,} is not in use")
        if not is_right[slot]:
            raise DamagedVolumeError(f"damaged: inode {number:,} has a wrong checksum")
        return self._decoded(number, raw)

    def _table(self, block: int, first: int) -> tuple[bytes, npt.NDArray[np.bool_]]:
        """A block of inodes of which the first has the number ``first``, and which are right."""
        found = self._tables.get(block)
        if found is None:
            size = self._sb.block_size
            data = self._window.structure(block * size, size)
            found = data, self._verified(data, first)
            self._tables[block] = found
            if len(self._tables) > _TABLES_KEPT:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(block)
        return found

    def _verified(self, data: bytes, first: int) -> npt.NDArray[np.bool_]:
        """Which inodes of a block have the right checksum: CRC-32C of their number, generation and
        bytes, the checksum itself as zeros.
        """
        rows = np.frombuffer(data, np.uint8).reshape(-1, self._sb.inode_size).copy()
        if not self._sb.has_metadata_csum:
            return np.ones(len(rows), np.bool_)
        at = layout.CHECKSUM_LO_AT
        said = rows[:, at : at + 2].copy().view("<u2")[:, 0].astype(np.uint32)
        rows[:, at : at + 2] = 0
        mask = np.full(len(rows), 0xFFFF, np.uint32)
        if self._sb.inode_size > layout.CORE_SIZE:
            high = layout.CHECKSUM_HI_AT
            extra = rows[:, layout.EXTRA_SIZE_AT : high].copy().view("<u2")[:, 0]
            wide = extra >= high + 2 - layout.CORE_SIZE
            upper = rows[:, high : high + 2].copy().view("<u2")[:, 0].astype(np.uint32)
            said = np.where(wide, said | upper << np.uint32(16), said)
            mask = np.where(wide, np.uint32(0xFFFF_FFFF), mask)
            rows[wide, high : high + 2] = 0
        numbers = np.arange(first, first + len(rows), dtype="<u4").view(np.uint8).reshape(-1, 4)
        heads = np.hstack((numbers, rows[:, 0x64:0x68]))
        found = crc32c_rows(rows, crc32c_rows(heads, self._sb.seed)) & mask
        right: npt.NDArray[np.bool_] = found == said
        return right

    def _decoded(self, number: int, raw: bytes) -> Inode:
        (
            mode, _, size_lo, _, _, _, _, _, links, blocks_lo, flags, blocks, generation, acl_lo,
            size_hi, blocks_hi, acl_hi, _, _, _,
        ) = layout.CORE.unpack_from(raw)  # fmt: skip
        extra = 0
        if len(raw) > layout.CORE_SIZE:
            (extra,) = struct.unpack_from("<H", raw, layout.EXTRA_SIZE_AT)
            if extra > len(raw) - layout.CORE_SIZE or extra % 4:
                raise DamagedVolumeError(f"damaged: inode {number:,} says {extra} bytes of fields")
        kind = layout.KINDS.get(mode & layout.S_IFMT)
        size = size_lo | (size_hi << 32 if kind in ("file", "directory") else 0)
        if size >= 1 << 63:
            raise DamagedVolumeError(f"damaged: inode {number:,} says a size of {size:,} bytes")
        sectors = blocks_lo
        if self._sb.ro_compat & RO_HUGE_FILE:
            sectors |= blocks_hi << 32
            if flags & layout.HUGE_FILE_FL:
                sectors *= self._sb.block_size // 512
        seed = crc32c(struct.pack("<II", number, generation), self._sb.seed)
        return Inode(
            number, raw, mode, links, flags, size, generation, blocks, acl_hi << 32 | acl_lo, extra,
            sectors, seed,
        )  # fmt: skip


def node_of(inode: Inode) -> Node:
    """What an inode says of its file."""
    fields = layout.CORE.unpack_from(inode.raw)
    _, uid, _, atime, ctime, mtime, _, gid = fields[:8]
    uid_hi, gid_hi = fields[17:19]
    wide = inode.extra >= layout.ATIME_EXTRA_AT + 4 - layout.CORE_SIZE
    return Node(
        identity=inode.number,
        kind=inode.kind,
        size=inode.size,
        allocated=inode.sectors * 512,
        modified=_time(inode, mtime, layout.MTIME_EXTRA_AT),
        accessed=_time(inode, atime, layout.ATIME_EXTRA_AT),
        changed=_time(inode, ctime, layout.CTIME_EXTRA_AT),
        created=_created(inode) if wide else None,
        mode=inode.mode & 0o7777,
        uid=uid_hi << 16 | uid,
        gid=gid_hi << 16 | gid,
        links=inode.links,
        flags=frozenset(name for bit, name in layout.FLAG_NAMES.items() if inode.flags & bit),
        device=_device(inode) if inode.kind in ("block", "character") else None,
    )


def _time(inode: Inode, seconds: int, extra_at: int) -> Time:
    """34 bits of seconds and 30 of nanoseconds, where there is room for the upper word."""
    seconds -= (seconds & 1 << 31) << 1
    if inode.extra < extra_at + 4 - layout.CORE_SIZE:
        return Time(seconds * _SECOND, _SECOND)
    (extra,) = struct.unpack_from("<I", inode.raw, extra_at)
    return Time((seconds + ((extra & 3) << 32)) * _SECOND + (extra >> 2))


def _created(inode: Inode) -> Time | None:
    if inode.extra < layout.CRTIME_EXTRA_AT + 4 - layout.CORE_SIZE:
        return None
    (seconds,) = struct.unpack_from("<I", inode.raw, layout.CRTIME_AT)
    return _time(inode, seconds, layout.CRTIME_EXTRA_AT)


def _device(inode: Inode) -> tuple[int, int]:
    """Major and minor number: the old form in the first word, else the new one in the second."""
    old, new = struct.unpack_from("<II", inode.blocks)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
