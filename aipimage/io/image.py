"""An opened image: loaded lazily, every byte verified before it is handed out (docs/format.md,
section 2).
"""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from aipimage.errors import AipImageError, FormatError, IntegrityError, RequestError
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header
from aipimage.format.record import NO_REFERENCE, Reference, decode_record_header
from aipimage.format.seal import Seal, decode_seal
from aipimage.format.segments import decode_segments
from aipimage.format.trailer import Trailer, decode_trailer
from aipimage.io.cache import FrameCache
from aipimage.io.device import Device
from aipimage.io.instream import InStream, open_stream
from aipimage.io.keys import ChainKeys, Suite
from aipimage.io.opening import read_header, unlock_header
from aipimage.io.pipeline import default_threads
from aipimage.io.records import RecordReader
from aipimage.io.segmentmap import SegmentMap
from aipimage.io.storage import DEFAULT, Storage
from aipimage.io.trees import FrameTable

if TYPE_CHECKING:
    from aipimage.io.progress import ProgressCallback
    from aipimage.io.restore import RestoreResult
    from aipimage.io.verify import VerifyResult

DEFAULT_CACHE = 32 << 20
_TAIL = 65_536


class Image:
    """One image file (or set of parts), opened for reading. Use it as a context manager.

    Safe for threads: several may read its devices at once. Get one from :func:`aipimage.open`.

    Attributes:
        path: of the file, of the first part where it is split.
        devices: the imaged disks and volumes, in order.
    """

    def __init__(
        self, stream: InStream, header: Header, trailer: Trailer, seal: Seal,
        keys: ChainKeys | None, records: RecordReader, segments: SegmentMap, cache_bytes: int,
    ) -> None:  # fmt: skip
        self.path = stream.name
        self.stream, self.header, self.trailer, self.seal, self.keys = (
            stream,
            header,
            trailer,
            seal,
            keys,
        )
        self.records, self._segments = records, segments
        self.cache = FrameCache(cache_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] | None = None
        self.tables = [
            FrameTable(records, o.origin, o.table_root, o.frame_count, header.frame_size)
            for o in seal.origins
        ]
        self._origins = {o.origin: index for index, o in enumerate(seal.origins)}
        self.devices: tuple[Device, ...] = tuple(
            Device(self, index, entry, self._origins) for index, entry in enumerate(seal.devices)
        )

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<aipimage.Image {self.path!r} {self.kind} {self.image_id}>"

    def close(self) -> None:
        """Close all files. Devices and open device files cannot be read afterwards."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self.stream.close()

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
        if self._metadata is None:
            self._metadata = {
                "description": self._read_metadata(self.seal.description),
                "result": self._read_metadata(self.seal.result),
            }
        return self._metadata

    def _read_metadata(self, ref: Reference) -> dict[str, Any]:
        plain = bytes(self.records.fetch(ref, RecordType.METADATA).plain)
        if len(plain) > c.METADATA_MAX:
            raise FormatError(f"{self.path}: the metadata is over {c.METADATA_MAX} bytes")
        _check_depth(plain, self.path)
        try:
            values = json.loads(plain)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{self.path}: the metadata is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise FormatError(f"{self.path}: the metadata is not a JSON object")
        return values

    def reload_metadata(self) -> None:
        """Read the metadata again."""
        self._metadata = None
        _ = self.metadata

    # Reading

    def locate_address(self, origin: bytes, offset: int, length: int) -> int:
        """Where an address lies in this stream (section 9.3)."""
        return self._segments.locate(origin, offset, length)

    def read_stored(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` with stored bytes from an address on, and return it."""
        self.stream.pread_into(buffer, self._segments.locate(origin, offset, buffer.nbytes))
        return buffer

    def locate(self, ref: Reference) -> int:
        """Where a record lies in this stream."""
        return self._segments.locate(ref.origin, ref.offset, ref.record_length)

    def is_leaf(self, ref: Reference, leaf: RecordType) -> bool:
        """Whether the root of a tree is its only leaf (section 6.3)."""
        head = bytes(self.records.read(ref.origin, ref.offset, c.RECORD_HEADER))
        return decode_record_header(head, self.records.tag).type == leaf

    def frame(self, origin: int, number: int) -> memoryview:
        """Return the plain bytes of a frame, from the cache or verified and decoded."""
        return self.cache.get((origin, number), lambda: self._load_frame(origin, number))

    def _load_frame(self, origin: int, number: int) -> memoryview:
        ref = self.tables[origin].frame(number)
        opened = self.records.fetch(ref, RecordType.FRAME)
        if opened.header.number != number:
            raise IntegrityError(f"{self.path}: a frame bears another number than its place")
        return memoryview(opened.plain).cast("B")

    def prefetch(self, origin: int, number: int) -> None:
        """Begin to load a frame in the background, for somebody who reads on."""
        if number >= self.tables[origin].frame_count or (origin, number) in self.cache:
            return
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(
                    default_threads(), thread_name_prefix="aipimage-read"
                )
            self._pool.submit(self.frame, origin, number)

    def verify(
        self, *, sample: float | None = None, executor: Executor | None = None,
        threads: int | None = None, progress: ProgressCallback | None = None,
    ) -> VerifyResult:  # fmt: skip
        """Check everything that is stored against the seal (section 13).

        Args:
            sample: percent of the frames to check, over 0 to 100; ``None`` checks all, and every
                other byte too.
            executor: any ``concurrent.futures`` executor for the work; its workers must share this
                process's memory.

        Returns:
            what was checked and the damage that was found; damage is not raised.
        """
        from aipimage.io.verify import verify_image

        return verify_image(self, sample, executor, threads, progress)

    def restore(
        self, target: str | os.PathLike[str], *, device: int = 0, force: bool = False,
        set_size: bool = False, executor: Executor | None = None, threads: int | None = None,
        progress: ProgressCallback | None = None, storage: Storage = DEFAULT,
    ) -> RestoreResult:  # fmt: skip
        """Write a device back to a file or a block device; every frame is verified before it is
        written.

        Args:
            device: number of the device in the image.
            force: also write over a file that is not empty. A mounted device is refused all the
                same.
            set_size: give an existing file that is larger than the device the device's size.

        Raises:
            TargetError: the target is mounted, too small or not empty; nothing was written.
            RequestError: there is no such device.
            IntegrityError: stored bytes are damaged.
        """
        from aipimage.io.restore import restore_device

        if not 0 <= device < len(self.devices):
            raise RequestError(f"{self.path}: has no device {device}; it has {len(self.devices)}")
        return restore_device(
            self, device, os.fspath(target), force, set_size, executor, threads, progress, storage
        )


