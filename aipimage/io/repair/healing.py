"""What is damaged of a stream and whole in its spare area (docs/format.md, section 10.1)."""

from __future__ import annotations

import contextlib

from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.seal import Seal, decode_seal
from aipimage.format.segments import decode_segments
from aipimage.format.trailer import Trailer
from aipimage.io.records.records import RecordReader
from aipimage.io.repair.stream import SalvageStream
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import heal_record, metadata_copies


def heal_small_records(
    stream: SalvageStream, trailer: Trailer, file_id: bytes, reader: RecordReader
) -> None:
    """Put whole copies in the place of damaged seal, segments, description and result.

    Where bytes of the stream are missing, the places of copies are not known, and a search finds
    what is whole.
    """
    if trailer.stream_length != stream.size:
        return
    healer = _Healer(stream, trailer, reader)
    healer.heal(trailer.seal, RecordType.SEAL, trailer.seal.offset, trailer.seal_copy)
    if trailer.segments != NO_REFERENCE:
        place = trailer.segments.offset
        healer.heal(trailer.segments, RecordType.SEGMENTS, place, trailer.segments_copy)
    with contextlib.suppress(AipImageError):
        healer.heal_metadata(healer.seal(), file_id)


class _Healer:
    def __init__(self, stream: SalvageStream, trailer: Trailer, reader: RecordReader) -> None:
        self._stream, self._trailer, self._reader = stream, trailer, reader

    def heal(self, ref: Reference, kind: RecordType, place: int, copy: int) -> None:
        """Heal one record, if it is not whole."""
        with contextlib.suppress(AipImageError):
            if verified_record(memoryview(self._data(ref, place))) == ref.digest:
                return
        heal_record(self._stream, ref, kind, place, copy, self._reader.tag)

    def seal(self) -> Seal:
        """The seal that the trailer names."""
        ref = self._trailer.seal
        data = memoryview(self._data(ref, ref.offset))
        return decode_seal(self._reader.open(data, ref, RecordType.SEAL).plain)

    def heal_metadata(self, seal: Seal, file_id: bytes) -> None:
        """Heal description and result, where segments say that they lie."""
        trailer = self._trailer
        segments = []
        if trailer.segments != NO_REFERENCE:
            ref = trailer.segments
            data = memoryview(self._data(ref, ref.offset))
            plain = self._reader.open(data, ref, RecordType.SEGMENTS).plain
            segments = decode_segments(memoryview(plain), trailer.records_end)
        held = SegmentMap(segments, file_id, trailer.records_end)
        records = seal.description, seal.result
        for ref, copy in zip(records, metadata_copies(trailer, *records), strict=True):
            place = held.locate(ref.origin, ref.offset, ref.record_length)
            self.heal(ref, RecordType.METADATA, place, copy)

    def _data(self, ref: Reference, place: int) -> bytearray:
        return self._stream.pread(ref.record_length, place)
