"""The trailer: docs/format.md, section 10."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aipimage.errors import FormatError, IncompleteError, IntegrityError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.gates import verified_equal, verified_ids, verified_limit
from aipimage.format.record import NO_REFERENCE, Reference, decode_reference, encode_reference

_HEAD = struct.Struct("<8sHHIQ")
_IDS = struct.Struct("<16s16sQ32s")
_SEAL_AT, _SEGMENTS_AT, _IDS_AT, _DIGEST_AT = 24, 88, 152, 224


@dataclass(frozen=True, slots=True)
class Trailer:
    """Field names as in section 10."""

    stream_length: int
    seal: Reference
    file_id: bytes
    image_id: bytes
    header_digest: bytes
    segments: Reference = NO_REFERENCE
    minor: int = c.MINOR


def encode_trailer(trailer: Trailer) -> bytes:
    """Return 256 bytes."""
    body = (
        _HEAD.pack(c.TRAILER_MAGIC, c.MAJOR, trailer.minor, 0, trailer.stream_length)
        + encode_reference(trailer.seal)
        + encode_reference(trailer.segments)
        + _IDS.pack(trailer.file_id, trailer.image_id, 0, trailer.header_digest)
    )
    return body + digest(body)


def decode_trailer(data: bytes | memoryview, stream_length: int) -> Trailer:
    """Decode the last 256 bytes of a stream of ``stream_length`` bytes."""
    if len(data) != c.TRAILER or bytes(data[:8]) != c.TRAILER_MAGIC:
        raise IncompleteError(
            "no trailer at the end: the image is cut short, still being written, or followed by "
            "foreign bytes"
        )
    if digest(data[:_DIGEST_AT]) != data[_DIGEST_AT:]:
        raise IntegrityError("the trailer is damaged: its digest does not match")
    _, major, minor, reserved, length = _HEAD.unpack_from(data)
    if major != c.MAJOR:
        raise UnsupportedError(f"format version {major} is not known; version {c.MAJOR} is")
    file_id, image_id, reserved2, header_digest = _IDS.unpack_from(data, _IDS_AT)
    verified_equal((reserved, reserved2), (0, 0), "reserved field of the trailer")
    verified_limit(length, c.STREAM_MAX, "stream length in the trailer")
    verified_equal(length, stream_length, "stream length in the trailer")
    verified_ids((file_id, image_id), "trailer")
    trailer = Trailer(
        length, decode_reference(data, _SEAL_AT), file_id, image_id, header_digest,
        decode_reference(data, _SEGMENTS_AT), minor,
    )  # fmt: skip
    if trailer.seal == NO_REFERENCE:
        raise FormatError("the trailer has no seal")
    for ref in (trailer.seal, trailer.segments):
        if ref.offset + ref.record_length > length - c.TRAILER:
            raise FormatError("the trailer refers to a place outside of the stream")
    low, high = sorted((trailer.seal, trailer.segments), key=lambda ref: ref.offset)
    if low.offset + low.record_length > high.offset:
        raise FormatError("the trailer refers to overlapping records")
    return trailer