def open_image(
    path: str | os.PathLike[str], password: str | None = None, *,
    expected_digest: str | None = None, cache_bytes: int = DEFAULT_CACHE,
    storage: Storage = DEFAULT,
) -> Image:  # fmt: skip
    """Open an image; the public form is :func:`aipimage.open`."""
    stream = open_stream(storage, os.fspath(path))
    try:
        return _opened(stream, password, expected_digest, cache_bytes)
    except BaseException:
        stream.close()
        raise


def _opened(
    stream: InStream, password: str | None, expected_digest: str | None, cache_bytes: int
) -> Image:
    header = read_header(stream)
    tail = _Tail(stream)
    try:
        end = tail.read(max(0, stream.size - c.TRAILER), min(c.TRAILER, stream.size))
        trailer = decode_trailer(memoryview(end), stream.size)
        _check_twins(header, trailer)
        if expected_digest is not None and trailer.seal.digest.hex() != expected_digest.lower():
            raise IntegrityError("is not the image that was expected: its digest differs")
    except AipImageError as error:
        raise type(error)(f"{stream.name}: {error}") from error
    keys = unlock_header(stream, header, password)
    try:
        local = RecordReader(lambda _, offset, length: tail.read(offset, length), keys)
        seal = decode_seal(local.fetch(trailer.seal, RecordType.SEAL).plain)
        _check_seal(seal, header, trailer)
        segments = SegmentMap(_segments(local, trailer), header.file_id, stream.size)
    except AipImageError as error:
        raise type(error)(f"{stream.name}: {error}") from error
    records = RecordReader(
        lambda origin, offset, length: tail.read(segments.locate(origin, offset, length), length),
        keys,
    )
    return Image(stream, header, trailer, seal, keys, records, segments, cache_bytes)


def _segments(local: RecordReader, trailer: Trailer) -> list[Any]:
    if trailer.segments == NO_REFERENCE:
        return []
    plain = local.fetch(trailer.segments, RecordType.SEGMENTS).plain
    return decode_segments(memoryview(plain), trailer.stream_length)


class _Tail:
    """Reads the stream; its last 64 KiB are read once, because the roots of all trees lie there."""

    def __init__(self, stream: InStream) -> None:
        self._stream = stream
        self._start = max(0, stream.size - _TAIL)
        self._data = stream.pread(stream.size - self._start, self._start)

    def read(self, offset: int, length: int) -> bytearray:
        """Return exactly ``length`` bytes."""
        inside = offset - self._start
        if inside >= 0 and inside + length <= len(self._data):
            return self._data[inside : inside + length]
        return self._stream.pread(length, offset)


def _check_twins(header: Header, trailer: Trailer) -> None:
    if (header.file_id, header.header_digest) != (trailer.file_id, trailer.header_digest):
        raise FormatError("header and trailer belong to different images")
    if trailer.seal.offset + trailer.seal.record_length != trailer.stream_length - c.TRAILER:
        raise FormatError("the seal is not the last record before the trailer")


def _check_seal(seal: Seal, header: Header, trailer: Trailer) -> None:
    found = (seal.image_id, seal.chain_id, seal.header_digest)
    if found != (trailer.image_id, header.chain_id, header.header_digest):
        raise FormatError("the seal belongs to another image")
    if trailer.seal.origin != seal.image_id:
        raise FormatError("the seal was written by another run than it says")


def _check_depth(text: bytes, path: str) -> None:
    """Refuse deeply nested JSON before a recursive parser sees it."""
    depth, inside = 0, False
    position = 0
    while position < len(text):
        byte = text[position]
        if inside and byte == 0x5C:
            position += 1
        elif byte == 0x22:
            inside = not inside
        elif not inside and byte in b"[{":
            depth += 1
            if depth > c.METADATA_DEPTH:
                raise FormatError(f"{path}: the metadata is nested over {c.METADATA_DEPTH} deep")
        elif not inside and byte in b"]}":
            depth -= 1
        position += 1
