"""Walking the records of a stream from front to back, without an index (docs/format.md, sections 11
and 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from aipimage.errors import AipImageError, IncompleteError
from aipimage.format import constants as c
from aipimage.format.record import RecordHeader, decode_record_header

_CHUNK = 4 << 20


class Stream(Protocol):
    """What a walk reads: an :class:`~aipimage.io.instream.InStream` or a partial one."""

    name: str
    size: int

    def pread(self, length: int, offset: int) -> bytearray:
        """Return exactly ``length`` bytes."""


class Walked(NamedTuple):
    """A record where the walk found it; its digest is not verified yet."""

    offset: int
    header: RecordHeader
    data: memoryview


def walk_records(stream: Stream, start: int, end: int, tag: int) -> Iterator[list[Walked]]:
    """Yield the records of ``stream`` from ``start`` to ``end``, some megabytes at a time.

    Raises:
        FormatError, IntegrityError, IncompleteError: where no whole record header stands. The
            records before it were
            yielded.
    """
    at = start
    while at < end:
        chunk = memoryview(stream.pread(min(end - at, _CHUNK + c.BODY_MAX), at))
        found, used, error = _records_in(chunk, at, tag)
        if found:
            yield found
        at += used
        if error is not None:
            raise type(error)(f"{stream.name}: at byte {at}: {error}") from error
        if not used:
            raise IncompleteError(f"{stream.name}: the record at byte {at} is cut short")


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
