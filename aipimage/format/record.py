"""Records and references: docs/format.md, section 5."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from aipimage.errors import FormatError, IntegrityError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.gates import verified_length, verified_limit, verified_range

RECORD_MAGIC_NUMBER = int.from_bytes(c.RECORD_MAGIC, "little")
"""The magic as the field of :data:`RECORD_HEADER_DTYPE` has it."""
_HEADER = struct.Struct("<4sBBHII16sQ")
_REFERENCE = struct.Struct("<16sQII32s")
_TYPES = frozenset(map(int, c.RecordType))

RECORD_HEADER_DTYPE = np.dtype(
    [
        ("magic", "<u4"),
        ("type", "u1"),
        ("codec", "u1"),
        ("extent_count", "<u2"),
        ("body_length", "<u4"),
        ("plain_length", "<u4"),
        ("origin", "<u8", 2),
        ("number", "<u8"),
    ]
)
"""The same 40 bytes as :class:`RecordHeader`, for looking at many at once."""


class RecordHeader(NamedTuple):
    """The 40 bytes in front of a body; field names as in section 5."""

    type: int
    codec: int
    extent_count: int
    body_length: int
    plain_length: int
    origin: bytes
    number: int

    @property
    def record_length(self) -> int:
        """Bytes of header, body and check."""
        return record_length(self.body_length)


class Reference(NamedTuple):
    """Where a record is and what it must be; 64 bytes in a file."""

    origin: bytes
    offset: int
    record_length: int
    plain_length: int
    digest: bytes


NO_REFERENCE = Reference(c.ZERO_ID, 0, 0, 0, c.ZERO_DIGEST)


def record_length(body_length: int) -> int:
    """Bytes that a record takes for a body of ``body_length`` bytes."""
    return c.RECORD_HEADER + body_length + c.CHECK


def payload_length(header: RecordHeader, tag: int) -> int:
    """Bytes of stored payload in a body that ends in ``tag`` bytes of tag."""
    return header.body_length - tag - c.FRAME_EXTENT * header.extent_count


def encode_record_header(header: RecordHeader) -> bytes:
    """Return 40 bytes."""
    return _HEADER.pack(c.RECORD_MAGIC, *header)


def decode_record_header(data: bytes | memoryview, tag: int = 0) -> RecordHeader:
    """Decode and bound the first 40 bytes of ``data``; ``tag`` is 16 with a suite, else 0."""
    if len(data) < c.RECORD_HEADER:
        raise FormatError("a record header is cut short")
    magic, *fields = _HEADER.unpack_from(data)
    if magic != c.RECORD_MAGIC:
        raise IntegrityError("no record stands where one must be")
    header = RecordHeader(*fields)
    verified_limit(header.body_length, c.BODY_MAX, "record body length")
    verified_range(header.plain_length, 1, c.PLAIN_MAX, "record plain length")
    if header.codec > c.Codec.ZSTD and c.RecordType.FRAME <= header.type <= c.RecordType.LAYER_LEAF:
        raise UnsupportedError(f"codec {header.codec} of a record is not known")
    if header.extent_count and header.type != c.RecordType.FRAME:
        raise FormatError("a record that is not a frame has extents")
    stored = payload_length(header, tag)
    if stored < 1 or (header.codec == c.Codec.NONE and stored != header.plain_length):
        raise FormatError("the lengths in a record header contradict each other")
    return header


def verified_record(data: bytes | memoryview) -> bytes:
    """Return the digest of a whole record after comparing it with ``check``."""
    view = memoryview(data)
    found = digest(view[: -c.CHECK])
    if found[: c.CHECK] != view[-c.CHECK :]:
        raise IntegrityError("a record is damaged: its digest does not match its check")
    return found


def verified_against(data: bytes | memoryview, ref: Reference, kind: int, tag: int) -> RecordHeader:
    """Check a whole record against the reference that led to it, and return its header.

    Raises:
        IntegrityError: the digest differs.
        UnsupportedError: its type is not known.
        FormatError: type, origin or lengths differ from what the reference says.
    """
    if verified_record(data) != ref.digest:
        raise IntegrityError("a record is not the one that was sealed: its digest differs")
    header = decode_record_header(data, tag)
    verified_length(data, header.record_length, "record")
    if header.type not in _TYPES:
        raise UnsupportedError(f"a reference leads to a record of type {header.type}, not known")
    found = (header.type, header.origin, header.record_length, header.plain_length)
    if found != (kind, ref.origin, ref.record_length, ref.plain_length):
        raise FormatError("a record differs from the reference that leads to it")
    return header


def encode_reference(ref: Reference) -> bytes:
    """Return 64 bytes."""
    return _REFERENCE.pack(*ref)


def decode_reference(data: bytes | memoryview, at: int = 0) -> Reference:
    """Decode the reference at ``data[at:]``; all zeros is :data:`NO_REFERENCE`."""
    if len(data) - at < c.REFERENCE:
        raise FormatError("a reference is cut short")
    ref = Reference(*_REFERENCE.unpack_from(data, at))
    if ref == NO_REFERENCE:
        return ref
    verified_range(
        ref.record_length, record_length(1), record_length(c.BODY_MAX), "referred record length"
    )
    verified_range(ref.plain_length, 1, c.PLAIN_MAX, "referred plain length")
    verified_range(ref.offset, c.CORE_MIN, c.STREAM_MAX - ref.record_length, "referred offset")
    return ref
