"""Restoring a disk to a target of another size, or with new ids."""

from __future__ import annotations

from contextlib import ExitStack

from aipimage.errors import RequestError, TargetError
from aipimage.io.blocks.sinks import BlockSink, TargetInfo
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.restore import Placed
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.restoring.attempts import Attempts, Prepared
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.job import (
    Options,
    RestoreJob,
    clear_tail,
    copy_source,
    left_out_ranges,
    patch,
    size_hint,
)
from aipimage.volumes.restoring.limits import Limits
from aipimage.volumes.restoring.notes import id_notes, left_out_warnings, moved_warnings
from aipimage.volumes.restoring.planning import PartitionPlan, limits_by_number, plan_fit
from aipimage.volumes.restoring.sectors import sector_warnings
from aipimage.volumes.restoring.volume import restore_found_volume
from aipimage.volumes.restoring.writes import boot_sector_patches, writes_of
from aipimage.volumes.survey import DiskSurvey, survey
from aipimage.volumes.tables.placing import Rewrite
from aipimage.volumes.tables.writing import relocated


class Adapted:
    """A restore to a target of another size, or with new ids."""

    def __init__(
        self,
        image: ImageReader,
        device: Device,
        info: TargetInfo,
        size: int,
        new_ids: bool,
        options: Options,
    ) -> None:
        self._job = RestoreJob(image, device, options)
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

    def _plan(self, limits: dict[int, Limits]) -> PartitionPlan:
        table = self._found.table
        if table.doubt is not None and self._size < self._device.size:
            raise TargetError(
                f"{self._info.name}: too small: it has {self._size} bytes and the disk "
                f"{self._device.size}; its partition table cannot be trusted: {table.doubt}"
                f"{self._hint}"
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
                # A partition that reaches past the end of the disk it was on: nothing to plan.
                return PartitionPlan(self._size, {})
            raise TargetError(f"{error}{self._hint}") from None

    @property
    def _hint(self) -> str:
        return size_hint(self._info, self._options)

    def _rewrite(self, plan: PartitionPlan) -> Rewrite:
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
            writes = writes_of(plan, self._device.size, found.copied)
            self._job.ranges(writes.placed, sink)
            for offset, number, length in writes.copies:
                self._job.counts.written += copy_source(copies[number], length, sink, offset)
            for offset, length in (*writes.zeros, *rewrite.clear):
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
    return writes_of(found.plan, size, ()).placed
