"""Where an address (origin, offset) lies in this stream (docs/format.md, section 9.3)."""

from __future__ import annotations

from bisect import bisect_right

from aipimage.errors import FormatError, IncompleteError
from aipimage.format.segments import Segment


class SegmentMap:
    """Translates addresses; without segments the file's own origin lies at its own offsets."""

    def __init__(self, segments: list[Segment], file_id: bytes, records_end: int) -> None:
        self._by_origin: dict[bytes, list[Segment]] = {}
        for segment in segments or [Segment(file_id, 0, records_end, 0)]:
            self._by_origin.setdefault(segment.origin, []).append(segment)
        self._starts = {
            origin: [segment.origin_start for segment in found]
            for origin, found in self._by_origin.items()
        }

    @property
    def is_in_order(self) -> bool:
        """Whether each record lies where it was written: nothing was copied from another file."""
        return all(
            segment.origin_start == segment.stream_start
            for segments in self._by_origin.values()
            for segment in segments
        )

    def holds(self, origin: bytes) -> bool:
        """Whether this file holds records of an origin."""
        return origin in self._by_origin

    def origins(self) -> list[bytes]:
        """All origins that this file holds records of."""
        return list(self._by_origin)

    def covers(self, origin: bytes, offset: int, length: int) -> bool:
        """Whether the file has these bytes of an origin: a merge leaves out dead frames."""
        starts = self._starts.get(origin)
        index = bisect_right(starts, offset) - 1 if starts is not None else -1
        if index < 0:
            return False
        segment = self._by_origin[origin][index]
        return offset + length <= segment.origin_start + segment.length

    def locate(self, origin: bytes, offset: int, length: int) -> int:
        """Return the stream offset of ``length`` bytes at an address.

        Raises:
            IncompleteError: the origin is held by another file. FormatError: the address is in no
                segment.
        """
        found = self.find(origin, offset, length)
        if found is None:
            raise IncompleteError(
                f"records of origin {origin.hex()} are in another image of the chain"
            )
        return found

    def find(self, origin: bytes, offset: int, length: int) -> int | None:
        """As :meth:`locate`, but ``None`` where another file holds the origin."""
        starts = self._starts.get(origin)
        if starts is None:
            return None
        index = bisect_right(starts, offset) - 1
        if index >= 0:
            segment = self._by_origin[origin][index]
            if offset + length <= segment.origin_start + segment.length:
                return segment.stream_start + offset - segment.origin_start
        raise FormatError("a reference leads to a place that this file does not hold")
