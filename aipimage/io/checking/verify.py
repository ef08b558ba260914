"""Checking an image: full, sampled, keyless (docs/format.md, section 13).

A full verification goes down from the seal to every page, takes the devices in the order of their
maps with the frames that these name, and then the frames that no map names. It remembers which
bytes of the stream it has seen; what is left (checkpoints, pages that a resume made dead) is walked
afterwards, so that every byte was looked at. Pages of the map and frame tables that other files of
the chain hold are looked at too; frames are checked in the file that holds them.
"""

from __future__ import annotations

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
    FormatError,
    IncompleteError,
    IntegrityError,
    RequestError,
)
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind, RecordType
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.tables import FrameEntries, decode_frame_extents
from aipimage.io.chain.files import replaced_seal
from aipimage.io.checking.contentcheck import Blocks, ContentCheck, ContentFound, Scope
from aipimage.io.checking.coverage import Coverage
from aipimage.io.checking.findings import Damage, Findings, FrameMarks, Sample
from aipimage.io.checking.runningcheck import RecordOrder
from aipimage.io.index.digests import DigestView, check_digests
from aipimage.io.index.gaps import Gaps, Positions
from aipimage.io.index.trees import split_runs
from aipimage.io.records.damage import damage_text
from aipimage.io.records.frames import FrameRun, OpenedFrame, read_frames
from aipimage.io.records.walk import Walked, walk_records
from aipimage.io.stream.opening import read_key_area
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import spare_damage
from aipimage.io.system.buffers import thread_buffer
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import ProgressCallback, Reporter

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device
    from aipimage.io.reading.image import Image


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


def verify_image(
    image: Image,
    sample: float | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
    *,
    chain: bool = False,
) -> VerifyResult:
    """Verify an opened image; the public form is :meth:`aipimage.Image.verify`."""
    if sample is not None and not 0 < sample <= 100:
        raise RequestError(f"a sample of {sample} percent is not possible; give over 0 to 100")
    if chain:
        from aipimage.io.checking.chainverify import verify_with_chain

        return verify_with_chain(image, sample, executor, threads, progress)
    return Verifier(image, sample, progress).run(executor, threads)


class CheckedOrigin(NamedTuple):
    """What the verification of the file that holds an origin found of its frames.

    Attributes:
        table_root, frame_count: of the frame table that was walked. gaps: see :class:`Gaps`.
    """

    table_root: Reference
    frame_count: int
    gaps: tuple[Positions, Positions]

    def is_of(self, entry: OriginEntry) -> bool:
        """Whether a seal says the same of the origin."""
        return (self.table_root, self.frame_count) == (entry.table_root, entry.frame_count)


class _Findings(NamedTuple):
    """What a worker says of a run: its frames that are damaged."""

    origin: int
    run: FrameRun
    bad: list[OpenedFrame]


