"""What frames and checkpoints say of a device's ranges where no map page is left (docs/format.md,
sections 6.1, 9.4 and 11).

Frames are numbered in the order of the disk. So where frames n and n+1 of a run are both whole,
nothing was kept between them; where one is missing between two, what lies between is lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind, extent_array
from aipimage.format.constants import RecordType
from aipimage.format.tables import pack_at
from aipimage.io.repair.frames import WholeFrames
from aipimage.io.repair.survey import FoundCheckpoint, Survey, verified_extents

Gap = Callable[[int, int], Iterator[ExtentArray]]
"""Gives the extents of a range of device and sector that no frame and no note names."""


class _Mark(NamedTuple):
    """A run of frames, or a checkpoint (``run`` is ``None``): from where to where it reaches."""

    place: int
    end: int
    at: int
    after: int
    origin: bytes
    run: WholeFrames | None


class Timeline:
    """The runs of an image's frames and its checkpoints, in the order in which they were written.

    Args:
        counts: frames of an origin, as far as a whole seal says. complete: place of a record that
            was written when all devices were done, if one is whole.
        notes: (at, sectors, kind) that are known besides those of the checkpoints.
    """

    def __init__(
        self,
        survey: Survey,
        counts: dict[bytes, int],
        complete: int | None,
        notes: list[tuple[int, int, int]],
    ) -> None:
        self._survey, self._counts = survey, counts
        self._origins = list(survey.runs)
        self._sectors = survey.beginning.header.frame_sectors
        self._marks = _ascending(_marks(survey))
        self._ends_of_marks = [mark.after for mark in self._marks]
        self._known = self._known_gaps(complete)
        self._notes = _joined_notes(survey, notes)
        self._note_ends = [at + sectors for at, sectors, _ in self._notes]
        self.settled = _settled(survey, self._origins)
        self._cached: tuple[_Mark, list[tuple[int, ExtentArray]]] | None = None

    def pieces(self, device: int, first: int, end: int, gap: Gap) -> Iterator[ExtentArray]:
        """Yield extents that cover sectors ``first`` to ``end`` of a device; their ``origin`` is
        the number of the run. ``gap`` is asked about what nothing was kept of.
        """
        at, stop = pack_at(device, first), pack_at(device, end)
        index = bisect_right(self._ends_of_marks, at)
        while at < stop:
            mark = self._marks[index] if index < len(self._marks) else None
            low = min(stop, mark.at) if mark else stop
            if at < low:
                yield from self._gap(at, low, self._known[index], gap)
                at = low
            if mark is None or at >= stop:
                return
            if mark.run is not None and mark.after > at:
                for start, rows in self._frames(mark):
                    reach = start + int(rows["length"].sum())
                    if reach <= at or start >= stop:
                        continue
                    if at < start:
                        yield from self._gap(at, min(stop, start), True, gap)
                        at = min(stop, start)
                    yield clipped_extents(rows, at - start, min(reach, stop) - start)
                    at = min(reach, stop)
            index += 1

    def _gap(self, at: int, stop: int, known: bool, gap: Gap) -> Iterator[ExtentArray]:
        index = bisect_right(self._note_ends, at)
        while at < stop:
            note = self._notes[index] if index < len(self._notes) else (stop, 0, 0)
            if at < note[0]:
                low = min(stop, note[0])
                if known:
                    yield from gap(at, low)
                else:
                    yield run_of(low - at, Kind.LOST)
                at = low
            if at < stop:
                high = min(stop, note[0] + note[1])
                yield run_of(high - at, Kind(note[2]))
                at = high
            index += 1

    def _frames(self, mark: _Mark) -> list[tuple[int, ExtentArray]]:
        """Device and sector, and rows, of each stretch that the frames of a run name."""
        if self._cached is None or self._cached[0] != mark:
            self._cached = mark, list(self._stretches(mark))
        return self._cached[1]

    def _stretches(self, mark: _Mark) -> Iterator[tuple[int, ExtentArray]]:
        assert mark.run is not None
        number, origin = mark.run.first, self._origins.index(mark.origin)
        for record in self._survey.scanner.scan(mark.place, mark.end):
            header = record.header
            if (header.type, header.origin, header.number) != (
                RecordType.FRAME,
                mark.origin,
                number,
            ):
                continue
            position = number * self._sectors
            for at, sectors in verified_extents(record).tolist():
                yield at, extent_array([(sectors, position, origin, Kind.DATA)])
                position += sectors
            number += 1

    def _known_gaps(self, complete: int | None) -> list[bool]:
        """For each mark whether nothing is missing before it, and at last after all."""
        known: list[bool] = []
        frames = [mark if mark.run is not None else None for mark in self._marks]
        later: list[_Mark | None] = [None]
        for frame in reversed(frames):
            later.append(frame or later[-1])
        later.reverse()
        before = frame = None
        start = self._survey.beginning.header.records_start
        for mark, after in zip(self._marks, later, strict=False):
            solid = self._survey.is_solid(before.end if before else start, mark.place)
            fits = mark.run is None or self._can_follow(frame, mark)
            known.append((solid and fits) or self._is_next(frame, after))
            before, frame = mark, mark if mark.run is not None else frame
        end = before.end if before else start
        solid = complete is not None and self._survey.is_solid(end, complete)
        return [*known, solid or self._is_next(frame, None)]

    def _can_follow(self, frame: _Mark | None, mark: _Mark) -> bool:
        """Whether the numbers of two runs of frames allow that nothing is between them."""
        assert mark.run is not None
        if frame is not None and frame.run is not None and frame.origin == mark.origin:
            return mark.run.first == frame.run.last + 1
        return mark.run.first == 0

    def _is_next(self, frame: _Mark | None, after: _Mark | None) -> bool:
        """Whether numbers, and a seal's counts, show that no frame is missing between two runs of
        frames, or before or after all.
        """
        if after is not None and not self._can_follow(frame, after):
            return False
        low = self._origins.index(frame.origin) if frame else 0
        high = self._origins.index(after.origin) if after else len(self._origins)
        return all(self._all_found(origin, frame) for origin in self._origins[low:high])

    def _all_found(self, origin: bytes, frame: _Mark | None) -> bool:
        """Whether a seal says that ``frame`` ends with the last frame of an origin, or that it has
        none.
        """
        count = self._counts.get(origin)
        if frame is not None and frame.run is not None and frame.origin == origin:
            return count == frame.run.last + 1
        return count == 0


def _marks(survey: Survey) -> list[_Mark]:
    marks = [
        _Mark(run.place, run.end, run.at, run.after, origin, run)
        for origin in survey.runs
        if origin in survey.frames
        for run in survey.frames[origin].runs
    ]
    for noted in survey.checkpoints:
        if noted.origin in survey.runs:
            at = pack_at(noted.checkpoint.device, noted.checkpoint.sector)
            marks.append(_Mark(noted.place, noted.end, at, at, noted.origin, None))
    return sorted(marks, key=lambda mark: mark.place)


def _ascending(marks: list[_Mark]) -> list[_Mark]:
    """Marks in whose order of writing devices and sectors ascend, as they must."""
    kept: list[_Mark] = []
    after = end = 0
    for mark in marks:
        # A checkpoint within the places of a run of frames is left out: it adds nothing.
        if mark.at >= after and mark.place >= end and mark.after >= mark.at:
            kept.append(mark)
            after, end = mark.after, mark.end
    return kept


def _joined_notes(survey: Survey, more: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Notes of checkpoints and others, in order, each where the ones before it end."""
    notes = list(more)
    for noted in survey.checkpoints:
        if noted.origin in survey.runs:
            notes += noted.checkpoint.notes.tolist()
    kept: list[tuple[int, int, int]] = []
    end = 0
    for at, sectors, kind in sorted(notes):
        low, high = max(at, end), at + sectors
        if low < high:
            kept.append((low, high - low, kind))
            end = high
    return kept


