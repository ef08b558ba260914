"""The records of an XFS log between its tail and its head, each verified as a whole.

A record is a header, further headers where it may be longer than 32 KiB, and data: a list of
operations. The first word of each block of data is replaced by the cycle; the header keeps what it
was. The checksum covers the data as they lie there. Linux, xlog_do_recovery_pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.journals.xfslog.ring import Ring, find_head, header_blocks, last_header
from aipimage.volumes.view import LayoutError

_BB = layout.BASIC_BLOCK
_ALL_ONES = 0xFFFFFFFF
_SEARCHED = layout.IN_FLIGHT * (layout.RECORD_MAX // _BB + 1)
"""Blocks before the head in which those records lie that may have been in flight."""


class TornRecordError(LayoutError):
    """A record is not as it was written.

    Attributes:
        block: at which it begins.
    """

    def __init__(self, block: int) -> None:
        super().__init__(f"the record at block {block:,} of its log is damaged")
        self.block = block


class Record(NamedTuple):
    """A record.

    Attributes:
        block: of its header. end: the block after its last one. lsn, tail: log sequence numbers of
            itself, and of the oldest record that was still needed.
        operations: how many. data: those, as they were before the cycles were put in.
    """

    block: int
    end: int
    lsn: int
    tail: int
    operations: int
    data: bytes

    @property
    def is_unmount(self) -> bool:
        """Whether it says that the volume was unmounted."""
        flags = layout.OPERATION.unpack_from(self.data)[3] if len(self.data) >= 12 else 0
        return self.operations == 1 and bool(flags & layout.UNMOUNT)


class Span(NamedTuple):
    """The part of a log that is to be replayed.

    Attributes:
        tail, head: first block, and the block after the last.
        lsn: the log sequence number that no structure can have reached.
        last: the last record.
    """

    tail: int
    head: int
    lsn: int
    last: Record


class Log:
    """The log of a volume.

    Args:
        uuids: of the file systems whose records are believed. needs_checksums: whether a record
            without a checksum is damaged.
    """

    def __init__(self, ring: Ring, uuids: tuple[bytes, ...], needs_checksums: bool) -> None:
        self.ring, self._uuids, self._needs = ring, uuids, needs_checksums

    def open_span(self) -> Span:
        """Find what is to be replayed; ``LayoutError`` where that is in doubt."""
        head = find_head(self.ring)
        head, last = self._whole_before(head)
        if last.is_unmount:
            raise LayoutError("its log ends with an unmount record that is not understood")
        cycle, tail = divmod(last.tail, 1 << 32)
        here = last.lsn >> 32
        before = here if tail <= last.block else here - 1
        if not tail < self.ring.blocks or cycle != before or (tail == head and cycle == here):
            raise LayoutError("the tail of its log is of a wrong cycle")
        turn = here + 1 if last.end <= last.block else here
        return Span(tail, head, turn << 32 | head, last)

    def _whole_before(self, head: int) -> tuple[int, Record]:
        """The head and the last record, without those that were torn when the machine stopped: such
        a one, of those that may have been in flight, is the new head.
        """
        most = min(_SEARCHED, self._back_to_tail(head))
        at = last_header(self.ring, head, most, layout.IN_FLIGHT)
        last: Record | None = None
        try:
            for record in self._walk(at, head):
                last = record
        except TornRecordError as torn:
            head = torn.block
            found = last_header(self.ring, head, most)
            last = None if found is None or found == head else self._record(found)
            if last is None or last.end != head:
                raise
        if last is None:
            raise LayoutError("no record lies before the head of its log")
        return head, last

    def _back_to_tail(self, head: int) -> int:
        """Blocks from the tail that the last record names, to the head: before, there is nothing
        that a mount looks at.
        """
        at = last_header(self.ring, head, min(_SEARCHED, self.ring.blocks))
        if at is None:
            raise LayoutError("no record lies before the head of its log")
        tail = layout.RECORD.unpack_from(self.ring.read(at, 1))[5] % (1 << 32)
        if not tail < self.ring.blocks:
            raise LayoutError("its log names a tail that is not inside of it")
        return self.ring.distance(tail, head) or self.ring.blocks

    def records(self, span: Span) -> Iterator[Record]:
        """Yield the records from tail to head; ``LayoutError`` where they do not follow each other
        as they were written.
        """
        at = 0
        for record in self._walk(span.tail, span.head):
            if record.lsn <= at:
                raise LayoutError("the records of its log are not in their order")
            at = record.lsn
            yield record

    def _walk(self, at: int | None, head: int) -> Iterator[Record]:
        if at is None:
            return
        left = self.ring.distance(at, head) or self.ring.blocks
        while left:
            record = self._record(at)
            length = self.ring.distance(record.block, record.end) or self.ring.blocks
            if length > left:
                raise TornRecordError(at)
            yield record
            at, left = record.end, left - length

    def _record(self, at: int) -> Record:
        header = self.ring.read(at, 1)
        magic, cycle, version, length, lsn, tail, _, _, number, _ = layout.RECORD.unpack_from(
            header
        )
        form, uuid, size = layout.FORMAT.unpack_from(header, layout.FORMAT_AT)
        if magic != layout.RECORD_MAGIC or lsn != cycle << 32 | at or uuid not in self._uuids:
            raise TornRecordError(at)
        if form != layout.FORMAT_LINUX_LITTLE:
            raise LayoutError("its log was written by a machine of another kind")
        if not version or version & ~layout.VERSIONS_KNOWN or size > layout.RECORD_MAX:
            raise LayoutError("its log is of a version that is not known")
        if not 0 < length <= layout.RECORD_MAX:
            raise TornRecordError(at)
        headers = header_blocks(header)
        count = headers + -(-length // _BB)
        if count > self.ring.blocks or length > headers * layout.HEADER_COVERS:
            raise TornRecordError(at)
        raw = self.ring.read(at, count)
        self._check(raw, headers, length, at)
        data = _unstamped(raw, headers, length, cycle, at, self.ring.blocks)
        return Record(at, (at + count) % self.ring.blocks, lsn, tail, number, data)

    def _check(self, raw: bytes, headers: int, length: int, at: int) -> None:
        (stored,) = struct.unpack_from("<I", raw, layout.CRC_AT)
        if not stored and not self._needs:
            return
        more = -(-length // layout.HEADER_COVERS)
        covered = b"".join(
            raw[index * _BB : index * _BB + layout.EXTENDED_SIZE] for index in range(1, more)
        )
        covered += raw[headers * _BB : headers * _BB + length]
        blank = raw[: layout.CRC_AT] + bytes(4) + raw[layout.CRC_AT + 4 : _BB]
        for size in layout.CRC_SIZES:
            if crc32c(covered, crc32c(blank[:size], _ALL_ONES)) ^ _ALL_ONES == stored:
                return
        raise TornRecordError(at)


def _unstamped(raw: bytes, headers: int, length: int, cycle: int, at: int, blocks: int) -> bytes:
    """The data with their own first words; each must have borne the cycle of its block."""
    data = bytearray(raw[headers * _BB :])
    for index in range(len(data) // _BB):
        block = at + headers + index
        turn = cycle + (block >= blocks and at < blocks)
        if struct.unpack_from(">I", data, index * _BB)[0] != turn:
            raise TornRecordError(at)
        header, word = divmod(index, layout.WORDS_A_HEADER)
        kept = header * _BB + (4 if header else layout.CYCLE_DATA_AT) + 4 * word
        data[index * _BB : index * _BB + 4] = raw[kept : kept + 4]
    return bytes(data[:length])
