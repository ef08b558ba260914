"""Restoring a whole disk, to a target of any size that its used parts fit into."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from aipimage import checks
from aipimage.io.blocks.sinks import look_at_target
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.restore import restore_device
from aipimage.io.reading.results import RestoreResult
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.volumes.restoreoptions import RestoreOptions
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.job import (
    Options,
    device_of,
    left_out_ranges,
    refuse_target,
    target_size,
)
from aipimage.volumes.restoring.notes import left_out_warnings
from aipimage.volumes.restoring.sectors import sector_warnings

if TYPE_CHECKING:
    from concurrent.futures import Executor


@with_notices
def restore_disk(
    image: ImageReader,
    target: str | os.PathLike[str],
    asked: RestoreOptions,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> RestoreResult:
    """Write a disk of an image to a file or block device.

    A target of the disk's own size gets it byte for byte. On a larger one the partitions stay where
    they are, and a GPT gets its backup at the new end. On a smaller one what lies past the last
    partition is dropped; where that is not enough, partitions are moved down into gaps, keeping
    their alignment; and at last they are cut past the end of their file systems, or these made
    smaller: FAT and swap by their headers; NTFS, ext2/3/4 and Btrfs by their own tools, on a copy
    in a sparse temporary file. BIOS boot partitions and the space in front of the first partition
    never move. Boot sectors of moved NTFS, FAT and exFAT volumes get their new place.

    Free clusters read as zeros afterwards in a file; on a device they are discarded where it can,
    and hold anything.

    Args:
        device: number of the disk in the image.
        force: also write over a file that is not empty. What is mounted is refused all the same.
        set_size: give an existing file the disk's size. size: give a file this size, in bytes.
        new_ids: new disk signature, disk GUID and partition GUIDs, for a clone beside its original.
        boot_code, signature: where the target has content, write only the boot code (bytes 0 to 439
            of the MBR) or the disk signature (440 to 443) to it, and leave all else. A target
            that is new or empty gets the whole disk, which has both.
        scratch: directory for temporary files; by default that of the target, for a device
            ``/var/tmp``.

    Raises:
        OptionError, OptionTypeError: an option is of another type, or out of its bounds.
        TargetError: mounted, not empty, or too small; says what is missing. Nothing was written.
        RequestError: there is no such device, or a size is asked for of a block device.
        IntegrityError: stored bytes are damaged.
    """
    options = Options.of(asked, executor, progress, storage)
    entry = device_of(image, checks.whole("device", asked.device))
    name = os.fspath(target)
    info = look_at_target(name, storage)
    # What follows a disk's partitions is loaded only where they are looked at.
    if (asked.boot_code or asked.signature) and (info.is_device or info.size):
        from aipimage.volumes.restoring.bootarea import restore_boot_area

        return restore_boot_area(image, entry, info, asked.boot_code, asked.signature, options)
    refuse_target(info, options)
    wanted = target_size(info, options, entry.size)
    if wanted == entry.size and not asked.new_ids:
        result = restore_device(
            image,
            entry.index,
            name,
            options.force,
            options.set_size or options.size is not None,
            executor,
            options.threads,
            progress,
            storage,
            left_out_ranges(entry),
        )
        warnings = (*left_out_warnings(entry), *sector_warnings(ImageSource(entry), info))
        return replace(result, warnings=(*warnings, *result.warnings))
    from aipimage.volumes.restoring.adapted import Adapted

    return Adapted(image, entry, info, wanted, asked.new_ids, options).run()
