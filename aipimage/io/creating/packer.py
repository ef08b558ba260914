"""The worker's side of creating an image: one batch of a device to sealed frames.

read -> one call of the core that finds zeros, digests blocks and packs -> one that compresses, lays
out and digests frames; they are sealed between. All in the thread that read the bytes, so that they
stay in its cache. Only the claim of frame numbers is in turn (docs/format.md, sections 4.6 and
6).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import SourceError
from aipimage.extents import EXTENT_DTYPE, SECTOR, ExtentArray, Kind
from aipimage.format.constants import RecordType
from aipimage.format.tables import FrameEntries, pack_at
from aipimage.io.blocks.sources import BlockSource, read_with_retries
from aipimage.io.blocks.usedsource import free_of, grain_of, with_unused
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import FrameWhere, RecordBuilder
from aipimage.io.system.buffers import Buffers, thread_buffer

CLUSTER = 4096
"""Bytes: the grain at which zeros are left out. The last cluster of a device may be short."""

Runs = npt.NDArray[np.uint64]


class Batch(NamedTuple):
    """A range of a device that one worker takes: within a stripe, aligned to blocks; bytes."""

    order: int
    device: int
    offset: int
    length: int


@dataclass(slots=True)
class PackedBatch:
    """What a worker made of a batch.

    Attributes:
        data: the frames' records one after the other; valid until ``release`` is called.
        frames: their table entries, ``offset`` counted from the start of ``data``.
        extents: cover the batch's sectors from front to back.
        digests: 16 bytes for each block of 64 KiB.
        unreadable: (offset, length) in bytes.
    """

    batch: Batch
    data: memoryview
    frames: FrameEntries
    extents: ExtentArray
    digests: bytes
    unreadable: list[tuple[int, int]]
    release: Callable[[], None]


class Turns:
    """Lets workers pass one point in the order of their batches; a failure releases those who
    wait.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._next = 0
        self.error: BaseException | None = None

    def claim(self, index: int, numbers: RecordNumbers, count: int) -> int:
        """Wait for the turn of batch ``index``, claim ``count`` frame numbers, and pass the turn
        on.
        """
        with self._condition:
            while self._next != index and self.error is None:
                self._condition.wait()
            if self.error is not None:
                raise SourceError("given up because another part of the source failed")
            try:
                return numbers.claim(RecordType.FRAME, count) if count else 0
            finally:
                self._next += 1
                self._condition.notify_all()

    def fail(self, error: BaseException) -> None:
        """Release all who wait: the creation has failed; the first error is the one to report."""
        with self._condition:
            if self.error is None:
                self.error = error
            self._condition.notify_all()


@dataclass(slots=True)
class Packer:
    """What all batches of one creation share."""

    numbers: RecordNumbers
    builder: RecordBuilder
    level: int | None
    frame_size: int
    block_digests: bool
    stop_on_error: bool
    turns: Turns
    buffers: Buffers = field(default_factory=Buffers)

    def pack(self, source: BlockSource, batch: Batch) -> PackedBatch:
        """Do the whole work of one batch."""
        try:
            return self._pack(source, batch)
        except BaseException as error:
            self.turns.fail(error)
            raise

    def _pack(self, source: BlockSource, batch: Batch) -> PackedBatch:
        padded = -(-batch.length // SECTOR) * SECTOR
        view = thread_buffer("read", padded)
        view[batch.length :] = bytes(padded - batch.length)
        unreadable = self._read(source, view[: batch.length], batch.offset)
        free = free_of(source, batch.offset, batch.offset + batch.length)
        # A unit is zeros, or it is kept; what is free or could not be read is zeros.
        grain = SECTOR if unreadable else grain_of(free, CLUSTER)
        room = thread_buffer("packed", padded)
        runs, digests = _core.scan_pack(view, grain, room, self.block_digests)
        total = int(runs[:, 1].sum()) * SECTOR
        count = -(-total // self.frame_size)
        first = self.turns.claim(batch.order, self.numbers, count)
        packed = room[:total] if len(runs) > 1 else _of_one_run(view, runs)
        # A run may be cut by each frame's end.
        most = self.builder.frames_room(total, self.frame_size, len(runs) + count)
        out = self.buffers.take(most)
        where = FrameWhere(runs, pack_at(batch.device, batch.offset // SECTOR))
        frames = self.builder.build_frames(
            memoryview(out), first, packed, self.frame_size, where, self.level
        )
        extents = _extents(runs, padded // SECTOR, first * self.frame_size // SECTOR)
        if unreadable:
            extents = _mark_unreadable(extents, unreadable, batch.offset)
        extents = with_unused(extents, batch.offset // SECTOR, free)
        data = memoryview(out)[: int(frames["record_length"].sum())]
        release = partial(self.buffers.give, out)
        return PackedBatch(batch, data, frames, extents, digests.tobytes(), unreadable, release)

    def _read(self, source: BlockSource, view: memoryview, offset: int) -> list[tuple[int, int]]:
        if self.stop_on_error:
            source.read_into(view, offset)
            return []
        return read_with_retries(source, view, offset, sector=source.sector_size)


def _of_one_run(view: memoryview, runs: Runs) -> memoryview:
    """The kept bytes of at most one run, which is used where it lies."""
    start, length = runs[0].tolist() if len(runs) else (0, 0)
    return view[start * SECTOR : (start + length) * SECTOR]


def _extents(runs: Runs, sectors: int, position: int) -> ExtentArray:
    """Map extents of a batch: zeros and data in turn; origin 0 is the run that writes."""
    count = len(runs)
    rows = np.zeros(2 * count + 1, EXTENT_DTYPE)
    ends = runs[:, 0] + runs[:, 1]
    rows["kind"][0::2] = Kind.ZERO
    rows["kind"][1::2] = Kind.DATA
    rows["length"][1::2] = runs[:, 1]
    rows["length"][0:-1:2] = runs[:, 0]
    rows["length"][2:-1:2] -= ends[:-1]
    rows["length"][-1] = sectors - (int(ends[-1]) if count else 0)
    rows["position"][1::2] = np.uint64(position) + np.cumsum(runs[:, 1]) - runs[:, 1]
    return rows[rows["length"] > 0]


def _mark_unreadable(
    extents: ExtentArray, unreadable: list[tuple[int, int]], offset: int
) -> ExtentArray:
    """Unreadable sectors were filled with zeros: cut them out of the zero extents around them."""
    rows: list[tuple[int, int, int, int]] = []
    bad = [
        ((start - offset) // SECTOR, -(-(start - offset + length) // SECTOR))
        for start, length in unreadable
    ]
    at = 0
    for length, position, origin, kind in extents.tolist():
        end = at + length
        while kind == Kind.ZERO and bad and bad[0][0] < end:
            start, stop = max(bad[0][0], at), min(bad[0][1], end)
            rows += [(start - at, 0, 0, Kind.ZERO), (stop - start, 0, 0, Kind.UNREADABLE)]
            at = stop
            if bad[0][1] <= end:
                bad.pop(0)
            else:
                break
        rows.append((end - at, position, origin, kind))
        at = end
    marked = np.array(rows, EXTENT_DTYPE)
    return marked[marked["length"] > 0]
