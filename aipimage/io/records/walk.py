"""Walking the records of a stream from its beginning to its end, without an index (docs/format.md,
sections 11 and 13).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import AipImageError, IncompleteError, IntegrityError, reworded
from aipimage.format import constants as c
from aipimage.format.record import RecordHeader, decode_record_header, record_length
from aipimage.io.system.buffers import Buffers

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHUNK = 4 << 20
_PIECE = 2 << 20
_FRAMING = struct.Struct("<4s4xI")
"""Magic and body length of a record header (docs/format.md, section 5)."""


class RecordStream(Protocol):
    """What a walk reads: an :class:`~aipimage.io.stream.instream.InStream` or a partial one."""

    name: str
    size: int

    def pread(self, length: int, offset: int) -> bytearray:
        """Return exactly ``length`` bytes."""

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill the buffer."""


class Walked(NamedTuple):
    """A record where the walk found it; its digest is not verified yet."""

    offset: int
    header: RecordHeader
    data: memoryview


def walk_records(stream: RecordStream, start: int, end: int, tag: int) -> Iterator[list[Walked]]:
    """Yield the records of ``stream`` from ``start`` to ``end``, some megabytes at a time.

    Raises:
        FormatError, IntegrityError, IncompleteError: where no whole record header stands. The
            records before it were yielded.
    """
    at = start
    while at < end:
        chunk = memoryview(stream.pread(min(end - at, _CHUNK + c.BODY_MAX), at))
        found, used, error = _records_in(chunk, at, tag)
        if found:
            yield found
        at += used
        if error is not None:
            raise reworded(error, f"{stream.name}: at byte {at}: {error}") from error
        if not used:
            raise IncompleteError(f"{stream.name}: the record at byte {at} is cut short")


class FramedPiece(NamedTuple):
    """Some whole records one after the other: where they begin in the stream, and their ends.

    ``buffer`` holds them; the reader of the piece returns it to the buffers.
    """

    offset: int
    buffer: bytearray
    ends: npt.NDArray[np.uint64]


def framed_pieces(
    stream: RecordStream, start: int, end: int, buffers: Buffers
) -> Iterator[FramedPiece]:
    """Yield all records from ``start`` to ``end`` by their lengths alone; the reader of a piece
    verifies lengths and digests.

    Raises:
        IntegrityError, IncompleteError: where no record stands.
    """
    at, most = start, _PIECE
    while at < end:
        length = min(end - at, most)
        buffer = buffers.take(length)
        data = memoryview(buffer)[:length]
        stream.pread_into(data, at)
        ends = _ends(stream.name, data, at, at + length == end)
        if len(ends):
            yield FramedPiece(at, buffer, ends)
            at, most = at + int(ends[-1]), _PIECE
        elif most == _PIECE:
            # A record that is larger than a piece.
            most = record_length(c.BODY_MAX)
        else:
            raise IncompleteError(f"{stream.name}: the record at byte {at} is cut short")


def framed_length(data: memoryview, at: int) -> int | None:
    """Return the bytes of the record whose header is at ``at``; ``None`` where there is none.

    Only magic and body length are looked at; the data may end before the record does.
    """
    magic, body = _FRAMING.unpack_from(data, at)
    return record_length(body) if magic == c.RECORD_MAGIC and 0 < body <= c.BODY_MAX else None


def _ends(name: str, data: memoryview, base: int, last: bool) -> npt.NDArray[np.uint64]:
    """Where the whole records at the start of ``data`` end; ``last``: nothing follows."""
    ends, stop, is_bad = _core.record_ends(data, data.nbytes)
    if is_bad:
        raise IntegrityError(f"{name}: no record stands at byte {base + stop}")
    if last and stop != data.nbytes:
        raise IncompleteError(f"{name}: the last record is cut short")
    return ends


def _records_in(
    chunk: memoryview, base: int, tag: int
) -> tuple[list[Walked], int, AipImageError | None]:
    """Whole records at the start of a chunk, the bytes they take, and why there are no more."""
    found: list[Walked] = []
    at = 0
    while at < min(chunk.nbytes, _CHUNK):
        try:
            header = decode_record_header(chunk[at : at + c.RECORD_HEADER], tag)
        except AipImageError as error:
            return found, at, error
        end = at + header.record_length
        if end > chunk.nbytes:
            return found, at, None
        found.append(Walked(base + at, header, chunk[at:end]))
        at = end
    return found, at, None
