"""Finding whole records in a damaged stream (docs/format.md, section 11).

Records are walked from one to the next. Where none is whole, the next ``AIVR`` is searched whose
record digest matches its check. What a search may hash in vain is bounded by what it has advanced,
so that a file full of record headers takes no longer than its size asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.record import RecordHeader, decode_record_header, verified_record
from aipimage.io.records.records import OpenedRecord, RecordReader, open_record
from aipimage.io.repair.stream import SalvageStream

_CHUNK = 4 << 20
_SEARCH = 1 << 20
_BUDGET = 64 << 20
_REFUND = 16
_SLACK = 4096
_LIKELY = re.compile(
    re.escape(c.RECORD_MAGIC) + b"[%c-%c][\0\1]" % (min(RecordType), max(RecordType)), re.DOTALL
)
_OVERLAP = 5


class FoundRecord(NamedTuple):
    """A whole record: where it lies, its digest, and what is in it."""

    place: int
    length: int
    digest: bytes
    opened: OpenedRecord

    @property
    def header(self) -> RecordHeader:
        """Its header."""
        return self.opened.header

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.place + self.length


class Window:
    """Bytes of a stream, read some megabytes at a time."""

    def __init__(self, stream: SalvageStream) -> None:
        self._stream, self._start, self._data = stream, 0, bytearray()

    def take(self, offset: int, length: int) -> memoryview:
        """Return ``length`` bytes from ``offset`` on, fewer at the end of the stream."""
        inside = offset - self._start
        if inside < 0 or inside + length > len(self._data):
            self._start, inside = offset, 0
            self._data = self._stream.pread(max(length, _CHUNK), offset)
        return memoryview(self._data)[inside : inside + length]

    def find_record(self, offset: int) -> int | None:
        """Where next at or after ``offset`` something stands that looks like a known record."""
        size = self._stream.size
        while offset + c.RECORD_HEADER <= size:
            offset = self._stream.data_from(offset)
            self.take(offset, min(_SEARCH, size - offset))
            inside = offset - self._start
            # Searched where it lies: a copy for every find would take time by the square.
            match = _LIKELY.search(self._data, inside)
            if match is not None:
                return self._start + match.start()
            offset = max(offset + 1, self._start + len(self._data) - _OVERLAP)
        return None


class RecordScanner:
    """Walks a stream and yields its whole records.

    Args:
        reader: opens records; with keys, a record counts only where its tag is right.
        frame_size: of the image, where it is known.
    """

    def __init__(self, stream: SalvageStream, reader: RecordReader, frame_size: int | None) -> None:
        self._stream, self._reader, self._frame_size = stream, reader, frame_size
        self._window = Window(stream)
        self._budget = _BUDGET

    def scan(
        self, start: int, end: int, tick: Callable[[int], None] | None = None
    ) -> Iterator[FoundRecord]:
        """Yield whole records between two places, in their order."""
        at = start
        while at < end:
            found = self.record_at(at)
            if found is not None and found.end <= end:
                yield found
                self._advance(found.length)
                at = found.end
            else:
                after = self._window.find_record(at + 1)
                if after is None:
                    return
                self._advance(after - at)
                at = after
            if tick is not None:
                tick(at)

    def _advance(self, length: int) -> None:
        self._budget = min(_BUDGET, self._budget + _REFUND * length)

    def record_at(self, place: int) -> FoundRecord | None:
        """The record at a place, if it is whole."""
        header = self._header_at(place)
        if header is None or header.record_length > self._budget:
            return None
        data = self._window.take(place, header.record_length)
        try:
            digest = verified_record(data)
            if header.type in set(RecordType):
                cipher = self._reader.cipher(header.origin)
                opened = open_record(data, header, cipher)
            else:
                opened = OpenedRecord(header, b"", b"")
        except AipImageError:
            self._budget -= header.record_length
            return None
        return FoundRecord(place, header.record_length, digest, opened)

    def _header_at(self, place: int) -> RecordHeader | None:
        try:
            header = decode_record_header(
                self._window.take(place, c.RECORD_HEADER), self._reader.tag
            )
        except AipImageError:
            return None
        if place + header.record_length > self._stream.size:
            return None
        if header.type == RecordType.FRAME and self._frame_size is not None:
            if header.plain_length > self._frame_size or header.plain_length % 512:
                return None
            most = header.plain_length + c.FRAME_EXTENT * header.extent_count + _SLACK
            if header.body_length > most:
                return None
        return header
