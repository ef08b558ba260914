"""Resuming a creation that was interrupted (docs/format.md, section 11).

The partial file is walked twice: once to find the last checkpoint and to check every record before
it, and once to build the new tables and maps from what the frames say of themselves. Nothing is
trusted that does not pass its digest, and with a suite its tag.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from aipimage.errors import AipImageError, FormatError, PasswordError, RequestError
from aipimage.extents import EXTENT_DTYPE, SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.checkpoint import (
    NOTE_DTYPE,
    Checkpoint,
    Continuation,
    decode_checkpoint,
    decode_continuation,
    encode_continuation,
)
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.metadata import decode_metadata
from aipimage.format.record import Reference, payload_length, verified_record
from aipimage.format.tables import (
    FRAME_ENTRY_DTYPE,
    FrameExtents,
    decode_digest_leaf,
    decode_frame_extents,
    encode_frame_entry,
)
from aipimage.io import entropy
from aipimage.io.imagewriter import DeviceResult, EarlierOrigin, ImageWriter
from aipimage.io.keys import ChainKeys, Suite
from aipimage.io.numbering import RecordNumbers
from aipimage.io.opening import read_header, unlock_header
from aipimage.io.outstream import FileStream
from aipimage.io.partial import PartialStream, open_partial
from aipimage.io.records import OpenedRecord, RecordReader
from aipimage.io.sources import BlockSource
from aipimage.io.storage import Storage
from aipimage.io.tail import check_header_keys
from aipimage.io.trees import TableBuilder
from aipimage.io.walk import Walked, walk_records

if TYPE_CHECKING:
    from aipimage.io.create import CreateOptions

_SAMPLES = 64


@dataclass(slots=True)
class _Survey:
    """What the first walk found: up to ``end`` everything is whole and durable."""

    end: int = 0
    checkpoint: Checkpoint | None = None
    description: Reference | None = None
    description_values: dict[str, Any] = field(default_factory=dict)
    origins: list[tuple[bytes, int]] = field(default_factory=list)
    records: int = 0
    frames: int = 0
    notes: list[np.ndarray[Any, Any]] = field(default_factory=list)


class ResumedState:
    """A partial image that is ready to be continued.

    Attributes:
        writer: appends behind the last checkpoint, under a new origin.
        sector: where reading the current device goes on.
        unreadable: (device, offset, length) in bytes, from before.
    """

    def __init__(
        self, stream: PartialStream, header: Header, keys: ChainKeys | None, survey: _Survey,
        writer: ImageWriter,
    ) -> None:  # fmt: skip
        assert survey.checkpoint is not None
        assert survey.description is not None
        self.writer, self.sector = writer, survey.checkpoint.sector
        self.description, self.description_values = survey.description, survey.description_values
        self._stream, self._header, self._keys, self._survey = stream, header, keys, survey
        self._last_leaf: tuple[int, int] | None = None
        notes = np.concatenate([np.empty(0, NOTE_DTYPE), *survey.notes])
        self._notes = notes[np.argsort(notes["at"], kind="stable")]
        bad = self._notes[self._notes["kind"] == Kind.UNREADABLE]
        self.unreadable = [
            (at >> 48, (at & ((1 << 48) - 1)) * SECTOR, sectors * SECTOR)
            for at, sectors, _ in bad.tolist()
        ]

    def replay(self, sources: list[BlockSource]) -> list[DeviceResult]:
        """Build tables and maps again; return the devices that are complete. The next one is begun.

        Raises:
            RequestError: a sample of the frames differs from the source, which therefore changed.
        """
        sampled = set(random.sample(range(self._survey.frames), min(_SAMPLES, self._survey.frames)))
        results: list[DeviceResult] = []
        self.writer.begin_device(sources[0].size, sources[0])
        for index, (walked, opened, reader) in enumerate(self._frames_and_leaves()):
            if walked.header.type == RecordType.DIGEST_LEAF:
                self._reuse_leaf(walked, opened, len(results))
                continue
            extents = _frame_extents(walked, opened, reader)
            device = _verified_device(extents, sources)
            while len(results) < device:
                results.append(self._end_device(sources, len(results)))
            if index in sampled:
                _compare_with_source(reader, walked, extents, sources[device])
            self._add_frame(walked, extents)
        assert self._survey.checkpoint is not None
        while len(results) < self._survey.checkpoint.device:
            results.append(self._end_device(sources, len(results)))
        self._fill_to(len(results), self.sector)
        return results

    def _end_device(self, sources: list[BlockSource], device: int) -> DeviceResult:
        source = sources[device]
        self._fill_to(device, -(-source.size // SECTOR))
        result = self.writer.end_device(source.size, source.sector_size)
        following = sources[device + 1]
        self.writer.begin_device(following.size, following)
        return result

    def _frames_and_leaves(self) -> Iterator[tuple[Walked, OpenedRecord | None, RecordReader]]:
        reader = RecordReader(_no_references, self._keys)
        wanted = (RecordType.FRAME, RecordType.DIGEST_LEAF)
        start = self._header.records_start
        for records in walk_records(self._stream, start, self._survey.end, reader.tag):
            for walked in records:
                if walked.header.type in wanted:
                    plain_frame = walked.header.type == RecordType.FRAME and self._keys is None
                    yield (
                        walked,
                        None if plain_frame else reader.open_unreferenced(walked.data),
                        reader,
                    )

    def _reuse_leaf(self, walked: Walked, opened: OpenedRecord | None, device: int) -> None:
        assert opened is not None
        first, _ = decode_digest_leaf(opened.plain, self._header.stripe_shift)
        # A leaf follows the frames of its stripe, and only once.
        stripe = 1 << (self._header.stripe_shift - 9)
        stripe_start = (self.writer.position - 1) // stripe * stripe
        if first * (c.BLOCK // SECTOR) != stripe_start or self._last_leaf == (device, first):
            raise FormatError("a block digest leaf of a partial image is not where it belongs")
        self._last_leaf = (device, first)
        self.writer.reuse_digest_leaf(first, _reference(walked))

    def _add_frame(self, walked: Walked, extents: FrameExtents) -> None:
        index, position = self.enter(walked)
        for at, sectors in extents.tolist():
            self._fill_to(at >> 48, at & ((1 << 48) - 1))
            self.writer.add_extents(np.array([(sectors, position, index, Kind.DATA)], EXTENT_DTYPE))
            position += sectors

    def enter(self, walked: Walked) -> tuple[int, int]:
        """Put a frame into the new table of its origin; return that origin's index and the packed
        sector where the frame begins.
        """
        index = self.writer.origins.index(walked.header.origin)
        table = self.writer.earlier[index - 1].table
        if walked.header.number != table.frame_count:
            raise FormatError("the frames of a partial image are not in order")
        ref = _reference(walked)
        entry = encode_frame_entry(ref.offset, ref.record_length, ref.plain_length, ref.digest)
        table.add(np.frombuffer(entry, FRAME_ENTRY_DTYPE))
        return index, walked.header.number * self._header.frame_sectors

    def frames(self, sources: list[BlockSource]) -> Iterator[tuple[Walked, int, FrameExtents]]:
        """Yield each frame with its device and its extents, in order, for an image with a parent;
        a sample is compared with the source.
        """
        count = self._survey.frames
        sampled = set(random.sample(range(count), min(_SAMPLES, count)))
        for index, (walked, opened, reader) in enumerate(self._frames_and_leaves()):
            if walked.header.type != RecordType.FRAME:
                raise FormatError("a block digest leaf in an image with a parent")
            extents = _frame_extents(walked, opened, reader)
            device = _verified_device(extents, sources)
            if index in sampled:
                _compare_with_source(reader, walked, extents, sources[device])
            yield walked, device, extents

    def notes_of(self, device: int) -> list[tuple[int, int, int]]:
        """(sector, sectors, kind) of what the checkpoints name on a device, in order."""
        notes = self._notes[self._notes["at"] >> np.uint64(48) == device]
        return [(at & ((1 << 48) - 1), sectors, kind) for at, sectors, kind in notes.tolist()]

    @property
    def checkpoint(self) -> Checkpoint:
        """The last one."""
        assert self._survey.checkpoint is not None
        return self._survey.checkpoint

    def _fill_to(self, device: int, sector: int) -> None:
        """Map what lies before ``sector``: noted extents, and between them what is
        zero or free."""
        while len(self._notes) and int(self._notes["at"][0]) < device << 48 | sector:
            at, sectors, kind = self._notes[0].item()
            self.writer.add_gap(at & ((1 << 48) - 1))
            self.writer.add_run(sectors, Kind(kind))
            self._notes = self._notes[1:]
        if sector < self.writer.position:
            raise FormatError("the extents of a partial image overlap")
        self.writer.add_gap(sector)


def reopen_partial(
    storage: Storage, path: str, sources: list[BlockSource], options: CreateOptions,
    keys: ChainKeys | None = None, with_parent: bool = False,
    check: Callable[[dict[str, Any]], None] = lambda values: None,
) -> ResumedState | None:  # fmt: skip
    """Open what an interrupted creation of ``path`` left; ``None`` where there is nothing to go on
    with.

    Raises:
        RequestError: the sources or the options are not those of the interrupted creation.

    Args:
        with_parent: the image continues a chain; ``keys`` are those of the chain, if any.
        check: looks at the description, and raises before anything is changed.
    """
    stream = open_partial(storage, path, options.split)
    if stream is None:
        return None
    try:
        header = read_header(stream)
        if with_parent:
            check_header_keys(stream, header, keys)
        else:
            keys = _unlock(stream, header, options)
        survey = _survey(stream, header, keys)
        if survey.checkpoint is None or survey.description is None:
            stream.close()
            return None
        _check_same_sources(path, survey.description_values, sources)
        check(survey.description_values)
        _check_checkpoint(survey.checkpoint, header, sources)
        return _continue(stream, header, keys, survey, options)
    except BaseException:
        stream.close()
        raise


def _unlock(stream: PartialStream, header: Header, options: CreateOptions) -> ChainKeys | None:
    if header.suite != Suite.parse(options.encrypt):
        raise PasswordError(
            f"{stream.name}: was begun with other encryption; use the same, or begin anew"
        )
    return unlock_header(stream, header, options.password)


def _survey(stream: PartialStream, header: Header, keys: ChainKeys | None) -> _Survey:
    survey, found = _Survey(), 0
    pending = _Survey(origins=[(header.file_id, 0)])
    reader = RecordReader(_no_references, keys)
    try:
        for records in walk_records(stream, header.records_start, stream.size, reader.tag):
            for walked in records:
                verified_record(walked.data)
                found += 1
                _note_record(pending, walked, reader)
                if walked.header.type == RecordType.CHECKPOINT:
                    end = walked.offset + walked.data.nbytes
                    survey = _Survey(
                        end, pending.checkpoint, pending.description, pending.description_values,
                        list(pending.origins), found, pending.frames, list(pending.notes),
                    )  # fmt: skip
    except AipImageError:
        # What lies behind the last whole checkpoint was not durable and may be anything.
        pass
    return survey


def _note_record(survey: _Survey, walked: Walked, reader: RecordReader) -> None:
    kind = walked.header.type
    if walked.header.origin != survey.origins[-1][0] and kind != RecordType.CONTINUATION:
        raise FormatError("a record of another origin")
    if kind in (RecordType.FRAME, RecordType.DIGEST_LEAF):
        survey.frames += 1
        if reader.keys:
            reader.open_unreferenced(walked.data)
    elif kind == RecordType.METADATA and walked.header.number == 0 and survey.description is None:
        survey.description = _reference(walked)
        survey.description_values = _described(bytes(reader.open_unreferenced(walked.data).plain))
    elif kind == RecordType.CHECKPOINT:
        survey.checkpoint = decode_checkpoint(reader.open_unreferenced(walked.data).plain)
        survey.notes.append(survey.checkpoint.notes)
    elif kind == RecordType.CONTINUATION:
        continuation = decode_continuation(reader.open_unreferenced(walked.data).plain)
        if continuation.previous != survey.origins[-1][0] or continuation.length != walked.offset:
            raise FormatError("a continuation of another image")
        survey.origins.append((walked.header.origin, walked.offset))
    elif reader.keys and kind in set(RecordType):
        # Nothing will refer to it, but its tag counts like any other (section 11).
        reader.open_unreferenced(walked.data)


def _described(plain: bytes) -> dict[str, Any]:
    """The description of a partial image, which without a suite anybody may have written."""
    values = decode_metadata(plain)
    devices = values.get("devices")
    if not isinstance(devices, list) or not all(isinstance(each, dict) for each in devices):
        raise FormatError("the metadata of a partial image does not tell its devices")
    return values


def _check_same_sources(path: str, values: dict[str, Any], sources: list[BlockSource]) -> None:
    then = [device.get("fingerprint") for device in values.get("devices", [])]
    now = [source.fingerprint() for source in sources]
    if then != now:
        raise RequestError(
            f"{path}: the source is not as it was when the image was begun; remove {path}.partial "
            "or create without resuming"
        )


def _check_checkpoint(point: Checkpoint, header: Header, sources: list[BlockSource]) -> None:
    """It stands at a stripe boundary of a device (section 11)."""
    device, stripe = point.device, 1 << (header.stripe_shift - 9)
    if device >= len(sources) or point.sector % stripe or (
        point.sector > -(-sources[device].size // SECTOR)
    ):  # fmt: skip
        raise FormatError("a checkpoint of a partial image stands where none can be")


def _continue(
    stream: PartialStream, header: Header, keys: ChainKeys | None, survey: _Survey,
    options: CreateOptions,
) -> ResumedState:  # fmt: skip
    out: FileStream = stream.cut(survey.end, options.overwrite)
    writer = ImageWriter(out, header, keys, RecordNumbers())
    writer.records_before = survey.records
    ends = [start for _, start in survey.origins[1:]] + [survey.end]
    for (origin, _), end in zip(survey.origins, ends, strict=True):
        writer.origins.append(origin)
        writer.earlier.append(EarlierOrigin(origin, TableBuilder(writer.records), end))
    previous = survey.origins[-1][0]
    body = encode_continuation(Continuation(previous, survey.end, entropy.now_us()))
    writer.records.write(RecordType.CONTINUATION, body)
    return ResumedState(stream, header, keys, survey, writer)


def _frame_extents(
    walked: Walked, opened: OpenedRecord | None, reader: RecordReader
) -> FrameExtents:
    if opened is not None:
        data = opened.extents
    else:
        at = c.RECORD_HEADER + payload_length(walked.header, reader.tag)
        data = bytes(walked.data[at : -c.CHECK])
    extents = decode_frame_extents(data, walked.header.plain_length)
    if not len(extents):
        raise FormatError("a frame without extents")
    return extents


def _verified_device(extents: FrameExtents, sources: list[BlockSource]) -> int:
    """Return the one device that a frame's extents are on; they end where it does."""
    device = int(extents["at"][0]) >> 48
    starts = extents["at"] - np.uint64(device << 48)
    if (
        device >= len(sources)
        or (starts + extents["sectors"] > np.uint64(-(-sources[device].size // SECTOR))).any()
    ):
        raise FormatError("a frame of a partial image lies outside of its device")
    return device


def _compare_with_source(
    reader: RecordReader, walked: Walked, extents: FrameExtents, source: BlockSource
) -> None:
    plain = memoryview(reader.open_unreferenced(walked.data).plain)
    at = 0
    for start, sectors in extents.tolist():
        offset = (start & ((1 << 48) - 1)) * SECTOR
        length = min(sectors * SECTOR, source.size - offset)
        now = bytearray(sectors * SECTOR)
        source.read_into(memoryview(now)[:length], offset)
        if plain[at : at + len(now)] != now:
            raise RequestError(
                f"{source.name}: changed since the image was begun, at byte {offset}; "
                "create it anew"
            )
        at += len(now)


def _reference(walked: Walked) -> Reference:
    header = walked.header
    return Reference(
        header.origin, walked.offset, walked.data.nbytes, header.plain_length,
        verified_record(walked.data),
    )  # fmt: skip


def _no_references(origin: bytes, offset: int, length: int) -> bytearray:
    raise RuntimeError("internal error: a walk follows no references")
