"""Records to and from bytes: codec, cipher and digest in one place (docs/format.md, sections 4.6
and 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.digest import digest
from aipimage.format.record import (
    RecordHeader,
    Reference,
    decode_record_header,
    encode_record_header,
    payload_length,
    verified_against,
)
from aipimage.io.cipher import RecordCipher
from aipimage.io.codec import PAGE_LEVEL, BytesLike, compress, decompress
from aipimage.io.keys import ChainKeys
from aipimage.io.numbering import RecordNumbers
from aipimage.io.outstream import OutStream


class BuiltRecord(NamedTuple):
    """A record ready to be written, with what a reference needs to know of it."""

    data: bytearray
    plain_length: int
    digest: bytes


class OpenedRecord(NamedTuple):
    """A verified, opened and decoded record."""

    header: RecordHeader
    plain: BytesLike
    extents: bytes


def build_record(
    kind: int, plain: BytesLike, level: int | None, origin: bytes, number: int,
    cipher: RecordCipher | None, extents: bytes = b"",
) -> BuiltRecord:  # fmt: skip
    """Compress, seal and digest one record; ``level`` is the zstd level or ``None``.

    Runs in any thread: compressing, sealing and digesting release the GIL.
    """
    codec, payload = compress(plain, level)
    stored = memoryview(payload).nbytes
    body = stored + len(extents)
    tag = cipher.tag_length if cipher else 0
    plain_length = memoryview(plain).nbytes
    header = encode_record_header(
        RecordHeader(
            kind, codec, len(extents) // c.FRAME_EXTENT, body + tag, plain_length, origin, number
        )
    )
    end = c.RECORD_HEADER + body + tag
    data = bytearray(end + c.CHECK)
    view = memoryview(data)
    view[: c.RECORD_HEADER] = header
    if cipher is None:
        view[c.RECORD_HEADER : c.RECORD_HEADER + stored] = memoryview(payload).cast("B")
        view[c.RECORD_HEADER + stored : end] = extents
    else:
        whole = b"".join((payload, extents)) if extents else payload
        cipher.seal_into(header, whole, view[c.RECORD_HEADER : end])
    found = digest(view[:end])
    view[end:] = found[: c.CHECK]
    return BuiltRecord(data, plain_length, found)


def open_record(
    data: memoryview, header: RecordHeader, cipher: RecordCipher | None
) -> OpenedRecord:
    """Unseal and decode a record whose digest was verified."""
    body = data[c.RECORD_HEADER : -c.CHECK]
    tag = 0
    if cipher is not None:
        body, tag = cipher.open(bytes(data[: c.RECORD_HEADER]), body), cipher.tag_length
    stored = payload_length(header, tag)
    plain = decompress(header.codec, body[:stored], header.plain_length)
    return OpenedRecord(header, plain, bytes(body[stored:]))


class RecordWriter:
    """Appends the records of one origin to a stream, from one thread."""

    def __init__(self, stream: OutStream, numbers: RecordNumbers, keys: ChainKeys | None) -> None:
        self.stream, self.numbers = stream, numbers
        self.origin = numbers.origin
        self.cipher = keys.cipher(self.origin) if keys else None
        self.count = 0

    def write(
        self, kind: RecordType, plain: BytesLike, level: int | None = PAGE_LEVEL
    ) -> Reference:
        """Build and append a page, and return the reference to it."""
        number = self.numbers.claim(kind)
        return self.append(build_record(kind, plain, level, self.origin, number, self.cipher))

    def append(self, record: BuiltRecord) -> Reference:
        """Append a record that a worker built."""
        offset = self.stream.position
        self.stream.append([record.data])
        self.count += 1
        return Reference(self.origin, offset, len(record.data), record.plain_length, record.digest)


class RecordReader:
    """Fetches records by reference, verified before anything of them is used; safe for threads.

    Args:
        read: gives ``length`` bytes at the address (origin, offset): of this file or of another one
            of the chain.
        keys: of the chain, or ``None`` for a plain one.

    Attributes:
        on_fetch: told of every reference that was followed, for verification.
    """

    def __init__(
        self, read: Callable[[bytes, int, int], bytearray], keys: ChainKeys | None
    ) -> None:
        self.read, self.keys = read, keys
        self.tag = c.TAG if keys else 0
        self.on_fetch: Callable[[Reference], None] | None = None

    def cipher(self, origin: bytes) -> RecordCipher | None:
        """The cipher of an origin's records."""
        return self.keys.cipher(origin) if self.keys else None

    def fetch(self, ref: Reference, kind: RecordType) -> OpenedRecord:
        """Return the record that ``ref`` leads to."""
        data = memoryview(self.read(ref.origin, ref.offset, ref.record_length))
        opened = self.open(data, ref, kind)
        if self.on_fetch is not None:
            self.on_fetch(ref)
        return opened

    def open(self, data: memoryview, ref: Reference, kind: RecordType) -> OpenedRecord:
        """Verify and open a record whose bytes were read already."""
        header = verified_against(data, ref, kind, self.tag)
        return open_record(data, header, self.cipher(ref.origin))

    def open_unreferenced(self, data: memoryview, kind: RecordType | None = None) -> OpenedRecord:
        """Open a record found by walking, whose ``check`` was verified."""
        header = decode_record_header(data, self.tag)
        if kind is not None and header.type != kind:
            raise FormatError("a record is of another type than the place needs")
        return open_record(data, header, self.cipher(header.origin))
