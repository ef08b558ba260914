"""Creating an image: plan, pack on worker threads, write in order, seal, rename.

The pipeline is described in docs/architecture.md.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from aipimage import checks
from aipimage.errors import OptionError, PasswordError, RequestError, SourceError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind, Incompatible
from aipimage.format.header import Header
from aipimage.format.keyarea import SLOTS, STATE_PASSWORD, STATE_RECOVERY, KeyArea, Slot
from aipimage.io.blocks.ratedsource import RatedSource
from aipimage.io.blocks.sources import BlockSource, open_source, place_of
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.io.creating.checkpoints import Checkpointer
from aipimage.io.creating.described import fitting_devices, fitting_texts
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter, PlaceInChain, sealed_header
from aipimage.io.creating.packer import CLUSTER, Batch, PackedBatch, Packer, Turns
from aipimage.io.creating.reopen import reopen_partial
from aipimage.io.creating.resume import ResumedState
from aipimage.io.creating.target import open_target
from aipimage.io.records import keys as keyring
from aipimage.io.records.codec import parse_compression
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.running import Running
from aipimage.io.stream.opening import read_key_area
from aipimage.io.stream.outstream import OutStream, PipeStream
from aipimage.io.system import entropy
from aipimage.io.system.defaults import DEFAULT_FRAME_SHIFT
from aipimage.io.system.notices import with_notices
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import ProgressCallback, RateLimit, Reporter
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.version import __version__

if TYPE_CHECKING:
    from aipimage.io.increment.parent import Parent

SourceLike = str | os.PathLike[str] | BinaryIO | BlockSource
BATCH = 4 << 20
"""Bytes of a device that a worker takes at a time, or a stripe where that is smaller."""
_MORE = 2
"""Batches in flight beyond the usual: what is not compressed is done far sooner than the rest, and
while a slow batch is waited for in order the workers would have nothing to do.
"""
KINDS = ("full", "incremental", "differential")
COMPARISONS = ("auto", "digests", "data")
GRAINS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What :func:`create` was asked for; the fields are its arguments.

    ``prepare`` takes the number of a source and the source, and returns what is imaged in its
    place: a :class:`~aipimage.io.blocks.usedsource.UsedSource` where free space is to be left out.
    """

    compress: str = "zstd"
    encrypt: str | None = None
    password: str | None = field(default=None, repr=False)
    recovery_key: str | None = field(default=None, repr=False)
    split: int | None = None
    comment: str = ""
    rate: int | None = None
    threads: int | None = None
    block_digests: bool = True
    stop_on_error: bool = False
    overwrite: bool = False
    resume: bool = False
    checkpoint_bytes: int = 1 << 30
    checkpoint_seconds: float = 30.0
    frame_shift: int = DEFAULT_FRAME_SHIFT
    stripe_shift: int = 22
    kind: str | None = None
    parent: str | os.PathLike[str] | None = None
    changed: object = None
    compare: str = "auto"
    grain: int = CLUSTER
    search: Sequence[str | os.PathLike[str]] | None = None
    prepare: Callable[[int, BlockSource], BlockSource] | None = None
    created: datetime | None = None
    tags: Mapping[str, str] | None = None
    argon2: keyring.Argon2Parameters = keyring.DEFAULT_PARAMETERS


class FullBegunError(RequestError):
    """What is to be resumed is a full image that was begun in place of the one asked for, because
    the parent could not be read.
    """


