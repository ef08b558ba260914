"""Writing an appliance as one file, an OVA: a tar of descriptor, manifest and disks.

Source: DSP0243 1.1, "Distribution as a Single File": the descriptor first, then the manifest, then
the files in the order of the descriptor; so an importer that reads a stream can check as it goes.

What is first needs to know what is last: the descriptor has the size of every disk, and the
manifest their digests. A file is written in one pass: both get a place whose length does not depend
on the numbers, and are put there at the end, with the tar headers of the disks. Nothing written to
a pipe can be changed, and even a tar header needs the size of what follows; so a pipe costs two
passes, the first of which writes nothing and keeps nothing but sizes and digests. Both give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from aipimage.io.stream.outstream import PipeStream
from aipimage.io.system.storage import Storage, StrPath
from aipimage.vmdk.ovf.output import NewFile
from aipimage.vmdk.ovf.packing import DiskJob, DiskResult, Reports, refuse_changed
from aipimage.vmdk.ovf.tar import BLOCK, END, encode_tar_header, padding

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aipimage.io.system.progress import ProgressCallback


def pack_file(
    job: DiskJob,
    path: StrPath,
    mtime: int,
    overwrite: bool,
    storage: Storage,
    progress: ProgressCallback | None,
) -> tuple[str, int, tuple[DiskResult, ...]]:
    """Write an OVA to a file, in one pass; return its path, its size and what is in it."""
    out = NewFile(path, overwrite=overwrite, storage=storage)
    try:
        disks = _one_pass(job, out, mtime, Reports(progress, job.total))
        out.sync()
        out.publish()
        out.sync_directory()
        out.close()
    except BaseException:
        out.abort()
        raise
    return out.path, out.position, disks


def _one_pass(job: DiskJob, out: NewFile, mtime: int, reports: Reports) -> tuple[DiskResult, ...]:
    out.append([bytes(_front_length(job))])
    disks, starts = [], []
    for number, disk in enumerate(job.disks):
        starts.append(out.position)
        out.append([bytes(BLOCK)])
        disks.append(job.stream(number, out.append, reports.disk(disk.size)))
        out.append([bytes(padding(disks[-1].size))])
    out.append([END])
    for done, start in zip(disks, starts, strict=True):
        out.patch(encode_tar_header(done.name, done.size, mtime), start)
    out.patch(b"".join(_front(job, disks, mtime)), 0)
    return tuple(disks)


def pack_stream(
    job: DiskJob, target: BinaryIO, mtime: int, progress: ProgressCallback | None
) -> tuple[int, tuple[DiskResult, ...]]:
    """Write an OVA to anything with ``write``, in two passes; return its size and what is in it."""
    reports = Reports(progress, 2 * job.total)
    first = [
        job.stream(number, _nowhere, reports.disk(disk.size))
        for number, disk in enumerate(job.disks)
    ]
    out = PipeStream(target)
    out.append(list(_front(job, first, mtime)))
    for number, before in enumerate(first):
        out.append([encode_tar_header(before.name, before.size, mtime)])
        now = job.stream(number, out.append, reports.disk(job.disks[number].size))
        refuse_changed(before, now)
        out.append([bytes(padding(now.size))])
    out.append([END])
    out.finish()
    return out.position, tuple(first)


def _nowhere(buffers: Sequence[Buffer]) -> None:
    """The first pass is only about how long the disks become, and about their digests."""


def _names(job: DiskJob) -> tuple[str, str]:
    return f"{job.machine.stem}.ovf", f"{job.machine.stem}.mf"


def _front(job: DiskJob, disks: Sequence[DiskResult], mtime: int) -> Iterator[bytes]:
    """All that stands before the first disk."""
    envelope_name, manifest_name = _names(job)
    envelope = job.envelope(disks)
    yield from _member(envelope_name, envelope, mtime)
    manifest = job.manifest(envelope_name, envelope, disks)
    if manifest is not None:
        yield from _member(manifest_name, manifest, mtime)


def _member(name: str, data: bytes, mtime: int) -> Iterator[bytes]:
    yield encode_tar_header(name, len(data), mtime)
    yield data
    yield bytes(padding(len(data)))


def _front_length(job: DiskJob) -> int:
    envelope, manifest = job.envelope_length, job.manifest_length(_names(job)[0])
    length = BLOCK + envelope + padding(envelope)
    if job.algorithm is not None:
        length += BLOCK + manifest + padding(manifest)
    return length
