"""The two ways in which a disk grows: as one compressed stream, or as extents with plain grains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from aipimage.errors import FormatError
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.storage import File
from aipimage.vmdk.deflate import Compressor
from aipimage.vmdk.feed import BATCH_BYTES, FeedBatch, GrainFeed, Grains, Numbers
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.pieces import runs_between
from aipimage.vmdk.writing.files import DiskFiles
from aipimage.vmdk.writing.flat import FlatExtent
from aipimage.vmdk.writing.plan import DiskPlan
from aipimage.vmdk.writing.sparse import SparseExtent
from aipimage.vmdk.writing.stream import GrainPacker, StreamWriter, embedded_descriptor
from aipimage.vmdk.writing.tables import verified_number

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Step(NamedTuple):
    """Grains were written: reading continues at grain ``end``; ``unreadable`` bytes were met."""

    end: int
    unreadable: int


class GrowingDisk(Protocol):
    """A disk that is being written into its files.

    Attributes:
        position: bytes written so far, more or less. grains: that were stored so far.
    """

    @property
    def position(self) -> int: ...

    @property
    def grains(self) -> int: ...

    def begin(self) -> None:
        """Create the files."""
        ...

    def steps(self, executor: Executor, in_flight: int, start: int) -> Iterator[Step]:
        """Write all grains from ``start`` on, a batch a step."""
        ...

    def finish(self) -> None:
        """Write what comes after the last grain; the files are still to be made durable."""
        ...

    def save(self) -> dict[str, Any]:
        """Make all so far durable; return what :meth:`restore` needs."""
        ...

    def restore(self, values: dict[str, Any], next_grain: int, grains: int) -> None:
        """Continue where :meth:`save` was called; ``FormatError`` where that is not possible."""
        ...


class StreamDisk:
    """A streamOptimized disk in a file."""

    def __init__(
        self, plan: DiskPlan, files: DiskFiles, feed: GrainFeed, compressor: Compressor
    ) -> None:
        self._files, self._feed = files, feed
        self._packer = GrainPacker(feed, compressor)
        self._writer = StreamWriter(self._append, plan)
        self._file: File | None = None
        self.position = 0

    @property
    def grains(self) -> int:
        """See :class:`GrowingDisk`."""
        return self._writer.grains

    def _append(self, parts: Sequence[Buffer]) -> None:
        assert self._file is not None
        self._file.pwritev(parts, self.position)
        self.position += sum(memoryview(part).nbytes for part in parts)

    def begin(self) -> None:
        """See :class:`GrowingDisk`."""
        self._file = self._files.create(self._files.path)
        self._writer.begin()

    def steps(self, executor: Executor, in_flight: int, start: int) -> Iterator[Step]:
        """See :class:`GrowingDisk`."""
        for packed in self._feed.run(self._packer, executor, in_flight, start):
            self._writer.add(packed)
            yield Step(packed.end, packed.unreadable)

    def finish(self) -> None:
        """See :class:`GrowingDisk`."""
        self._writer.finish()

    def save(self) -> dict[str, Any]:
        """See :class:`GrowingDisk`."""
        assert self._file is not None
        self._files.sync(self._file)
        return self._writer.state()

    def restore(self, values: dict[str, Any], next_grain: int, grains: int) -> None:
        """See :class:`GrowingDisk`."""
        self._file = self._files.reopen(self._files.path)
        if self._file is None:
            raise FormatError("its disk is gone")
        self._writer.restore(values)
        self.position = self._writer.position * SECTOR
        if self.position > self._file.size() or self._writer.grains != grains:
            raise FormatError("its disk is shorter than it says")
        self._file.truncate(self.position)


class ExtentsDisk:
    """A disk of plain extents, sparse or flat, in the order of the disk."""

    def __init__(
        self, plan: DiskPlan, files: DiskFiles, feed: GrainFeed, descriptor: bytes
    ) -> None:
        self._plan, self._files, self._feed = plan, files, feed
        self._descriptor = descriptor
        self._firsts = np.array([extent.first for extent in plan.extents], np.int64)
        self._names = files.extents or (files.path,)
        self._buffers = Buffers()
        self._index = -1
        self._extent: SparseExtent | FlatExtent | None = None
        self._file: File | None = None
        self._before = self.grains = 0

    @property
    def position(self) -> int:
        """See :class:`GrowingDisk`."""
        return self._before + (self._extent.position if self._extent is not None else 0)

    def begin(self) -> None:
        """See :class:`GrowingDisk`."""
        if not self._plan.is_monolithic:
            self._files.create(self._files.path).pwrite(self._descriptor, 0)
        self._next_extent()

    def steps(self, executor: Executor, in_flight: int, start: int) -> Iterator[Step]:
        """See :class:`GrowingDisk`."""
        for grains in self._feed.run(self._load, executor, in_flight, start):
            self._add(grains.numbers, grains.rows, grains.data)
            buffer = grains.data.obj
            assert isinstance(buffer, bytearray)
            step = Step(grains.end, grains.unreadable)
            del grains
            self._buffers.give(buffer)
            yield step

    def finish(self) -> None:
        """See :class:`GrowingDisk`."""
        while self._index + 1 < len(self._plan.extents):
            self._next_extent()
        assert self._extent is not None
        self._extent.finish()

    def save(self) -> dict[str, Any]:
        """See :class:`GrowingDisk`."""
        assert self._extent is not None
        assert self._file is not None
        state = self._extent.state()
        self._files.sync(self._file)
        return {"extent": self._index, "before": self._before, "state": state}

    def restore(self, values: dict[str, Any], next_grain: int, grains: int) -> None:
        """See :class:`GrowingDisk`."""
        last = len(self._plan.extents) - 1
        index = verified_number(values, "extent", 0, last)
        self._before = verified_number(values, "before", 0, 1 << 63)
        state = values.get("state")
        if not isinstance(state, dict):
            raise FormatError("it is incomplete")
        if not self._plan.is_monolithic:
            self._reopened(self._files.path).pwrite(self._descriptor, 0)
        for name in self._names[:index]:
            self._reopened(name)
            self._files.complete(name)
        self._file = self._reopened(self._names[index])
        self._index, self.grains = index, grains
        self._extent = self._make(index)
        self._extent.restore(state, next_grain - self._plan.extents[index].first)

    def _reopened(self, name: str) -> File:
        file = self._files.reopen(name)
        if file is None:
            raise FormatError(f"{name}.partial is gone")
        return file

    def _load(self, batch: FeedBatch) -> Grains:
        """In a worker."""
        return self._feed.load(batch, memoryview(self._buffers.take(BATCH_BYTES)))

    def _add(self, numbers: Numbers, rows: Numbers, data: memoryview) -> None:
        """Hand grains to the extents that they lie in."""
        for owner, low, high in self._shares(numbers):
            while self._index < owner:
                self._next_extent()
            assert self._extent is not None
            first = self._plan.extents[self._index].first
            self._extent.add(numbers[low:high] - first, rows[low:high], data)
            self.grains += high - low

    def _shares(self, numbers: Numbers) -> Iterator[tuple[int, int, int]]:
        """Yield (extent, low, high): ``numbers[low:high]`` lie in that extent."""
        if not len(numbers):
            return
        if len(self._firsts) == 1:
            # This thread writes, and a search would hand the interpreter's lock to others.
            yield 0, 0, len(numbers)
            return
        owners = np.searchsorted(self._firsts, numbers, "right") - 1
        for low, high in runs_between(np.diff(owners) != 0):
            yield int(owners[low]), low, high

    def _next_extent(self) -> None:
        if self._extent is not None:
            self._extent.finish()
            self._before += self._extent.position
            self._files.complete(self._names[self._index])
        self._index += 1
        self._file = self._files.create(self._names[self._index])
        self._extent = self._make(self._index)
        self._extent.begin()

    def _make(self, index: int) -> SparseExtent | FlatExtent:
        assert self._file is not None
        sectors = self._plan.extents[index].sectors
        if not self._plan.is_sparse:
            return FlatExtent(self._file, sectors)
        embedded = embedded_descriptor(self._plan) if self._plan.is_monolithic else b""
        return SparseExtent(self._file, sectors, embedded)
