"""Writing a source as a virtual disk: the public function, and the run of a job."""

from __future__ import annotations

import os
import time
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from aipimage import checks
from aipimage.checks import Size
from aipimage.errors import FormatError, RequestError, TargetError
from aipimage.io.blocks.sources import BlockSource, files_of_source, open_source
from aipimage.io.reading.device import Device
from aipimage.io.stream.outstream import PipeStream
from aipimage.io.system.notices import with_notices
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, StrPath, chosen
from aipimage.vmdk.deflate import Compressor
from aipimage.vmdk.descriptor import format_descriptor
from aipimage.vmdk.feed import GRAIN_BYTES, GrainFeed
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.writing.disks import ExtentsDisk, GrowingDisk, StreamDisk
from aipimage.vmdk.writing.files import DiskFiles
from aipimage.vmdk.writing.plan import (
    DEFAULT_HARDWARE,
    DiskOptions,
    DiskPlan,
    Identity,
    base_name,
    check_options,
    new_identity,
    plan_disk,
)
from aipimage.vmdk.writing.sparse import check_room, sparse_layout
from aipimage.vmdk.writing.state import Checkpoints, Saved, unusable
from aipimage.vmdk.writing.stream import StreamResult, stream_disk, unreadable_warning

CHECKPOINT_BYTES = 1 << 30
CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What was written.

    Attributes:
        path: of the file that the disk is opened by; ``None`` where it went into a file object.
        subformat: its ``createType``. files: all paths, in the order of the disk, ``path`` last.
        capacity: bytes of the disk. stored: bytes of all files, holes included.
        grains: that were stored, of 64 KiB. cid: its ``CID``.
        unreadable: bytes that the source could not read; they are zeros on the disk.
        seconds: wall time. resumed: whether earlier work was continued.
        warnings: what the user should look at.
    """

    path: str | None
    subformat: str
    files: tuple[str, ...]
    capacity: int
    stored: int
    grains: int
    cid: int
    unreadable: int
    seconds: float
    resumed: bool
    warnings: tuple[str, ...]


@with_notices
def write_vmdk(
    target: StrPath | BinaryIO, source: BlockSource | Device, *,
    subformat: str = "monolithicSparse", adapter: str = "lsilogic",
    hardware: int = DEFAULT_HARDWARE, cid: int | None = None, split: Size | None = None,
    level: str = "fast", overwrite: bool = False, resume: bool = False,
    threads: int | None = None, executor: Executor | None = None,
    progress: ProgressCallback | None = None, storage: Storage | None = None,
    checkpoint_bytes: int = CHECKPOINT_BYTES, checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> WriteResult:  # fmt: skip
    """Write a source as a virtual disk. Free and zero grains of 64 KiB are not stored.

    Files are called ``NAME.partial`` until all of them are whole and durable. A sparse disk is
    padded with zeros to whole grains, a streamOptimized one to whole MiB; the result says so.

    Args:
        target: path of the disk; or, for streamOptimized, a binary file object (a pipe, say).
        source: a device of an image, or any block source of whole sectors of 512 bytes.
        subformat: a name of ``createType``: monolithicSparse, monolithicFlat, twoGbMaxExtentSparse,
            twoGbMaxExtentFlat, streamOptimized or vmfs.
        adapter: ``ddb.adapterType``: lsilogic, buslogic or ide. hardware: ``ddb.virtualHWVersion``.
        cid: ``CID``; random by default. With it, the same source gives the same bytes.
        split: bytes of an extent of a twoGbMaxExtent disk, a multiple of 65536; 2047 MiB.
        level: ``"fast"`` or ``"dense"``, of streamOptimized.
        overwrite: replace a disk of one file once the new one is whole.
        resume: write checkpoints, leave what was done on a failure, and continue from the last
            checkpoint when source and options are the same. The result is the same to the byte.
        threads: worker threads. executor: takes their place; its workers share the memory.
        progress: called about ten times a second; returning ``False`` cancels.
        checkpoint_bytes, checkpoint_seconds: after so much a checkpoint is written.

    Raises:
        RequestError, TargetError: not possible as asked; nothing was written, except where a file
            turns out to pass 2 TiB. IntegrityError: the image is damaged, or data of it was lost.
        SourceError: the source cannot be read. StorageError: a file cannot be written.
        CancelledError: the callback said so.
    """
    storage, threads = chosen(storage), checks.threads(threads)
    checks.texts(subformat=subformat, adapter=adapter, level=level)
    checks.flags(overwrite=overwrite, resume=resume)
    checks.jobs(executor, progress)
    checkpoint_bytes = checks.size("checkpoint_bytes", checkpoint_bytes, 0)
    checkpoint_seconds = checks.number("checkpoint_seconds", checkpoint_seconds, 0, 1e12)
    checks.instance("source", source, (BlockSource, Device), "a device of an image or BlockSource")
    source = source if isinstance(source, Device) else open_source(source)
    options = DiskOptions(
        subformat,
        adapter,
        checks.whole("hardware", hardware),
        checks.optional_whole("cid", cid, 0, 0xFFFF_FFFF),
        checks.optional_size("split", split),
        level,
    )
    check_options(options)
    if checks.is_path(target):
        checks.path("target", target)
    if not isinstance(target, (str, os.PathLike)):
        return _write_stream(target, source, options, resume, threads, executor, progress)
    feed = GrainFeed(source)
    job = _Job(os.fspath(target), feed, options, storage, overwrite)
    _refuse_source(job.files, source, storage)
    checkpoints = Checkpoints(
        storage, job.files, job.request(), checkpoint_bytes, checkpoint_seconds
    )
    return job.run(checkpoints if resume else None, threads, executor, progress)


def _write_stream(
    target: BinaryIO,
    source: BlockSource | Device,
    options: DiskOptions,
    resume: bool,
    threads: int | None,
    executor: Executor | None,
    progress: ProgressCallback | None,
) -> WriteResult:
    if options.subformat != "streamOptimized":
        raise RequestError(
            f"a {options.subformat} disk cannot be written to a pipe; use streamOptimized"
        )
    if resume:
        raise RequestError("a disk that is written to a pipe cannot be resumed")
    started = time.monotonic()
    stream = PipeStream(target)
    done: StreamResult = stream_disk(
        source,
        stream.append,
        adapter=options.adapter,
        hardware=options.hardware,
        cid=options.cid,
        level=options.level,
        threads=threads,
        executor=executor,
        progress=progress,
    )
    stream.finish()
    return WriteResult(
        None, options.subformat, (), done.capacity, done.size, done.grains, done.cid,
        done.unreadable, time.monotonic() - started, False, done.warnings,
    )  # fmt: skip


def _refuse_source(files: DiskFiles, source: BlockSource | Device, storage: Storage) -> None:
    """No file of the source is written over; an image is refused by what it is."""
    if isinstance(source, Device):
        return  # Its name is that of the disk which was imaged, and says nothing of files here.
    own = files_of_source(source)
    places = {storage.resolve(name) for name in own if name and "\0" not in name}
    for name in (files.path, *files.extents):
        if storage.resolve(name) in places:
            raise TargetError(f"{name}: is the source itself; choose another name for the disk")


class _Job:
    """One run of :func:`write_vmdk` into files.

    Attributes:
        files: those of the disk.
    """

    def __init__(
        self, path: str, feed: GrainFeed, options: DiskOptions, storage: Storage, overwrite: bool
    ) -> None:
        self._path, self._feed, self._options, self._storage = path, feed, options, storage
        self._compressor = Compressor(options.level)
        self._unreadable = feed.unreadable
        self._plan = self._planned(new_identity(options.cid))
        self._check_room()
        folder = os.path.dirname(path)
        extents = [
            os.path.join(folder, extent.line.name)
            for extent in self._plan.extents
            if not self._plan.is_monolithic
        ]
        self.files = DiskFiles(storage, path, extents, overwrite)

    def _planned(self, identity: Identity) -> DiskPlan:
        feed, name = self._feed, base_name(self._path)
        return plan_disk(name, feed.name, feed.size, feed.sector_size, self._options, identity)

    def _check_room(self) -> None:
        """Refuse before anything is written what is known to pass 2 TiB."""
        sectors = self._plan.extents[0].sectors
        if self._plan.subformat == "monolithicSparse":
            data = min(sectors, self._feed.data_bytes // SECTOR)
        elif self._plan.subformat == "twoGbMaxExtentSparse":
            data = sectors
        else:
            return
        check_room(self._path, sparse_layout(sectors, 0).overhead + data)

    def request(self) -> dict[str, Any]:
        """What a later run must ask for to continue."""
        return {
            "source": self._feed.fingerprint(),
            "size": self._feed.size,
            "name": base_name(self._path),
            "options": asdict(self._options),
            "compressor": self._compressor.name,
        }

    def run(
        self,
        checkpoints: Checkpoints | None,
        threads: int | None,
        executor: Executor | None,
        progress: ProgressCallback | None,
    ) -> WriteResult:
        """Write, or clean up and raise."""
        reporter = Reporter("convert", self._feed.size, progress)
        saved = checkpoints.read(-(-self._feed.size // GRAIN_BYTES)) if checkpoints else None
        disk = self._restored(saved) if saved else None
        try:
            if disk is None:
                disk = self._new_disk()
                disk.begin()
            start = saved.next_grain if saved else 0
            with executor_for(executor, threads, "vmdk", is_caller_busy=True) as (pool, in_flight):
                for step in disk.steps(pool, in_flight, start):
                    self._unreadable += step.unreadable
                    reporter.report(min(step.end * GRAIN_BYTES, self._feed.size), disk.position)
                    if checkpoints and checkpoints.is_due(disk.position):
                        self._checkpoint(checkpoints, disk, step.end)
            disk.finish()
            self.files.finish()
        except BaseException:
            self.files.abort(keep=checkpoints is not None and checkpoints.written)
            raise
        reporter.report(self._feed.size, disk.position, final=True)
        seconds = time.monotonic() - reporter.started
        return self._result(disk, seconds, saved is not None)

    def _new_disk(self) -> GrowingDisk:
        plan = self._plan
        if plan.subformat == "streamOptimized":
            return StreamDisk(plan, self.files, self._feed, self._compressor)
        descriptor = format_descriptor(plan.descriptor).encode()
        return ExtentsDisk(plan, self.files, self._feed, descriptor)

    def _restored(self, saved: Saved) -> GrowingDisk | None:
        """Resume what an earlier run left, which stays as it is where that is not possible."""
        self._plan = self._planned(saved.identity)
        disk = self._new_disk()
        try:
            disk.restore(saved.disk, saved.next_grain, saved.grains)
        except FormatError as error:
            self.files.release()
            raise unusable(self.files.state_path, str(error)) from error
        except BaseException:
            self.files.release()
            raise
        self._unreadable = saved.unreadable
        return disk

    def _checkpoint(self, checkpoints: Checkpoints, disk: GrowingDisk, next_grain: int) -> None:
        values = disk.save()
        saved = Saved(self._plan.identity, next_grain, self._unreadable, disk.grains, values)
        checkpoints.write(saved, disk.position)

    def _result(self, disk: GrowingDisk, seconds: float, resumed: bool) -> WriteResult:
        files = (*self.files.extents, self.files.path)
        warnings = (*self._plan.warnings, *unreadable_warning(self._unreadable))
        return WriteResult(
            self._path,
            self._plan.subformat,
            files,
            self._plan.capacity,
            sum(self._storage.stat(name).size for name in files),
            disk.grains,
            self._plan.identity.cid,
            self._unreadable,
            seconds,
            resumed,
            warnings,
        )
