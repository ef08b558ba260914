"""Checking an image: full, sampled, keyless (docs/format.md, section 13).

A full verification goes down from the seal to every page and frame, and remembers which bytes of
the stream it has seen; what is left (checkpoints, pages that a resume made dead) is walked
afterwards, so that every byte was looked at. Pages of the map that other files of the chain hold
are looked at too; frames are checked in the file that holds them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import (
    AipImageError,
    CancelledError,
    ClosedError,
    FormatError,
    IntegrityError,
    RequestError,
    StorageError,
)
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.tables import FrameEntries, decode_frame_extents
from aipimage.io.buffers import thread_buffer
from aipimage.io.chain.digests import check_digests
from aipimage.io.chain.files import replaced_seal
from aipimage.io.coverage import Coverage
from aipimage.io.frameranges import ranges_of_frames
from aipimage.io.frames import FrameRun, OpenedFrame, open_frames
from aipimage.io.gaps import Gaps, Positions
from aipimage.io.opening import read_key_area
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.segmentmap import SegmentMap
from aipimage.io.storage import MEDIUM_ERRORS
from aipimage.io.trees import split_runs
from aipimage.io.walk import Walked, walk_records

if TYPE_CHECKING:
    from aipimage.io.image import Image

DAMAGE_MAX = 1000


class Damage(NamedTuple):
    """Something that is not as it was sealed.

    Attributes:
        what: one sentence. origin, frame: which frame, where it is one.
        ranges: (device, offset, length) in bytes that cannot be read because of it, the first 100,
            of the image that was asked for.
        path: of the other file of the chain that it is in, or that is missing; ``None`` in the
            image's own.
    """

    what: str
    origin: int | None = None
    frame: int | None = None
    ranges: tuple[tuple[int, int, int], ...] = ()
    path: str | None = None


class MemberResult(NamedTuple):
    """What the verification of a chain found of one of its images.

    Attributes:
        image_id: 32 hexadecimal digits. path: of its file, ``None`` where it is missing.
        ok: it is whole, and the image that its child names.
        frames, bytes: as in :class:`VerifyResult`, of this file.
    """

    image_id: str
    path: str | None
    ok: bool
    frames: int
    bytes: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found.

    Attributes:
        mode: ``"full"``, ``"sample"`` or ``"keyless"``. frames: frames checked. bytes: stored bytes
            checked.
        damage: at most 1000 findings; empty means that all that was checked is whole.
        members: of the images that were checked, oldest first, where the chain was.
    """

    mode: str
    frames: int
    bytes: int
    seconds: float
    damage: tuple[Damage, ...]
    members: tuple[MemberResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.damage


def told_as_damage(error: AipImageError) -> str:
    """The text of an error that says that stored bytes are not as they were sealed.

    What says nothing about stored bytes is raised again: the image was closed, or the system
    could not read, but for a medium that cannot give the bytes.
    """
    if isinstance(error, (ClosedError, CancelledError)):
        raise error
    if isinstance(error, StorageError) and error.errno not in MEDIUM_ERRORS:
        raise error
    return str(error)


def verify_image(
    image: Image, sample: float | None, executor: Executor | None, threads: int | None,
    progress: ProgressCallback | None, *, chain: bool = False,
) -> VerifyResult:  # fmt: skip
    """Verify an opened image; the public form is :meth:`aipimage.Image.verify`."""
    if sample is not None and not 0 < sample <= 100:
        raise RequestError(f"a sample of {sample} percent is not possible; give over 0 to 100")
    if chain:
        from aipimage.io.chain.verify import verify_with_chain

        return verify_with_chain(image, sample, executor, threads, progress)
    return Verifier(image, sample, progress).run(executor, threads)


class CheckedOrigin(NamedTuple):
    """What the verification of the file that holds an origin found of its frames.

    Attributes:
        table_root: of the frame table that was walked. gaps: see :class:`Gaps`.
    """

    table_root: Reference
    gaps: tuple[Positions, Positions]


class _Findings(NamedTuple):
    """What a worker says of a run: the frames that are damaged, and why."""

    origin: int
    run: FrameRun
    bad: list[tuple[int, str]]
    was_read: bool


class Verifier:
    """One verification of one image.

    Args:
        known: by index, origins that other files hold and that were verified there.
        direct: indexes of origins that other files hold, whose frames are to be read from there.
    """

    def __init__(
        self, image: Image, sample: float | None, progress: ProgressCallback | None,
        known: Mapping[int, CheckedOrigin] | None = None, direct: Collection[int] = (),
    ) -> None:  # fmt: skip
        self._image, self._sample, self._direct = image, sample, direct
        self._reporter = Reporter("verify", image.stored, progress)
        self._covered = Coverage()
        self._gaps = Gaps(len(image.tables), image.header.frame_sectors)
        for index, origin in (known or {}).items():
            self._gaps.take(index, origin.gaps)
        self._foreign = np.array(
            [not image.segments.holds(origin) for origin in image.tables.index_of], np.bool_
        )
        self._foreign_pages = False
        self._damage: list[Damage] = []
        self._bad_frames: dict[int, list[int]] = {}
        self._frames = self._bytes = 0

    def run(self, executor: Executor | None, threads: int | None) -> VerifyResult:
        """Check pages, frames, and with a full verification all other bytes."""
        image = self._image
        image.records.on_fetch = self._saw
        try:
            self._check(self._check_metadata, "metadata")
            for ref in image.seal.replaced:
                self._check(partial(self._check_replaced, ref), "replaced image")
            for device in image.devices:
                step = partial(self._check_device, device.index)
                self._check(step, f"map of device {device.index}")
            with executor_for(executor, threads, "verify") as (pool, in_flight):
                for findings in in_order(pool, self._check_run, self._runs(), in_flight):
                    self._take(findings)
            for device in image.devices:
                step = partial(self._gaps.check, device.map)
                self._check(step, f"map of device {device.index}")
            if self._sample is None:
                self._check(self._check_rest, "stream")
                self._check_key_copies()
        finally:
            image.records.on_fetch = None
            # What failed because the image was closed meanwhile is no damage.
            image.check_open()
        self._locate_bad_frames()
        image.check_open()
        self._reporter.report(image.stored, self._bytes, final=True)
        mode = "full" if self._sample is None else "sample"
        seconds = time.monotonic() - self._reporter.started
        return VerifyResult(mode, self._frames, self._bytes, seconds, tuple(self._damage))

    def checked(self) -> dict[bytes, CheckedOrigin]:
        """What was found of each origin that the image's own file holds."""
        return {
            entry.origin: CheckedOrigin(entry.table_root, self._gaps.of(index))
            for index, entry in enumerate(self._image.seal.origins)
            if not self._foreign[index]
        }

    def _saw(self, ref: Reference) -> None:
        if self._image.segments.holds(ref.origin):
            self._covered.add(self._image.locate(ref), ref.record_length)
            self._bytes += ref.record_length
        else:
            self._foreign_pages = True

    def _check(self, step: Callable[[], None], what: str) -> None:
        try:
            step()
        except AipImageError as error:
            self._add(Damage(f"{what}: {told_as_damage(error)}"))

    def _add(self, damage: Damage) -> None:
        if len(self._damage) < DAMAGE_MAX:
            self._damage.append(damage)

    # Pages

    def _check_metadata(self) -> None:
        self._image.reload_metadata()

    def _check_replaced(self, ref: Reference) -> None:
        """The seal of an image that this one stands for, and its metadata (section 9.5)."""
        seal = replaced_seal(self._image, ref)
        for metadata in (seal.description, seal.result):
            self._image.records.fetch(metadata, RecordType.METADATA)

    def _check_device(self, index: int) -> None:
        """Every map page, the sums of the seal, and every block digest page."""
        device, tables = self._image.devices[index], self._image.tables
        counts = np.zeros(len(Kind), np.uint64)
        limits = np.array([t.frame_count for t in tables], np.uint64) * np.uint64(
            self._image.header.frame_sectors
        )
        is_full = self._image.seal.kind == ImageKind.FULL
        device.map.forget()
        for _, block in device.map.walk():
            np.add.at(counts, block["kind"], block["length"])
            data = block[block["kind"] == Kind.DATA]
            if (data["position"] + data["length"] > limits[data["origin"]]).any():
                raise IntegrityError("an extent points behind the last frame")
            if is_full and self._foreign[data["origin"]].any():
                raise IntegrityError("a full image names frames of another file")
        entry = device.entry
        sums = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
        if counts.tolist() != sums:
            raise IntegrityError(
                "the map and the seal disagree about how much there is of each kind"
            )
        if entry.digest_root != NO_REFERENCE:
            blocks = -(-entry.sectors * SECTOR // c.BLOCK)
            stripe_shift = self._image.header.stripe_shift
            check_digests(self._image.records, entry.digest_root, blocks, stripe_shift)
        if is_full and self._foreign_pages:
            raise IntegrityError("a full image needs pages of another file")

    # Frames

    def _runs(self) -> Iterator[tuple[int, FrameRun]]:
        for index, table in enumerate(self._image.tables):
            if self._foreign[index] and index not in self._direct:
                continue
            table.forget()
            for leaf in range(table.leaf_count()):
                try:
                    entries = table.leaf(leaf)
                    segments = self._segments(table.origin)
                except AipImageError as error:
                    self._add(Damage(f"frame table: {told_as_damage(error)}", index))
                    if len(self._damage) >= DAMAGE_MAX:
                        # A seal can claim more leaves than anybody can look for.
                        return
                    continue
                kept = _kept(segments, table.origin, entries)
                first = leaf * c.LEAF_FRAMES
                self._gaps.add(index, first, entries, ~kept)
                rows = self._chosen(np.flatnonzero(kept))
                for run in split_runs(table.origin, first, entries, rows):
                    yield from ((index, each) for each in _in_one_piece(segments, run))

    def _segments(self, origin: bytes) -> SegmentMap | None:
        """Where the frames of an origin lie; ``None`` where none can be dropped, because the file
        was written in one go.
        """
        image = self._image
        if not image.segments.holds(origin):
            return image.foreign.holder(origin).segments
        return None if image.trailer.segments == NO_REFERENCE else image.segments

    def _chosen(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """All, or a random sample of them, at least one."""
        if self._sample is None or not len(rows):
            return rows
        wanted = np.array([random.random() * 100 < self._sample for _ in rows])
        wanted[random.randrange(len(rows))] = True
        chosen: npt.NDArray[np.int64] = rows[wanted]
        return chosen

    def _check_run(self, work: tuple[int, FrameRun]) -> _Findings:
        """In a worker: read a run, verify and open each frame; return those that are damaged."""
        image, (origin, run) = self._image, work
        try:
            data = image.read_stored(run.origin, run.start, thread_buffer("run", run.length))
        except AipImageError as error:
            numbers = range(run.first, run.first + len(run.entries))
            text = told_as_damage(error)
            return _Findings(origin, run, [(number, text) for number in numbers], False)
        bad: list[tuple[int, str]] = []
        for opened in open_frames(image.records, run, data, partial(thread_buffer, "plain")):
            reason = opened.error or _extents_error(opened)
            if reason is not None:
                bad.append((opened.number, str(reason)))
        return _Findings(origin, run, bad, True)

    def _take(self, found: _Findings) -> None:
        self._image.check_open()
        run = found.run
        if found.was_read and not self._foreign[found.origin]:
            start = self._image.locate_address(run.origin, run.start, run.length)
            self._covered.add(start, run.length)
        self._frames += len(run.entries)
        self._bytes += run.length
        for number, reason in found.bad:
            self._bad_frames.setdefault(found.origin, []).append(number)
            self._add(Damage(f"frame {number}: {reason}", found.origin, number))
        self._reporter.report(self._bytes, self._bytes)

    def _locate_bad_frames(self) -> None:
        """Say which ranges of which device each damaged frame takes with it."""
        if self._bad_frames:
            ranges = ranges_of_frames(self._image, self._bad_frames)
            self._damage = [
                d._replace(ranges=tuple(ranges.get((d.origin, d.frame), ())))
                if d.origin is not None and d.frame is not None
                else d
                for d in self._damage
            ]

    # Everything else

    def _check_rest(self) -> None:
        image = self._image
        stream, header = image.stream, image.header
        self._covered.add(image.trailer.seal.offset, image.trailer.seal.record_length)
        if image.trailer.segments != NO_REFERENCE:
            self._covered.add(image.trailer.segments.offset, image.trailer.segments.record_length)
        for start, end in self._covered.gaps(header.records_start, stream.size - c.TRAILER):
            for records in walk_records(stream, start, end, image.records.tag):
                for walked in records:
                    self._bytes += walked.data.nbytes
                    self._check(
                        partial(_check_dead, image, walked), f"record at byte {walked.offset}"
                    )

    def _check_key_copies(self) -> None:
        if not self._image.header.suite:
            return
        try:
            _, damaged = read_key_area(self._image.stream, self._image.header)
        except AipImageError as error:
            self._add(Damage(told_as_damage(error)))
            return
        for copy in damaged:
            self._add(
                Damage(
                    f"copy {copy} of the key area is damaged; change a password to write it anew"
                )
            )


def _check_dead(image: Image, walked: Walked) -> None:
    """A record that nothing refers to: its check, and with keys its tag."""
    verified_record(walked.data)
    if walked.header.type in set(RecordType):
        image.records.open_unreferenced(walked.data)


def _extents_error(opened: OpenedFrame) -> AipImageError | None:
    """Whether the extents of a frame sum to its length; most frames have one, looked at quickly."""
    extents = opened.extents
    if len(extents) == c.FRAME_EXTENT:
        sectors = int.from_bytes(extents[8:12], "little")
        return None if sectors * SECTOR == len(opened.plain) else FormatError("its extent is wrong")
    try:
        decode_frame_extents(extents, len(opened.plain))
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
