"""Journals of ext4 written from the format's description alone.

ext4 Data Structures, "Journal (jbd2)": every version of the checksums, tags of every size, lists of
revoked blocks, and fast commits.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aipimage.volumes.journals.jbd2.blocks import JournalBlocks
from aipimage.volumes.view import VolumeView
from tests.support.sources import SparseSource
from tests.volumes.ext.built import crc32c

MAGIC = 0xC03B3998
BLOCK, BLOCKS, LIMIT = 1024, 64, 3900
UUID = bytes(range(0x40, 0x50))
Writes = Sequence[tuple[int, bytes]]


def crc32_big_endian(data: bytes, register: int) -> int:
    """Bit by bit, the highest first."""
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


@dataclass
class Built:
    """A journal to which transactions are added.

    Args:
        csum: version of the checksums. is_64bit: of the block numbers. fast: blocks of fast
            commits. start, sequence: where the first transaction begins, and its number.
    """

    csum: int = 3
    is_64bit: bool = True
    fast: int = 0
    start: int = 1
    sequence: int = 7
    uuids: bool = False
    blocks: int = BLOCKS
    data: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.data = bytearray(self.blocks * BLOCK)
        self.at, self.number, self.seconds = self.start, self.sequence, 1000
        self.last = self.blocks - self.fast
        self.seed = crc32c(UUID)
        self.superblock()

    def superblock(self, **fields: int) -> Built:
        """Write the superblock; fields by their offsets (``x18=5``) go over it."""
        head = bytearray(BLOCK)
        struct.pack_into(
            ">9I", head, 0, MAGIC, 4, 0, BLOCK, self.blocks, 1, self.sequence, self.start, 0
        )
        incompat = 1 | 2 * self.is_64bit | {2: 8, 3: 0x10}.get(self.csum, 0)
        incompat |= 0x20 * bool(self.fast)
        struct.pack_into(">III16sI", head, 36, int(self.csum == 1), incompat, 0, UUID, 1)
        if self.csum >= 2:
            head[0x50] = 4
        struct.pack_into(">I", head, 0x54, self.fast)
        for name, value in fields.items():
            struct.pack_into(">I", head, int(name[1:], 16), value)
        if self.csum >= 2:
            struct.pack_into(">I", head, 0xFC, 0)
            struct.pack_into(">I", head, 0xFC, crc32c(bytes(head)))
        self.data[:BLOCK] = head
        return self

    def reader(self) -> JournalBlocks:
        """The journal, in two pieces of a volume."""
        half = self.blocks // 2
        size = 2 * len(self.data) + 8 * BLOCK
        pieces = {2 * BLOCK: bytes(self.data[half * BLOCK :])}
        first = (self.blocks - half + 4) * BLOCK
        pieces[first] = bytes(self.data[: half * BLOCK])
        source = SparseSource(size, pieces)
        runs = np.array([(0, first // BLOCK, half), (half, 2, self.blocks - half)], np.int64)
        return JournalBlocks(VolumeView(source, 0, size, 0), BLOCK, runs)

    def transaction(
        self, writes: Writes, revoked: Sequence[int] = (), commit: bool = True
    ) -> Built:
        """Add a transaction: its revoked blocks, its blocks in descriptors, and its commit."""
        check = 0xFFFFFFFF
        if revoked:
            self._put(self._revoke_block(revoked))
        for low in range(0, len(writes), 5):
            part = writes[low : low + 5]
            logged = [_escaped(data) for _, data in part]
            descriptor = self._descriptor(part, logged)
            for block in (descriptor, *logged):
                check = crc32_big_endian(block, check)
                self._put(block)
        if commit:
            self._put(self._commit(check))
            self.number = (self.number + 1) & 0xFFFFFFFF
            self.seconds += 5
        return self

    def _put(self, block: bytes) -> None:
        assert len(block) == BLOCK
        self.data[self.at * BLOCK : (self.at + 1) * BLOCK] = block
        self.at = self.at + 1 if self.at + 1 < self.last else 1

    def _head(self, kind: int) -> bytes:
        return struct.pack(">III", MAGIC, kind, self.number)

    def _tailed(self, block: bytes) -> bytes:
        block = block.ljust(BLOCK, b"\0")
        if self.csum < 2:
            return block
        return block[:-4] + struct.pack(">I", crc32c(block[:-4] + bytes(4), self.seed))

    def _revoke_block(self, revoked: Sequence[int]) -> bytes:
        form = ">Q" if self.is_64bit else ">I"
        body = b"".join(struct.pack(form, block) for block in revoked)
        return self._tailed(self._head(5) + struct.pack(">I", 16 + len(body)) + body)

    def _descriptor(self, part: Writes, logged: Sequence[bytes]) -> bytes:
        block = self._head(1)
        for index, ((number, data), found) in enumerate(zip(part, logged, strict=True)):
            flags = (found != data) | 8 * (index + 1 == len(part))
            flags |= 0 if self.uuids or not index else 2
            check = crc32c(found, crc32c(struct.pack(">I", self.number), self.seed))
            low, high = number & 0xFFFFFFFF, number >> 32
            if self.csum == 3:
                block += struct.pack(">IIII", low, flags, high, check)
            else:
                block += struct.pack(">IHH", low, check & 0xFFFF if self.csum == 2 else 0, flags)
                block += struct.pack(">I", high) if self.is_64bit else b""
                block += bytes(2) if self.csum == 2 else b""
            block += b"" if flags & 2 else UUID
        return self._tailed(block)

    def _commit(self, check: int) -> bytes:
        kind = (1, 4, check) if self.csum == 1 else (0, 0, 0)
        block = bytearray(self._head(2) + struct.pack(">BB2xI28xQI", *kind, self.seconds, 0))
        block += bytes(BLOCK - len(block))
        if self.csum >= 2:
            struct.pack_into(">I", block, 16, crc32c(bytes(block), self.seed))
        return bytes(block)

    def fast_commit(self, index: int, *tags: tuple[int, bytes], tail: bool = True) -> Built:
        """Write a block of fast commits: a head where it is the first, tags, and a tail."""
        at = (self.last + 1 + index) * BLOCK
        values = [(9, struct.pack("<II", 0, self.number)), *tags] if not index else list(tags)
        body = b"".join(struct.pack("<HH", tag, len(value)) + value for tag, value in values)
        if tail:
            body += struct.pack("<HHI", 8, BLOCK - len(body) - 4, self.number)
        self.data[at : at + BLOCK] = body.ljust(BLOCK, b"\0")
        return self


def _escaped(data: bytes) -> bytes:
    return bytes(4) + data[4:] if data[:4] == struct.pack(">I", MAGIC) else data


def added(block: int, count: int, inode: int = 12) -> tuple[int, bytes]:
    """A tag that adds an extent to a file."""
    return 1, struct.pack("<IIHHI", inode, 0, count, block >> 32, block & 0xFFFFFFFF)
