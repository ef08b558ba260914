"""Making an incremental or differential image (docs/format.md, section 9.4).

scan (workers) -> groups of changed clusters (caller's thread) -> frames (workers) -> append and
map (caller's thread). Changes lie scattered, so that several pieces share frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from aipimage.errors import RequestError
from aipimage.extents import Kind
from aipimage.format.constants import Compatible, Incompatible
from aipimage.format.header import Header
from aipimage.io.creating.heading import Protection
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter
from aipimage.io.creating.job import CreateJob
from aipimage.io.creating.request import CreateRequest
from aipimage.io.creating.results import CreateResult, DeviceChanges
from aipimage.io.creating.resume import ResumedState
from aipimage.io.increment.devicework import DeviceWork
from aipimage.io.increment.grouping import FrameMaker
from aipimage.io.increment.parent import Parent
from aipimage.io.increment.resumed import Replay
from aipimage.io.increment.update import DeviceUpdate
from aipimage.io.system.pipeline import executor_for


class IncrementJob(CreateJob):
    """One run that keeps only what changed since the parent."""

    def __init__(self, request: CreateRequest, parent: Parent) -> None:
        super().__init__(request, parent.image)
        self.kind = parent.kind
        self._base = parent
        self._digests = bool(parent.image.header.compatible & Compatible.BLOCK_DIGESTS)
        self._found: list[DeviceChanges] = []
        self._warned: list[str] = []

    def _header(self, file_id: bytes, protection: Protection) -> Header:
        header = super()._header(file_id, protection)
        incompatible = header.incompatible | Incompatible.FOREIGN_ORIGINS
        compatible = header.compatible & ~int(Compatible.BLOCK_DIGESTS)
        if self._digests:
            incompatible |= Incompatible.DIGEST_LAYERS
            compatible |= Compatible.BLOCK_DIGESTS
        return replace(header, incompatible=int(incompatible), compatible=int(compatible))

    def _changes(self, results: list[DeviceResult]) -> list[DeviceChanges]:
        return self._found

    def _warnings(self) -> list[str]:
        return super()._warnings() + self._warned

    # The devices

    def _write(self, writer: ImageWriter, resumed: ResumedState | None) -> CreateResult:
        parent = self._base.image
        writer.origins.inherit(parent.origins, parent.file_name)
        maker = FrameMaker(writer.records.builder, self._level, writer.header.frame_size)
        replay = Replay(resumed, self._sources) if resumed is not None else None
        results: list[DeviceResult] = []
        with executor_for(None, self._options.threads, "create") as (executor, in_flight):
            for number, source in enumerate(self._sources):
                update = self._update(writer, number)
                start = replay.device(update, number) if replay is not None else 0
                work = DeviceWork(self, self._base, maker, writer, update, number, source)
                found = work.run(self._changed_of(number), executor, in_flight, start)
                if replay is not None:
                    found = found._replace(changed=found.changed + replay.changed)
                self._found.append(found)
                results.append(update.finish())
                writer.add_device(results[-1])
        return self._finish(writer, results)

    def _update(self, writer: ImageWriter, number: int) -> DeviceUpdate:
        source = self._sources[number]
        return DeviceUpdate(
            writer,
            number,
            source.size,
            source.sector_size,
            self._base.image,
            self._base.devices[number],
            self._digests,
        )

    def _changed_of(self, number: int) -> object:
        """What the caller says of the changes of a source; ``None`` for nothing."""
        changed = self._options.changed
        if len(self._sources) == 1 or changed is None:
            return changed
        if not isinstance(changed, Sequence) or len(changed) != len(self._sources):
            raise RequestError(
                "with several sources pass what changed as a list, one entry for each"
            )
        return changed[number]

    # For the work on a device (:class:`~aipimage.io.increment.devicework.Increment`)

    @property
    def request(self) -> CreateRequest:
        """What was asked for."""
        return self._request

    def warn(self, text: str) -> None:
        """Add a warning to the result."""
        self._warned.append(text)

    def wait(self, length: int) -> None:
        """Keep the rate that was asked for before ``length`` more bytes are read."""
        self._limit.wait(length, self._reporter.again)

    def progressed(self, number: int, offset: int) -> None:
        """Report how far a device is."""
        self._reporter.report(self._bases[number] + offset, self._stream.position)

    def note(self, number: int, runs: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Remember what changed without data, for the next checkpoint (section 11)."""
        for start, length, kind in runs.tolist():
            self._checkpoints.note(number, start, length, Kind(kind))

    def note_unreadable(self, number: int, ranges: list[tuple[int, int]]) -> None:
        """Remember what of a source could not be read, for the result."""
        self._unreadable += [(number, offset, length) for offset, length in ranges]

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._checkpoints.is_due()

    def checkpoint(self, number: int, sector: int) -> None:
        """Write one if it is time."""
        if self._checkpoints.is_due():
            self._checkpoints.write(number, sector)
