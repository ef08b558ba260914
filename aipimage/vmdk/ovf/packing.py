"""What a package consists of, and turning its disks into streamOptimized files on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipimage.errors import RequestError, SourceError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.device import Device
from aipimage.io.system.progress import Progress, ProgressCallback
from aipimage.vmdk.deflate import Compressor
from aipimage.vmdk.feed import GRAIN_BYTES
from aipimage.vmdk.ovf.defaults import as_source
from aipimage.vmdk.ovf.envelope import PackedDisk, encode_envelope, envelope_length
from aipimage.vmdk.ovf.hardware import Appliance
from aipimage.vmdk.ovf.manifest import encode_manifest, manifest_length, new_digest
from aipimage.vmdk.ovf.output import Append
from aipimage.vmdk.writing.plan import DiskOptions, new_identity, plan_disk
from aipimage.vmdk.writing.stream import stream_disk

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True, slots=True)
class DiskResult:
    """A disk of a package.

    Attributes:
        name: its file. size: bytes of that. capacity: bytes of the disk, padding included.
        populated: bytes of it that are stored. digest: of the file, hex; ``None`` without a
            manifest. unreadable: bytes that the source could not read, zeros now. warnings: for
            people.
    """

    name: str
    size: int
    capacity: int
    populated: int
    digest: str | None
    unreadable: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OvaResult:
    """What was written.

    Attributes:
        path: the ``.ova`` or ``.ovf`` file, ``None`` for a stream. size: bytes of all of
            it. disks: in order. machine: what the appliance says of itself. warnings: for people.
    """

    path: str | None
    size: int
    disks: tuple[DiskResult, ...]
    machine: Appliance
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskJob:
    """All that the disks of a package are streamed with.

    Attributes:
        machine: checked. disks: the sources. cids: a content identity for each. algorithm: of the
            manifest, ``None`` for none. level: of compression.
    """

    machine: Appliance
    disks: tuple[BlockSource | Device, ...]
    cids: tuple[int, ...]
    algorithm: str | None
    level: str
    threads: int | None
    executor: Executor | None

    @property
    def names(self) -> list[str]:
        """The files of the disks, which are called after the appliance."""
        stem = self.machine.stem
        return [f"{stem}-disk{number}.vmdk" for number in range(1, len(self.disks) + 1)]

    @property
    def total(self) -> int:
        """Bytes of all disks."""
        return sum(disk.size for disk in self.disks)

    def stream(self, number: int, append: Append, progress: ProgressCallback | None) -> DiskResult:
        """Write one disk, by its number from 0, to the end of a stream; once more gives the same
        bytes.
        """
        meter = _Meter(append, self.algorithm)
        result = stream_disk(
            self.disks[number],
            meter.append,
            name=self.names[number],
            adapter=self.machine.controller.adapter,
            hardware=self.machine.hardware,
            cid=self.cids[number],
            level=self.level,
            threads=self.threads,
            executor=self.executor,
            progress=progress,
        )
        if result.size != meter.size:
            raise RuntimeError(
                f"internal error: {meter.size} bytes of {self.names[number]} were written, and "
                f"{result.size} are said"
            )
        populated = min(result.grains * GRAIN_BYTES, result.capacity)
        return DiskResult(
            self.names[number],
            result.size,
            result.capacity,
            populated,
            meter.digest,
            result.unreadable,
            result.warnings,
        )

    def envelope(self, disks: Sequence[DiskResult]) -> bytes:
        """The descriptor for what was written, ``envelope_length`` bytes."""
        packed = [PackedDisk(d.name, d.size, d.capacity, d.populated) for d in disks]
        return encode_envelope(self.machine, packed)

    @property
    def envelope_length(self) -> int:
        """Bytes of the descriptor, known before any disk is written."""
        return envelope_length(self.machine, self.names)

    def manifest(
        self, envelope_name: str, envelope: bytes, disks: Sequence[DiskResult]
    ) -> bytes | None:
        """The manifest of descriptor and disks, in the order of the package."""
        if self.algorithm is None:
            return None
        digest = new_digest(self.algorithm)
        digest.update(envelope)
        lines = [(envelope_name, digest.hexdigest())]
        lines += [(disk.name, disk.digest or "") for disk in disks]
        return encode_manifest(self.algorithm, lines)

    def manifest_length(self, envelope_name: str) -> int:
        """Bytes of the manifest, known before any disk is written; 0 where there is none."""
        if self.algorithm is None:
            return 0
        return manifest_length(self.algorithm, [envelope_name, *self.names])


class _Meter:
    """Counts and digests what goes by."""

    def __init__(self, append: Append, algorithm: str | None) -> None:
        self.size = 0
        self._append = append
        self._digest = None if algorithm is None else new_digest(algorithm)

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Count, digest and hand on."""
        for buffer in buffers:
            self.size += memoryview(buffer).nbytes
            if self._digest is not None:
                self._digest.update(buffer)
        self._append(buffers)

    @property
    def digest(self) -> str | None:
        """Hex, of all that went by."""
        return None if self._digest is None else self._digest.hexdigest()


class Reports:
    """One progress over several disks, and over both passes where there are two."""

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self._callback, self._total = callback, total
        self._started = time.monotonic()
        self._done = self._stored = 0

    def disk(self, size: int) -> ProgressCallback | None:
        """Return the callback for the next disk of ``size`` bytes."""
        done, stored = self._done, self._stored
        self._done += size

        def report(progress: Progress) -> object:
            assert self._callback is not None
            self._stored = stored + progress.stored
            seconds = time.monotonic() - self._started
            return self._callback(
                Progress("export", done + progress.done, self._total, self._stored, seconds)
            )

        return None if self._callback is None else report


def verified_job(job: DiskJob) -> DiskJob:
    """Return a job of which every disk can be written as it is asked for; ``RequestError`` else."""
    options = DiskOptions(
        "streamOptimized",
        job.machine.controller.adapter,
        job.machine.hardware,
        None,
        None,
        job.level,
    )
    Compressor(job.level)
    for name, disk, cid in zip(job.names, job.disks, job.cids, strict=True):
        source = as_source(disk)
        plan_disk(name, source.name, source.size, source.sector_size, options, new_identity(cid))
    return job


def verified_cids(cids: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Return content identities as asked for, or random ones; ``RequestError`` where they do not
    fit.
    """
    if cids is None:
        return tuple(new_identity(None).cid for _ in range(count))
    if len(cids) != count:
        raise RequestError(f"{len(cids)} content identities for {count} disks; pass one for each")
    return tuple(new_identity(cid).cid for cid in cids)


def refuse_changed(before: DiskResult, now: DiskResult) -> None:
    """``SourceError`` where the second pass over a disk gave other bytes than the first."""
    if before != now:
        raise SourceError(
            f"{now.name}: the disk changed while it was read, and a pipe is written in two passes; "
            "make a snapshot of it, or write to a file"
        )
