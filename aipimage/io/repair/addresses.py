"""Which address (origin, offset) the records have that a walk found (docs/format.md, 5 and 9.3)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.errors import IncompleteError
from aipimage.format import constants as c
from aipimage.format.record import record_length
from aipimage.format.segments import Segment
from aipimage.io.repair.frames import FrameRuns, WholeFrames
from aipimage.io.repair.survey import Survey, Whole

SLOT = record_length(1)
"""Bytes of the shortest record: what an entry of a frame table claims at least."""


class MovedRecords(NamedTuple):
    """Whole records of one origin that follow each other in addresses and in the stream."""

    origin: bytes
    address: int
    place: int
    length: int


class Addresses:
    """Address to place and back, of the records of some origins.

    An address is the place in the stream where no segments record says otherwise. Where records
    were cut out of the stream, what follows is moved up, so that those can still be named.

    Attributes:
        spans: what is whole, in the order of the stream.
    """

    def __init__(self, survey: Survey, segments: list[Segment], origins: set[bytes]) -> None:
        self._moves: list[tuple[int, int]] = [(0, 0)]
        if not segments:
            for runs in survey.frames.values():
                self._make_room(survey, runs)
        by_place = sorted(segments, key=lambda segment: segment.stream_start)
        starts = [segment.stream_start for segment in by_place]
        self.spans: list[MovedRecords] = []
        for whole in survey.whole:
            if whole.origin not in origins:
                continue
            if not segments or whole.origin in survey.runs:
                self.spans += self._moved_spans(whole)
            else:
                low = max(0, bisect_right(starts, whole.place) - 1)
                self.spans += _cut(by_place[low:], *whole)
        self._by_address: dict[bytes, list[MovedRecords]] = {}
        for span in sorted(self.spans):
            self._by_address.setdefault(span.origin, []).append(span)
        self._places = [span.place for span in self.spans]
        for origin in origins & set(survey.frames):
            survey.frames[origin].keep(self._has)

    @staticmethod
    def _slots(survey: Survey, start: int, end: int) -> int:
        """How many entries fit between two places where nothing is whole."""
        index = max(0, bisect_right(survey.holes, (start, 0)) - 1)
        slots = max(0, survey.beginning.header.records_start - start) // SLOT
        for low, high in survey.holes[index:]:
            if low >= end:
                break
            slots += max(0, min(high, end) - max(low, start)) // SLOT
        return slots

    def _make_room(self, survey: Survey, runs: FrameRuns) -> None:
        """Frames that are missing need addresses between those of their neighbours."""
        after, number = c.CORE_MIN, 0
        for run in runs.runs:
            # What is missing in the leaves between has nothing to stand between.
            missing = min(run.first - number, run.first % c.LEAF_FRAMES)
            wanted = missing * SLOT
            if missing > self._slots(survey, after, run.place):
                index = bisect_right(self._moves, (run.place, c.STREAM_MAX))
                later = [(place, old + wanted) for place, old in self._moves[index:]]
                shift = self._moves[index - 1][1] + wanted
                self._moves[index:] = [(run.place, shift), *later]
            after, number = run.end, run.last + 1

    def _moved_spans(self, whole: Whole) -> Iterator[MovedRecords]:
        """A run of records, cut where the addresses after it move up."""
        place, end = whole.place, whole.place + whole.length
        index = bisect_right(self._moves, (place, c.STREAM_MAX)) - 1
        while place < end:
            after = self._moves[index + 1][0] if index + 1 < len(self._moves) else end
            stop = min(end, after)
            yield MovedRecords(whole.origin, place + self._moves[index][1], place, stop - place)
            place, index = stop, index + 1

    def _has(self, run: WholeFrames) -> bool:
        """Whether frames have addresses: others are not copied, and are lost."""
        return self.of(run.place) is not None and self.of(run.end - 1) is not None

    def origins(self) -> set[bytes]:
        """Origins of which anything is whole."""
        return set(self._by_address)

    def holds(self, origin: bytes) -> bool:
        """Whether anything whole is of an origin."""
        return origin in self._by_address

    def of(self, place: int) -> int | None:
        """The address of the record at a place."""
        index = bisect_right(self._places, place) - 1
        if index < 0 or place >= self.spans[index].place + self.spans[index].length:
            return None
        return self.spans[index].address + place - self.spans[index].place

    def locate(self, origin: bytes, address: int, length: int) -> int:
        """The place of a record; ``IncompleteError`` where nothing whole has the address."""
        spans = self._by_address.get(origin, [])
        index = bisect_right(spans, address, key=lambda span: span.address) - 1
        if index >= 0 and address + length <= spans[index].address + spans[index].length:
            return spans[index].place + address - spans[index].address
        raise IncompleteError("a record is lost")

    def end(self, origin: bytes) -> int:
        """The address after all of an origin."""
        spans = self._by_address.get(origin)
        return spans[-1].address + spans[-1].length if spans else c.CORE_MIN

    def free(self, origin: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of addresses between two that nothing whole has."""
        spans = self._by_address.get(origin, [])
        index = max(0, bisect_left(spans, start, key=lambda span: span.address) - 1)
        for span in spans[index:]:
            if span.address >= end:
                break
            if span.address > start:
                yield start, span.address
            start = max(start, span.address + span.length)
        if start < end:
            yield start, end


def _cut(segments: list[Segment], origin: bytes, place: int, length: int) -> Iterator[MovedRecords]:
    """The parts of a run of records that a segments record gives an address."""
    end = place + length
    for segment in segments:
        if segment.stream_start >= end:
            return
        low = max(place, segment.stream_start)
        high = min(end, segment.stream_start + segment.length)
        if low < high and segment.origin == origin:
            address = segment.origin_start + low - segment.stream_start
            yield MovedRecords(origin, address, low, high - low)
