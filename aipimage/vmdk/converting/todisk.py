"""Conversion to a virtual disk."""

from __future__ import annotations

import time

from aipimage.io.sinks import PARTIAL_SUFFIX
from aipimage.io.storage import Storage
from aipimage.vmdk.converting.rawtarget import STATE_SUFFIX
from aipimage.vmdk.converting.request import Request, chosen_disk
from aipimage.vmdk.converting.result import ConvertResult
from aipimage.vmdk.converting.sources import Opened
from aipimage.vmdk.layout import GRAIN, SECTOR
from aipimage.vmdk.p2v import p2v_report
from aipimage.vmdk.writing.job import WriteResult, write_vmdk


def to_disk(request: Request, opened: Opened) -> ConvertResult:
    """Write one disk as a VMDK; into a stream as streamOptimized unless told otherwise.

    Raises:
        RequestError, TargetError: nothing was written; others as writing raises.
    """
    started = time.monotonic()
    disk = chosen_disk(request, opened)
    opened.check(disk)
    options = dict(request.disk_options)
    if request.path is None:
        options.setdefault("subformat", "streamOptimized")
    report = p2v_report(opened.disks[disk], adapter=options.get("adapter", "lsilogic"))
    refused = request.path is not None and request.storage.exists(request.path)
    if request.path is not None and not request.resume and (request.overwrite or not refused):
        _forget(request.path, request.storage)
    made = write_vmdk(
        request.target, opened.device(disk), overwrite=request.overwrite,
        resume=request.path is not None or request.resume, storage=request.storage, **options,
        **request.workers,
    )  # fmt: skip
    return ConvertResult(
        opened.path, opened.format, request.path, "vmdk", made.subformat, (disk,), made.capacity,
        min(made.grains * GRAIN * SECTOR, made.capacity), _stored(made, request.storage),
        made.files, made.unreadable, made.cid, None, made.resumed, time.monotonic() - started,
        report.notes, (*opened.warnings, *report.warnings, *made.warnings),
    )  # fmt: skip


def _stored(made: WriteResult, storage: Storage) -> int:
    """Bytes that the files take: of flat extents without their holes."""
    if made.path is None:
        return made.stored
    found = [storage.stat(file) for file in made.files]
    return sum(min(each.size, each.allocated_bytes) for each in found)


def _forget(path: str, storage: Storage) -> None:
    """Remove the checkpoint of an interrupted run, so that writing begins anew. It also keeps
    checkpoints then, which a run after the next failure can go on from.

    Raises:
        TargetError: another process is writing the disk.
    """
    partial = storage.resolve(path) + PARTIAL_SUFFIX
    file = storage.open_left(partial)
    if file is None:
        storage.remove_left(partial + STATE_SUFFIX)
        return
    with file:
        file.lock()
        storage.remove_left(partial + STATE_SUFFIX)
