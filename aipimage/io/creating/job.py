"""The creation of one full image: pack on worker threads, write in order, seal, rename.

docs/architecture.md describes the pipeline.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from aipimage.errors import RequestError, SourceError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind
from aipimage.format.header import Header
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.io.creating.checkpoints import Checkpointer
from aipimage.io.creating.described import (
    described_parent,
    described_sources,
    fitting_texts,
    time_of_content,
)
from aipimage.io.creating.finished import FinishedImage
from aipimage.io.creating.heading import (
    Protection,
    inherited_protection,
    new_header,
    new_protection,
    tool,
)
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter, PlaceInChain, sealed_header
from aipimage.io.creating.packer import Batch, PackedBatch, Packer, Turns
from aipimage.io.creating.reopen import FullBegunError, reopen_partial
from aipimage.io.creating.request import CreateRequest
from aipimage.io.creating.results import CreateResult, DeviceChanges
from aipimage.io.creating.resume import ResumedState
from aipimage.io.creating.target import open_target
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.codec import parse_compression
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.running import Running
from aipimage.io.stream.outstream import PARTIAL, OutStream, PipeStream
from aipimage.io.system import entropy
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import RateLimit, Reporter

BATCH = 4 << 20
"""Bytes of a device that a worker takes at a time, or a stripe where that is smaller."""
_MORE = 2
"""Batches in flight beyond the usual: what is not compressed is done far sooner than the rest, and
while a slow batch is waited for in order the workers would have nothing to do.
"""


class CreateJob:
    """One creation of a full image, which begins a chain or stands inside of one.

    Args:
        parent: the image before it in its chain, open; it stays open.
        reason: why it is full although an increment was asked for.
    """

    kind = ImageKind.FULL

    def __init__(
        self, request: CreateRequest, parent: ImageReader | None = None, reason: str | None = None
    ) -> None:
        self._request, self._parent, self._reason = request, parent, reason
        self._sources, self._options = request.sources, request.options
        self._level = parse_compression(self._options.compress)
        self._total = sum(source.size for source in self._sources)
        self._reporter = Reporter("create", self._total, request.progress)
        self._limit = RateLimit(self._options.rate)
        self._unreadable: list[tuple[int, int, int]] = []
        sizes = [source.size for source in self._sources]
        self._bases = [sum(sizes[:device]) for device in range(len(sizes))]
        self._batches = 0
        self._turns = Turns()

    def run(self) -> CreateResult:
        """Create, or clean up and raise."""
        resumed = self._reopen() if self._options.resume else None
        if isinstance(resumed, FinishedImage):
            return self._named(resumed)
        stream, writer = self._resumed_writer(resumed) if resumed else self._new_writer()
        self._stream = stream
        try:
            return self._write(writer, resumed)
        except BaseException as error:
            # A partial file is kept only where a later resume can use it: never after a failed
            # sync, because what is on the disk is then not known.
            stream.abort(keep=self._checkpoints.is_resumable)
            if isinstance(error, SourceError) and isinstance(self._turns.error, Exception):
                raise self._turns.error from None
            raise

    # Beginning

    def _new_writer(self) -> tuple[OutStream, ImageWriter]:
        numbers = RecordNumbers()
        parent = self._parent
        secured = inherited_protection(parent) if parent else new_protection(self._options)
        header = sealed_header(self._header(numbers.origin, secured), secured.keys)
        stream = self._new_stream(numbers.origin)
        writer = ImageWriter(stream, header, secured.keys, numbers, Running(header.header_digest))
        self._checkpoints = self._checkpointer(writer)
        try:
            writer.write_header(secured.key_area)
            self._description_values = self._describe()
            self._description = writer.write_metadata(self._description_values)
        except BaseException:
            stream.abort(keep=False)
            raise
        return stream, writer

    def _new_stream(self, file_id: bytes) -> OutStream:
        request, options = self._request, self._options
        if not isinstance(request.target, (str, os.PathLike)):
            return PipeStream(request.target)
        return open_target(
            request.storage, os.fspath(request.target), file_id, options.split, options.overwrite
        )

    def _checkpointer(self, writer: ImageWriter) -> Checkpointer:
        options = self._options
        return Checkpointer(writer, options.checkpoint_bytes, options.checkpoint_seconds)

    def _header(self, file_id: bytes, protection: Protection) -> Header:
        return new_header(file_id, protection, self._options, self._parent)

    def _describe(self) -> dict[str, Any]:
        return {
            "created": time_of_content(self._options.created),
            "tool": tool(),
            "host": platform.node(),
            "comment": self._options.comment,
            "kind": self.kind.name.lower(),
            "devices": described_sources(self._sources),
            **({"tags": dict(self._options.tags)} if self._options.tags else {}),
            **(described_parent(self._parent) if self._parent else {}),
            **({"instead_of": self._instead_of} if self._parent and self._reason else {}),
        }

    @property
    def _instead_of(self) -> str:
        """The kind that was asked for, where a full image is made all the same."""
        return self._options.kind or "incremental"

    # Resuming

    def _reopen(self) -> ResumedState | FinishedImage | None:
        path = self._request.path
        assert path is not None
        return reopen_partial(
            self._request.storage,
            path,
            self._sources,
            self._options,
            self._place(),
            self._parent.keys if self._parent else None,
            partial(self._check_same_place, path),
        )

    def _check_same_place(self, path: str, described: dict[str, Any]) -> None:
        """What was begun must have been of the same kind, with the same parent."""
        wanted: dict[str, Any] = {
            "kind": self.kind.name.lower(),
            "parent_id": None,
            "parent_digest": None,
        }
        wanted |= described_parent(self._parent) if self._parent else {}
        found = {name: described.get(name) for name in wanted}
        if found | {"kind": described.get("instead_of")} == wanted:
            raise FullBegunError(f"{path}{PARTIAL}: was begun as a full image in place of this one")
        if found != wanted:
            raise RequestError(
                f"{path}{PARTIAL}: was begun as another kind of image or on another parent; remove "
                "it, or create without resuming"
            )

    def _resumed_writer(self, state: ResumedState) -> tuple[OutStream, ImageWriter]:
        writer = state.writer
        self._checkpoints = self._checkpointer(writer)
        self._description, self._description_values = state.description, state.description_values
        self._unreadable = state.unreadable
        return writer.stream, writer

    def _named(self, found: FinishedImage) -> CreateResult:
        """Give the image of an earlier run its name."""
        try:
            found.give_names(self._options.overwrite)
        except BaseException:
            found.stream.close()
            raise
        self._reporter.report(self._total, found.length, final=True)
        devices, seal = found.seal.devices, found.seal
        note = (
            f"{self._request.path}: an earlier run had finished this image and was stopped before "
            "it could name it; it has its name now, and the content of that run"
        )
        return CreateResult(
            self._request.path, seal.image_id.hex(), found.trailer.seal.digest.hex(),
            ImageKind(seal.kind).name.lower(), self._total,
            sum(each.data for each in devices) * SECTOR,
            sum(each.zero for each in devices) * SECTOR,
            sum(each.unreadable for each in devices) * SECTOR,
            found.length, found.parts, time.monotonic() - self._reporter.started, found.unreadable,
            True, (*found.warnings, note), self._parent.image_id if self._parent else None,
            seal.sequence, found.changes,
        )  # fmt: skip

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
        files = self._stream.file_count
        self._stream.finish()
        self._reporter.report(self._total, self._stream.position, final=True)
        counts = [sum(r.counts[kind] for r in results) * SECTOR for kind in Kind]
        return CreateResult(
            self._request.path, image_id.hex(), digest.hex(), place.kind.name.lower(), self._total,
            counts[Kind.DATA],
            counts[Kind.ZERO], counts[Kind.UNREADABLE], self._stream.position, files,
            time.monotonic() - self._reporter.started, tuple(self._unreadable),
            bool(writer.earlier), tuple(warnings),
            self._parent.image_id if self._parent else None, place.sequence,
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
        image = self._parent
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
