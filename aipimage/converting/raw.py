"""Conversion to plain bytes: a file, a stream, or a block device."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from aipimage.converting.rawfile import open_raw_file
from aipimage.converting.request import ConvertResult, Request
from aipimage.converting.sources import OpenedSource, chosen_disk
from aipimage.errors import RequestError, StorageError
from aipimage.io.blocks.sinks import BlockSink, TargetInfo, look_at_target, open_target
from aipimage.io.blocks.sources import place_of
from aipimage.io.reading.copying import Counts, copy_blocks
from aipimage.io.reading.restore import Placed, restore_ranges
from aipimage.io.system.storage import flat_view
from aipimage.volumes.restoring.job import clear_tail
from aipimage.volumes.restoring.sectors import sector_warnings

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ZEROS = bytes(1 << 20)


def to_raw(request: Request, opened: OpenedSource) -> ConvertResult:
    """Write a disk as plain bytes; of an image every frame is verified before it is written.

    Raises:
        TargetError, RequestError: nothing was written. IntegrityError, FormatError, SourceError:
            the source is damaged or cannot be read. StorageError: the target cannot be written.
    """
    started = time.monotonic()
    disk = chosen_disk(request, opened)
    opened.check(disk)
    job = _RawJob(request, opened, disk)
    path = request.path
    if path is None:
        job.to_stream()
    elif (info := look_at_target(path, request.storage)).is_device:
        opened.warnings += sector_warnings(opened.disks[disk], info)
        job.to_device(info)
        if info.size > job.size:
            opened.warnings.append(
                f"{path}: is larger than the disk, whose partition table is as it was"
            )
    else:
        job.to_file(path)
    return ConvertResult(
        opened.path, opened.format, path, "raw", None, (disk,), job.size, job.copied.written,
        job.stored, () if path is None else (path,), job.copied.unreadable, None, None,
        job.start > 0, time.monotonic() - started, (), tuple(opened.warnings),
    )  # fmt: skip


class _RawJob:
    """One disk to one target.

    Attributes:
        size: bytes of the disk. start: of these, from where on they are written. stored: bytes that
            the target takes.
    """

    def __init__(self, request: Request, opened: OpenedSource, disk: int) -> None:
        self._request, self._opened, self._disk = request, opened, disk
        self._source = opened.disks[disk]
        self.size = self.stored = self._source.size
        self.start = 0
        self.copied = Counts()

    def to_stream(self) -> None:
        """Write all bytes, zeros too."""
        self._refuse_resume("a stream")
        self._written(RawStream(self._request.stream, self.size))

    def to_device(self, info: TargetInfo) -> None:
        """Write to a block device; what its end held is cleared where it is larger."""
        self._refuse_resume(info.name)
        sink = open_target(info.name, self.size, force=True, storage=self._request.storage)
        self._written(sink, info)

    def to_file(self, path: str) -> None:
        """Write a new file, or resume what an interrupted run left of it."""
        request = self._request
        sink = open_raw_file(
            path,
            self.size,
            self._identity(),
            self._source.read_into,
            overwrite=request.options.overwrite,
            resume=request.options.resume,
            storage=request.storage,
        )
        self.start = sink.start
        self._written(sink)
        self.stored = sink.stored

    def _identity(self) -> Mapping[str, object]:
        """What identifies the source, however its path is written. An image is known by its
        digest, wherever it lies.
        """
        source, place = self._source.fingerprint(), place_of(self._source)
        if source.get("kind") == "image":
            return {"source": source}
        if os.path.isabs(place):
            place = self._request.storage.resolve(place)
        return {"place": place, "source": source}

    def _refuse_resume(self, name: str) -> None:
        if self._request.options.resume:
            raise RequestError(f"{name}: only a file can be resumed; begin anew (resume=False)")

    def _written(self, sink: BlockSink, info: TargetInfo | None = None) -> None:
        """Fill the target and finish it; what fails leaves nothing that looks whole."""
        try:
            self._fill(sink)
            if info is not None:
                clear_tail(sink, info, self.size)
            sink.finish()
        except BaseException:
            sink.abort()
            raise

    def _fill(self, sink: BlockSink) -> None:
        request, image = self._request, self._opened.image
        if image is None:
            self.copied = copy_blocks(self._source, self.start, sink, **request.workers)
            return
        placed = [Placed(self.start, self.size - self.start, self.start)]
        self.copied = restore_ranges(
            image,
            self._disk,
            placed,
            sink,
            request.executor,
            request.options.threads,
            request.progress,
        )


class RawStream:
    """A block sink: a stream that all bytes go into, zeros too.

    Attributes:
        position: bytes written so far.
    """

    def __init__(self, target: BinaryIO, size: int) -> None:
        name = getattr(target, "name", None)
        self.name = name if isinstance(name, str) else "<stream>"
        self.size, self.position = size, 0
        self._target = target

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``; offsets ascend."""
        if offset < self.position:
            raise RuntimeError(f"internal error: write at {offset} before {self.position}")
        self._fill(offset)
        for buffer in buffers:
            self._put(flat_view(buffer))

    def _fill(self, end: int) -> None:
        while self.position < end:
            self._put(memoryview(_ZEROS)[: end - self.position])

    def _put(self, view: memoryview) -> None:
        while view.nbytes:
            try:
                done = self._target.write(view)
            except OSError as error:
                raise StorageError.from_os_error("write", self.name, error) from error
            if not 0 < (done or 0) <= view.nbytes:
                raise StorageError(f"{self.name}: the stream took no bytes; open it blocking")
            self.position += done
            view = view[done:]

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: written along with the data that follows, or at the end."""

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: likewise."""

    def finish(self) -> None:
        """Write the zeros at the end, and flush."""
        self._fill(self.size)
        try:
            self._target.flush()
        except OSError as error:
            raise StorageError.from_os_error("write", self.name, error) from error

    def abort(self) -> None:
        """Nothing can be taken back from a stream."""
