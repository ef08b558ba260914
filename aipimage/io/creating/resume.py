"""The state of a creation that is resumed: tables and maps built again from what its frames say of
themselves (docs/format.md, section 11).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.errors import FormatError
from aipimage.extents import EXTENT_DTYPE, SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.checkpoint import NOTE_DTYPE, Checkpoint
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.record import Reference, payload_length, verified_record
from aipimage.format.tables import (
    FRAME_ENTRY_DTYPE,
    FrameExtents,
    decode_digest_leaf,
    devices_of,
    encode_frame_entry,
    pack_at,
    unpack_at,
)
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter
from aipimage.io.creating.partialsurvey import PartialSurvey, frame_extents, reference_of
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import OpenedRecord, RecordReader, no_references
from aipimage.io.records.walk import Walked, walk_records
from aipimage.io.stream.partial import PartialStream


class ResumedState:
    """A partial image that is ready to be continued.

    Attributes:
        writer: appends after the last checkpoint, under a new origin.
        sector: where reading of the current device resumes.
        unreadable: (device, offset, length) in bytes, from before.
    """

    def __init__(
        self,
        stream: PartialStream,
        header: Header,
        keys: ChainKeys | None,
        survey: PartialSurvey,
        writer: ImageWriter,
    ) -> None:
        assert survey.checkpoint is not None
        assert survey.description is not None
        self.writer, self.sector = writer, survey.checkpoint.sector
        self.description, self.description_values = survey.description, survey.described
        self._stream, self._header, self._keys, self._survey = stream, header, keys, survey
        notes = np.concatenate([np.empty(0, NOTE_DTYPE), *survey.notes])
        self._notes = notes[np.argsort(notes["at"], kind="stable")]
        bad = self._notes[self._notes["kind"] == Kind.UNREADABLE]
        self.unreadable = [
            (device, sector * SECTOR, sectors * SECTOR)
            for (device, sector), sectors in (
                (unpack_at(at), sectors) for at, sectors, _ in bad.tolist()
            )
        ]

    def replay(self, sources: list[BlockSource]) -> list[DeviceResult]:
        """Build tables and maps again; return the devices that are complete. The next one is
        begun.
        """
        results: list[DeviceResult] = []
        self.writer.begin_device(sources[0].size, sources[0])
        for walked, opened in self._frames_and_leaves():
            if walked.header.type == RecordType.DIGEST_LEAF:
                first, _ = decode_digest_leaf(opened.plain, self._header.stripe_shift)
                self.writer.reuse_digest_leaf(first, _reference(walked))
                continue
            extents = frame_extents(opened)
            device, _ = unpack_at(int(extents["at"][0]))
            while len(results) < device:
                results.append(self._end_device(sources, len(results)))
            self._add_frame(walked, extents)
        while len(results) < self.checkpoint.device:
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

    def _frames_and_leaves(self) -> Iterator[tuple[Walked, OpenedRecord]]:
        """What the survey looked at already: of plain frames only the extents are wanted."""
        reader = RecordReader(no_references, self._keys)
        start = self._header.records_start
        for records in walk_records(self._stream, start, self._survey.end, reader.tag):
            for walked in records:
                kind = walked.header.type
                if kind == RecordType.FRAME and self._keys is None:
                    yield walked, _bare(walked)
                elif kind in (RecordType.FRAME, RecordType.DIGEST_LEAF):
                    yield walked, reader.open_unreferenced(walked.data)

    def _add_frame(self, walked: Walked, extents: FrameExtents) -> None:
        index, position = self.enter(walked)
        for at, sectors in extents.tolist():
            self._fill_to(*unpack_at(at))
            self.writer.add_extents(np.array([(sectors, position, index, Kind.DATA)], EXTENT_DTYPE))
            position += sectors

    def enter(self, walked: Walked) -> tuple[int, int]:
        """Put a frame into the new table of its origin; return that origin's index and the packed
        sector where the frame begins.
        """
        index = self.writer.origins.number(walked.header.origin)
        table = self.writer.earlier[index - 1].table
        if walked.header.number != table.frame_count:
            raise FormatError("the frames of a partial image are not in order")
        ref = _reference(walked)
        entry = encode_frame_entry(ref.offset, ref.record_length, ref.plain_length, ref.digest)
        table.add(np.frombuffer(entry, FRAME_ENTRY_DTYPE))
        return index, walked.header.number * self._header.frame_sectors

    def frames(self) -> Iterator[tuple[Walked, int, FrameExtents]]:
        """Yield each frame with its device and its extents, in order, for an image with a
        parent.
        """
        for walked, opened in self._frames_and_leaves():
            extents = frame_extents(opened)
            yield walked, unpack_at(int(extents["at"][0]))[0], extents

    def notes_of(self, device: int) -> list[tuple[int, int, int]]:
        """(sector, sectors, kind) of what the checkpoints name on a device, in order."""
        notes = self._notes[devices_of(self._notes["at"]) == device]
        return [(unpack_at(at)[1], sectors, kind) for at, sectors, kind in notes.tolist()]

    @property
    def checkpoint(self) -> Checkpoint:
        """The last one."""
        assert self._survey.checkpoint is not None
        return self._survey.checkpoint

    def _fill_to(self, device: int, sector: int) -> None:
        """Map what lies before ``sector``: noted extents, and between them what is
        zero or free."""
        while len(self._notes) and int(self._notes["at"][0]) < pack_at(device, sector):
            at, sectors, kind = self._notes[0].item()
            self.writer.add_gap(unpack_at(at)[1])
            self.writer.add_run(sectors, Kind(kind))
            self._notes = self._notes[1:]
        if sector < self.writer.position:
            raise FormatError("the extents of a partial image overlap")
        self.writer.add_gap(sector)


def _bare(walked: Walked) -> OpenedRecord:
    """A plain frame without its content."""
    at = c.RECORD_HEADER + payload_length(walked.header, 0)
    return OpenedRecord(walked.header, b"", bytes(walked.data[at : -c.CHECK]))


def _reference(walked: Walked) -> Reference:
    return reference_of(walked, verified_record(walked.data))
