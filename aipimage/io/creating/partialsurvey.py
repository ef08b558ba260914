"""The first walk over a partial image: up to where it can be resumed (docs/format.md, section 11).

Workers open records; the caller's thread looks at them in their order. Nothing is written.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError, FormatError, IntegrityError, reworded
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.checkpoint import Checkpoint, decode_checkpoint, decode_continuation
from aipimage.format.constants import Compatible, Incompatible, RecordType
from aipimage.format.header import Header
from aipimage.format.metadata import decode_metadata
from aipimage.format.record import Reference, verified_record
from aipimage.format.tables import (
    SECTOR_BITS,
    FrameExtents,
    decode_digest_leaf,
    decode_frame_extents,
    devices_of,
    pack_at,
)
from aipimage.io.index.stripedigests import StripeDigests
from aipimage.io.records.records import OpenedRecord, RecordReader
from aipimage.io.records.running import Running
from aipimage.io.records.walk import Walked, walk_records
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.partial import PartialStream
from aipimage.io.system.pipeline import in_order

SAMPLES = 64
"""Frames that are compared with the source."""
_AT_ONCE = 4 << 20
"""Plain bytes that a worker opens at a time; a single record may have more."""
_TRIES = 1000
Places = npt.NDArray[np.uint64]


@dataclass(slots=True)
class PartialSurvey:
    """What a partial image has up to a checkpoint, where it ends.

    Attributes:
        end: place in the stream. origins: each run and where it begins.
        frames: how many. samples: some of them, at random.
    """

    end: int
    running: Running
    checkpoint: Checkpoint | None = None
    description: Reference | None = None
    described: dict[str, Any] = field(default_factory=dict)
    origins: list[tuple[bytes, int]] = field(default_factory=list)
    frames: int = 0
    samples: list[Walked] = field(default_factory=list)
    notes: list[npt.NDArray[np.void]] = field(default_factory=list)

    def copy(self, end: int) -> PartialSurvey:
        """The same, as it is now."""
        return replace(
            self,
            end=end,
            running=self.running.copy(),
            origins=list(self.origins),
            samples=list(self.samples),
            notes=list(self.notes),
        )


class Looked(NamedTuple):
    """A whole record that a worker opened, or why it could not."""

    walked: Walked
    digest: bytes
    opened: OpenedRecord | None
    error: AipImageError | None


class Surveyor:
    """Takes the records of a partial image in their order.

    Args:
        sizes: bytes of each device that is imaged.
        refuse: raises where the description is that of another image.

    Attributes:
        whole: up to the last checkpoint for which everything holds.
    """

    def __init__(
        self, header: Header, sizes: list[int], refuse: Callable[[dict[str, Any]], None]
    ) -> None:
        self._header, self._refuse = header, refuse
        self._sectors = np.array([-(-size // SECTOR) for size in sizes], np.uint64)
        self._now = PartialSurvey(
            header.records_start, Running(header.header_digest), origins=[(header.file_id, 0)]
        )
        self.whole = self._now.copy(header.records_start)
        self._numbers: dict[int, int] = {}
        self._wrong: AipImageError | None = None
        self._refusal: AipImageError | None = None
        self._places: list[tuple[Places, Places]] = []
        self._after = self._point = 0
        has_leaves = header.compatible & Compatible.BLOCK_DIGESTS and not (
            header.incompatible & Incompatible.FOREIGN_ORIGINS
        )
        self._digests = StripeDigests(header.stripe_shift) if has_leaves else None

    def take(self, looked: Looked) -> None:
        """Look at the next record.

        Raises:
            IntegrityError: a checkpoint stands after something that no writer and no crash left
                so. Others: the image is another one than that which is to be resumed.
        """
        walked = looked.walked
        kind, origin = walked.header.type, walked.header.origin
        if self._wrong is None:
            try:
                self._look(looked)
            except AipImageError as error:
                self._wrong = reworded(error, f"at byte {walked.offset}: {error}")
        if self._wrong is not None:
            known = origin in [each for each, _ in self._now.origins]
            if kind == RecordType.CHECKPOINT and known and looked.error is None:
                raise IntegrityError(f"{self._wrong}; a checkpoint stands after it")
            return
        self._now.running.add(looked.digest)
        if kind == RecordType.CHECKPOINT:
            if self._refusal is not None:
                raise self._refusal
            self.whole = self._now.copy(walked.offset + walked.data.nbytes)

    def ended(self) -> PartialSurvey:
        """What was taken, all of it, of a stream that ends in a trailer.

        Raises:
            IntegrityError, FormatError: something does not hold. Others: see :meth:`take`.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._wrong is not None:
            raise self._wrong
        if self._now.description is None:
            raise FormatError("an image without a description")
        if self._digests is not None:
            self._digests.end()
        return self._now

    def _look(self, looked: Looked) -> None:
        walked = looked.walked
        kind = walked.header.type
        if kind == RecordType.CONTINUATION:
            self._continue(looked)
        elif walked.header.origin != self._now.origins[-1][0]:
            raise FormatError("a record of another origin")
        if walked.header.number != self._numbers.get(kind, 0):
            raise FormatError("records are missing: the numbers of records have a gap")
        self._numbers[kind] = walked.header.number + 1
        if looked.error is not None:
            raise looked.error
        if kind in _LOOKS and looked.opened is not None:
            _LOOKS[kind](self, walked, looked.opened)

    def _continue(self, looked: Looked) -> None:
        walked = looked.walked
        if looked.opened is None:
            raise looked.error or FormatError("a continuation cannot be opened")
        found = decode_continuation(looked.opened.plain)
        previous = self._now.origins[-1][0]
        self._now.origins.append((walked.header.origin, walked.offset))
        if (found.previous, found.length) != (previous, walked.offset):
            raise FormatError("a continuation of another image")
        if walked.offset != self.whole.end or self.whole.checkpoint is None:
            raise FormatError("a continuation does not stand after a checkpoint")
        self._now.running.check(found)
        self._numbers = {}

    def _look_at_description(self, walked: Walked, opened: OpenedRecord) -> None:
        if self._now.description is not None:
            return
        self._now.described = _described(bytes(opened.plain))
        self._now.description = reference_of(walked, verified_record(walked.data))
        try:
            self._refuse(self._now.described)
        except AipImageError as error:
            # Where there is no checkpoint an image is begun anew, whatever it is of.
            self._refusal = error

    def _look_at_frame(self, walked: Walked, opened: OpenedRecord) -> None:
        if self._refusal is not None:
            return
        extents = frame_extents(opened)
        starts, ends = self._verified_places(extents["at"], extents["sectors"].astype(np.uint64))
        if (starts[1:] < ends[:-1]).any() or int(starts[0]) < self._after:
            raise FormatError("the extents of a frame do not follow those of the frame before it")
        devices = devices_of(starts)
        if devices[0] != devices[-1]:
            raise FormatError("the extents of a frame are on several devices")
        self._after = int(ends[-1])
        self._places.append((starts, ends))
        if self._digests is not None:
            self._digests.add(extents, memoryview(opened.plain))
        self._now.frames += 1
        self._sample(walked)

    def _sample(self, walked: Walked) -> None:
        """Each frame is as likely to be among the samples as any other."""
        samples, place = self._now.samples, random.randrange(self._now.frames)
        bare = walked._replace(data=memoryview(b""))
        if len(samples) < SAMPLES:
            samples.append(bare)
        elif place < SAMPLES:
            samples[place] = bare

    def _look_at_leaf(self, walked: Walked, opened: OpenedRecord) -> None:
        first, digests = decode_digest_leaf(opened.plain, self._header.stripe_shift)
        if self._digests is None:
            raise FormatError("a block digest leaf in an image that has none")
        if self._refusal is None:
            self._digests.leaf(first, digests)

    def _look_at_checkpoint(self, walked: Walked, opened: OpenedRecord) -> None:
        point = decode_checkpoint(opened.plain)
        self._now.running.check(point)
        if self._now.description is None:
            raise FormatError("a checkpoint of an image without a description")
        if self._refusal is None:
            self._check_place(point)
            if self._digests is not None:
                self._digests.end()
        self._now.checkpoint = point
        if len(point.notes):
            self._now.notes.append(point.notes)

    def _check_place(self, point: Checkpoint) -> None:
        """It stands at a stripe's end; what it speaks of lies between the one before and it."""
        stripe = 1 << (self._header.stripe_shift - 9)
        if (
            point.device >= len(self._sectors)
            or point.sector % stripe
            or point.sector > int(self._sectors[point.device])
        ):
            raise FormatError("a checkpoint stands where none can be")
        at = pack_at(point.device, point.sector)
        if len(point.notes):
            self._places.append(self._verified_places(point.notes["at"], point.notes["sectors"]))
        if self._places:
            starts = np.concatenate([each[0] for each in self._places])
            ends = np.concatenate([each[1] for each in self._places])
            order = np.argsort(starts, kind="stable")
            if (starts[order][1:] < ends[order][:-1]).any():
                raise FormatError("the extents before a checkpoint overlap")
            if int(starts.min()) < self._point or int(ends.max()) > at:
                raise FormatError("extents do not lie between two checkpoints")
        if at < self._point:
            raise FormatError("checkpoints are not in order")
        self._point = self._after = at
        self._places = []

    def _verified_places(self, at: Places, sectors: Places) -> tuple[Places, Places]:
        """Begin and end of extents, which are within their devices."""
        device = devices_of(at).astype(np.int64)
        if (device >= len(self._sectors)).any():
            raise FormatError("an extent lies on a device that is not imaged")
        ends = at + sectors
        limits = (devices_of(at) << np.uint64(SECTOR_BITS)) + self._sectors[device]
        if (ends > limits).any():
            raise FormatError("an extent lies outside of its device")
        return at, ends


