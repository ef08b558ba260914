"""Virtual disks, images and appliances as targets; ``raw`` writes plain bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from aipimage.converting.rawfile import STATE_SUFFIX
from aipimage.converting.request import ConvertResult, Request
from aipimage.converting.sources import OpenedSource, chosen_disk, chosen_disks
from aipimage.errors import RequestError
from aipimage.io.blocks.sinks import PARTIAL_SUFFIX
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.system.storage import Storage
from aipimage.vmdk.layout import GRAIN, SECTOR
from aipimage.vmdk.ovf import OvaResult, write_ova, write_ovf
from aipimage.vmdk.ovf.hardware import CONTROLLERS
from aipimage.vmdk.p2v import p2v_report
from aipimage.vmdk.writing.job import WriteResult, write_vmdk
from aipimage.volumes.preparing import Preparation


def to_disk(request: Request, opened: OpenedSource) -> ConvertResult:
    """Write one disk as a VMDK; into a stream as streamOptimized by default.

    Raises:
        RequestError, TargetError: nothing was written; others as writing raises.
    """
    started = time.monotonic()
    disk = chosen_disk(request, opened)
    opened.check(disk)
    options, asked = request.disk_options, request.options
    if request.path is None:
        options.setdefault("subformat", "streamOptimized")
    report = p2v_report(opened.disks[disk], adapter=options.get("adapter", "lsilogic"))
    refused = request.path is not None and request.storage.exists(request.path)
    if request.path is not None and not asked.resume and (asked.overwrite or not refused):
        _forget(request.path, request.storage)
    made = write_vmdk(
        request.target,
        opened.device(disk),
        overwrite=asked.overwrite,
        resume=request.path is not None or asked.resume,
        storage=request.storage,
        **options,
        **request.workers,
    )
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
    checkpoints then, which a run after the next failure can continue from.

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


def to_image(request: Request, opened: OpenedSource) -> ConvertResult:
    """Make a full image of the source.

    Raises:
        RequestError: the source is an image already; or as :func:`aipimage.create` raises.
    """
    started = time.monotonic()
    if opened.image is not None:
        raise RequestError(
            f"{opened.path}: is an .aiv image already; merge, split and join make other images of "
            "it"
        )
    disks = chosen_disks(request, opened)
    given, asked = request.image_options, request.options
    options = CreateOptions(
        password=asked.password,
        overwrite=asked.overwrite,
        resume=asked.resume,
        threads=asked.threads,
        prepare=Preparation(bool(given.pop("include_free"))),
        **given,
    )
    sources = [opened.disks[disk] for disk in disks]
    made = create_image(request.target, sources, options, request.progress, request.storage)
    path = request.path
    files = () if path is None else (path,)
    return ConvertResult(
        opened.path, opened.format, path, "aiv", None, disks, made.size, made.data, made.stored,
        files, made.unreadable, None, made.digest, made.resumed, time.monotonic() - started, (),
        tuple(dict.fromkeys((*opened.warnings, *made.warnings))),
    )  # fmt: skip


def to_appliance(request: Request, opened: OpenedSource) -> ConvertResult:
    """Write an OVA, or an OVF with its disks beside it.

    Raises:
        RequestError, TargetError: nothing was written; others as writing raises.
    """
    started = time.monotonic()
    numbers = chosen_disks(request, opened)
    controller = request.disk_options.get("adapter", "lsilogic")
    kind = CONTROLLERS.get(controller)
    adapter = kind.adapter if kind is not None else controller
    told: dict[int, tuple[str, ...]] = {}
    for number in numbers:
        opened.check(number)
        report = p2v_report(opened.disks[number], adapter=adapter, controller=controller)
        opened.warnings += report.warnings
        told[number] = report.notes
    made = _written_appliance(request, opened, numbers)
    files: tuple[str, ...] = () if made.path is None else (made.path,)
    if made.path is not None and request.format == "ovf":
        folder = os.path.dirname(made.path)
        files += tuple(os.path.join(folder, disk.name) for disk in made.disks)
    return ConvertResult(
        opened.path, opened.format, made.path, request.format, "streamOptimized", numbers,
        sum(disk.capacity for disk in made.disks), sum(disk.populated for disk in made.disks),
        made.size, files, sum(disk.unreadable for disk in made.disks), None, None, False,
        time.monotonic() - started, _notes(told), (*opened.warnings, *made.warnings),
    )  # fmt: skip


def _written_appliance(
    request: Request, opened: OpenedSource, numbers: tuple[int, ...]
) -> OvaResult:
    disks = [opened.device(number) for number in numbers]
    options = dict(request.options.appliance or {}) | request.disk_options
    if "adapter" in options:
        options["controller"] = options.pop("adapter")
    if "os" in options:
        options["guest"] = options.pop("os")
    options |= {"overwrite": request.options.overwrite, "storage": request.storage}
    options |= request.workers
    if request.format == "ova":
        return write_ova(request.target, disks, **options)
    if request.path is None:
        raise RequestError("an .ovf has files beside it; choose a path, or write an .ova")
    return write_ovf(request.path, disks, **options)


def _notes(told: Mapping[int, tuple[str, ...]]) -> tuple[str, ...]:
    """What there is to say of each disk, and once what is true of all."""
    shared = [note for note in next(iter(told.values())) if all(note in of for of in told.values())]
    own = [
        f"disk {number}: {note}" if len(told) > 1 else note
        for number, notes in told.items()
        for note in notes
        if note not in shared
    ]
    return (*own, *shared)
