"""The end of a stream: trailer, seal, segments (docs/format.md, sections 2, 9.3, 10 and 10.1)."""

from __future__ import annotations

from aipimage.errors import FormatError, IntegrityError, PasswordError, naming, reworded
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import Seal, decode_seal
from aipimage.format.segments import Segment, decode_segments
from aipimage.format.trailer import Trailer
from aipimage.io.records.keys import ChainKeys, same_secret
from aipimage.io.records.records import OpenedRecord, RecordReader
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import Healable, heal_record, read_trailer

_TAIL = 65_536


class Tail:
    """Reads a stream; its last bytes are read once, because the roots of all trees lie there."""

    def __init__(self, stream: InStream, kept: int = _TAIL) -> None:
        self._stream = stream
        self._start = max(0, stream.size - kept)
        self._data = stream.pread(stream.size - self._start, self._start)

    def read(self, offset: int, length: int) -> bytearray:
        """Return exactly ``length`` bytes."""
        inside = offset - self._start
        kept = inside >= 0 and inside + length <= len(self._data)
        if kept and not self._stream.is_healed:
            return self._data[inside : inside + length]
        return self._stream.pread(length, offset)

    def trailer(self) -> Trailer:
        """The trailer or its copy, checked against itself and the length of the stream."""
        return read_trailer(self)

    @property
    def name(self) -> str:
        """Of the stream."""
        return self._stream.name

    @property
    def size(self) -> int:
        """Of the stream."""
        return self._stream.size

    @property
    def first_piece(self) -> int:
        """See :attr:`InStream.first_piece`."""
        return self._stream.first_piece

    def pread(self, length: int, offset: int) -> bytearray:
        """See :meth:`read`."""
        return self.read(offset, length)

    def heal(self, offset: int, data: bytes, what: str) -> None:
        """See :meth:`InStream.heal`."""
        self._stream.heal(offset, data, what)

    def records(self, keys: ChainKeys | None) -> RecordReader:
        """Records by their place in the stream, as the trailer refers to them."""
        return RecordReader(lambda _, offset, length: self.read(offset, length), keys)

    def segments(self, header: Header, trailer: Trailer, keys: ChainKeys | None) -> SegmentMap:
        """Where addresses lie in the stream."""
        return SegmentMap(self.segment_list(trailer, keys), header.file_id, trailer.records_end)

    def segment_list(self, trailer: Trailer, keys: ChainKeys | None) -> list[Segment]:
        """What the segments record says; nothing where there is none."""
        if trailer.segments == NO_REFERENCE:
            return []
        where = trailer.segments, RecordType.SEGMENTS, trailer.segments_copy
        plain = self._small(*where, keys).plain
        return decode_segments(memoryview(plain), trailer.records_end)

    def _small(
        self, ref: Reference, kind: RecordType, copy: int, keys: ChainKeys | None
    ) -> OpenedRecord:
        """A record that the trailer names, or its copy where it is damaged."""
        records = self.records(keys)
        try:
            return records.fetch(ref, kind)
        except (FormatError, IntegrityError) as error:
            if not heal_record(self, ref, kind, ref.offset, copy, records.tag):
                what = kind.name.lower()
                text = f"{error}; the {what} is damaged in both its places: repair the image"
                raise reworded(error, text) from error
        return records.fetch(ref, kind)

    def seal(self, header: Header, trailer: Trailer, keys: ChainKeys | None) -> Seal:
        """The seal, which must be the one of this header and trailer."""
        opened = self._small(trailer.seal, RecordType.SEAL, trailer.seal_copy, keys)
        seal = decode_seal(opened.plain)
        found = (seal.image_id, seal.chain_id, seal.header_digest)
        if found != (trailer.image_id, header.chain_id, header.header_digest):
            raise FormatError("the seal belongs to another image")
        if trailer.seal.origin != seal.image_id:
            raise FormatError("the seal was written by another run than it says")
        return seal


def read_segments(stream: InStream, header: Header, keys: ChainKeys | None) -> SegmentMap:
    """Where the addresses lie that a file holds."""
    with naming(stream.name):
        tail = Tail(stream, c.TRAILER)
        trailer = tail.trailer()
        check_twins(header, trailer)
        return tail.segments(header, trailer, keys)


def check_twins(header: Header, trailer: Trailer) -> None:
    """Header and trailer must belong together, and the seal lie before the spare area."""
    stated = trailer.file_id, trailer.header_digest, trailer.minor
    if (header.file_id, header.header_digest, header.minor) != stated:
        raise FormatError("header and trailer belong to different images")
    if trailer.seal.offset + trailer.seal.record_length != trailer.records_end:
        raise FormatError("the seal is not the last record before the spare area")


def check_member(stream: Healable, header: Header, own: Header, keys: ChainKeys | None) -> None:
    """Check that a file may hold records that the image of header ``own`` refers to: it is of the
    same chain, protected by the same keys, and its frames and pages have the same sizes (sections
    3, 4.5 and 9.4). This comes before any reference from one file into another is followed.

    Raises:
        FormatError: another chain, or other sizes. PasswordError, IntegrityError: see
            :func:`check_header_keys`.
    """
    if header.chain_id != own.chain_id:
        raise FormatError(f"{stream.name}: belongs to another chain; move it away")
    check_header_keys(stream, header, keys)
    check_sizes(stream.name, header.shifts, own.shifts)


def check_sizes(name: str, shifts: tuple[int, int, int], others: tuple[int, int, int]) -> None:
    """``FormatError`` where an image has other sizes than another one of its chain (section 3)."""
    if shifts != others:
        raise FormatError(
            f"{name}: its frames, stripes or pages have other sizes than those of its chain: it "
            "was made wrong, or does not belong here; move it away"
        )


def check_header_keys(stream: Healable, header: Header, keys: ChainKeys | None) -> None:
    """Check that a file of a chain is protected by the keys of the chain (section 4.5).

    Raises:
        PasswordError: it is not encrypted where the chain is, or the reverse, or has another key.
        IntegrityError: its header was tampered with.
    """
    suite = keys.suite if keys else c.SUITE_NONE
    if header.suite != suite:
        raise PasswordError(f"{stream.name}: is not protected as the other images of its chain are")
    if keys is None:
        return
    if not same_secret(keys.key_commitment(), header.key_commitment):
        raise PasswordError(f"{stream.name}: has another key than the other images of its chain")
    with naming(stream.name):
        keys.verify_header_mac(bytes(stream.pread(header.core_length, 0)))
