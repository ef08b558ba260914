"""Writing an appliance as several files: the descriptor, the manifest and the disks beside it.

The descriptor is what an importer opens. It gets its name last, when all that it refers to is
durable; where another appliance is replaced, its descriptor goes first. So a descriptor never
refers to the disks of another run.
"""

from __future__ import annotations

import os

from aipimage.errors import TargetError
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage
from aipimage.vmdk.ovf.output import NewFile
from aipimage.vmdk.ovf.packing import DiskJob, DiskResult, Reports


def pack_folder(
    job: DiskJob, path: str, overwrite: bool, storage: Storage, progress: ProgressCallback | None
) -> tuple[str, int, tuple[DiskResult, ...]]:
    """Write the files of an appliance whose descriptor is ``path``; return that, the bytes of all
    files, and what is in them.
    """
    folder, name = os.path.split(path)
    manifest_name = f"{os.path.splitext(name)[0]}.mf"
    names = [*job.names, *([manifest_name] if job.algorithm is not None else []), name]
    stale = None if job.algorithm else _stale(os.path.join(folder, manifest_name), storage)
    if stale is not None and not overwrite:
        raise TargetError(
            f"{stale}: is already there; choose another name or replace it (overwrite=True)"
        )
    files: list[NewFile] = []
    try:
        for each in names:
            at = os.path.join(folder, each)
            files.append(NewFile(at, overwrite=overwrite, storage=storage))
        disks = _write(job, files, name, progress)
        _publish(files, stale, storage)
    except BaseException:
        for file in files:
            file.abort()
        raise
    return files[-1].path, sum(file.position for file in files), disks


def _write(
    job: DiskJob, files: list[NewFile], name: str, progress: ProgressCallback | None
) -> tuple[DiskResult, ...]:
    """Fill the files: disks, manifest, descriptor."""
    reports = Reports(progress, job.total)
    disks = tuple(
        job.stream(number, files[number].append, reports.disk(disk.size))
        for number, disk in enumerate(job.disks)
    )
    envelope = job.envelope(disks)
    manifest = job.manifest(name, envelope, disks)
    if manifest is not None:
        files[-2].append([manifest])
    files[-1].append([envelope])
    for file in files:
        file.sync()
    return disks


def _stale(manifest: str, storage: Storage) -> str | None:
    """The manifest of another appliance, which an importer would take for this one's."""
    return manifest if storage.exists(manifest) else None


def _publish(files: list[NewFile], stale: str | None, storage: Storage) -> None:
    """Give the files their names, the descriptor last; where that fails, none has one."""
    descriptor, others = files[-1], files[:-1]
    descriptor.withdraw()
    if stale is not None:
        storage.remove(stale, missing_ok=True)
    try:
        for file in others:
            file.publish()
        descriptor.sync_directory()
        descriptor.publish()
    except BaseException:
        for file in files:
            file.retract()
        raise
    descriptor.sync_directory()
    for file in files:
        file.close()