_LOOKS: dict[int, Callable[[Surveyor, Walked, OpenedRecord], None]] = {
    RecordType.FRAME: Surveyor._look_at_frame,
    RecordType.DIGEST_LEAF: Surveyor._look_at_leaf,
    RecordType.METADATA: Surveyor._look_at_description,
    RecordType.CHECKPOINT: Surveyor._look_at_checkpoint,
}


def survey_partial(
    stream: InStream,
    surveyor: Surveyor,
    start: int,
    reader: RecordReader,
    executor: Executor,
    in_flight: int,
) -> tuple[int, AipImageError | None]:
    """Walk a partial image; return where whole records end, and why, if before its end."""
    ended: list[AipImageError] = []
    end = start
    groups = _groups(stream, start, reader.tag, ended)
    for opened in in_order(executor, partial(_open_all, reader), groups, in_flight):
        for looked in opened:
            if isinstance(looked, AipImageError):
                return end, looked
            surveyor.take(looked)
            end = looked.walked.offset + looked.walked.data.nbytes
    return end, ended[0] if ended else None


def _groups(
    stream: InStream, start: int, tag: int, ended: list[AipImageError]
) -> Iterator[list[Walked]]:
    """Records for a worker at a time; what ends the walk is put into ``ended``."""
    try:
        for records in walk_records(stream, start, stream.size, tag):
            group: list[Walked] = []
            size = 0
            for walked in records:
                if group and size + walked.header.plain_length > _AT_ONCE:
                    yield group
                    group, size = [], 0
                group.append(walked)
                size += walked.header.plain_length
            yield group
    except (FormatError, IntegrityError) as error:
        # What stands there was not durable. A file that cannot be read is another matter.
        ended.append(error)


