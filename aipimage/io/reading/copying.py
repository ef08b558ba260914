"""Copying pieces to a sink: brought by worker threads, written in order by the caller's alone.

Here are the pieces of any block source; those of an image, with their frames, are in ``restore``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aipimage._core import nonzero_extents
from aipimage.io.blocks.sinks import BlockSink
from aipimage.io.blocks.sources import BlockSource, read_with_retries
from aipimage.io.records.codec import BytesLike
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import ProgressCallback, Reporter

BATCH = 2 << 20
"""Bytes that a worker brings at a time; pieces are cut at its multiples, where grains end too."""
_CLUSTER = 4096
"""Bytes of zeros that become a hole: a block of most file systems."""
_PIECES = 512
"""Pieces of a batch at most, so that a source in crumbs is not held back for long."""


@dataclass(slots=True)
class Counts:
    """Bytes that were written, and those that were free or unreadable on the source."""

    written: int = 0
    unused: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class Brought:
    """What a worker brought: parts that follow each other on the target, by their offset, and runs
    of zeros between them.

    ``end``: bytes of the whole copy up to here. ``buffers`` hold parts; they are used again after
    writing.
    """

    end: int
    writes: list[tuple[int, list[BytesLike]]] = field(default_factory=list)
    zeros: list[tuple[int, int]] = field(default_factory=list)
    unreadable: int = 0
    buffers: list[bytearray] = field(default_factory=list)


_Work = TypeVar("_Work")


class PieceCopy(ABC, Generic[_Work]):
    """A copy of pieces to a sink. What is kept in memory is bounded by the work that is in flight.

    Attributes:
        counts: what was done so far. buffers: for ``bring`` to take from.
    """

    def __init__(self, stage: str, size: int, sink: BlockSink) -> None:
        """``stage``, ``size``: of the progress that is reported."""
        self._stage, self._size, self._sink = stage, size, sink
        self.buffers = Buffers()
        self.counts = Counts()

    @abstractmethod
    def plan(self) -> Iterator[_Work]:
        """In the caller's thread: what the workers are to bring, in order. What holds no data is
        zeroed or discarded on the way, which costs nothing on a new file.
        """

    @abstractmethod
    def bring(self, work: _Work) -> Brought:
        """In a worker: read, and verify what can be verified."""

    def run(
        self, executor: Executor | None, threads: int | None, progress: ProgressCallback | None
    ) -> Counts:
        """Copy everything; errors are those of ``plan``, ``bring`` and the sink."""
        reporter = Reporter(self._stage, self._size, progress)
        with executor_for(executor, threads, self._stage) as (pool, in_flight):
            for brought in in_order(pool, self.bring, self.plan(), in_flight):
                self._write(brought)
                reporter.report(brought.end, self.counts.written)
        reporter.report(self._size, self.counts.written, final=True)
        return self.counts

    def _write(self, brought: Brought) -> None:
        """Write in the calling thread alone: writers of one file would wait for its lock in turns,
        spinning (docs/performance.md).
        """
        for offset, length in brought.zeros:
            self._sink.zero(offset, length)
        for offset, parts in brought.writes:
            self._sink.writev(parts, offset)
            self.counts.written += sum(map(len, parts))
        self.counts.unreadable += brought.unreadable
        brought.writes = []
        for buffer in brought.buffers:
            self.buffers.give(buffer)


@dataclass(slots=True)
class _Pieces:
    """Pieces (offset, length) that one worker reads; all in bytes."""

    pieces: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0


def copy_blocks(
    source: BlockSource,
    start: int,
    sink: BlockSink,
    *,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> Counts:
    """Write the source from byte ``start`` on to the same place of a sink.

    What holds no data is not read, and becomes zeros; sectors that cannot be read become zeros and
    are counted. Writes come from the calling thread alone, with ascending offsets.

    Raises:
        SourceError: the source fails in another way. StorageError: the sink does.
        CancelledError: the callback said so.
    """
    return _SourceCopy(source, start, sink).run(executor, threads, progress)


class _SourceCopy(PieceCopy[_Pieces]):
    def __init__(self, source: BlockSource, start: int, sink: BlockSink) -> None:
        super().__init__("convert", source.size, sink)
        self._source, self._start = source, start

    def plan(self) -> Iterator[_Pieces]:
        """Cut what may hold data into work; what lies between is zeroed on the way, which costs
        nothing on a new file.
        """
        work, at = _Pieces(), self._start
        for offset, length in self._source.data_ranges(self._start, self._source.size):
            if offset > at:
                self._sink.zero(at, offset - at)
            at = offset + length
            for piece in _cut(offset, at):
                if work.pieces and (work.length + piece[1] > BATCH or len(work.pieces) >= _PIECES):
                    yield work
                    work = _Pieces()
                work.pieces.append(piece)
                work.length += piece[1]
        if at < self._source.size:
            self._sink.zero(at, self._source.size - at)
        if work.pieces:
            yield work

    def bring(self, work: _Pieces) -> Brought:
        """In a worker: read the pieces, and find what of them is not zero."""
        buffer = self.buffers.take(BATCH)
        brought = Brought(sum(work.pieces[-1]), buffers=[buffer])
        room, sector = memoryview(buffer), self._source.sector_size
        for offset, length in work.pieces:
            view, room = room[:length], room[length:]
            bad = read_with_retries(self._source, view, offset, sector=sector)
            brought.unreadable += sum(size for _, size in bad)
            done = 0
            for first, count in (nonzero_extents(view, _CLUSTER) * _CLUSTER).tolist():
                if first > done:
                    brought.zeros.append((offset + done, first - done))
                done = min(first + count, length)
                brought.writes.append((offset + first, [view[first:done]]))
            if done < length:
                brought.zeros.append((offset + done, length - done))
        return brought


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the parts of a range, cut at multiples of a batch."""
    while start < end:
        stop = min(end, (start // BATCH + 1) * BATCH)
        yield start, stop - start
        start = stop