class DeviceChanges(NamedTuple):
    """How an increment found out what changed on one device.

    Attributes:
        method: ``"tracked"``: the ranges given; ``"digests"``: block digests of the parent;
            ``"data"``: the parent's data; ``"full"``: everything was taken.
        read: bytes read from the source for it, without the sample. changed: bytes that were taken
            as changed, in whole clusters; told changes are taken as they were told, and what became
            free is not counted.
        reason: why not a better method, where there is something to tell; else ``None``.
    """

    method: str
    read: int
    changed: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What was made.

    Attributes:
        path: of the image, or ``None`` where it went into a pipe.
        image_id: as hexadecimal digits. digest: the image digest (docs/format.md, section 9),
            likewise: keep it elsewhere and give it as ``expected_digest`` to recognise the image
            later.
        size: bytes of all sources. data, zero, unreadable: bytes of each kind.
        stored: bytes of the stream. parts: number of files. seconds: wall time.
        unreadable_ranges: (device, offset, length) in bytes. resumed: whether earlier work was
            continued.
        parent_id: of an image with a parent; ``None`` where it begins a chain. sequence: its place
            in the chain, from 0. changes: one a source.
    """

    path: str | None
    image_id: str
    digest: str
    kind: str
    size: int
    data: int
    zero: int
    unreadable: int
    stored: int
    parts: int
    seconds: float
    unreadable_ranges: tuple[tuple[int, int, int], ...]
    resumed: bool
    warnings: tuple[str, ...] = ()
    parent_id: str | None = None
    sequence: int = 0
    changes: tuple[DeviceChanges, ...] = ()


@with_notices
def create_image(
    target: str | os.PathLike[str] | BinaryIO,
    sources: Sequence[SourceLike],
    options: CreateOptions,
    progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> CreateResult:
    """Image ``sources`` into ``target``; the public form is :func:`aipimage.create`."""
    options = checked_types(options, target, progress)
    check_options(options, target)
    if not sources:
        raise RequestError("no source was given")
    if len(sources) > c.DEVICES_MAX:
        raise RequestError(f"{len(sources)} sources are over the limit of {c.DEVICES_MAX}")
    with ExitStack() as stack:
        opened = [
            _opened(stack, source, number, options, storage, progress)
            for number, source in enumerate(sources)
        ]
        _refuse_source_as_target(target, opened, storage)
        if options.parent is not None:
            from aipimage.io.increment.job import create_in_chain

            return create_in_chain(target, opened, options, progress, storage)
        return CreateJob(target, opened, options, progress, storage).run()


def checked_types(options: CreateOptions, target: object, progress: object) -> CreateOptions:
    """The options with sizes as numbers; each is of its type and within its bounds.

    Raises:
        OptionTypeError, OptionError: one is not; it is named.
    """
    if checks.is_path(target):
        checks.path("path", target)
    elif not callable(getattr(target, "write", None)):
        raise checks.wrong_type("path", target, "a path, or a binary file object to write to")
    checks.texts(compress=options.compress, comment=options.comment, compare=options.compare)
    checks.optional_texts(encrypt=options.encrypt, kind=options.kind)
    checks.secrets(password=options.password, recovery_key=options.recovery_key)
    checks.flags(
        block_digests=options.block_digests,
        stop_on_error=options.stop_on_error,
        overwrite=options.overwrite,
        resume=options.resume,
    )
    checks.jobs(None, progress)
    if options.parent is not None:
        checks.path("parent", options.parent)
    checks.paths("search", options.search)
    if options.created is not None:
        checks.moment("created", options.created)
    if options.tags is not None:
        checks.tags("tags", options.tags)
    return replace(
        options,
        split=checks.optional_size("split", options.split),
        rate=checks.optional_size("rate", options.rate),
        threads=checks.threads(options.threads),
        checkpoint_bytes=checks.size("checkpoint_bytes", options.checkpoint_bytes, 0),
        checkpoint_seconds=checks.number("checkpoint_seconds", options.checkpoint_seconds, 0, 1e12),
        frame_shift=checks.whole("frame_shift", options.frame_shift),
        grain=checks.whole("grain", options.grain),
    )


def check_options(options: CreateOptions, target: object) -> None:
    """Refuse what cannot be done before anything is opened or written."""
    parse_compression(options.compress)
    suite = Suite.parse(options.encrypt)
    _check_chain_options(options)
    if suite == Suite.NONE and options.password is not None and options.parent is None:
        raise PasswordError(
            "a password was given without encryption; choose aes-128, aes-256 or authenticate",
            "unwanted",
        )
    if suite != Suite.NONE and options.password is None:
        raise PasswordError(f"{options.encrypt} needs a password", "missing")
    if options.password is not None:
        keyring.normalised(options.password)
    if not 12 <= options.frame_shift <= 22 or not options.frame_shift < options.stripe_shift:
        raise OptionError("the frame size must be 4 KiB to 4 MiB and smaller than a stripe")
    if not isinstance(target, (str, os.PathLike)) and (options.split or options.resume):
        raise RequestError("an image that is written to a pipe cannot be split or resumed")


def _refuse_source_as_target(
    target: object, sources: Sequence[BlockSource], storage: Storage
) -> None:
    if not isinstance(target, (str, os.PathLike)) or not storage.exists(target):
        return
    place = storage.resolve(target)
    for source in sources:
        if storage.resolve(source.name) == place:
            raise RequestError(
                f"{os.fspath(target)}: is the source itself; give the image another name"
            )


def _check_chain_options(options: CreateOptions) -> None:
    if options.kind not in (None, *KINDS):
        raise OptionError(f"unknown kind {options.kind!r}: use one of {', '.join(KINDS)}")
    if options.compare not in COMPARISONS:
        raise OptionError(
            f"unknown comparison {options.compare!r}: use one of {', '.join(COMPARISONS)}"
        )
    if options.grain not in GRAINS:
        raise OptionError(f"a grain of {options.grain} bytes is not possible: use one of {GRAINS}")
    if options.parent is None and options.kind not in (None, "full"):
        raise RequestError(
            f"an image of kind {options.kind} needs a parent: give an image, or the directory of "
            "its chain"
        )
    if options.changed is not None and (options.parent is None or options.kind == "full"):
        raise RequestError("what changed is of use only for an incremental or differential image")


def _opened(
    stack: ExitStack,
    source: SourceLike,
    number: int,
    options: CreateOptions,
    storage: Storage,
    progress: ProgressCallback | None,
) -> BlockSource:
    opened = open_source(source, storage)
    if opened is not source:
        stack.callback(opened.close)
    if not 0 < opened.size <= c.DEVICE_SIZE_MAX:
        raise RequestError(
            f"{opened.name}: has a size of {opened.size} bytes; there is nothing to image"
        )
    if options.prepare is None:
        return opened
    if options.rate is None:
        return options.prepare(number, opened)
    reporter = Reporter("create", opened.size, progress)
    rated = RatedSource(opened, RateLimit(options.rate), reporter.again)
    with rated.limited():
        return options.prepare(number, rated)


class CreateJob:
    """One run of :func:`create_image`: a full image, that begins a chain or stands inside of one.

    Args:
        parent: what it stands behind in its chain. reason: why it is full although an increment
            was asked for.
    """

    kind = ImageKind.FULL

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        sources: list[BlockSource],
        options: CreateOptions,
        progress: ProgressCallback | None,
        storage: Storage,
        parent: Parent | None = None,
        reason: str | None = None,
    ) -> None:
        self._parent, self._reason = parent, reason
        self._target, self._sources, self._options = target, sources, options
        self._storage, self._level = storage, parse_compression(options.compress)
        self._total = sum(source.size for source in sources)
        self._reporter = Reporter("create", self._total, progress)
        self._limit = RateLimit(options.rate)
        self._unreadable: list[tuple[int, int, int]] = []
        sizes = [source.size for source in sources]
        self._bases = [sum(sizes[:device]) for device in range(len(sizes))]
        self._batches = 0
        self._turns = Turns()

    def run(self) -> CreateResult:
        """Create, or clean up and raise."""
        resumed = self._reopen() if self._options.resume else None
        stream, writer = self._resumed_writer(resumed) if resumed else self._new_writer()
        self._stream = stream
        try:
            return self._write(writer, resumed)
        except BaseException as error:
            # A partial file is kept only where a later resume can use it: never after a failed
            # sync, because what is on the disk is then not known.
            stream.abort(keep=_worth_keeping(self._checkpoints))
            if isinstance(error, SourceError) and isinstance(self._turns.error, Exception):
                raise self._turns.error from None
            raise

    # Beginning

    def _new_writer(self) -> tuple[OutStream, ImageWriter]:
        numbers = RecordNumbers()
        options = self._options
        keys, key_area, header = self._secured(numbers.origin)
        stream: OutStream
        if isinstance(self._target, (str, os.PathLike)):
            path = os.fspath(self._target)
            stream = open_target(
                self._storage, path, numbers.origin, options.split, options.overwrite
            )
        else:
            stream = PipeStream(self._target)
        writer = ImageWriter(stream, header, keys, numbers, Running(header.header_digest))
        self._checkpoints = Checkpointer(
            writer, options.checkpoint_bytes, options.checkpoint_seconds
        )
        try:
            writer.write_header(key_area)
            self._description_values = self._describe()
            self._description = writer.write_metadata(self._description_values)
        except BaseException:
            stream.abort(keep=False)
            raise
        return stream, writer

    def _secured(self, file_id: bytes) -> tuple[ChainKeys | None, KeyArea | None, Header]:
        """Keys, key area and header: those of the chain, or new ones for a new chain."""
        if self._parent is not None:
            image = self._parent.image
            keys = image.keys
            area = read_key_area(image.stream, image.header)[0] if keys else None
            suite = keys.suite if keys else Suite.NONE
            header = self._header(file_id, image.header.chain_id, suite)
            shifts = image.header
            header = replace(
                header,
                frame_shift=shifts.frame_shift,
                stripe_shift=shifts.stripe_shift,
                fanout_shift=shifts.fanout_shift,
            )
            return keys, replace(area, generation=1) if area else None, sealed_header(header, keys)
        suite, chain_id = Suite.parse(self._options.encrypt), entropy.new_id()
        chain_key = keyring.new_chain_key() if suite else b""
        keys = ChainKeys(chain_key, chain_id, suite) if suite else None
        header = self._header(file_id, chain_id, suite)
        return keys, self._key_area(chain_key, chain_id), sealed_header(header, keys)

    def _header(self, file_id: bytes, chain_id: bytes, suite: Suite) -> Header:
        incompatible = Incompatible(0) if self._level is None else Incompatible.ZSTD
        if suite:
            incompatible |= Incompatible.SEALED_RECORDS
        digests = Compatible.BLOCK_DIGESTS if self._options.block_digests else Compatible(0)
        return Header(
            file_id,
            chain_id,
            entropy.now_us(),
            suite,
            int(incompatible),
            int(digests | Compatible.CHECKPOINTS),
            self._options.frame_shift,
            self._options.stripe_shift,
            creator=f"aipimage {__version__}",
        )

    def _key_area(self, chain_key: bytes, chain_id: bytes) -> KeyArea | None:
        options = self._options
        if options.password is None:
            return None
        wanted = [(options.password, STATE_PASSWORD)]
        if options.recovery_key is not None:
            wanted.append((options.recovery_key, STATE_RECOVERY))
        slots: list[Slot | None] = [
            keyring.wrap_chain_key(
                secret, chain_key, chain_id, state=state, parameters=options.argon2
            )
            for secret, state in wanted
        ]
        return KeyArea(1, chain_id, tuple(slots + [None] * (SLOTS - len(slots))))

    def _describe(self) -> dict[str, Any]:
        devices = [
            {
                "name": os.path.basename(source.name) or source.name,
                "source": place_of(source),
                "size": source.size,
                "sector_size": source.sector_size,
                "fingerprint": source.fingerprint(),
                "volumes": [],
                **(source.layout if isinstance(source, UsedSource) else {}),
            }
            for source in self._sources
        ]
        return {
            "created": _created_text(self._options.created),
            "tool": f"aipimage {__version__}",
            "host": platform.node(),
            "comment": self._options.comment,
            "kind": self.kind.name.lower(),
            "devices": fitting_devices(devices),
            **({"tags": dict(self._options.tags)} if self._options.tags else {}),
            **(self._parent.describe() if self._parent else {}),
            **({"instead_of": self._instead_of} if self._parent and self._reason else {}),
        }

    @property
    def _instead_of(self) -> str:
        """The kind that was asked for, where a full image is made all the same."""
        return self._options.kind or "incremental"

    # Resuming

    def _reopen(self) -> ResumedState | None:
        assert isinstance(self._target, (str, os.PathLike))
        path = os.fspath(self._target)
        return reopen_partial(
            self._storage,
            path,
            self._sources,
            self._options,
            self._parent.image.keys if self._parent else None,
            self._parent is not None,
            partial(self._check_same_place, path),
        )

    def _check_same_place(self, path: str, described: dict[str, Any]) -> None:
        """What was begun must have been of the same kind, with the same parent."""
        wanted: dict[str, Any] = {
            "kind": self.kind.name.lower(),
            "parent_id": None,
            "parent_digest": None,
        }
        wanted |= self._parent.describe() if self._parent else {}
        found = {name: described.get(name) for name in wanted}
        if found | {"kind": described.get("instead_of")} == wanted:
            raise FullBegunError(f"{path}.partial: was begun as a full image in place of this one")
        if found != wanted:
            raise RequestError(
                f"{path}.partial: was begun as another kind of image or on another parent; remove "
                "it, or create without resuming"
            )

    def _resumed_writer(self, state: ResumedState) -> tuple[OutStream, ImageWriter]:
        writer = state.writer
        self._checkpoints = Checkpointer(
            writer, self._options.checkpoint_bytes, self._options.checkpoint_seconds
        )
        self._description, self._description_values = state.description, state.description_values
        self._unreadable = state.unreadable
        return writer.stream, writer

    # The devices

    def _write(self, writer: ImageWriter, resumed: ResumedState | None) -> CreateResult:
        results = resumed.replay(self._sources) if resumed else []
        start = resumed.sector * SECTOR if resumed else 0
        packer = Packer(
            writer.records.numbers,
            writer.records.builder,
            self._level,
            writer.header.frame_size,
            bool(writer.header.compatible & Compatible.BLOCK_DIGESTS),
            self._options.stop_on_error,
            self._turns,
        )
        with executor_for(None, self._options.threads, "create") as (executor, in_flight):
            for device in range(len(results), len(self._sources)):
                source = self._sources[device]
                if resumed is None:
                    writer.begin_device(source.size, source)
                pieces = self._plan(device, source, start, 1 << writer.header.stripe_shift)
                work = _PackOne(packer, source)
                for packed in in_order(executor, work, pieces, in_flight + _MORE):
                    self._take(writer, packed)
                start = 0
                writer.add_gap(-(-source.size // SECTOR))
                results.append(writer.end_device(source.size, source.sector_size))
                resumed = None
        return self._finish(writer, results)

    def _plan(self, device: int, source: BlockSource, start: int, stripe: int) -> Iterator[Batch]:
        """Batches over the ranges that may hold data, at multiples of a block, none across a
        stripe.
        """
        at = start
        most = self._limit.piece(c.BLOCK, min(BATCH, stripe))
        for offset, length in source.data_ranges(start, source.size):
            at = max(at, offset - offset % c.BLOCK)
            end = min(-(-(offset + length) // c.BLOCK) * c.BLOCK, source.size)
            while at < end:
                size = min(end, at - at % most + most, at - at % stripe + stripe) - at
                self._limit.wait(size, self._reporter.again)
                yield Batch(self._batches, device, at, size)
                self._batches += 1
                at += size

    def _take(self, writer: ImageWriter, packed: PackedBatch) -> None:
        batch = packed.batch
        sector = batch.offset // SECTOR
        stripe = 1 << (writer.header.stripe_shift - 9)
        # A checkpoint lies where a stripe ended: its map leaf and its digest leaf are written then.
        if self._checkpoints.is_due() and sector // stripe > writer.position // stripe:
            writer.add_gap(sector - sector % stripe)
        if writer.position % stripe == 0 and self._checkpoints.is_due():
            self._checkpoints.write(batch.device, writer.position)
        writer.add_gap(sector)
        # A leaf of digests comes before the frames of the next stripe (section 8).
        writer.end_stripe_before(batch.offset // c.BLOCK)
        writer.add_frames(packed.data, packed.frames)
        packed.release()
        writer.add_extents(packed.extents)
        writer.add_digests(batch.offset // c.BLOCK, packed.digests)
        for offset, length in packed.unreadable:
            self._unreadable.append((batch.device, offset, length))
            self._checkpoints.note(
                batch.device, offset // SECTOR, -(-length // SECTOR), Kind.UNREADABLE
            )
        done = self._bases[batch.device] + batch.offset + batch.length
        self._reporter.report(done, self._stream.position)

    # The end

    def _finish(self, writer: ImageWriter, results: list[DeviceResult]) -> CreateResult:
        changes = self._changes(results)
        warnings = self._warnings()
        result = {
            "finished": entropy.time_text(entropy.now_us()),
            "unreadable": [
                [device, offset // SECTOR, -(-length // SECTOR)]
                for device, offset, length in self._unreadable[:1000]
            ],
            "warnings": fitting_texts(warnings),
            "resumed": len(writer.earlier),
            "changes": [each._asdict() for each in changes],
        }
        image_id = writer.records.origin
        place = self._place()
        digest = writer.finish(self._description, result, place, image_id)
        files = getattr(self._stream, "file_count", 1)
        self._stream.finish()
        self._reporter.report(self._total, self._stream.position, final=True)
        counts = [sum(r.counts[kind] for r in results) * SECTOR for kind in Kind]
        path = os.fspath(self._target) if isinstance(self._target, (str, os.PathLike)) else None
        return CreateResult(
            path, image_id.hex(), digest.hex(), place.kind.name.lower(), self._total,
            counts[Kind.DATA],
            counts[Kind.ZERO], counts[Kind.UNREADABLE], self._stream.position, files,
            time.monotonic() - self._reporter.started, tuple(self._unreadable),
            bool(writer.earlier), tuple(warnings),
            self._parent.image.image_id if self._parent else None, place.sequence,
            tuple(changes),
        )  # fmt: skip

    def _changes(self, results: list[DeviceResult]) -> list[DeviceChanges]:
        """What the result says of each device."""
        return [
            DeviceChanges("full", each.size, each.counts[Kind.DATA] * SECTOR, self._reason)
            for each in results
        ]

    def _place(self) -> PlaceInChain:
        if self._parent is None:
            return PlaceInChain()
        image = self._parent.image
        return PlaceInChain(
            self.kind,
            image.seal.image_id,
            image.trailer.seal.digest,
            image.seal.kind,
            image.seal.sequence + 1,
            image.seal.sequence,
        )

    def _warnings(self) -> list[str]:
        sectors = sum(-(-length // SECTOR) for _, _, length in self._unreadable)
        found = []
        if sectors:
            noun = "sector" if sectors == 1 else "sectors"
            found.append(f"{sectors} {noun} of the source could not be read")
        for source in self._sources:
            found += source.warnings if isinstance(source, UsedSource) else ()
        return found + ([f"a full image was made: {self._reason}"] if self._reason else [])


@dataclass(frozen=True, slots=True)
class _PackOne:
    packer: Packer
    source: BlockSource

    def __call__(self, batch: Batch) -> PackedBatch:
        return self.packer.pack(self.source, batch)


def _worth_keeping(checkpoints: Checkpointer) -> bool:
    return checkpoints.written > 0 and not checkpoints.untrusted


def _created_text(created: datetime | None) -> str:
    """The time of the point in time, as the description has it."""
    if created is None:
        return entropy.time_text(entropy.now_us())
    return created.astimezone(UTC).isoformat(timespec="seconds")
