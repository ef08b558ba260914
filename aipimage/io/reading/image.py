"""An opened image: loaded lazily, every byte verified before it is handed out (docs/format.md,
section 2).
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, Unpack

from aipimage import checks
from aipimage.errors import AipImageError, FormatError, IntegrityError, StorageError, naming
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header
from aipimage.format.origins import OriginEntry
from aipimage.format.record import Reference
from aipimage.format.seal import Seal
from aipimage.format.trailer import Trailer
from aipimage.io.index.origins import Origins
from aipimage.io.index.trees import FrameTables
from aipimage.io.reading.device import Device
from aipimage.io.reading.members import ForeignFiles, MemberFiles, searched
from aipimage.io.reading.metadata import MetadataRecords
from aipimage.io.reading.oneframe import read_frame
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.records.records import OpenedRecord, OtherFile, RecordReader
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header, unlock_header
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import healed_warnings
from aipimage.io.stream.tail import Tail, check_header_keys, check_twins
from aipimage.io.system.cache import FrameCache
from aipimage.io.system.defaults import DEFAULT_CACHE
from aipimage.io.system.pipeline import default_threads
from aipimage.io.system.storage import DEFAULT, Storage, StrPath

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class Opened(NamedTuple):
    """What is known of an image as soon as its seal was verified."""

    stream: InStream
    header: Header
    trailer: Trailer
    seal: Seal
    keys: ChainKeys | None
    tail: Tail
    segments: SegmentMap
    files: MemberFiles
    cache_bytes: int


class ImageReader:
    """One image file (or set of parts), opened for reading: what it says of itself, its devices,
    and every record and frame that these need. Safe for threads.

    It knows of other files of its chain only that they hold records. What is asked of an image as
    a whole is :class:`aipimage.Image`.

    Attributes:
        path: of the file, of the first part where it is split.
        devices: the imaged disks and volumes, in order.
    """

    def __init__(self, opened: Opened) -> None:
        self.stream, self.header, self.trailer = opened.stream, opened.header, opened.trailer
        self.seal, self.keys, self.segments = opened.seal, opened.keys, opened.segments
        self.path, self.beside, self._tail = self.stream.name, opened.files, opened.tail
        self.foreign = ForeignFiles(self.beside, self.header, self.keys, self.path)
        self.records = RecordReader(self._read, self.keys)
        self.records.hint, self.records.name_of = self.foreign.hint, self._held_in
        self.records.others = self._in_other_files
        self.metadata_records = MetadataRecords(
            self.stream, self.trailer, self.seal, self.segments, self.records
        )
        self.cache = FrameCache(opened.cache_bytes)
        self._held = _Held(self.stream, self.foreign)
        self._lock = threading.Lock()
        self.origins = Origins(self.seal.origins, self.foreign.hint)
        self.tables = FrameTables(self.records, self.origins, self.header.frame_size, self.path)
        self.devices: tuple[Device, ...] = tuple(
            Device(self, index, entry, self.origins)
            for index, entry in enumerate(self.seal.devices)
        )
        self._dropped = weakref.finalize(self, self._held.give_up)
        self._dropped.atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<aipimage.{type(self).__name__} {self.path!r} {self.kind} {self.image_id}>"

    def close(self) -> None:
        """Close all files, also those of other images of its chain, for good.

        Reads that are under way come to their end first. Whatever uses the image, its devices, or
        files opened on them afterwards gets a :class:`ClosedError`; what it says of itself
        (``path``, ``digest``, sizes) stays. A second call does nothing.
        """
        self._dropped.detach()
        self.stream.gate.shut()
        with self._lock:
            pool, self._held.pool = self._held.pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._held.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.stream.gate.is_shut

    def check_open(self) -> None:
        """Raise ``ClosedError`` after :meth:`close`."""
        self.stream.gate.check()

    # What the image says of itself

    @property
    def image_id(self) -> str:
        """32 hexadecimal digits."""
        return self.seal.image_id.hex()

    @property
    def chain_id(self) -> str:
        """32 hexadecimal digits, the same for every image of a chain."""
        return self.seal.chain_id.hex()

    @property
    def digest(self) -> str:
        """The image digest, 64 hexadecimal digits: everything the image holds is bound by it
        (section 9).
        """
        return self.trailer.seal.digest.hex()

    @property
    def kind(self) -> str:
        """``"full"``, ``"incremental"`` or ``"differential"``."""
        return ImageKind(self.seal.kind).name.lower()

    @property
    def sequence(self) -> int:
        """Number of the image in its chain, from 0 (section 9)."""
        return self.seal.sequence

    @property
    def parent_id(self) -> str | None:
        """Image id of the parent, ``None`` for an image that begins a chain."""
        return self.seal.parent_id.hex() if self.seal.parent_kind else None

    @property
    def encryption(self) -> str | None:
        """``"aes-128"``, ``"aes-256"``, ``"authenticate"``, or ``None``."""
        names = {
            Suite.AES_128_GCM: "aes-128",
            Suite.AES_256_GCM: "aes-256",
            Suite.AES_256_GMAC: "authenticate",
        }
        return names.get(Suite(self.header.suite))

    @property
    def stored(self) -> int:
        """Bytes of the stream: the size of the file where it is not split."""
        return self.stream.size

    @property
    def parts(self) -> int:
        """Number of files that the image lies in."""
        return len(self.stream.files)

    @property
    def metadata(self) -> dict[str, Any]:
        """``description`` and ``result`` of section 9.2, as one dictionary with these two
        members.
        """
        self.check_open()
        return self.metadata_records.both()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about damage that keeps nothing of the devices from being read: what was read
        from its copy in the spare area, and what could not be read of :attr:`metadata`, once that
        was asked for (section 10.1).
        """
        return (*healed_warnings(self.path, self.stream.healed), *self.metadata_records.warnings)

    # Reading

    def locate_address(self, origin: bytes, offset: int, length: int) -> int:
        """Where an address lies in this stream (section 9.3)."""
        try:
            return self.segments.locate(origin, offset, length)
        except AipImageError:
            with naming(self.path):
                raise

    def _read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Stored bytes of a page or record, from this file or from another one of its chain."""
        with self.stream.gate:
            if self.segments.holds(origin):
                return self._tail.read(self.locate_address(origin, offset, length), length)
            return self.foreign.read(origin, offset, length)

    def _in_other_files(self, ref: Reference) -> Iterator[OtherFile]:
        """Further files that hold a record of another image; what is damaged in this file is
        damaged (section 16).
        """
        if self.segments.holds(ref.origin):
            return
        with self.stream.gate:
            found = list(self.foreign.others(ref))
        for name, read in found:
            yield name, partial(self._read_while_open, read)

    def _read_while_open(self, read: Callable[[], bytearray]) -> bytearray:
        with self.stream.gate:
            return read()

    def read_stored(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` with stored bytes from an address on, and return it."""
        with self.stream.gate:
            return self.read_inside(origin, offset, buffer)

    def read_inside(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """As :meth:`read_stored`, for a caller that is inside of the gate of the stream."""
        try:
            at = self.segments.find(origin, offset, buffer.nbytes)
        except FormatError:
            with naming(self.path):
                raise
        if at is None:
            self.foreign.read_into(origin, offset, buffer)
        else:
            self.stream.pread_inside(buffer, at)
        return buffer

    def file_name(self, entry: OriginEntry) -> str:
        """The base name of the file that is known to hold an origin, else what its entry says."""
        return self._held_in(entry.origin) or entry.file_name

    def _held_in(self, origin: bytes) -> str:
        if self.segments.holds(origin):
            return os.path.basename(self.path)
        return self.foreign.name_of(origin)

    def locate(self, ref: Reference) -> int:
        """Where a record lies in this stream."""
        return self.locate_address(ref.origin, ref.offset, ref.record_length)

    def frame(self, origin: int, number: int) -> memoryview:
        """Return the plain bytes of a frame, from the cache or verified and decoded."""
        return self.cache.get((origin, number), partial(self._load_frame, origin, number))

    def _load_frame(self, origin: int, number: int) -> memoryview:
        # Passed once for all that is read: each time costs as much as finding the frame.
        with self.stream.gate:
            table = self.tables[origin]
            try:
                plain = read_frame(self, table, number)
            except (IntegrityError, StorageError) as error:
                return self.frame_elsewhere(origin, number, error)
            if plain is not None:
                return plain
            ref = table.frame(number)
            return self._plain(self.records.fetch(ref, RecordType.FRAME), number)

    def frame_elsewhere(self, origin: int, number: int, error: AipImageError) -> memoryview:
        """A frame that is damaged in one file, as ``error`` says, from another one.

        Raises:
            AipImageError: ``error``, where no other file has it whole.
        """
        ref = self.tables[origin].frame(number)
        return self._plain(self.records.fetch_elsewhere(ref, RecordType.FRAME, error), number)

    def _plain(self, frame: OpenedRecord, number: int) -> memoryview:
        if frame.header.number != number:
            raise FormatError(f"{self.path}: a frame has another number than its place")
        return memoryview(frame.plain).cast("B")

    def prefetch(self, origin: int, number: int) -> None:
        """Begin to load a frame in the background, for a sequential reader."""
        if number >= self.tables[origin].frame_count or (origin, number) in self.cache:
            return
        with self._lock:
            if self.closed:
                return
            if self._held.pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._held.pool = ThreadPoolExecutor(
                    default_threads(), thread_name_prefix="aipimage-read"
                )
            self._held.pool.submit(_load_ahead, weakref.ref(self), origin, number)


class _Held:
    """What an image holds open. It refers to no image, so that one which is dropped without being
    closed can be collected.
    """

    def __init__(self, stream: InStream, foreign: ForeignFiles) -> None:
        self._stream, self._foreign = stream, foreign
        self.pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Close all files, once no reader is left."""
        try:
            self._foreign.close()
        finally:
            self._stream.close()

    def give_up(self) -> None:
        """Say which image was dropped without being closed, and close all."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)
        self.close()
        warnings.warn(f"unclosed image {self._stream.name!r}", ResourceWarning, stacklevel=2)


def _load_ahead(image: weakref.ref[ImageReader], origin: int, number: int) -> None:
    """In a thread that reads ahead: what fails here fails again for the reader of the frame."""
    found = image()
    if found is not None:
        with contextlib.suppress(AipImageError):
            found.frame(origin, number)


class HowToOpen(TypedDict, total=False):
    """Keywords of :func:`opening`, for those that pass them on."""

    expected_digest: str | None
    cache_bytes: int
    search: Sequence[StrPath] | None
    storage: Storage
    keys: ChainKeys | None
    files: MemberFiles | None


@contextlib.contextmanager
def opening(
    path: StrPath,
    password: str | None = None,
    *,
    expected_digest: str | None = None,
    cache_bytes: int = DEFAULT_CACHE,
    search: Sequence[StrPath] | None = None,
    storage: Storage = DEFAULT,
    keys: ChainKeys | None = None,
    files: MemberFiles | None = None,
) -> Iterator[Opened]:
    """What an image is made of, for the block that makes it: where that fails, the file is closed.

    Args:
        keys: of the chain, where another of its images was unlocked already; then no password is
            needed.
        files: of the directories to search, where they were looked at already.
    """
    name = checks.path("path", path)
    checks.secrets(password=password)
    checks.paths("search", search)
    expected_digest = checks.hex_digest("expected_digest", expected_digest)
    cache_bytes = checks.size("cache_bytes", cache_bytes, 0)
    if files is None:
        files = MemberFiles(storage, [os.path.dirname(name), *searched(search)])
    stream = open_stream(storage, name)
    try:
        yield _opened(stream, password, keys, expected_digest, files, cache_bytes)
    except BaseException:
        stream.close()
        raise


def _opened(
    stream: InStream,
    password: str | None,
    keys: ChainKeys | None,
    expected_digest: str | None,
    files: MemberFiles,
    cache_bytes: int,
) -> Opened:
    header = read_header(stream)
    with naming(stream.name):
        tail = Tail(stream)
        trailer = tail.trailer()
        check_twins(header, trailer)
        if expected_digest is not None and trailer.seal.digest.hex() != expected_digest:
            raise IntegrityError("is not the image that was expected: its digest differs")
    if keys is None:
        keys = unlock_header(stream, header, password)
    else:
        check_header_keys(stream, header, keys)
    with naming(stream.name):
        seal = tail.seal(header, trailer, keys)
        segments = tail.segments(header, trailer, keys)
    return Opened(stream, header, trailer, seal, keys, tail, segments, files, cache_bytes)


def open_reader(
    path: StrPath, password: str | None = None, **how: Unpack[HowToOpen]
) -> ImageReader:
    """Open an image for what needs its bytes alone; :func:`aipimage.open` is for users.

    Raises:
        The errors of :func:`aipimage.open`.
    """
    with opening(path, password, **how) as found:
        return ImageReader(found)
