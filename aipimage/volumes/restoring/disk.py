"""Restoring a whole disk, to a target of any size that its used parts fit into."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace

from aipimage.errors import RequestError, TargetError
from aipimage.io.blocks.sinks import BlockSink, TargetInfo, look_at_target
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import Image
from aipimage.io.reading.restore import Placed, RestoreResult, restore_device
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.volumes.restoring.attempts import Attempts, Prepared
from aipimage.volumes.restoring.bootarea import restore_boot_area
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.job import (
    Job,
    Options,
    clear_tail,
    copy_source,
    device_of,
    left_out_ranges,
    patch,
    refuse_target,
    size_hint,
    target_size,
)
from aipimage.volumes.restoring.limits import Limits
from aipimage.volumes.restoring.notes import id_notes, left_out_warnings, moved_warnings
from aipimage.volumes.restoring.placing import boot_sector_patches, layout_of
from aipimage.volumes.restoring.planning import Plan, limits_by_number, plan_fit
from aipimage.volumes.restoring.sectors import sector_warnings
from aipimage.volumes.restoring.volume import restore_found_volume
from aipimage.volumes.survey import DiskSurvey, survey
from aipimage.volumes.tables.placing import Rewrite
from aipimage.volumes.tables.writing import relocated


@with_notices
def restore_disk(
    image: Image, target: str | os.PathLike[str], *, device: int = 0, force: bool = False,
    set_size: bool = False, size: int | None = None, new_ids: bool = False,
    boot_code: bool = False, signature: bool = False, scratch: str | None = None,
    executor: Executor | None = None, threads: int | None = None,
    progress: ProgressCallback | None = None, storage: Storage = DEFAULT,
) -> RestoreResult:  # fmt: skip
    """Write a disk of an image to a file or block device.

    A target of the disk's own size gets it byte for byte. On a larger one the partitions stay where
    they are, and a GPT gets its backup at the new end. On a smaller one what lies behind the last
    partition is dropped; where that is not enough, partitions are moved down into gaps, keeping
    their alignment; and at last they are cut behind the end of their file systems, or these made
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
        TargetError: mounted, not empty, or too small; says what is missing. Nothing was written.
        RequestError: there is no such device, or a size is asked for of a block device.
        IntegrityError: stored bytes are damaged.
    """
    entry = device_of(image, device)
    options = Options(force, set_size, size, scratch, executor, threads, progress, storage)
    name = os.fspath(target)
    info = look_at_target(name, storage)
    if (boot_code or signature) and (info.is_device or info.size):
        return restore_boot_area(image, entry, info, boot_code, signature, options)
    refuse_target(info, options)
    wanted = target_size(info, options, entry.size)
    if wanted == entry.size and not new_ids:
        result = restore_device(
            image,
            device,
            name,
            force,
            set_size or size is not None,
            executor,
            threads,
            progress,
            storage,
            left_out_ranges(entry),
        )
        warnings = (*left_out_warnings(entry), *sector_warnings(ImageSource(entry), info))
        return replace(result, warnings=(*warnings, *result.warnings))
    return _Adapted(image, entry, info, wanted, new_ids, options).run()


class _Adapted:
    """A restore to a target of another size, or with new ids."""

    def __init__(
        self,
        image: Image,
        device: Device,
        info: TargetInfo,
        size: int,
        new_ids: bool,
        options: Options,
    ) -> None:
        self._job = Job(image, device, options)
        self._device, self._info, self._size, self._new_ids = device, info, size, new_ids
        self._options = options
        self._source = ImageSource(device)
        self._found: DiskSurvey = survey(self._source)
        self._volumes = {volume.number: volume for volume in self._found.volumes}
        self._warnings = [*left_out_warnings(device), *sector_warnings(self._source, info)]
        self._table_left = ""
        self._attempts = Attempts(
            self._job,
            info,
            self._source,
            self._found.volumes,
            limits_by_number(self._source, self._found.volumes),
            self._plan,
        )

    def run(self) -> RestoreResult:
        whole = self._volumes.get(0)
        if self._size < self._device.size and whole is not None:
            return restore_found_volume(self._job, self._info, whole, self._size, False)
        found = self._attempts.prepared()
        self._job.check(_all_read(found, self._device.size))
        self._rewrite(found.plan)  # what cannot be written is said before the target is opened
        done: list[tuple[Prepared, Rewrite]] = []
        self._job.to_target(
            self._info,
            self._size,
            lambda sink: done.append(self._write(sink, found)),
            # Where partitions move, the target's old content is not that of the volumes.
            () if found.plan.changes else left_out_ranges(self._device),
        )
        return self._result(*done[0])

    def _plan(self, limits: dict[int, Limits]) -> Plan:
        table = self._found.table
        if table.doubt is not None and self._size < self._device.size:
            raise TargetError(
                f"{self._info.name}: too small: it has {self._size} bytes and the disk "
                f"{self._device.size}; its partition table is in doubt: {table.doubt}{self._hint}"
            )
        head = bytes(512)
        if self._device.size >= 512:
            buffer = bytearray(512)
            self._device.read_into(buffer, 0)
            head = bytes(buffer)
        try:
            return plan_fit(table, limits, self._size, head, self._info.name)
        except TargetError as error:
            if self._size >= self._device.size:
                # A partition that reaches behind the end of the disk it was on: nothing to plan.
                return Plan(self._size, {})
            raise TargetError(f"{error}{self._hint}") from None

    @property
    def _hint(self) -> str:
        return size_hint(self._info, self._options)

    def _rewrite(self, plan: Plan) -> Rewrite:
        """The table's patches. On a larger disk one that cannot be adapted stays as it is."""
        moved: dict[int, tuple[int, int]] = dict(plan.extended)
        moved |= {change.number: (change.start, change.size) for change in plan.changes}
        try:
            return relocated(self._found.table, self._source, self._size, moved, self._new_ids)
        except RequestError as error:
            if self._new_ids or self._size < self._device.size:
                raise
            self._table_left = f"the partition table was left as it is: {error}"
            return Rewrite([], [])

    def _write(self, sink: BlockSink, found: Prepared) -> tuple[Prepared, Rewrite]:
        with ExitStack() as stack:
            found = self._attempts.with_copies(found, stack)
            plan, copies, rewrite = found.plan, found.copies, self._rewrite(found.plan)
            layout = layout_of(plan, self._device.size, found.copied)
            self._job.ranges(layout.placed, sink)
            for offset, number, length in layout.copies:
                self._job.counts.written += copy_source(copies[number], length, sink, offset)
            for offset, length in (*layout.zeros, *rewrite.clear):
                sink.zero(offset, length)
            if not plan.changes:
                clear_tail(sink, self._info, min(self._device.size, self._size))
            boot = boot_sector_patches(self._source, plan.changes, self._volumes, copies)
            patch(sink, [*found.patches, *boot, *rewrite.patches])
        return found, rewrite

    def _result(self, found: Prepared, rewrite: Rewrite) -> RestoreResult:
        counts, plan = self._job.counts, found.plan
        notes = [
            f"volume {each.volume.number}: {each.kind} made smaller, to {each.size} bytes"
            for each in found.smaller
        ]
        if self._new_ids:
            notes += id_notes(rewrite.new_ids)
        left = [self._table_left] if self._table_left else []
        warnings = [*self._warnings, *left, *moved_warnings(self._found, plan)]
        return RestoreResult(
            self._info.name, self._device.size, counts.written, counts.unreadable,
            self._job.seconds, self._device.index, None, counts.unused, plan.changes, None,
            tuple(notes), tuple(warnings),
        )  # fmt: skip


def _all_read(found: Prepared, size: int) -> list[Placed]:
    """What is read of the image, for the check before: all of it where a volume is copied, since
    another plan may place the others elsewhere.
    """
    if found.copied:
        return [Placed(0, size, 0)]
    return layout_of(found.plan, size, ()).placed
