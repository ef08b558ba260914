"""Records to and from bytes: codec, cipher and digest in one place (docs/format.md, sections 4.6
and 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import AipImageError, FormatError, IntegrityError, StorageError, reworded
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.digest import digest
from aipimage.format.record import (
    RecordHeader,
    Reference,
    decode_record_header,
    encode_record_header,
    payload_length,
    record_length,
    verified_against,
)
from aipimage.format.tables import FRAME_ENTRY_DTYPE, FrameEntries, encode_frame_extents
from aipimage.io.records.codec import BytesLike, compress, decompress, frames_codec, room_for_frames
from aipimage.io.records.damage import damage_text
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.running import Running

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aipimage.io.records.cipher import RecordCipher


class BuiltRecord(NamedTuple):
    """What a reference needs to know of a record that was built."""

    length: int
    plain_length: int
    digest: bytes


class OpenedRecord(NamedTuple):
    """A verified, opened and decoded record."""

    header: RecordHeader
    plain: BytesLike
    extents: bytes


class FrameWhere(NamedTuple):
    """Where the sectors of some frames, which are laid end to end, come from.

    Attributes:
        runs: (sector, sectors) of each run, as long as the frames together.
        base: what is added to each sector: a device number in place, and where a batch begins.
    """

    runs: npt.NDArray[np.uint64]
    base: int


class RecordBuilder:
    """Builds the records of one origin: compress, seal, digest. Safe for threads.

    All three release the GIL, so several workers build at once.
    """

    def __init__(self, origin: bytes, cipher: RecordCipher | None) -> None:
        self.origin, self._cipher = origin, cipher
        self.tag = cipher.tag_length if cipher else 0

    def room(self, plain_length: int, extents: int = 0) -> int:
        """Bytes that the record of a payload can take at most."""
        return record_length(plain_length + c.FRAME_EXTENT * extents + self.tag)

    def build_into(
        self,
        out: memoryview,
        kind: int,
        plain: BytesLike,
        level: int | None,
        number: int,
        extents: bytes = b"",
        size: int = 0,
    ) -> BuiltRecord:
        """Build a record at the start of ``out``; ``level`` is the zstd level, ``None`` stores.

        ``size``: bytes of the longest frame of those that it is one of.
        """
        codec, payload = compress(plain, level, size)
        body = len(payload) + len(extents) + self.tag
        end = c.RECORD_HEADER + body
        header = encode_record_header(
            RecordHeader(
                kind, codec, len(extents) // c.FRAME_EXTENT, body, len(plain), self.origin, number
            )
        )
        out[: c.RECORD_HEADER] = header
        if self._cipher is None:
            middle = c.RECORD_HEADER + len(payload)
            out[c.RECORD_HEADER : middle] = payload
            out[middle:end] = extents
        else:
            whole = b"".join((payload, extents)) if extents else payload
            self._cipher.seal_into(header, whole, out[c.RECORD_HEADER : end])
        found = digest(out[:end])
        out[end : end + c.CHECK] = found[: c.CHECK]
        return BuiltRecord(end + c.CHECK, len(plain), found)

    def build_frames(
        self,
        out: memoryview,
        first: int,
        packed: memoryview,
        frame_size: int,
        where: FrameWhere,
        level: int | None,
    ) -> FrameEntries:
        """Build frames one after the other in ``out``, numbered from ``first`` on. Data that looks
        random is stored as it is: zstd would work as long on it for nothing.

        The core does it with one call; one by one they are only sealed.

        Args:
            out: at least :meth:`frames_room` bytes.
            packed: the plain bytes, cut every ``frame_size``.
            where: they come from.

        Returns:
            their table entries, ``offset`` counted from the start of ``out``.
        """
        rows = np.zeros(-(-packed.nbytes // frame_size), FRAME_ENTRY_DTYPE)
        functions = frames_codec(level, min(frame_size, packed.nbytes))
        if functions is None:
            self._build_one_by_one(out, first, packed, frame_size, where, level, rows)
            return rows
        try:
            _core.build_frames(
                functions, packed, frame_size, True, where, (self.origin, first), self.tag, out,
                rows,
            )  # fmt: skip
        except _core.CodecError:
            # The other way says why.
            self._build_one_by_one(out, first, packed, frame_size, where, level, rows)
            return rows
        if self._cipher is not None:
            self._seal(self._cipher, out, rows)
        return rows

    def _seal(self, cipher: RecordCipher, out: memoryview, rows: FrameEntries) -> None:
        """Seal the bodies of records that are laid out, and write their digests and checks."""
        for at, length in zip(rows["offset"].tolist(), rows["record_length"].tolist(), strict=True):
            start, end = at + c.RECORD_HEADER, at + length - c.CHECK
            cipher.seal_into(out[at:start], out[start : end - self.tag], out[start:end])
        _core.finish_records(out, rows)

    def _build_one_by_one(
        self,
        out: memoryview,
        first: int,
        packed: memoryview,
        frame_size: int,
        where: FrameWhere,
        level: int | None,
        rows: FrameEntries,
    ) -> None:
        """The same, where the core has no compressor, or that failed."""
        pieces, counts = _core.cut_extents(where.runs, frame_size // SECTOR)
        extents = encode_frame_extents(pieces[:, 0] + np.uint64(where.base), pieces[:, 1])
        stored = np.unpackbits(_core.random_bitmap(packed, frame_size), bitorder="little")
        at = done = 0
        for row, count in enumerate(counts.tolist()):
            end = done + count * c.FRAME_EXTENT
            plain = packed[row * frame_size : (row + 1) * frame_size]
            record = self.build_into(
                out[at:], RecordType.FRAME, plain, None if stored[row] else level, first + row,
                extents[done:end], min(frame_size, packed.nbytes),
            )  # fmt: skip
            rows[row] = (at, *record)
            at, done = at + record.length, end

    def frames_room(self, plain_length: int, frame_size: int, extents: int) -> int:
        """Bytes that :meth:`build_frames` needs to work in; ``extents`` is those of all frames."""
        frames = -(-plain_length // frame_size)
        gaps = frames * record_length(self.tag) + extents * c.FRAME_EXTENT
        return room_for_frames(plain_length, frame_size, gaps)


def open_record(
    data: memoryview, header: RecordHeader, cipher: RecordCipher | None
) -> OpenedRecord:
    """Unseal and decode a record whose digest was verified."""
    body = data[c.RECORD_HEADER : -c.CHECK]
    tag = 0
    if cipher is not None:
        body, tag = cipher.open(bytes(data[: c.RECORD_HEADER]), body), cipher.tag_length
    stored = payload_length(header, tag)
    plain = decompress(header.codec, body[:stored], header.plain_length)
    return OpenedRecord(header, plain, bytes(body[stored:]))


def _is_digests(kind: RecordType, plain: BytesLike) -> bool:
    """Whether a page is digests for the most part, which do not compress: a frame table is, and the
    block digests of a stripe without blocks of zeros, whose digests are zeros.
    """
    if kind == RecordType.DIGEST_LEAF:
        return bytes(c.BLOCK_DIGEST) not in bytes(plain)
    return kind == RecordType.TABLE_LEAF


class Appendable(Protocol):
    """What records are appended to: an output stream."""

    @property
    def position(self) -> int:
        """Bytes that it has."""

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Add bytes at the end."""


