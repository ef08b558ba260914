"""Making an incremental or differential image (docs/format.md, section 9.4).

scan (workers) -> groups of changed clusters (caller's thread) -> frames (workers) -> append and
map (caller's thread). Changes lie scattered, so that several pieces share frames.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from aipimage.errors import AipImageError, PasswordError, RequestError, TargetError
from aipimage.extents import Kind
from aipimage.format.constants import Compatible, ImageKind, Incompatible
from aipimage.format.header import Header
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.chain.files import replaced_seal
from aipimage.io.creating.create import (
    CreateJob,
    CreateOptions,
    CreateResult,
    DeviceChanges,
    FullBegunError,
)
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter
from aipimage.io.creating.resume import ResumedState
from aipimage.io.increment.devicework import DeviceWork
from aipimage.io.increment.grouping import FrameMaker
from aipimage.io.increment.parent import Parent, ParentUnusableError, find_parent, reading_parent
from aipimage.io.increment.resumed import Replay
from aipimage.io.increment.update import DeviceUpdate
from aipimage.io.reading.members import peek_header
from aipimage.io.records.keys import Suite
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device


def create_in_chain(
    target: str | os.PathLike[str] | BinaryIO,
    sources: list[BlockSource],
    options: CreateOptions,
    progress: ProgressCallback | None,
    storage: Storage,
) -> CreateResult:
    """Make an image with a parent; the public form is :func:`aipimage.create`."""
    kind = ImageKind[(options.kind or "incremental").upper()]
    assert options.parent is not None
    parent = find_parent(options.parent, kind, sources, options.password, options.search, storage)
    if parent is None:
        none_found = f"there is no image of it in {os.fspath(options.parent)}"
        if options.password is not None and options.encrypt is None:
            raise PasswordError(
                f"{none_found}, so that a chain begins, and a password was given without "
                "encryption; choose aes-128, aes-256 or authenticate",
                "unwanted",
            )
        return CreateJob(target, sources, options, progress, storage, None, none_found).run()
    with parent.image:
        _check_protection(parent, options)
        _check_target(target, parent, storage)
        reason: str | None = None
        if kind != ImageKind.FULL:
            if any(parent.devices):
                try:
                    return IncrementJob(target, sources, options, progress, storage, parent).run()
                except FullBegunError:
                    reason = "a full image had been begun, because the parent could not be read"
                    options = replace(options, changed=None)
                except ParentUnusableError as error:
                    if not isinstance(target, (str, os.PathLike)):
                        raise  # The beginning of an increment went down the pipe already.
                    reason = f"the parent could not be read: {error}"
                    # What the increment left is no beginning of a full image.
                    options = replace(options, resume=False, changed=None)
            else:
                reason = f"{parent.image.path} has none of the sources"
        return CreateJob(target, sources, options, progress, storage, parent, reason).run()


def _check_protection(parent: Parent, options: CreateOptions) -> None:
    """A chain has one suite and one chain key (section 4.1)."""
    keys = parent.image.keys
    suite = keys.suite if keys else Suite.NONE
    if options.encrypt is not None and Suite.parse(options.encrypt) != suite:
        raise RequestError(
            f"{parent.image.path}: an image is protected as the others of its chain are: by "
            f"{parent.image.encryption or 'nothing'}; leave the encryption out"
        )
    if options.recovery_key is not None:
        raise PasswordError("a recovery key is made with the first image of a chain", "unwanted")


def _check_target(
    target: str | os.PathLike[str] | BinaryIO, parent: Parent, storage: Storage
) -> None:
    """An image of the chain is never replaced by a later one, which may need it."""
    if not isinstance(target, (str, os.PathLike)) or not storage.exists(target):
        return
    try:
        there = peek_header(storage, os.fspath(target))
    except AipImageError:
        return  # Not an image: whether it may be replaced is asked later.
    if there.chain_id == parent.image.header.chain_id:
        raise TargetError(
            f"{os.fspath(target)}: is an image of the same chain; choose another name"
        )


class IncrementJob(CreateJob):
    """One run that keeps only what changed since the parent."""

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        sources: list[BlockSource],
        options: CreateOptions,
        progress: ProgressCallback | None,
        storage: Storage,
        parent: Parent,
    ) -> None:
        super().__init__(target, sources, options, progress, storage, parent)
        self.kind = parent.kind
        self._base = parent
        self._digests = bool(parent.image.header.compatible & Compatible.BLOCK_DIGESTS)
        self._found: list[DeviceChanges] = []
        self._warned: list[str] = []

    def _header(self, file_id: bytes, chain_id: bytes, suite: Suite) -> Header:
        header = super()._header(file_id, chain_id, suite)
        incompatible = header.incompatible | Incompatible.FOREIGN_ORIGINS
        compatible = header.compatible & ~int(Compatible.BLOCK_DIGESTS)
        if self._digests:
            incompatible |= Incompatible.DIGEST_LAYERS
            compatible |= Compatible.BLOCK_DIGESTS
        return replace(header, incompatible=int(incompatible), compatible=int(compatible))

    def _changes(self, results: list[DeviceResult]) -> list[DeviceChanges]:
        return self._found

    def _warnings(self) -> list[str]:
        return super()._warnings() + self._warned

    # The devices

    def _write(self, writer: ImageWriter, resumed: ResumedState | None) -> CreateResult:
        parent = self._base.image
        writer.origins.inherit(parent.origins, parent.file_name)
        self.maker = FrameMaker(writer.records.builder, self._level, writer.header.frame_size)
        replay = Replay(resumed, self._sources) if resumed is not None else None
        results: list[DeviceResult] = []
        with executor_for(None, self._options.threads, "create") as (executor, in_flight):
            for number, source in enumerate(self._sources):
                update = DeviceUpdate(
                    writer,
                    number,
                    source.size,
                    source.sector_size,
                    parent,
                    self.old(number),
                    self._digests,
                )
                start = replay.device(update, number) if replay is not None else 0
                work = DeviceWork(self, writer, update, number, source)
                found = work.run(executor, in_flight, start)
                if replay is not None:
                    found = found._replace(changed=found.changed + replay.changed)
                self._found.append(found)
                results.append(update.finish())
                writer.add_device(results[-1])
        return self._finish(writer, results)

    # For the work on a device

    @property
    def options(self) -> CreateOptions:
        """What was asked for."""
        return self._options

    @property
    def storage(self) -> Storage:
        """What files are read through."""
        return self._storage

    @property
    def parent_ids(self) -> tuple[str, ...]:
        """Ids of the point in time that the parent is, the first of them first: of a merged image
        the last one that it stands for (section 9.5), which is what a tracker knows, and which may
        be a merged one itself; then its own.
        """
        image = self._base.image
        found = [image.seal.image_id]
        replaced = image.seal.replaced
        # A seal that cannot be read costs a comparison: the tracker is then doubted.
        with contextlib.suppress(AipImageError):
            while replaced and replaced[-1].origin not in found:
                found.append(replaced[-1].origin)
                replaced = replaced_seal(image, replaced[-1]).replaced
        return tuple(each.hex() for each in reversed(found))

    @property
    def parent_path(self) -> str:
        """Name of the parent's file, for messages."""
        return self._base.image.path

    def old(self, number: int) -> Device | None:
        """The device of the parent that a source continues."""
        return self._base.devices[number]

    def is_sure(self, number: int) -> bool:
        """Whether a source is beyond doubt the disk that it continues."""
        return self._base.sure[number]

    def changed_of(self, number: int) -> object:
        """What the caller says of the changes of a source; ``None`` for nothing."""
        changed = self._options.changed
        if len(self._sources) == 1 or changed is None:
            return changed
        if not isinstance(changed, Sequence) or len(changed) != len(self._sources):
            raise RequestError("with several sources give what changed as a list, one for each")
        return changed[number]

    def check_parent_files(self) -> None:
        """``IncompleteError`` where a file that holds the parent's data is not there, as far as the
        roots of its maps tell: an increment must not take longer in a long chain. A file of the
        right name is not opened.

        Raises:
            ParentUnusableError: the root of a map is damaged.
        """
        image = self._base.image
        for device in self._base.devices:
            if device is not None:
                with reading_parent():
                    device.map.root()
        for entry in image.origins.entries():
            if not image.segments.holds(entry.origin) and not image.foreign.has_named(entry):
                image.foreign.holder(entry.origin)

    def warn(self, text: str) -> None:
        """Add a warning to the result."""
        self._warned.append(text)

    def wait(self, length: int) -> None:
        """Keep the rate that was asked for before ``length`` more bytes are read."""
        self._limit.wait(length, self._reporter.again)

    def progressed(self, number: int, offset: int) -> None:
        """Tell how far a device is."""
        self._reporter.report(self._bases[number] + offset, self._stream.position)

    def note(self, number: int, runs: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Remember what changed without data, for the next checkpoint (section 11)."""
        for start, length, kind in runs.tolist():
            self._checkpoints.note(number, start, length, Kind(kind))

    def note_unreadable(self, number: int, ranges: list[tuple[int, int]]) -> None:
        """Remember what the source could not give, for the result."""
        self._unreadable += [(number, offset, length) for offset, length in ranges]

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._checkpoints.is_due()

    def checkpoint(self, number: int, sector: int) -> None:
        """Write one if it is time."""
        if self._checkpoints.is_due():
            self._checkpoints.write(number, sector)
