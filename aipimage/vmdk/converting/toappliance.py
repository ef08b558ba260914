"""Conversion to a virtual appliance: all disks of a machine, and what it consists of."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from aipimage.errors import RequestError
from aipimage.vmdk.converting.request import Request, chosen_disks
from aipimage.vmdk.converting.result import ConvertResult
from aipimage.vmdk.converting.sources import Opened
from aipimage.vmdk.ovf import OvaResult, write_ova, write_ovf
from aipimage.vmdk.ovf.hardware import CONTROLLERS
from aipimage.vmdk.p2v import p2v_report


def to_appliance(request: Request, opened: Opened) -> ConvertResult:
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
    made = _written(request, opened, numbers)
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


def _written(request: Request, opened: Opened, numbers: tuple[int, ...]) -> OvaResult:
    disks = [opened.device(number) for number in numbers]
    options = dict(request.appliance) | dict(request.disk_options)
    if "adapter" in options:
        options["controller"] = options.pop("adapter")
    if "os" in options:
        options["guest"] = options.pop("os")
    options |= request.workers | {"overwrite": request.overwrite, "storage": request.storage}
    if request.format == "ova":
        return write_ova(request.target, disks, **options)
    if request.path is None:
        raise RequestError("an .ovf has files beside it; give it a name, or write an .ova")
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