class RecordWriter:
    """Appends the records of one origin to a stream, from one thread.

    Args:
        page_level: zstd level for pages, ``None`` for an image without compression.

    Attributes:
        count: records of this run. running: over all records of the stream, for checkpoints and
            continuations (section 11); ``None`` where others append records too.
    """

    def __init__(
        self,
        stream: Appendable,
        numbers: RecordNumbers,
        keys: ChainKeys | None,
        page_level: int | None,
        running: Running | None = None,
    ) -> None:
        self.stream, self.numbers = stream, numbers
        self._page_level = page_level
        self.origin = numbers.origin
        self.builder = RecordBuilder(self.origin, keys.cipher(self.origin) if keys else None)
        self.count, self.running = 0, running

    def write(self, kind: RecordType, plain: BytesLike) -> Reference:
        """Build and append a page, and return the reference to it."""
        return self.write_whole(kind, plain)[0]

    def write_whole(self, kind: RecordType, plain: BytesLike) -> tuple[Reference, memoryview]:
        """Like :meth:`write`; also return the record as it is stored."""
        level = None if _is_digests(kind, plain) else self._page_level
        out = memoryview(bytearray(self.builder.room(len(plain))))
        record = self.builder.build_into(out, kind, plain, level, self.numbers.claim(kind))
        data = out[: record.length]
        offset = self.append(data, record.digest)
        return Reference(self.origin, offset, *record), data

    def append(self, data: memoryview, digests: bytes) -> int:
        """Append records that lie one after the other, of these digests, 32 bytes each; return
        where they begin.
        """
        offset = self.stream.position
        self.stream.append([data])
        self.count += len(digests) // len(c.ZERO_DIGEST)
        if self.running is not None:
            self.running.add(digests)
        return offset


