"""The first walk over a damaged image: everything that is whole, and where it lies."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aipimage.errors import AipImageError, FormatError
from aipimage.format import constants as c
from aipimage.format.checkpoint import Checkpoint, decode_checkpoint, decode_continuation
from aipimage.format.constants import RecordType
from aipimage.format.metadata import decode_metadata
from aipimage.format.record import Reference
from aipimage.format.seal import Seal, decode_seal
from aipimage.format.segments import Segment, decode_segments
from aipimage.format.tables import FrameExtents, decode_frame_extents, devices_of
from aipimage.format.trailer import Trailer, decode_trailer
from aipimage.io.records.codec import BytesLike
from aipimage.io.repair.beginning import Beginning
from aipimage.io.repair.frames import FrameRuns
from aipimage.io.repair.healing import heal_small_records
from aipimage.io.repair.pages import LooseMaps, PageIndex
from aipimage.io.repair.scan import FoundRecord, RecordScanner
from aipimage.io.repair.stream import SalvageStream
from aipimage.io.stream.spare import read_trailer

_TAIL = 65_536
_INDEX = {
    RecordType.TABLE_LEAF,
    RecordType.INDEX,
    RecordType.MAP,
    RecordType.DIGEST_LEAF,
    RecordType.METADATA,
    RecordType.SEAL,
    RecordType.DIGEST_LAYER,
    RecordType.LAYER_LEAF,
}
_SMALL = {RecordType.METADATA, RecordType.SEGMENTS, RecordType.SEAL}


class Whole(NamedTuple):
    """Whole records of one origin that follow each other: bytes of the stream."""

    origin: bytes
    place: int
    length: int


class FoundCheckpoint(NamedTuple):
    """A checkpoint, and where it lies."""

    place: int
    end: int
    origin: bytes
    number: int
    checkpoint: Checkpoint


class SealFound(NamedTuple):
    """A whole seal record."""

    ref: Reference
    seal: Seal


@dataclass(slots=True)
class Survey:
    """What a walk found.

    Attributes:
        runs: the origins of the writing runs of this file, in order: its own, then those of
            continuations, with the place of the record that began each.
        frames: by origin. pages, maps: index records. seals: in the order of the stream.
        metadata: (origin, number) to reference and values.
        holes: (start, end) of the stream where no whole record stands.
        whole: all whole records. small: digests of those that have copies in the spare area.
    """

    stream: SalvageStream
    beginning: Beginning
    scanner: RecordScanner
    maps: LooseMaps
    runs: dict[bytes, int] = field(default_factory=dict)
    frames: dict[bytes, FrameRuns] = field(default_factory=dict)
    pages: PageIndex = field(default_factory=PageIndex)
    seals: list[SealFound] = field(default_factory=list)
    metadata: dict[tuple[bytes, int], tuple[Reference, dict[str, Any]]] = field(
        default_factory=dict
    )
    checkpoints: list[FoundCheckpoint] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)
    whole: list[Whole] = field(default_factory=list)
    trailer: Trailer | None = None
    segments: list[Segment] = field(default_factory=list)
    small: set[bytes] = field(default_factory=set)

    def is_solid(self, start: int, end: int) -> bool:
        """Whether whole records fill the stream from ``start`` to ``end``."""
        index = bisect_right(self.holes, (start, c.STREAM_MAX))
        before = index > 0 and self.holes[index - 1][1] > start
        after = index < len(self.holes) and self.holes[index][0] < end
        return start <= end and not before and not after


def survey(
    stream: SalvageStream, beginning: Beginning, tick: Callable[[int], None] | None = None
) -> Survey:
    """Walk the whole stream once; nothing is kept of a record that does not pass every check."""
    header = beginning.header
    trailer, end = find_trailer(stream)
    if trailer is not None:
        heal_small_records(stream, trailer, header.file_id, beginning.reader)
    scanner = RecordScanner(stream, beginning.reader, header.frame_size)
    found = Survey(stream, beginning, scanner, LooseMaps(header), trailer=trailer)
    found.runs[header.file_id] = header.records_start
    at = header.records_start
    for record in scanner.scan(at, end, tick):
        if not _take(found, record):
            continue
        if record.place > at:
            found.holes.append((at, record.place))
        at = record.end
    if at < end:
        found.holes.append((at, end))
    for runs in found.frames.values():
        runs.settle()
    found.pages.settle()
    found.maps.settle()
    return found


def find_trailer(stream: SalvageStream) -> tuple[Trailer | None, int]:
    """The trailer or its copy, and where the records end: foreign bytes may follow on a trailer."""
    with contextlib.suppress(AipImageError):
        trailer = read_trailer(stream)
        return trailer, trailer.records_end
    start = max(0, stream.size - _TAIL)
    data = bytes(stream.pread(stream.size - start, start))
    at = data.rfind(c.TRAILER_MAGIC)
    while at >= 0:
        raw = data[at : at + c.TRAILER]
        try:
            trailer = decode_trailer(raw, int.from_bytes(raw[16:24], "little"))
            # Zeros lie before the trailer, and the seal before its copy.
            is_copy = any(data[max(0, at - c.SPARE_GAP) : at])
            last = start + at + (c.TRAILER + c.SPARE_GAP if is_copy else 0)
            return trailer, max(0, last - trailer.spare_length)
        except AipImageError:
            at = data.rfind(c.TRAILER_MAGIC, 0, at)
    return None, stream.size


def _take(found: Survey, record: FoundRecord) -> bool:
    """Note a whole record; ``False`` where its content is none."""
    header = record.header
    if header.type in _SMALL:
        if record.digest in found.small:
            return True  # It is the copy in the spare area of one that is whole.
        found.small.add(record.digest)
    try:
        _note(found, record)
    except AipImageError:
        return False
    last = found.whole[-1] if found.whole else None
    if last is not None and (last.origin, last.place + last.length) == (
        header.origin,
        record.place,
    ):
        found.whole[-1] = last._replace(length=last.length + record.length)
    else:
        found.whole.append(Whole(header.origin, record.place, record.length))
    return True


def _note(found: Survey, record: FoundRecord) -> None:
    header, plain = record.header, record.opened.plain
    if header.type == RecordType.FRAME:
        _note_frame(found, record)
        return
    if header.type == RecordType.CHECKPOINT:
        checkpoint = decode_checkpoint(plain)
        found.checkpoints.append(
            FoundCheckpoint(record.place, record.end, header.origin, header.number, checkpoint)
        )
    elif header.type == RecordType.CONTINUATION:
        if decode_continuation(plain).previous in found.runs and header.origin not in found.runs:
            found.runs[header.origin] = record.place
    elif header.type == RecordType.SEGMENTS:
        # A repaired image holds those of the images that it stands for too, which say nothing here.
        named = found.trailer is not None and record.digest == found.trailer.segments.digest
        if named or (found.trailer is None and header.origin in found.runs):
            found.segments = decode_segments(plain, c.STREAM_MAX)
    elif header.type == RecordType.MAP:
        found.maps.add(record)
    elif header.type == RecordType.SEAL:
        found.seals.append(SealFound(reference(record), decode_seal(plain)))
    elif header.type == RecordType.METADATA:
        values = _described(plain)
        found.metadata.setdefault((header.origin, header.number), (reference(record), values))
    if header.type in _INDEX:
        found.pages.add(record)


def _described(plain: BytesLike) -> dict[str, Any]:
    """What a metadata record says; nothing where it is not one that a reader takes."""
    try:
        return decode_metadata(plain)
    except FormatError:
        return {}


def _note_frame(found: Survey, record: FoundRecord) -> None:
    header = record.header
    extents = verified_extents(record)
    at, (last, sectors) = int(extents["at"][0]), extents[-1].item()
    runs = found.frames.get(header.origin)
    if runs is None:
        runs = found.frames[header.origin] = FrameRuns(header.origin)
    runs.add(
        header.number,
        record.place,
        record.end,
        at,
        last + sectors,
        header.plain_length,
        record.digest,
    )


def verified_extents(record: FoundRecord) -> FrameExtents:
    """The extents of a frame, in order and all of one device (section 6.1)."""
    extents = decode_frame_extents(record.opened.extents, record.header.plain_length)
    if not len(extents):
        raise AipImageError("a frame without extents")
    ends = extents["at"] + extents["sectors"]
    devices = devices_of(extents["at"])
    if (ends[:-1] > extents["at"][1:]).any() or devices[0] != devices[-1]:
        raise AipImageError("the extents of a frame are not in order")
    return extents


def reference(record: FoundRecord) -> Reference:
    """A reference to a record at the place where it was found."""
    header = record.header
    return Reference(header.origin, record.place, record.length, header.plain_length, record.digest)
