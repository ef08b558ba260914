"""The trailer, and where the copies in the spare area lie: docs/format.md, sections 10 and 10.1."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aipimage.errors import FormatError, IncompleteError, IntegrityError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.gates import verified_equal, verified_ids, verified_limit, verified_range
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
    spare_length: int = c.SPARE_MIN

    @property
    def records_end(self) -> int:
        """Where the spare area begins."""
        return self.stream_length - c.TRAILER - self.spare_length

    @property
    def seal_copy(self) -> int:
        """Where the copy of the seal record begins."""
        return trailer_copy(self.stream_length) - self.seal.record_length

    @property
    def segments_copy(self) -> int:
        """Where the copy of the segments record begins, or would."""
        return self.seal_copy - self.segments.record_length

    @property
    def core_copy(self) -> int:
        """Where the copy of the header core begins."""
        return self.records_end + c.SPARE_GAP


def trailer_copy(stream_length: int) -> int:
    """Where the trailer's copy begins."""
    return stream_length - 2 * c.TRAILER - c.SPARE_GAP


def spare_length(*copies: int) -> int:
    """Bytes of a spare area for copies of so many bytes each, the trailer's not among them."""
    return 2 * c.SPARE_GAP + sum(copies) + c.TRAILER


def encode_spare(copies: Sequence[bytes | memoryview], trailer: bytes) -> bytes:
    """Return the spare area; ``copies`` are core, description, result, segments if any, seal."""
    return b"".join([bytes(c.SPARE_GAP), *copies, trailer, bytes(c.SPARE_GAP)])


def encode_trailer(trailer: Trailer) -> bytes:
    """Return 256 bytes."""
    body = (
        _HEAD.pack(c.TRAILER_MAGIC, c.MAJOR, trailer.minor, 0, trailer.stream_length)
        + encode_reference(trailer.seal)
        + encode_reference(trailer.segments)
        + _IDS.pack(trailer.file_id, trailer.image_id, trailer.spare_length, trailer.header_digest)
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
    file_id, image_id, spare, header_digest = _IDS.unpack_from(data, _IDS_AT)
    verified_equal(reserved, 0, "reserved field of the trailer")
    verified_limit(length, c.STREAM_MAX, "stream length in the trailer")
    if length != stream_length:
        # The copy in the spare area may be all that is left of an end.
        raise IncompleteError(
            f"the trailer says {length} bytes, and {stream_length} are there: the image is cut "
            "short, or bytes of it are missing"
        )
    verified_ids((file_id, image_id), "trailer")
    verified_range(spare, c.SPARE_MIN, max(c.SPARE_MIN, length - c.TRAILER), "spare area's length")
    trailer = Trailer(
        length,
        decode_reference(data, _SEAL_AT),
        file_id,
        image_id,
        header_digest,
        decode_reference(data, _SEGMENTS_AT),
        minor,
        spare,
    )
    _verify_places(trailer)
    return trailer


def _verify_places(trailer: Trailer) -> None:
    """``FormatError`` unless there is a seal, and both records lie beside each other before the
    trailer.
    """
    if trailer.seal == NO_REFERENCE:
        raise FormatError("the trailer has no seal")
    for ref in (trailer.seal, trailer.segments):
        if ref.offset + ref.record_length > trailer.records_end:
            raise FormatError("the trailer refers to a place outside of the stream")
    low, high = sorted((trailer.seal, trailer.segments), key=lambda ref: ref.offset)
    if low.offset + low.record_length > high.offset:
        raise FormatError("the trailer refers to overlapping records")