def _open_all(reader: RecordReader, records: list[Walked]) -> list[Looked | AipImageError]:
    return [_looked(reader, each) for each in records]


def _looked(reader: RecordReader, walked: Walked) -> Looked | AipImageError:
    """In a worker: verify and open a record; of an unknown type only the digest is verified."""
    try:
        found = verified_record(walked.data)
    except AipImageError as error:
        return error
    if walked.header.type not in set(RecordType):
        return Looked(walked, found, None, None)
    try:
        return Looked(walked, found, reader.open_unreferenced(walked.data), None)
    except AipImageError as error:
        return Looked(walked, found, None, error)


def _described(plain: bytes) -> dict[str, Any]:
    """The description of a partial image; without a suite no key is needed to write one."""
    values = decode_metadata(plain)
    devices = values.get("devices")
    if not isinstance(devices, list) or not all(isinstance(each, dict) for each in devices):
        raise FormatError("the metadata of a partial image does not describe its devices")
    return values


def frame_extents(opened: OpenedRecord) -> FrameExtents:
    """The extents of a frame, at least one."""
    extents = decode_frame_extents(opened.extents, opened.header.plain_length)
    if not len(extents):
        raise FormatError("a frame without extents")
    return extents


def reference_of(walked: Walked, digest: bytes) -> Reference:
    """A reference to a record where the walk found it."""
    header = walked.header
    return Reference(header.origin, walked.offset, walked.data.nbytes, header.plain_length, digest)


def has_checkpoint(stream: PartialStream, start: int, origin: bytes) -> bool:
    """Whether a whole checkpoint of a run stands anywhere after ``start``; also where more places
    look like one than any writer leaves.
    """
    tries = 0
    wanted = c.RECORD_MAGIC + bytes([RecordType.CHECKPOINT])
    step, at = 4 << 20, start
    while at < stream.size:
        data = stream.pread(min(step + c.RECORD_HEADER, stream.size - at), at)
        found = data.find(wanted)
        while 0 <= found < step:
            tries += 1
            if tries > _TRIES or _is_checkpoint(stream, at + found, origin):
                return True
            found = data.find(wanted, found + 1)
        at += step
    return False


def _is_checkpoint(stream: PartialStream, at: int, origin: bytes) -> bool:
    try:
        head = bytes(stream.pread(c.RECORD_HEADER, at))
        if head[16:32] != origin:
            return False
        length = c.RECORD_HEADER + int.from_bytes(head[8:12], "little") + c.CHECK
        if length > c.RECORD_HEADER + c.BODY_MAX + c.CHECK:
            return False
        verified_record(memoryview(stream.pread(length, at)))
    except (FormatError, IntegrityError):
        return False
    return True
