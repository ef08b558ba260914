"""The segments record: docs/format.md, section 9.3."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import verified_equal, verified_limit, verified_range

_SEGMENT = struct.Struct("<16sQQQ")


class Segment(NamedTuple):
    """Field names as in section 9.3; ``length`` in bytes."""

    origin: bytes
    origin_start: int
    length: int
    stream_start: int


def encode_segments(segments: list[Segment]) -> bytes:
    """Return the plain segments record."""
    return b"".join(_SEGMENT.pack(*segment) for segment in segments)


def decode_segments(data: bytes | memoryview, stream_length: int) -> list[Segment]:
    """Decode segments; they ascend, overlap nowhere, and lie within the stream."""
    verified_equal(len(data) % _SEGMENT.size, 0, "remainder of the segments record")
    verified_range(len(data) // _SEGMENT.size, 1, c.SEGMENTS_MAX, "number of segments")
    segments = [Segment(*row) for row in _SEGMENT.iter_unpack(data)]
    for segment in segments:
        if not 1 <= segment.length <= stream_length - segment.stream_start:
            raise FormatError("a segment is empty or ends beyond the records")
        verified_limit(segment.origin_start, c.STREAM_MAX - segment.length, "segment address")
    for a, b in pairwise(segments):
        if a.origin > b.origin:
            raise FormatError("segments do not ascend")
        if a.origin == b.origin and a.origin_start + a.length > b.origin_start:
            raise FormatError("segments overlap or do not ascend")
    placed = sorted(segments, key=lambda segment: segment.stream_start)
    if any(a.stream_start + a.length > b.stream_start for a, b in pairwise(placed)):
        raise FormatError("segments overlap in the stream")
    return segments
