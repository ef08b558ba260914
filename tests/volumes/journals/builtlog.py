"""Logs of XFS written from the format's description alone.

"XFS Algorithms & Data Structures", section Journaling Log: records with one header or several,
operations, transactions and items.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aipimage.volumes.journals.overlay import Overlay
from aipimage.volumes.journals.xfslog.records import Log
from aipimage.volumes.journals.xfslog.replay import Replay, Result, Shape
from aipimage.volumes.journals.xfslog.ring import Ring
from aipimage.volumes.journals.xfslog.transactions import Transaction, transactions
from aipimage.volumes.view import VolumeView
from tests.support.sources import SparseSource
from tests.volumes.xfs.built import crc32c

BB = 512
UUID = bytes(range(0x21, 0x31))
BLOCK, AG_BLOCKS, BLOCKS = 1024, 512, 912
INODE = 512
SIZE = BLOCKS * BLOCK
LOG_AT = 256 << 10
SHAPE = Shape(BLOCK, INODE, AG_BLOCKS, BLOCKS, UUID, False)
START, COMMIT, CONTINUE, WAS_CONTINUED, END = 1, 2, 4, 8, 0x10


def operation(number: int, data: bytes = b"", flags: int = 0, client: int = 0x69) -> bytes:
    """An operation of transaction ``number``."""
    return struct.pack(">IIBBH", number, len(data), client, flags, 0) + data


def transaction(number: int, items: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The operations of a transaction: its start, header, the regions of its items, its commit."""
    header = struct.pack("<IIiI", 0x5452414E, 40, number, len(items))
    middle = [operation(number, region) for item in items for region in item]
    return [
        operation(number, flags=START), operation(number, header), *middle,
        operation(number, flags=COMMIT),
    ]  # fmt: skip


def buffer(block: int, length: int, chunks: dict[int, bytes], flags: int = 0) -> list[bytes]:
    """A changed buffer: basic blocks, and chunks of 128 bytes by their number."""
    bits = bytearray(-(-length * 4 // 32) * 4)
    runs: list[bytes] = []
    last = -2
    for number in sorted(chunks):
        bits[number // 8] |= 1 << number % 8
        if number == last + 1:
            runs[-1] += chunks[number]
        else:
            runs.append(chunks[number])
        last = number
    head = struct.pack("<HHHHqI", 0x123C, 1 + len(runs), flags, length, block, len(bits) // 4)
    return [head + bytes(bits), *runs]


def cancel(block: int, length: int) -> list[bytes]:
    """A buffer that was freed."""
    return [struct.pack("<HHHHqII", 0x123C, 1, 2, length, block, 1, 0)]


def intent(kind: int, number: int, extents: Sequence[tuple[int, int]] = ()) -> list[bytes]:
    """Something that is announced, or done."""
    if kind in (0x1240, 0x1244):
        rows = [struct.pack("<QQQII", 7, first, 0, count, 0) for first, count in extents]
    else:
        rows = [struct.pack("<QII", first, count, 0) for first, count in extents]
    body = b"".join(rows)
    return [struct.pack("<HHIQ", kind, 1, len(extents), number) + body]


@dataclass
class Built:
    """A log to which records are added, on an otherwise empty volume.

    Args:
        blocks: basic blocks. cycle, start: of the first record. size: bytes of the buffers that
            records were written from. uuid: of the file system.
    """

    blocks: int = 256
    cycle: int = 3
    start: int = 20
    size: int = 32 << 10
    uuid: bytes = UUID
    ring: bytearray = field(default_factory=bytearray)
    volume: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ring = bytearray(self.blocks * BB)
        for index in range(self.blocks):
            cycle = self.cycle if index < self.start else self.cycle - 1
            struct.pack_into(">I", self.ring, index * BB, cycle)
        self.head, self.now = self.start, self.cycle
        self.tail = self.cycle << 32 | self.start
        self.records: list[int] = []

    def record(self, operations: Sequence[bytes], count: int | None = None, **fields: int) -> Built:
        """Write a record; ``fields`` are put over its header (``x8=3``) before the checksum."""
        data = b"".join(operations)
        return self.payload(data, len(operations) if count is None else count, **fields)

    def payload(self, data: bytes, count: int, **fields: int) -> Built:
        """The same with its data as they are."""
        headers = max(1, -(-self.size // (32 << 10)))
        blocks = -(-len(data) // BB)
        header = bytearray(headers * BB)
        lsn = self.now << 32 | self.head
        struct.pack_into(">IIIIQQ", header, 0, 0xFEEDBABE, self.now, 2, len(data), lsn, self.tail)
        struct.pack_into(">II", header, 36, 0, count)
        struct.pack_into(">I16sI", header, 300, 1, self.uuid, self.size)
        body = bytearray(data.ljust(blocks * BB, b"\0"))
        for index in range(blocks):
            part, word = divmod(index, 64)
            at = part * BB + (4 if part else 44) + 4 * word
            header[at : at + 4] = body[index * BB : index * BB + 4]
            block = self.head + headers + index
            struct.pack_into(">I", body, index * BB, self.now + (block >= self.blocks))
        for index in range(1, headers):
            block = self.head + index
            struct.pack_into(">I", header, index * BB, self.now + (block >= self.blocks))
        for name, value in fields.items():
            struct.pack_into(">I", header, int(name[1:], 16), value)
        more = max(1, -(-len(data) // (32 << 10)))
        covered = bytes(header[:328])
        covered += b"".join(bytes(header[at * BB : at * BB + 260]) for at in range(1, more))
        struct.pack_into("<I", header, 32, crc32c(covered + bytes(body[: len(data)])))
        self._put(bytes(header + body))
        return self

    def _put(self, data: bytes) -> None:
        self.records.append(self.head)
        for at in range(0, len(data), BB):
            self.ring[self.head * BB : (self.head + 1) * BB] = data[at : at + BB]
            self.head += 1
            if self.head == self.blocks:
                self.head, self.now = 0, self.now + 1

    def lsn(self, index: int = -1) -> int:
        """The log sequence number of a record that was written."""
        at = self.records[index]
        return (self.cycle if at >= self.start else self.cycle + 1) << 32 | at

    def view(self) -> VolumeView:
        pieces = {LOG_AT: bytes(self.ring), **self.volume}
        return VolumeView(SparseSource(SIZE, pieces), 0, SIZE, 0)

    def log(self) -> Log:
        return Log(Ring(self.view(), LOG_AT, len(self.ring)), (self.uuid,), True)

    def transactions(self) -> list[Transaction]:
        log = self.log()
        return list(transactions(log.records(log.open_span())))

    def replay(self, shape: Shape = SHAPE) -> tuple[Overlay, Result]:
        log, overlay = self.log(), Overlay(self.view())
        span = log.open_span()

        def read() -> Iterator[Transaction]:
            return transactions(log.records(span))

        return overlay, Replay(overlay, shape, read).run()
