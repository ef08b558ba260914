"""Replaying the log of an XFS of version 5 into an overlay.

Linux, xlog_do_log_recovery. A first pass counts the buffers that were freed: what was logged of
them before does not count, as their blocks may hold something else since. The second one applies
what is newer than what is there: each structure knows the log sequence number with which it was
written last. Those of a transaction are put in when the next number comes, so that several changes
of one number all count. Checksums are put in at the end.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.journals.overlay import Overlay
from aipimage.volumes.journals.xfslog import items, layout, stamps
from aipimage.volumes.journals.xfslog.inodes import core_on_disk, forks_on_disk
from aipimage.volumes.journals.xfslog.transactions import Item, Transaction
from aipimage.volumes.view import LayoutError

Place = tuple[int, int]
"""Basic blocks: first, and how many."""
_Key = TypeVar("_Key")
_NO_LSN = 0xFFFFFFFFFFFFFFFF
_ITEMS_MAX = 1 << 19
"""Buffers that are named, that are freed, and things that are announced."""
_BATCH_BYTES = 4 << 20
_DQUOT = layout.DQUOT_FLAGS


class Shape(NamedTuple):
    """What of a volume matters here.

    Attributes:
        blocksize, inodesize: bytes. agblocks, dblocks: blocks. uuid: what structures bear.
        has_meta_uuid: whether the superblock has another one.
    """

    blocksize: int
    inodesize: int
    agblocks: int
    dblocks: int
    uuid: bytes
    has_meta_uuid: bool

    @property
    def sectors(self) -> int:
        """Basic blocks of a block."""
        return self.blocksize // layout.BASIC_BLOCK

    def inode_number(self, group: int, block: int, index: int) -> int:
        """The number of an inode from its block in a group, and its index there."""
        a_block = (self.blocksize // self.inodesize).bit_length() - 1
        bits = (self.agblocks - 1).bit_length() + a_block
        return group << bits | (block << a_block) + index


class Result(NamedTuple):
    """What a log made of a volume.

    Attributes:
        transactions: how many. places: shape (n, 2), in bytes: what the log names and a replay may
            read. pending: shape (n, 2): blocks of the file system, as (group << bits | block),
            which something that was announced and not done is about.
    """

    transactions: int
    places: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    pending: list[tuple[int, int]]


class Replay:
    """A replay into an overlay.

    Args:
        read: gives the transactions, from the first on, each time it is called.
    """

    def __init__(
        self, overlay: Overlay, shape: Shape, read: Callable[[], Iterator[Transaction]]
    ) -> None:
        self._overlay, self._shape, self._read = overlay, shape, read
        self._cancelled: Counter[Place] = Counter()
        self._cancelled_at: Counter[int] = Counter()
        self._intents: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._lsn = 0
        self._unstamped: set[Place] = set()
        self._buffers: set[Place] = set()
        self._inodes: set[int] = set()
        self._named: set[Place] = set()

    def run(self) -> Result:
        """Replay everything; ``LayoutError`` where something is not understood."""
        count = 0
        for transaction in self._read():
            self._count(transaction)
            count += 1
        for transaction in self._read():
            if transaction.lsn != self._lsn:
                self._stamp()
                self._lsn = transaction.lsn
            for item in _ordered(transaction.items):
                self._apply(item)
            if len(self._named) > _ITEMS_MAX:
                raise LayoutError("its log names more than can be looked at")
        self._stamp()
        self._checksums()
        pending = [extent for extents in self._intents.values() for extent in extents]
        size = layout.BASIC_BLOCK
        places = np.array(sorted(self._named), np.int64).reshape(-1, 2) * size
        return Result(count, places, pending)

    # First pass

    def _count(self, transaction: Transaction) -> None:
        for item in transaction.items:
            items.check_kind(item)
            if item.kind == layout.BUFFER:
                found = items.buffer_of(item)
                self._check_place(found.block, found.length)
                if found.is_cancel:
                    self._cancelled_at[found.block] += 1
                    self._cancelled[found.block, found.length] += 1
        if len(self._cancelled) > _ITEMS_MAX:
            raise LayoutError("its log names more than can be looked at")

    def _check_place(self, block: int, length: int) -> None:
        if block + length > self._shape.dblocks * self._shape.sectors:
            raise LayoutError("its log writes to a block that is not there")

    # Second pass

    def _apply(self, item: Item) -> None:
        kind = item.kind
        if kind == layout.BUFFER:
            self._buffer(items.buffer_of(item))
        elif kind == layout.INODE:
            self._inode(items.inode_of(item))
        elif kind == layout.ICREATE:
            self._new_inodes(items.new_inodes_of(item))
        elif kind == layout.DQUOT:
            self._dquot(items.dquot_of(item))
        elif (intent := items.intent_of(item)) is not None:
            self._intent(intent)

    def _buffer(self, item: items.BufferItem) -> None:
        place = item.block, item.length
        if item.is_cancel:
            _count_down(self._cancelled, place)
            _count_down(self._cancelled_at, item.block)
            return
        if place in self._cancelled:
            return
        self._named.add(place)
        start = item.block * layout.BASIC_BLOCK
        if self._is_newer(start, item):
            return
        if item.flags & layout.INODE_BUFFER:
            self._unlinked(start, item)
            return
        for offset, data in item.chunks:
            self._overlay.write(start + offset, data)
        if not item.flags & _DQUOT:
            self._unstamped.add(place)

    def _is_newer(self, start: int, item: items.BufferItem) -> bool:
        """Whether what lies there was written after this transaction."""
        data = self._overlay.read(start, min(item.length * layout.BASIC_BLOCK, 512))
        stamp = stamps.stamp_of(data, self._shape.has_meta_uuid)
        if stamp is None or data[stamp.uuid : stamp.uuid + 16] != self._shape.uuid:
            return False
        (lsn,) = struct.unpack_from(">Q", data, stamp.lsn)
        return bool(lsn) and lsn != _NO_LSN and lsn >= self._lsn

    def _unlinked(self, start: int, item: items.BufferItem) -> None:
        """Of buffers of inodes only where the list of unlinked ones goes on is taken."""
        size, at = self._shape.inodesize, stamps.INODE_UNLINKED_AT
        for offset, data in item.chunks:
            first = -(-(offset - at) // size) * size if offset > at else 0
            for inode in range(first, item.length * layout.BASIC_BLOCK, size):
                inside = inode + at - offset
                if inside + 4 > len(data):
                    break
                self._overlay.write(start + inode + at, data[inside : inside + 4])
                self._inodes.add(start + inode)

    def _inode(self, item: items.InodeItem) -> None:
        place = item.block, item.length
        self._check_place(*place)
        if place in self._cancelled:
            return
        self._named.add(place)
        size = self._shape.inodesize
        start = item.block * layout.BASIC_BLOCK + item.offset
        if item.offset + size > item.length * layout.BASIC_BLOCK:
            raise LayoutError("an inode in its log is damaged")
        now = self._overlay.read(start, size)
        if bytes(now[:2]) != stamps.INODE_MAGIC:
            raise LayoutError("its log changes an inode that is not there")
        (lsn,) = struct.unpack_from(">Q", now, stamps.INODE_LSN_AT)
        if lsn and lsn != _NO_LSN and lsn > self._lsn:
            return
        core = core_on_disk(item, now, self._lsn)
        self._overlay.write(start, core)
        for offset, data in forks_on_disk(item, core, size):
            self._overlay.write(start + offset, data)
        self._inodes.add(start)

    def _new_inodes(self, item: items.NewInodes) -> None:
        shape = self._shape
        group_blocks = min(shape.agblocks, shape.dblocks - item.group * shape.agblocks)
        if (
            item.size != shape.inodesize
            or not item.block + item.length <= group_blocks
            or item.inodes * item.size != item.length * shape.blocksize
            or item.length * shape.blocksize > 1 << 20
        ):
            raise LayoutError("new inodes in its log are damaged")
        first = (item.group * shape.agblocks + item.block) * shape.sectors
        place = first, item.length * shape.sectors
        # What was freed is cluster by cluster of what was new.
        if any(block in self._cancelled_at for block in range(first, sum(place))):
            return
        self._named.add(place)
        a_block = shape.blocksize // item.size
        for index in range(item.inodes):
            number = shape.inode_number(item.group, item.block + index // a_block, index % a_block)
            inode = bytearray(item.size)
            struct.pack_into(">2sHBB", inode, 0, stamps.INODE_MAGIC, 0, 3, 0)
            struct.pack_into(">II", inode, 92, item.generation, 0xFFFFFFFF)
            struct.pack_into(">Q16s", inode, 152, number, shape.uuid)
            start = first * layout.BASIC_BLOCK + index * item.size
            self._overlay.write(start, inode)
            self._inodes.add(start)

    def _dquot(self, item: items.DquotItem) -> None:
        place = item.block, item.length
        self._check_place(*place)
        if place in self._cancelled:
            return
        self._named.add(place)
        start, size = item.block * layout.BASIC_BLOCK + item.offset, stamps.DQUOT_SIZE
        if len(item.data) > size or item.offset + size > item.length * layout.BASIC_BLOCK:
            raise LayoutError("a quota in its log is damaged")
        now = self._overlay.read(start, size)
        (lsn,) = struct.unpack_from(">Q", now, stamps.DQUOT_LSN_AT)
        if lsn and lsn != _NO_LSN and lsn >= self._lsn:
            return
        now[: len(item.data)] = item.data
        self._overlay.write(start, _sealed(now, stamps.DQUOT_CRC_AT))

    def _intent(self, intent: items.Intent) -> None:
        key = intent.kind, intent.number
        if intent.is_done:
            self._intents.pop(key, None)
            return
        self._intents[key] = intent.extents
        if len(self._intents) > _ITEMS_MAX:
            raise LayoutError("its log announces more than can be looked at")

    # What structures say of themselves

    def _stamp(self) -> None:
        """Write the number of these transactions into what they changed."""
        for block, length in self._unstamped:
            start = block * layout.BASIC_BLOCK
            head = self._overlay.read(start, min(length * layout.BASIC_BLOCK, 512))
            stamp = stamps.stamp_of(head, self._shape.has_meta_uuid)
            if stamp is not None:
                self._overlay.write(start + stamp.lsn, struct.pack(">Q", self._lsn))
                self._buffers.add((block, length))
        self._unstamped.clear()

    def _checksums(self) -> None:
        """Put the checksums of all that was changed right."""
        by_kind: dict[tuple[int, int], list[int]] = {}
        for block, length in sorted(self._buffers):
            start = block * layout.BASIC_BLOCK
            head = self._overlay.read(start, min(length * layout.BASIC_BLOCK, 512))
            stamp = stamps.stamp_of(head, self._shape.has_meta_uuid)
            if stamp is not None:
                by_kind.setdefault((length * layout.BASIC_BLOCK, stamp.crc), []).append(start)
        if self._inodes:
            by_kind[self._shape.inodesize, stamps.INODE_CRC_AT] = sorted(self._inodes)
        for (size, at), starts in by_kind.items():
            step = max(1, _BATCH_BYTES // size)
            for low in range(0, len(starts), step):
                self._seal(starts[low : low + step], size, at)

    def _seal(self, starts: list[int], size: int, at: int) -> None:
        rows = np.empty((len(starts), size), np.uint8)
        for row, start in zip(rows, starts, strict=True):
            row[:] = np.frombuffer(self._overlay.read(start, size), np.uint8)
        rows[:, at : at + 4] = 0
        found = (crc32c_rows(rows) ^ np.uint32(0xFFFFFFFF)).astype("<u4")
        for start, value in zip(starts, found, strict=True):
            self._overlay.write(start + at, value.tobytes())


def _ordered(found: Iterable[Item]) -> Iterator[Item]:
    """Buffers first, then inodes and the like, then lists of unlinked inodes, then what was freed:
    so a change of a buffer comes before that it was freed, wherever both were logged.
    """
    parts: tuple[list[Item], ...] = ([], [], [], [])
    for item in found:
        rank = 1
        if item.kind == layout.ICREATE:
            rank = 0
        elif item.kind == layout.BUFFER:
            flags = items.buffer_of(item).flags
            rank = 3 if flags & layout.CANCEL else 2 if flags & layout.INODE_BUFFER else 0
        parts[rank].append(item)
    for part in parts:
        yield from part


def _sealed(data: bytearray, at: int) -> bytearray:
    """A structure with its checksum made right."""
    data[at : at + 4] = bytes(4)
    row = np.frombuffer(bytes(data), np.uint8)[None]
    struct.pack_into("<I", data, at, int(crc32c_rows(row)[0]) ^ 0xFFFFFFFF)
    return data


def _count_down(counter: Counter[_Key], key: _Key) -> None:
    """Take one off; what has reached 0 is not in the counter any more."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
