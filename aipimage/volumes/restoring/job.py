"""What restoring a disk and restoring a volume share: options, the target's size, writing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

from aipimage import checks
from aipimage.errors import RequestError
from aipimage.io.blocks.sinks import BlockSink, TargetInfo, open_in_place, open_target
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.copying import Counts
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.restore import Placed, check_ranges, restore_ranges
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage
from aipimage.volumes.described import VolumeInfo, volumes_of
from aipimage.volumes.patches import Patch
from aipimage.volumes.restoreoptions import RestoreOptions

_COPY = 1 << 20
_TAIL = 1 << 20
"""Bytes at the end of a larger device that are cleared: a copy of the partition table that was
there, or what made the device a member of an array, would be taken for the new content's.
"""


class Options(NamedTuple):
    """How to restore; see :func:`aipimage.volumes.restoring.disk.restore_disk`."""

    force: bool
    set_size: bool
    size: int | None
    scratch: str | None
    executor: Executor | None
    threads: int | None
    progress: ProgressCallback | None
    storage: Storage

    @classmethod
    def of(
        cls,
        asked: RestoreOptions,
        executor: Executor | None,
        progress: ProgressCallback | None,
        storage: Storage,
    ) -> Options:
        """What was asked for, each of its type and within its bounds; sizes become numbers.

        Raises:
            OptionTypeError, OptionError: one is not; it is named.
        """
        checks.flags(
            force=asked.force,
            set_size=asked.set_size,
            new_ids=asked.new_ids,
            boot_code=asked.boot_code,
            signature=asked.signature,
        )
        return cls(
            asked.force,
            asked.set_size,
            checks.optional_size("size", asked.size),
            checks.optional_path("scratch", asked.scratch),
            executor,
            checks.threads(asked.threads),
            progress,
            storage,
        )


def device_of(image: ImageReader, device: int) -> Device:
    """A device by its number; ``RequestError`` where there is none."""
    if not 0 <= device < len(image.devices):
        raise RequestError(
            f"{image.path}: has no device {device}; it has {len(image.devices)}, numbered from 0"
        )
    return image.devices[device]


def described_volumes(device: Device) -> tuple[VolumeInfo, ...]:
    """What the image says of the volumes of a device; nothing for one that has no such list."""
    return volumes_of(device.index, device.size, device.metadata, device.image.path)


def left_out_ranges(device: Device) -> list[tuple[int, int]]:
    """(start, end) of the volumes of a device that were left out when the image was made."""
    return [
        (each.start, each.start + each.size) for each in described_volumes(device) if not each.kept
    ]


def target_size(info: TargetInfo, options: Options, source: int) -> int:
    """Return how large the target will be, bytes; ``source``: what is restored has.

    Raises:
        RequestError: a size is asked for, of a device.
    """
    if info.is_device:
        if options.size is not None or options.set_size:
            raise RequestError(
                f"{info.name}: is a device, whose size is fixed; leave it out "
                "(size= or set_size=True)"
            )
        return info.size
    if options.size is not None:
        return options.size
    return source if options.set_size or not info.size else info.size


def refuse_target(info: TargetInfo, options: Options) -> None:
    """Refuse a target that is in use or not empty, before anything else is said of it.

    Raises:
        TargetError, RequestError, StorageError: as for ``open_target``.
    """
    if info.exists:
        open_in_place(info.name, force=options.force, storage=options.storage).close()


def size_hint(info: TargetInfo, options: Options) -> str:
    """What else can be done about a file that is too small; ends a message."""
    resizable = info.exists and not info.is_device and options.size is None
    return "; pass another size (size= or set_size=True)" if resizable else ""


def scratch_directory(info: TargetInfo, options: Options) -> str:
    """Where volumes are put that become smaller: beside the target, but never in /dev."""
    if options.scratch is not None:
        return options.scratch
    return "/var/tmp" if info.is_device else os.path.dirname(info.name)


class RestoreJob:
    """One restore: what is written where, in which order, and what came of it.

    Attributes:
        copied: numbers of the volumes of which a copy was made.
    """

    def __init__(self, image: ImageReader, device: Device, options: Options) -> None:
        self.image, self.device, self.options = image, device, options
        self.started = time.monotonic()
        self.copied: set[int] = set()
        self.counts = Counts()

    def check(self, placed: Sequence[Placed]) -> None:
        """Before the target is touched: maps are whole, and the files of the chain are there."""
        check_ranges(self.image, self.device.index, placed)

    def ranges(self, placed: Sequence[Placed], sink: BlockSink) -> None:
        """Write ranges of the device; see :func:`aipimage.io.reading.restore.restore_ranges`."""
        options = self.options
        found = restore_ranges(
            self.image,
            self.device.index,
            placed,
            sink,
            options.executor,
            options.threads,
            options.progress,
        )
        self.counts.written += found.written
        self.counts.unused += found.unused
        self.counts.unreadable += found.unreadable

    def to_target(
        self,
        info: TargetInfo,
        size: int,
        write: Callable[[BlockSink], None],
        untouched: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Open the target, have it written, and finish it; what fails leaves nothing that looks
        whole. ``untouched``: see ``open_target``.
        """
        options = self.options
        exact = options.size is not None or options.set_size
        sink = open_target(
            info.name,
            size,
            force=options.force,
            set_size=exact,
            storage=options.storage,
            untouched=untouched,
        )
        try:
            write(sink)
            sink.finish()
        except BaseException:
            sink.abort()
            raise

    def once_more(self, info: TargetInfo, size: int, write: Callable[[BlockSink], None]) -> None:
        """Write the target anew, whose content was spoilt after it had been finished."""
        counts, self.counts = self.counts, Counts()
        options, self.options = self.options, self.options._replace(force=True)
        if not info.is_device:
            # Tools that resize a file system may change the length of its file.
            self.options = self.options._replace(size=size, set_size=True)
        try:
            self.to_target(info, size, write)
        finally:
            self.counts, self.options = counts, options

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.monotonic() - self.started


def patch(sink: BlockSink, patches: Iterable[Patch]) -> None:
    """Write some bytes over what was restored."""
    for offset, data in patches:
        sink.write(data, offset)


def clear_tail(sink: BlockSink, info: TargetInfo, end: int) -> None:
    """Clear what is found at the end of a device that is larger than what was written to it."""
    if info.is_device and end < info.size:
        start = max(end, info.size - _TAIL)
        sink.zero(start, info.size - start)


def copy_source(source: BlockSource, length: int, sink: BlockSink, target: int) -> int:
    """Write the first ``length`` bytes of a source to byte ``target`` of a sink, with zeros between
    its data. Return how many bytes of data there were.

    It is not ``copy_blocks``, which writes zeros where the source cannot be read. Here the source
    is a copy of a volume that was just made: a place of it that cannot be read ends the restore.

    Raises:
        SourceError: the source fails. StorageError: the sink does.
    """
    buffer, done, written = bytearray(_COPY), 0, 0
    for start, size in source.data_ranges(0, length):
        sink.zero(target + done, start - done)
        for at in range(start, start + size, _COPY):
            part = memoryview(buffer)[: min(_COPY, start + size - at)]
            source.read_into(part, at)
            sink.write(part, target + at)
        done = start + size
        written += size
    sink.zero(target + done, length - done)
    return written
