"""Where an address (origin, offset) lies in this stream (docs/format.md, section 9.3)."""

from __future__ import annotations

from bisect import bisect_right

from aipimage.errors import FormatError, IncompleteError
from aipimage.format.segments import Segment


class SegmentMap:
    """Translates addresses; without segments the file's own origin lies at its own offsets."""

    def __init__(self, segments: list[Segment], file_id: bytes, stream_size: int) -> None:
        self._by_origin: dict[bytes, list[Segment]] = {}
        for segment in segments or [Segment(file_id, 0, stream_size, 0)]:
            self._by_origin.setdefault(segment.origin, []).append(segment)

    def locate(self, origin: bytes, offset: int, length: int) -> int:
        """Return the stream offset of ``length`` bytes at an address.

        Raises:
            IncompleteError: the origin is held by another file. FormatError: the address is in no
                segment.
        """
        segments = self._by_origin.get(origin)
        if segments is None:
            raise IncompleteError(
                f"records of origin {origin.hex()} are in another image of the chain"
            )
        index = bisect_right(segments, offset, key=lambda segment: segment.origin_start) - 1
        if index >= 0:
            segment = segments[index]
            inside = offset - segment.origin_start
            if inside + length <= segment.length:
                return segment.stream_start + inside
        raise FormatError("a reference leads to a place that this file does not hold")
