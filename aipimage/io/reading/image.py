"""An opened image: loaded lazily, every byte verified before it is handed out (docs/format.md,
section 2).
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from aipimage import checks
from aipimage.errors import (
    AipImageError,
    FormatError,
    IntegrityError,
    OptionError,
    RequestError,
    naming,
)
from aipimage.extents import SECTOR, Extent, Kind
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header
from aipimage.format.metadata import decode_metadata
from aipimage.format.origins import OriginEntry
from aipimage.format.record import Reference
from aipimage.format.seal import Seal
from aipimage.format.trailer import Trailer
from aipimage.io.index.origins import Origins
from aipimage.io.index.trees import FrameTables
from aipimage.io.reading.device import Device
from aipimage.io.reading.members import ForeignFiles, MemberFiles, searched
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.records.records import RecordReader
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header, unlock_header
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import heal_record, healed_warnings, metadata_copies
from aipimage.io.stream.tail import Tail, check_header_keys, check_twins
from aipimage.io.system.cache import FrameCache
from aipimage.io.system.defaults import DEFAULT_CACHE
from aipimage.io.system.pipeline import default_threads
from aipimage.io.system.storage import DEFAULT, Storage, chosen

if TYPE_CHECKING:
    from concurrent.futures import Executor, ThreadPoolExecutor

    from aipimage.io.chain.chain import Chain
    from aipimage.io.checking.verify import VerifyResult
    from aipimage.io.reading.restore import RestoreResult
    from aipimage.io.system.progress import ProgressCallback


class Image:
    """One image file (or set of parts), opened for reading. Use it as a context manager.

    Safe for threads: several may read its devices at once. Get one from :func:`aipimage.open`.

    Attributes:
        path: of the file, of the first part where it is split.
        devices: the imaged disks and volumes, in order.
    """

    def __init__(
        self,
        stream: InStream,
        header: Header,
        trailer: Trailer,
        seal: Seal,
        keys: ChainKeys | None,
        tail: Tail,
        segments: SegmentMap,
        cache_bytes: int,
        files: MemberFiles,
    ) -> None:
        self.path = stream.name
        self.stream, self.header, self.trailer, self.seal, self.keys = (
            stream,
            header,
            trailer,
            seal,
            keys,
        )
        self.segments, self.files, self._tail = segments, files, tail
        self.foreign = ForeignFiles(files, header, keys, stream.name)
        # Not a reference to the image: what a dropped image held open is given up by itself.
        self.foreign.explain = partial(_explained, weakref.ref(self))
        self.records = RecordReader(self._read, keys)
        self.records.hint, self.records.name_of = self.foreign.hint, self._held_in
        self.cache = FrameCache(cache_bytes)
        self._held = _Held(stream, self.foreign)
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] | None = None
        self._warnings: tuple[str, ...] = ()
        self._chain: Chain | None = None
        self.origins = Origins(seal.origins, self.foreign.hint)
        self.tables = FrameTables(self.records, self.origins, header.frame_size, self.path)
        self.devices: tuple[Device, ...] = tuple(
            Device(self, index, entry, self.origins) for index, entry in enumerate(seal.devices)
        )
        self._dropped = weakref.finalize(self, self._held.give_up)
        self._dropped.atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<aipimage.Image {self.path!r} {self.kind} {self.image_id}>"

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
        if self._metadata is None:
            told: list[str] = []
            places = zip(("description", "result"), self._metadata_places(), strict=True)
            self._metadata = {
                name: self._metadata_or_none(name, *place, told) for name, place in places
            }
            self._warnings = tuple(told)
        return self._metadata

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about damage that keeps nothing of the devices from being read: what was read
        from its copy in the spare area, and what could not be read of :attr:`metadata`, once that
        was asked for (section 10.1).
        """
        return (*healed_warnings(self.path, self.stream.healed), *self._warnings)

    def metadata_references(self) -> tuple[Reference, Reference]:
        """To description and result."""
        return self.seal.description, self.seal.result

    def _metadata_places(self) -> list[tuple[Reference, int]]:
        """Reference and place of the copy, of description and result."""
        references = self.metadata_references()
        return list(zip(references, metadata_copies(self.trailer, *references), strict=True))

    def _metadata_or_none(
        self, name: str, ref: Reference, copy: int, told: list[str]
    ) -> dict[str, Any]:
        """What a metadata record says; nothing, and a warning, where it cannot be read: no
        restore needs it (section 9.2).
        """
        try:
            return self._small_metadata(ref, copy)
        except (FormatError, IntegrityError) as error:
            text = str(error).removeprefix(f"{self.path}: ")
            told.append(
                f"{self.path}: its {name} cannot be read, the data is not concerned: {text}; "
                "repair the image to get a whole one"
            )
        return {}

    def _small_metadata(self, ref: Reference, copy: int) -> dict[str, Any]:
        """A metadata record, or its copy in the spare area where it is damaged."""
        try:
            return self._read_metadata(ref)
        except IntegrityError:
            kind, tag = RecordType.METADATA, self.records.tag
            if not self.segments.holds(ref.origin) or not heal_record(
                self.stream, ref, kind, self.locate(ref), copy, tag
            ):
                raise
        return self._read_metadata(ref)

    def _read_metadata(self, ref: Reference) -> dict[str, Any]:
        with naming(self.path):
            return decode_metadata(self.records.fetch(ref, RecordType.METADATA).plain)

    def reload_metadata(self) -> None:
        """Read the metadata again.

        Raises:
            IntegrityError, FormatError: it is damaged in both its places, or never was valid.
        """
        for ref, copy in self._metadata_places():
            self._small_metadata(ref, copy)

    @property
    def created(self) -> datetime | None:
        """The time that the content is from, in UTC; of a merged image that of the last one that
        it stands for. ``None`` where nothing readable says it.
        """
        from aipimage.io.chain.files import created_of

        self.check_open()
        return created_of(self)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that it was given when it was made."""
        from aipimage.io.chain.files import tags_of

        self.check_open()
        return dict(tags_of(self))

    def __dir__(self) -> list[str]:
        return sorted({*_PUBLIC, *(name for name in type(self).__dict__ if name[0] != "_")})

    @property
    def chain(self) -> Chain:
        """The chain that the image belongs to, found by ids in the directories that are searched;
        looked for when it is first asked for.

        Raises:
            LimitError: over 4096 images belong to it. StorageError: a directory cannot be listed.
        """
        self.check_open()
        if self._chain is None:
            from aipimage.io.chain.chain import chain_of

            self._chain = chain_of(self)
            self.check_open()
        return self._chain

    def _missing_member(self) -> str | None:
        """Which image of the chain is missing or wrong, to end a message with."""
        try:
            self.chain.check()
        except AipImageError as error:
            return f"; {error}"
        return None

    def extents(self, device: int = 0, kind: Kind | None = None) -> Iterator[Extent]:
        """Yield what a device holds as extents in bytes, see :meth:`aipimage.Device.extents`.

        Raises:
            RequestError: there is no such device.
        """
        checks.instance("kind", kind, (Kind, type(None)), "a Kind, or None for all")
        return self._device(device).extents(kind)

    def diff(self, other: Image, *, device: int = 0) -> Iterator[Extent]:
        """Yield in bytes where a device may differ from what it is in ``other``, an earlier or
        later image of the same chain; only the maps are read, and of them only what differs.

        The kind is that of this image; unused and zero read alike and do not differ. What this
        device has beyond the end of the other one differs.

        Raises:
            RequestError: one of them has no such device, or they are of different chains.
        """
        from aipimage.io.index.diff import diff_maps

        checks.instance("other", other, Image, "another opened image of the chain")
        if other.seal.chain_id != self.seal.chain_id:
            raise RequestError(f"{self.path} and {other.path}: are not of the same chain")
        new, old = self._device(device), other._device(device)
        runs = diff_maps(new.map, new.entry, self.origins, old.map, old.entry, other.origins)
        return self._while_open(other, new.size, runs)

    def _while_open(
        self, other: Image, size: int, runs: Iterable[tuple[int, int, int]]
    ) -> Iterator[Extent]:
        """Runs of sectors as extents in bytes, as long as both images are open."""
        self._check_both(other)
        for at, count, kind in runs:
            yield Extent(at * SECTOR, min(count * SECTOR, size - at * SECTOR), Kind(kind))
            self._check_both(other)

    def _check_both(self, other: Image) -> None:
        self.check_open()
        other.check_open()

    def _device(self, device: int) -> Device:
        self.check_open()
        device = checks.whole("device", device, -checks.SIZE_MAX)
        if not 0 <= device < len(self.devices):
            raise OptionError(
                f"{self.path}: has no device {device}; it has {len(self.devices)}, numbered from 0"
            )
        return self.devices[device]

    # Reading

    def locate_address(self, origin: bytes, offset: int, length: int) -> int:
        """Where an address lies in this stream (section 9.3)."""
        with naming(self.path):
            return self.segments.locate(origin, offset, length)

    def _read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Stored bytes of a page or record, from this file or from another one of its chain."""
        with self.stream.gate:
            if self.segments.holds(origin):
                return self._tail.read(self.locate_address(origin, offset, length), length)
            return self.foreign.read(origin, offset, length)

    def read_stored(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` with stored bytes from an address on, and return it."""
        with self.stream.gate:
            if self.segments.holds(origin):
                self.stream.pread_into(buffer, self.locate_address(origin, offset, buffer.nbytes))
            else:
                self.foreign.read_into(origin, offset, buffer)
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
        return self.cache.get((origin, number), lambda: self._load_frame(origin, number))

    def _load_frame(self, origin: int, number: int) -> memoryview:
        ref = self.tables[origin].frame(number)
        opened = self.records.fetch(ref, RecordType.FRAME)
        if opened.header.number != number:
            raise FormatError(f"{self.path}: a frame bears another number than its place")
        return memoryview(opened.plain).cast("B")

    def prefetch(self, origin: int, number: int) -> None:
        """Begin to load a frame in the background, for somebody who reads on."""
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

    def verify(
        self,
        *,
        chain: bool = False,
        sample: float | None = None,
        executor: Executor | None = None,
        threads: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> VerifyResult:
        """Check everything that is stored in the image's own file against the seal (section 13),
        and all pages of its map, wherever they lie.

        Args:
            chain: also check every image that this one cannot be read without, each as it is and as
                the parent it should be, and that all data of this one's map is there.
            sample: percent of the frames to check, over 0 to 100; ``None`` checks all, and every
                other byte too.
            executor: any ``concurrent.futures`` executor for the work; its workers must share this
                process's memory.

        Returns:
            what was checked and the damage that was found; damage is not raised.
        """
        from aipimage.io.checking.verify import verify_image

        self.check_open()
        checks.flags(chain=chain)
        checks.jobs(executor, progress)
        threads = checks.threads(threads)
        if sample is not None:
            sample = checks.number("sample", sample, 0, 100, above=True)
        return verify_image(self, sample, executor, threads, progress, chain=chain)

    def restore(
        self,
        target: str | os.PathLike[str],
        *,
        device: int = 0,
        force: bool = False,
        set_size: bool = False,
        executor: Executor | None = None,
        threads: int | None = None,
        progress: ProgressCallback | None = None,
        storage: Storage | None = None,
    ) -> RestoreResult:
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
        from aipimage.io.reading.restore import restore_device

        self._device(device)
        checks.path("target", target)
        checks.flags(force=force, set_size=set_size)
        checks.jobs(executor, progress)
        return restore_device(
            self,
            device,
            os.fspath(target),
            force,
            set_size,
            executor,
            checks.threads(threads),
            progress,
            chosen(storage),
        )


_PUBLIC = (
    "path", "devices", "close", "closed", "image_id", "chain_id", "digest", "kind", "sequence",
    "parent_id", "encryption", "stored", "parts", "metadata", "created", "tags", "chain", "extents",
    "diff", "verify", "restore",
)  # fmt: skip
"""What is shown of an image; the rest is for the library."""


class _Held:
    """What an image holds open. It refers to no image, so that one which is dropped without being
    closed can be collected.
    """

    def __init__(self, stream: InStream, foreign: ForeignFiles) -> None:
        self._stream, self._foreign = stream, foreign
        self.pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Close all files; nobody reads any more."""
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


def _explained(image: weakref.ref[Image]) -> str | None:
    """Which image of the chain is missing or wrong, to end a message with."""
    found = image()
    return found._missing_member() if found is not None else None


def _load_ahead(image: weakref.ref[Image], origin: int, number: int) -> None:
    """In a thread that reads ahead: what fails here fails again for whoever wants the frame."""
    found = image()
    if found is not None:
        with contextlib.suppress(AipImageError):
            found.frame(origin, number)


def open_image(
    path: str | os.PathLike[str],
    password: str | None = None,
    *,
    expected_digest: str | None = None,
    cache_bytes: int = DEFAULT_CACHE,
    search: Sequence[str | os.PathLike[str]] | None = None,
    storage: Storage = DEFAULT,
    keys: ChainKeys | None = None,
    files: MemberFiles | None = None,
    make: type[Image] = Image,
) -> Image:
    """Open an image; the public form is :func:`aipimage.open`.

    Args:
        keys: of the chain, where another of its images was unlocked already; then no password is
            needed.
        files: of the directories to search, where somebody looked at them already.
        make: the class of the result.
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
        return _opened(stream, password, keys, expected_digest, cache_bytes, files, make)
    except BaseException:
        stream.close()
        raise


def _opened(
    stream: InStream,
    password: str | None,
    keys: ChainKeys | None,
    expected_digest: str | None,
    cache_bytes: int,
    files: MemberFiles,
    make: type[Image],
) -> Image:
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
    return make(stream, header, trailer, seal, keys, tail, segments, cache_bytes, files)