def no_references(origin: bytes, offset: int, length: int) -> bytearray:
    """What a reader of records gets that are found by a walk, and by no address."""
    raise RuntimeError("internal error: a walk follows no references")


OtherFile = tuple[str, Callable[[], bytearray]]


class RecordReader:
    """Fetches records by reference, verified before anything of them is used; safe for threads.

    Args:
        read: returns ``length`` bytes at the address (origin, offset), of this file or of another
            one of the chain.
        keys: of the chain, or ``None`` for a plain one.

    Attributes:
        on_fetch: called with every reference that is followed, for verification.
        hint: called with (origin, name) where a record names the file that holds another one.
        name_of: the name of the file that is known to hold an origin, else nothing.
        others: gives the further files that hold the record of a reference, each as its name and
            a function that reads it there (section 16).
    """

    def __init__(
        self, read: Callable[[bytes, int, int], bytearray], keys: ChainKeys | None
    ) -> None:
        self.read, self.keys = read, keys
        self.tag = c.TAG if keys else 0
        self.on_fetch: Callable[[Reference], None] | None = None
        self.hint: Callable[[bytes, str], object] = lambda origin, name: None
        self.name_of: Callable[[bytes], str] = lambda origin: ""
        self.others: Callable[[Reference], Iterable[OtherFile]] = lambda ref: ()

    def cipher(self, origin: bytes) -> RecordCipher | None:
        """The cipher of an origin's records."""
        return self.keys.cipher(origin) if self.keys else None

    def fetch(self, ref: Reference, kind: RecordType) -> OpenedRecord:
        """Return the record that ``ref`` leads to.

        Raises:
            IntegrityError, StorageError: it is damaged in every file that holds it.
        """
        try:
            data = memoryview(self.read(ref.origin, ref.offset, ref.record_length))
            if self.on_fetch is not None:
                # Before it is opened: that it is damaged is reported by what asked for it.
                self.on_fetch(ref)
            return self.open(data, ref, kind)
        except (IntegrityError, StorageError) as error:
            if self.on_fetch is not None:
                # A verification is about the files as they are.
                raise
            return self.fetch_elsewhere(ref, kind, error)

    def fetch_elsewhere(
        self, ref: Reference, kind: RecordType, error: AipImageError
    ) -> OpenedRecord:
        """Return a record that is damaged in one file, as ``error`` says, from another one. Each
        file is tried once.

        Raises:
            IntegrityError, StorageError: ``error``, with the names of all files that were tried.
        """
        if not isinstance(error, (IntegrityError, StorageError)):
            raise error
        damage_text(error)
        tried: list[str] = []
        for name, read in self.others(ref):
            tried.append(name)
            try:
                return self.open(memoryview(read()), ref, kind)
            except (IntegrityError, StorageError) as other:
                damage_text(other)
        if not tried:
            raise error
        names = ", ".join([self.name_of(ref.origin), *tried])
        raise reworded(error, f"{error}; no file has it whole: {names}") from error

    def open(self, data: memoryview, ref: Reference, kind: RecordType) -> OpenedRecord:
        """Verify and open a record whose bytes were read already."""
        header = verified_against(data, ref, kind, self.tag)
        return open_record(data, header, self.cipher(ref.origin))

    def open_unreferenced(self, data: memoryview, kind: RecordType | None = None) -> OpenedRecord:
        """Open a record found by walking, whose ``check`` was verified."""
        header = decode_record_header(data, self.tag)
        if kind is not None and header.type != kind:
            raise FormatError("a record has another type than its place needs")
        return open_record(data, header, self.cipher(header.origin))
