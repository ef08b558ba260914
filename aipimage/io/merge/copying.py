"""Copying records as they are: read ahead, verified by workers, appended in order (docs/format.md,
sections 5 and 9.5).

Records are neither opened nor decoded. Each is compared with its ``check``, so that damage is not
copied into a new file where it would look like a fault of the merge.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from aipimage import _core
from aipimage.errors import AipImageError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.checkpoint import decode_continuation
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.record import decode_record_header, verified_record
from aipimage.io.merge.assemble import PlacedRecords
from aipimage.io.merge.ranges import CopyRanges
from aipimage.io.merge.run import RunMember
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import RecordReader, no_references
from aipimage.io.records.running import Running
from aipimage.io.records.walk import framed_length, framed_pieces
from aipimage.io.stream.partial import PartialStream
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.pipeline import executor_for, in_order

BATCH = 2 << 20
_T = TypeVar("_T")


@dataclass(slots=True)
class CopyBatch:
    """Whole records of one member, from some places of its stream.

    Attributes:
        spans: (stream offset, length) of what lies in ``buffer``, one after the other.
        length: bytes of it. digests: of the records, 32 bytes each, once they are verified.
    """

    member: RunMember
    buffer: bytearray
    spans: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0
    digests: bytes = b""

    @property
    def count(self) -> int:
        """Records, once they are verified."""
        return len(self.digests) // len(c.ZERO_DIGEST)

    @property
    def data(self) -> memoryview:
        """The records."""
        return memoryview(self.buffer)[: self.length]

    def addresses(self) -> list[tuple[bytes, int, int]]:
        """(origin, address, length) of each span; none lies across the end of a segment."""
        return [(*self.member.address_of(start), length) for start, length in self.spans]


def copied(
    members: Sequence[RunMember],
    ranges: Sequence[CopyRanges],
    threads: int | None,
    take: Callable[[CopyBatch], object],
) -> None:
    """Give ``take`` all ranges of all members, verified, in order and always in the same batches.

    Raises:
        IntegrityError: a record is damaged, named by its file and place.
    """
    buffers = Buffers()

    def batches() -> Iterator[CopyBatch]:
        for member, wanted in zip(members, ranges, strict=True):
            yield from _batches(member, wanted, buffers)

    with (
        executor_for(None, threads, "merge") as (executor, in_flight),
        closing(_ahead(batches())) as pieces,
    ):
        for batch in in_order(executor, _verified, pieces, in_flight):
            take(batch)
            buffers.give(batch.buffer)


def _ahead(items: Iterator[_T]) -> Generator[_T, None, None]:
    """Make the next item on another thread while the caller is busy with this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="aipimage-merge-read") as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item


def _batches(member: RunMember, ranges: CopyRanges, buffers: Buffers) -> Iterator[CopyBatch]:
    """Read ranges: small ones together, large ones in pieces of whole records."""
    batch = CopyBatch(member, buffers.take(BATCH))
    for start, end in ranges:
        if batch.length + end - start > BATCH and batch.length:
            yield batch
            batch = CopyBatch(member, buffers.take(BATCH))
        if end - start <= BATCH:
            into = memoryview(batch.buffer)[batch.length : batch.length + end - start]
            member.stream.pread_into(into, start)
            batch.spans.append((start, end - start))
            batch.length += end - start
            continue
        for piece in framed_pieces(member.stream, start, end, buffers):
            length = int(piece.ends[-1])
            yield CopyBatch(member, piece.buffer, [(piece.offset, length)], length)
    if batch.length:
        yield batch


def _verified(batch: CopyBatch) -> CopyBatch:
    """In a worker: compare every record with its check."""
    ends, stop, _ = _core.record_ends(batch.data, batch.length)
    bounds = np.cumsum([length for _, length in batch.spans], dtype=np.uint64)
    if stop == batch.length and np.isin(bounds, ends).all():
        digests, _, bad = _core.check_records(batch.data, ends)
        if not bad.any():
            batch.digests = digests.tobytes()
            return batch
    batch.digests = _verified_one_by_one(batch)
    return batch


def _verified_one_by_one(batch: CopyBatch) -> bytes:
    """The digests of all records; the error of the first that is damaged."""
    data, at, digests = batch.data, 0, []
    for start, length in batch.spans:
        end = at + length
        while at < end:
            place = start + length - (end - at)
            try:
                at, found = _verified_end(data, at, end)
            except IntegrityError as error:
                raise IntegrityError(
                    f"{batch.member.path}: at byte {place}: {error}; nothing was removed"
                ) from error
            digests.append(found)
    return b"".join(digests)


def _verified_end(data: memoryview, at: int, end: int) -> tuple[int, bytes]:
    """Verify the record at ``at`` and return where it ends, and its digest."""
    length = framed_length(data, at) if end - at >= c.RECORD_HEADER else None
    if length is None or length > end - at:
        raise IntegrityError("no record stands where one must be")
    return at + length, verified_record(data[at : at + length])


class KeptBeginning:
    """The beginning of a partial file, as far as it is what an interrupted merge copied.

    Everything is compared with what is read from the members again, byte for byte: a crash may have
    left anything.

    Attributes:
        position: up to where the partial file is kept. placed, running: of the records in there.
        previous: the last run that wrote to it.
    """

    def __init__(self, stream: PartialStream, header: Header, keys: ChainKeys | None) -> None:
        self.stream, self.placed = stream, PlacedRecords()
        self.running = Running(header.header_digest)
        self.position, self.previous = header.records_start, header.file_id
        self._reader = RecordReader(no_references, keys)

    def take(self, batch: CopyBatch) -> bool:
        """Whether the next bytes of the partial file are this batch; they are kept then."""
        self._pass_continuations()
        if batch.length > self.stream.size - self.position:
            return False
        # bytearray compares by memcmp, which a memoryview on the left does not.
        if self.stream.pread(batch.length, self.position) != batch.data:
            return False
        at = self.position
        for origin, address, length in batch.addresses():
            self.placed.add(origin, address, length, at)
            at += length
        self.position = at
        self.running.add(batch.digests)
        return True

    def _pass_continuations(self) -> None:
        """Go over what earlier resumed runs began with."""
        while (found := self._continuation()) is not None:
            length, digest = found
            self.placed.add(self.previous, self.position, length, self.position)
            self.position += length
            self.running.add(digest)

    def _continuation(self) -> tuple[int, bytes] | None:
        """Length and digest of the continuation at the current position, if one stands there that
        binds what is before it.
        """
        stream, at = self.stream, self.position
        try:
            head = bytes(stream.pread(min(c.RECORD_HEADER, stream.size - at), at))
            header = decode_record_header(head, self._reader.tag)
            if header.type != RecordType.CONTINUATION:
                return None
            data = memoryview(stream.pread(header.record_length, at))
            digest = verified_record(data)
            found = decode_continuation(self._reader.open_unreferenced(data).plain)
            self.running.check(found)
        except AipImageError:
            return None
        if (found.previous, found.length) != (self.previous, at):
            return None
        self.previous = header.origin
        return header.record_length, digest