def _settled(survey: Survey, origins: list[bytes]) -> int:
    """Up to which device and sector all notes were found: each checkpoint from the first on."""
    settled = 0
    for index, origin in enumerate(origins):
        mine: dict[int, FoundCheckpoint] = {}
        for noted in survey.checkpoints:
            if noted.origin == origin:
                mine.setdefault(noted.number, noted)
        number = 0
        last = survey.runs[origin]
        while number in mine:
            checkpoint = mine[number].checkpoint
            settled = pack_at(checkpoint.device, checkpoint.sector)
            last = mine[number].end
            number += 1
        following = origins[index + 1] if index + 1 < len(origins) else None
        if following is None or not survey.is_solid(last, survey.runs[following]):
            break
    return settled


def run_of(sectors: int, kind: Kind) -> ExtentArray:
    """One extent without data."""
    return np.array([(sectors, 0, 0, kind)], EXTENT_DTYPE)


def clipped_extents(rows: ExtentArray, start: int, stop: int) -> ExtentArray:
    """Extents from sector ``start`` to ``stop``, counted from their beginning."""
    ends = np.cumsum(rows["length"]).astype(np.int64)
    starts = ends - rows["length"].astype(np.int64)
    rows = rows[(ends > start) & (starts < stop)].copy()
    inside = starts[(ends > start) & (starts < stop)]
    if not len(rows):
        return rows
    cut = max(0, start - int(inside[0]))
    rows["length"][-1] = min(stop, int(inside[-1]) + int(rows["length"][-1])) - int(inside[-1])
    rows["length"][0] -= np.uint64(cut)
    if rows["kind"][0] == Kind.DATA:
        rows["position"][0] += np.uint64(cut)
    return rows