class Verifier:
    """One verification of one image.

    Args:
        known: by index, origins that other files hold and that were verified there.
        direct: indexes of origins that other files hold, whose frames are to be read from there.
        every: compare all blocks of the devices with their digests, also those of which other files
            have all frames.
    """

    def __init__(
        self,
        image: Image,
        sample: float | None,
        progress: ProgressCallback | None,
        known: Mapping[int, CheckedOrigin] | None = None,
        direct: Collection[int] = (),
        every: bool = False,
    ) -> None:
        self._image, self._direct = image, direct
        self._is_sample, self._every, self._known = sample is not None, every, known or {}
        self._reporter = Reporter("verify", image.stored, progress)
        self._covered = Coverage()
        self._order = RecordOrder(image)
        self._gaps = Gaps(image.header.frame_sectors)
        for index, origin in self._known.items():
            self._gaps.take(index, origin.gaps)
        self._limits = np.empty(0, np.uint64)
        self._foreign = np.empty(0, np.bool_)
        self._know_origins()
        self._used: set[int] = set()
        self._foreign_pages = False
        self._damage = Findings()
        self._frames_done = FrameMarks()
        self._sample = Sample(sample)
        self._views: dict[int, DigestView | None] = {}
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
            self._check_foreign_tables()
            with executor_for(executor, threads, "verify") as (pool, in_flight):
                for device in image.devices:
                    step = partial(self._check_content, device, pool, in_flight)
                    self._check(step, f"map of device {device.index}")
                for findings in in_order(pool, self._check_run, self._runs(), in_flight):
                    self._take(findings)
            for device in image.devices:
                step = partial(self._gaps.check, device.map)
                self._check(step, f"map of device {device.index}")
            if not self._is_sample:
                self._check(self._check_rest, "stream")
                self._check_order()
                self._check_key_copies()
            self._check(self._check_spare, "stream")
        finally:
            image.records.on_fetch = None
            # What failed because the image was closed meanwhile is no damage.
            image.check_open()
        self._reporter.report(image.stored, self._bytes, final=True)
        mode = "sample" if self._is_sample else "full"
        seconds = time.monotonic() - self._reporter.started
        found = tuple(self._damage.located(image))
        image.check_open()
        return VerifyResult(mode, self._frames, self._bytes, seconds, found)

    def checked(self) -> dict[bytes, CheckedOrigin]:
        """What was found of each origin that the image's own file holds."""
        self._know_origins()
        return {
            entry.origin: CheckedOrigin(entry.table_root, entry.frame_count, self._gaps.of(index))
            for index, entry in enumerate(self._image.origins.entries())
            if not self._foreign[index]
        }

    def _know_origins(self) -> None:
        """Note which origins other files hold, and where each ends; pages tell of more of them."""
        image = self._image
        more = image.origins.entries()[len(self._foreign) :]
        if more:
            foreign = [not image.segments.holds(entry.origin) for entry in more]
            ends = [entry.frame_count * image.header.frame_sectors for entry in more]
            self._foreign = np.concatenate([self._foreign, np.array(foreign, np.bool_)])
            self._limits = np.concatenate([self._limits, np.array(ends, np.uint64)])

    def _saw(self, ref: Reference) -> None:
        if self._image.segments.holds(ref.origin):
            place = self._image.locate(ref)
            self._covered.add(place, ref.record_length)
            self._order.add(place, ref.digest)
            self._bytes += ref.record_length
        else:
            self._foreign_pages = True

    def _check(self, step: Callable[[], None], what: str) -> None:
        try:
            step()
        except AipImageError as error:
            text = damage_text(error).removeprefix(f"{self._image.path}: ")
            self._damage.add(Damage(f"{what}: {text}"))

    # Pages

    def _check_metadata(self) -> None:
        self._image.reload_metadata()

    def _check_replaced(self, ref: Reference) -> None:
        """The seal of an image that this one stands for, and its metadata (section 9.5)."""
        seal = replaced_seal(self._image, ref)
        for ref in (seal.description, seal.result):
            # What was damaged when the image was merged or repaired is not there, and nobody needs
            # it. What is there must be whole.
            if self._image.segments.covers(ref.origin, ref.offset, ref.record_length):
                self._image.records.fetch(ref, RecordType.METADATA)

    def _check_device(self, index: int) -> None:
        """Every map page, the sums of the seal, and every block digest page."""
        device = self._image.devices[index]
        counts = np.zeros(len(Kind), np.uint64)
        is_full = self._image.seal.kind == ImageKind.FULL
        device.map.forget()
        for _, block in device.map.walk():
            np.add.at(counts, block["kind"], block["length"])
            data = block[block["kind"] == Kind.DATA]
            self._know_origins()
            self._used.update(np.unique(data["origin"]).tolist())
            if (data["position"] + data["length"] > self._limits[data["origin"]]).any():
                raise FormatError("an extent points behind the last frame")
            if is_full and self._foreign[data["origin"]].any():
                raise FormatError("a full image names frames of another file")
        entry = device.entry
        sums = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
        if counts.tolist() != sums:
            raise IntegrityError(
                "the map and the seal disagree about how much there is of each kind"
            )
        if entry.digest_root != NO_REFERENCE:
            blocks = -(-entry.sectors * SECTOR // c.BLOCK)
            stripe_shift = self._image.header.stripe_shift
            self._views[index] = check_digests(
                self._image.records, entry.digest_root, blocks, stripe_shift
            )
        elif self._image.header.compatible & Compatible.BLOCK_DIGESTS:
            self._views[index] = DigestView(
                self._image.records,
                NO_REFERENCE,
                -(-entry.size // c.BLOCK),
                self._image.header.stripe_shift,
            )
        if is_full and self._foreign_pages:
            raise IntegrityError("a full image needs pages of another file")

    # Content

    def _check_content(self, device: Device, pool: Executor, in_flight: int) -> None:
        """The frames that a map names, and what they make of its device."""
        check = ContentCheck(device, self._views.get(device.index), self._scope())
        try:
            for found in in_order(pool, check.check, check.plan(), in_flight):
                self._take_content(device, found)
        finally:
            self._take_differing(device, check.found.differing)

    def _scope(self) -> Scope:
        self._know_origins()
        origins, foreign = self._image.origins.entries(), self._foreign
        written = [each.holder == self._image.seal.image_id for each in origins]
        # What cannot be compared without frames of others is compared where these are verified.
        others = self._known.keys() | set(self._direct)
        return Scope(
            lambda index: not foreign[index] or index in self._direct,
            lambda index: written[index] and not foreign[index],
            lambda index: not others or index in others,
            self._every,
            self._sample.chooses,
            self._is_kept,
        )

    def _is_kept(self, origin: int, run: FrameRun) -> bool:
        if not self._is_ours(origin):
            return True
        segments = self._segments(run.origin)
        return segments is None or segments.covers(run.origin, run.start, run.length)

    def _take_content(self, device: Device, found: ContentFound) -> None:
        self._image.check_open()
        for origin, run in found.runs:
            if self._is_ours(origin):
                self._count(origin, run)
        for (origin, number), opened in found.frames.items():
            is_new = self._is_ours(origin) and not self._frames_done.has(origin, number)
            if opened is not None and is_new:
                self._damage.add_frame(origin, opened)
        for origin, run in found.runs:
            self._frames_done.add(origin, run.first, len(run.entries))
        for origin, number in found.misplaced:
            self._damage.add(
                Damage(
                    f"frame {number}: its header names other sectors than those at which the map "
                    "has it",
                    origin,
                    number,
                )
            )
        self._take_differing(device, found.differing)
        self._reporter.report(self._bytes, self._bytes)

    def _is_ours(self, origin: int) -> bool:
        return not self._foreign[origin] or origin in self._direct

    def _count(self, origin: int, run: FrameRun) -> None:
        """Count the frames of a run that were not looked at before, and what they take."""
        for row, entry in enumerate(run.entries.tolist()):
            if not self._frames_done.has(origin, run.first + row):
                self._frames += 1
                self._bytes += entry[1]
        if not self._foreign[origin]:
            self._cover(run)

    def _cover(self, run: FrameRun) -> None:
        """What could not be read was looked at too, and is a finding already."""
        segments = self._image.segments
        if segments.covers(run.origin, run.start, run.length):
            self._covered.add(segments.locate(run.origin, run.start, run.length), run.length)

    def _take_differing(self, device: Device, blocks: list[Blocks]) -> None:
        for first, count in blocks:
            start = first * c.BLOCK
            length = min(count * c.BLOCK, device.size - start)
            self._damage.add_blocks(device.index, start, length)

    # Frame tables of other files

    def _check_foreign_tables(self) -> None:
        """What pages say of origins that the maps name and other files hold (section 7.1): the
        reader of a frame believes it.
        """
        for index in sorted(self._used):
            if not self._foreign[index] or index in self._known or index in self._direct:
                continue
            table = self._image.tables[index]
            try:
                table.check()
            except IncompleteError:
                # No file of it was found: what is in this one is whole all the same.
                continue
            except AipImageError as error:
                text = f"frame table of origin {table.origin.hex()}: {damage_text(error)}"
                self._damage.add(Damage(text, index))

    # Frames that no map names

    def _runs(self) -> Iterator[tuple[int, FrameRun]]:
        self._know_origins()
        for index, table in enumerate(self._image.tables):
            if self._foreign[index] and index not in self._direct:
                continue
            table.forget()
            for leaf in range(table.leaf_count()):
                try:
                    entries = table.leaf(leaf)
                    segments = self._segments(table.origin)
                except AipImageError as error:
                    self._damage.add_leaf(index, leaf, error)
                    if self._damage.is_full:
                        # A seal can claim more leaves than anybody can look for.
                        return
                    continue
                kept = _kept(segments, table.origin, entries)
                first = leaf * c.LEAF_FRAMES
                self._gaps.add(index, first, entries, ~kept)
                done = self._frames_done.of_leaf(index, leaf)[: len(entries)]
                rows = self._sample.rows_of(index, leaf, kept, done)
                for run in split_runs(table.origin, first, entries, rows):
                    yield from ((index, each) for each in _in_one_piece(segments, run))
            self._check(table.check_end, f"frame table of origin {table.origin.hex()}")

    def _segments(self, origin: bytes) -> SegmentMap | None:
        """Where the frames of an origin lie; ``None`` where none can be dropped, because the file
        was written in one go.
        """
        image = self._image
        if not image.segments.holds(origin):
            return image.foreign.holder(origin).segments
        return None if image.trailer.segments == NO_REFERENCE else image.segments

    def _check_run(self, work: tuple[int, FrameRun]) -> _Findings:
        """In a worker: read a run, verify and open each frame; return those that are damaged."""
        origin, run = work
        take, room = partial(thread_buffer, "run"), partial(thread_buffer, "plain")
        bad: list[OpenedFrame] = []
        for opened in read_frames(self._image, run, take, room):
            error = opened.error or _extents_error(opened)
            if error is not None:
                bad.append(opened._replace(error=error))
        return _Findings(origin, run, bad)

    def _take(self, found: _Findings) -> None:
        self._image.check_open()
        self._count(found.origin, found.run)
        for opened in found.bad:
            self._damage.add_frame(found.origin, opened)
        self._reporter.report(self._bytes, self._bytes)

    # Everything else

    def _check_rest(self) -> None:
        image = self._image
        stream, header = image.stream, image.header
        self._covered.add(image.trailer.seal.offset, image.trailer.seal.record_length)
        if image.trailer.segments != NO_REFERENCE:
            self._covered.add(image.trailer.segments.offset, image.trailer.segments.record_length)
        for start, end in self._covered.gaps(header.records_start, image.trailer.records_end):
            for records in walk_records(stream, start, end, image.records.tag):
                for walked in records:
                    self._bytes += walked.data.nbytes
                    step = partial(self._check_dead, walked)
                    self._check(step, f"record at byte {walked.offset}")

    def _check_order(self) -> None:
        """Checkpoints and continuations, where all records are whole."""
        if self._damage.is_empty:
            # The frame tables are read once more.
            self._image.records.on_fetch = None
            self._check(self._order.check, "stream")

    def _check_dead(self, walked: Walked) -> None:
        """A record that nothing refers to: its check, and with keys its tag."""
        found = verified_record(walked.data)
        if walked.header.type in set(RecordType):
            opened = self._image.records.open_unreferenced(walked.data)
            self._order.add_dead(walked.offset, found, walked.header, opened.plain)
        else:
            self._order.add(walked.offset, found)

    def _check_spare(self) -> None:
        """Originals and copies of what has any (section 10.1), as they are in the file."""
        image = self._image
        named = zip(("description", "result"), image.metadata_references(), strict=True)
        places = [(name, ref, image.locate(ref)) for name, ref in named]
        for text in spare_damage(image.stream, image.trailer, places):
            self._damage.add(Damage(text))
        self._bytes += image.trailer.spare_length

    def _check_key_copies(self) -> None:
        if not self._image.header.suite:
            return
        try:
            _, damaged = read_key_area(self._image.stream, self._image.header)
        except AipImageError as error:
            self._damage.add(Damage(damage_text(error)))
            return
        for copy in damaged:
            self._damage.add(
                Damage(
                    f"copy {copy} of the key area is damaged; change a password to write it anew"
                )
            )


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
