"""Checking frames: those that the maps name, with the content of their devices, and the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError, FormatError
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.tables import FrameEntries, decode_frame_extents
from aipimage.io.checking.contentcheck import Blocks, ContentCheck, ContentFound, Scope
from aipimage.io.checking.results import Damage
from aipimage.io.checking.verification import Verification
from aipimage.io.index.digests import DigestView
from aipimage.io.index.trees import split_runs
from aipimage.io.reading.device import Device
from aipimage.io.records.frames import FailedFrame, FrameRun, OpenedRun, read_run
from aipimage.io.records.runextents import extents_of
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.system.buffers import thread_buffer
from aipimage.io.system.pipeline import in_order


class FrameCheck:
    """Checks the frames of an image with the workers of ``pool``."""

    def __init__(self, job: Verification, pool: Executor, in_flight: int) -> None:
        self._job, self._image, self._pool, self._in_flight = job, job.image, pool, in_flight

    # Frames that a map names

    def check_device(self, device: Device, digests: DigestView | None) -> None:
        """Check the frames that a map names, and what they make of its device."""
        check = ContentCheck(device, digests, self._scope())
        try:
            for found in in_order(self._pool, check.check, check.plan(), self._in_flight):
                self._take_content(device, found)
        finally:
            self._take_differing(device, check.found.differing)

    def _scope(self) -> Scope:
        job, image = self._job, self._image
        job.know_origins()
        written = [each.holder == image.seal.image_id for each in image.origins.entries()]
        # What cannot be compared without frames of others is compared where these are verified.
        others = job.known.keys() | set(job.direct)
        foreign = job.foreign
        return Scope(
            lambda index: not foreign[index] or index in job.direct,
            lambda index: written[index] and not foreign[index],
            lambda index: not others or index in others,
            job.every,
            job.sample.chooses if job.is_sample else None,
            self._is_kept,
        )

    def _is_kept(self, origin: int, run: FrameRun) -> bool:
        if not self._job.is_read(origin):
            return True
        segments = self._job.droppable(run.origin)
        return segments is None or segments.covers(run.origin, run.start, run.length)

    def _take_content(self, device: Device, found: ContentFound) -> None:
        job = self._job
        self._image.check_open()
        for origin, run in found.runs:
            if job.is_read(origin):
                job.count(origin, run)
        for origin, failed in found.failed:
            if job.is_read(origin) and not job.frames_done.has(origin, failed.number):
                job.damage.add_frame(origin, failed)
        for origin, run in found.runs:
            job.frames_done.add(origin, run.first, len(run.entries))
        for origin, number in found.misplaced:
            text = "its header names other sectors than those at which the map has it"
            job.damage.add(Damage(f"frame {number}: {text}", origin, number))
        self._take_differing(device, found.differing)
        job.report()

    def _take_differing(self, device: Device, blocks: list[Blocks]) -> None:
        for first, count in blocks:
            start = first * c.BLOCK
            length = min(count * c.BLOCK, device.size - start)
            self._job.damage.add_blocks(device.index, start, length)

    # Frames that no map names

    def check_others(self) -> None:
        """Check the frames of the tables that were not looked at with a device."""
        for found in in_order(self._pool, self._check_run, self._runs(), self._in_flight):
            self._image.check_open()
            self._job.count(found.origin, found.run)
            for failed in found.bad:
                self._job.damage.add_frame(found.origin, failed)
            self._job.report()

    def _runs(self) -> Iterator[tuple[int, FrameRun]]:
        job = self._job
        job.know_origins()
        for index, table in enumerate(self._image.tables):
            if not job.is_read(index):
                continue
            table.forget()
            for leaf in range(table.leaf_count()):
                try:
                    entries = table.leaf(leaf)
                    segments = job.droppable(table.origin)
                except AipImageError as error:
                    job.damage.add_leaf(index, leaf, error)
                    if job.damage.is_full:
                        # A seal can claim more leaves than anything can look for.
                        return
                    continue
                for run in self._runs_of_leaf(index, leaf, table.origin, entries, segments):
                    yield index, run
            job.check(table.check_end, f"frame table of origin {table.origin.hex()}")

    def _runs_of_leaf(
        self,
        index: int,
        leaf: int,
        origin: bytes,
        entries: FrameEntries,
        segments: SegmentMap | None,
    ) -> Iterator[FrameRun]:
        job, first = self._job, leaf * c.LEAF_FRAMES
        kept = _kept(segments, origin, entries)
        job.gaps.add(index, first, entries, ~kept)
        done = job.frames_done.of_leaf(index, leaf)[: len(entries)]
        rows = job.sample.rows_of(index, leaf, kept, done)
        for run in split_runs(origin, first, entries, rows):
            yield from _in_one_piece(segments, run)

    def _check_run(self, work: tuple[int, FrameRun]) -> _Checked:
        """In a worker: read a run, verify and open each frame; return those that are damaged."""
        origin, run = work
        bad: list[FailedFrame] = []
        for opened in read_run(self._image, run, thread_buffer("run", run.length)):
            bad += opened.failed
            if opened.data:
                bad += _wrong_extents(opened, self._image.records.tag)
        return _Checked(origin, run, sorted(bad, key=lambda failed: failed.number))


class _Checked(NamedTuple):
    """What a worker says of a run: its frames that are damaged."""

    origin: int
    run: FrameRun
    bad: list[FailedFrame]


def _wrong_extents(opened: OpenedRun, tag: int) -> Iterator[FailedFrame]:
    """Frames of a run whose extents do not sum to their length."""
    extents, plain = extents_of(opened, tag), opened.run.entries["plain_length"]
    doubtful = extents.doubtful(plain)
    doubtful[[failed.number - opened.run.first for failed in opened.failed]] = False
    for row in np.flatnonzero(doubtful).tolist():
        error = _extents_error(extents.bytes_of(row), int(plain[row]))
        if error is not None:
            yield FailedFrame(opened.run.first + row, error)


def _extents_error(extents: memoryview, plain_length: int) -> AipImageError | None:
    """What is wrong with the extents of a frame; of a single one, only its length is compared."""
    if len(extents) == c.FRAME_EXTENT:
        sectors = int.from_bytes(extents[8:12], "little")
        return None if sectors * SECTOR == plain_length else FormatError("its extent is wrong")
    try:
        decode_frame_extents(extents, plain_length)
    except AipImageError as error:
        return error
    return None


def _kept(
    segments: SegmentMap | None, origin: bytes, entries: FrameEntries
) -> npt.NDArray[np.bool_]:
    """Which frames of a leaf were not dropped by a merge (section 9.5)."""
    start = int(entries["offset"][0])
    end = int(entries["offset"][-1]) + int(entries["record_length"][-1])
    if segments is None or segments.covers(origin, start, end - start):
        return np.ones(len(entries), np.bool_)
    places = zip(entries["offset"].tolist(), entries["record_length"].tolist(), strict=True)
    return np.array([segments.covers(origin, *place) for place in places], np.bool_)


def _in_one_piece(segments: SegmentMap | None, run: FrameRun) -> Iterator[FrameRun]:
    """A run as it is, or its frames alone where addresses that follow each other lie apart."""
    if segments is None or segments.covers(run.origin, run.start, run.length):
        yield run
        return
    for row in range(len(run.entries)):
        yield FrameRun(run.origin, run.first + row, run.entries[row : row + 1])
