"""Restoring a single volume into a partition, a device or a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

from aipimage.errors import RequestError, StorageError, TargetError
from aipimage.io.blocks.sinks import BlockSink, TargetInfo, look_at_target
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.restore import Placed
from aipimage.io.reading.results import RestoreResult
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.volumes.model import Volume
from aipimage.volumes.patches import Patch
from aipimage.volumes.restoring.expanding import expand_volume
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.job import (
    Options,
    RestoreJob,
    clear_tail,
    copy_source,
    described_volumes,
    device_of,
    patch,
    refuse_target,
    scratch_directory,
    size_hint,
    target_size,
)
from aipimage.volumes.restoring.limits import limits_of
from aipimage.volumes.restoring.moving import moved_boot_sectors
from aipimage.volumes.restoring.sectors import volume_sector_warnings
from aipimage.volumes.restoring.shrinking import Smaller, check_tools, header_patches, shrink_copy
from aipimage.volumes.survey import survey
from aipimage.volumes.view import VolumeView


@with_notices
def restore_volume(
    image: ImageReader, target: str | os.PathLike[str], *, device: int | None = None,
    volume: int | None = None, expand: bool = False, force: bool = False, set_size: bool = False,
    size: int | None = None, scratch: str | None = None, executor: Executor | None = None,
    threads: int | None = None, progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> RestoreResult:  # fmt: skip
    """Write a volume of an image into a partition, another block device, or a file.

    A new file gets the volume's size. A smaller target is possible where the volume can be cut
    past the end of its file system, or that can become smaller (see
    :func:`aipimage.volumes.restoring.disk.restore_disk`). Free clusters read as zeros in a file
    afterwards; on a device they are discarded where it can, and hold anything.

    Args:
        device: number of the disk in the image; all of them by default.
        volume: its number, as the system numbers partitions; 0 is a device that is one volume
            without a partition table. By default the only one that there is.
        expand: where the target is larger, let the file system grow with it: ext2/3/4 by resize2fs,
            NTFS by ntfsresize, XFS by xfs_growfs, Btrfs by btrfs, swap by its header. Where
            that cannot be done, ``warnings`` of the result say why.
        force, set_size, size, scratch: as for a disk.

    Raises:
        RequestError: there is no such volume, or several and none was named.
        TargetError: mounted, not empty, or too small. Nothing was written.
        IntegrityError: stored bytes are damaged.
    """
    options = Options(force, set_size, size, scratch, executor, threads, progress, storage)
    entry, found = choose_volume(image, device, volume)
    info = look_at_target(target, storage)
    refuse_target(info, options)
    wanted = target_size(info, options, found.size)
    return restore_found_volume(RestoreJob(image, entry, options), info, found, wanted, expand)


class Choice(NamedTuple):
    """A volume of an image and the device that it lies on."""

    device: Device
    volume: Volume


def choose_volume(image: ImageReader, device: int | None, number: int | None) -> Choice:
    """Return the volume that is meant.

    Raises:
        RequestError: there is none, or more than one; the message lists them.
    """
    devices = image.devices if device is None else [device_of(image, device)]
    doubts: list[str] = []
    found: list[Choice] = []
    left_out: set[int] = set()
    for entry in devices:
        surveyed = survey(ImageSource(entry))
        if surveyed.table.doubt is not None:
            table = f"the partition table of device {entry.index}"
            doubts.append(f"{table} cannot be trusted: {surveyed.table.doubt}")
        gone = {each.number for each in described_volumes(entry) if not each.kept}
        left_out |= gone
        found += [Choice(entry, each) for each in surveyed.volumes if each.number not in gone]
    matching = [choice for choice in found if number in (None, choice.volume.number)]
    if len(matching) == 1:
        return matching[0]
    if not found and doubts and number not in left_out:
        raise RequestError(f"{image.path}: has no volume that can be restored: {'; '.join(doubts)}")
    there = ", ".join(map(_called, matching or found)) or "none"
    if not matching:
        wanted = "has no volume" if number is None else f"has no volume {number}"
        if number in left_out:
            wanted += ", which was left out when it was made"
        raise RequestError(f"{image.path}: {wanted}; there is {there}")
    argument = "device" if number is not None else "volume"
    raise RequestError(f"{image.path}: has several volumes, choose one ({argument}=): {there}")


def _called(choice: Choice) -> str:
    volume = choice.volume
    kind = volume.filesystem.kind if volume.filesystem else "unknown"
    return f"volume {volume.number} of disk {choice.device.index} ({kind}, {volume.size} bytes)"


def restore_found_volume(
    job: RestoreJob, info: TargetInfo, volume: Volume, wanted: int, expand: bool
) -> RestoreResult:
    """Write a volume to a target of ``wanted`` bytes."""
    smaller = _smaller(job, info, volume, wanted)
    whole = Placed(volume.start, min(volume.size, wanted), 0)
    job.check([Placed(volume.start, volume.size, 0)])
    source = ImageSource(job.device)
    patches = header_patches(source, smaller) if smaller and not smaller.copied else []

    def write(sink: BlockSink) -> None:
        if smaller is not None and smaller.copied:
            place = scratch_directory(info, job.options)
            with tempfile.TemporaryDirectory(prefix=".aipimage-", dir=place) as directory:
                copy = shrink_copy(job, smaller, directory)
                job.counts.written += copy_source(copy, wanted, sink, 0)
                copy.close()
        else:
            job.ranges([whole], sink)
        clear_tail(sink, info, whole.length)
        patch(sink, [*patches, *_moved(job, info, volume)])

    job.to_target(info, wanted, write)
    return _result(job, info, volume, wanted, expand, smaller, write)


def _result(
    job: RestoreJob,
    info: TargetInfo,
    volume: Volume,
    wanted: int,
    expand: bool,
    smaller: Smaller | None,
    write: Callable[[BlockSink], None],
) -> RestoreResult:
    view = VolumeView(ImageSource(job.device), volume.start, volume.size)
    notes, expanded = [], None
    warnings = volume_sector_warnings(view, volume, info)
    if smaller is not None:
        notes.append(f"{smaller.kind} made smaller, to {smaller.size} bytes")
    if expand and wanted > volume.size:
        expanded, warning = expand_volume(
            info, volume, wanted, job.options.storage, lambda: job.once_more(info, wanted, write)
        )
        warnings += [warning] if warning else []
    counts = job.counts
    return RestoreResult(
        info.name, volume.size, counts.written, counts.unreadable, job.seconds, job.device.index,
        volume.number, counts.unused, (), expanded, tuple(notes), tuple(warnings),
    )  # fmt: skip


def _smaller(job: RestoreJob, info: TargetInfo, volume: Volume, wanted: int) -> Smaller | None:
    """What becomes of the volume on a target of so many bytes: ``None``: its file system stays as
    it is. ``TargetError`` where it does not fit.
    """
    if wanted >= volume.size:
        return None
    limits = limits_of(ImageSource(job.device), volume)
    if wanted >= limits.kept:
        return None
    hint = size_hint(info, job.options)
    if wanted < limits.least or limits.least == limits.kept:
        why = f"; the volume cannot become smaller: {limits.why}" if limits.why else ""
        raise TargetError(
            f"{info.name}: too small: it has {wanted} bytes, {limits.least} are needed{why}{hint}"
        )
    smaller = Smaller(volume, wanted)
    check_tools(smaller, info.name)
    return smaller


def _moved(job: RestoreJob, info: TargetInfo, volume: Volume) -> list[Patch]:
    """Patches for a boot sector that names the place of its partition, where the target is one."""
    start = _partition_start(info, job.options.storage)
    if start is None or volume.filesystem is None or not volume.number:
        return []
    view = VolumeView(ImageSource(job.device), volume.start, volume.size)
    return [
        (offset, data)
        for offset, data in moved_boot_sectors(view, volume.filesystem.kind, volume.start, start)
        if offset + len(data) <= info.size
    ]


def _partition_start(info: TargetInfo, storage: Storage) -> int | None:
    """Byte of its disk where a partition begins; ``None`` for all else. Source: Linux,
    Documentation/ABI/stable/sysfs-block, ``<partition>/start``: in units of 512 bytes.
    """
    if not info.is_device:
        return None
    number = f"{os.major(info.device_number)}:{os.minor(info.device_number)}"
    try:
        return int(storage.read_text(f"/sys/dev/block/{number}/start")) * 512
    except (StorageError, ValueError):
        return None
