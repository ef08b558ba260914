"""Copying any block source to a sink: read and looked at on worker threads, written in order."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

from aipimage._core import nonzero_extents
from aipimage.io.buffers import Buffers
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.sinks import BlockSink
from aipimage.io.sources import BlockSource, read_with_retries

BATCH = 2 << 20
"""Bytes that a worker brings at a time; pieces are cut at its multiples, where grains end too."""
_CLUSTER = 4096
"""Bytes of zeros that become a hole: a block of most file systems."""
_PIECES = 512
"""Pieces of a batch at most, so that a source in crumbs is not held back for long."""


@dataclass(slots=True)
class Copied:
    """Bytes of data that were written, and those that could not be read."""

    written: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Work:
    """Pieces (offset, length) that one worker reads; all in bytes."""

    pieces: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0


@dataclass(slots=True)
class _Brought:
    """What a worker read: runs of data by their offset, runs of zeros between them."""

    end: int
    buffer: bytearray
    writes: list[tuple[int, memoryview]] = field(default_factory=list)
    zeros: list[tuple[int, int]] = field(default_factory=list)
    unreadable: int = 0


def copy_blocks(
    source: BlockSource, start: int, sink: BlockSink, *, executor: Executor | None = None,
    threads: int | None = None, progress: ProgressCallback | None = None,
) -> Copied:  # fmt: skip
    """Write the source from byte ``start`` on to the same place of a sink.

    What holds no data is not read, and becomes zeros; sectors that cannot be read become zeros and
    are counted. Writes come from the calling thread alone, with ascending offsets.

    Raises:
        SourceError: the source fails in another way. StorageError: the sink does.
        CancelledError: the callback said so.
    """
    return _Copy(source, start, sink).run(executor, threads, progress)


class _Copy:
    def __init__(self, source: BlockSource, start: int, sink: BlockSink) -> None:
        self._source, self._start, self._sink = source, start, sink
        self._buffers = Buffers()
        self._copied = Copied()

    def run(
        self, executor: Executor | None, threads: int | None, progress: ProgressCallback | None
    ) -> Copied:
        reporter = Reporter("convert", self._source.size, progress)
        with executor_for(executor, threads, "convert") as (pool, in_flight):
            for brought in in_order(pool, self._bring, self._plan(), in_flight):
                self._write(brought)
                reporter.report(brought.end, self._copied.written)
        reporter.report(self._source.size, self._copied.written, final=True)
        return self._copied

    def _plan(self) -> Iterator[_Work]:
        """Cut what may hold data into work; what lies between is zeroed on the way, which costs
        nothing on a new file.
        """
        work, at = _Work(), self._start
        for offset, length in self._source.data_ranges(self._start, self._source.size):
            if offset > at:
                self._sink.zero(at, offset - at)
            at = offset + length
            for piece in _cut(offset, at):
                if work.pieces and (work.length + piece[1] > BATCH or len(work.pieces) >= _PIECES):
                    yield work
                    work = _Work()
                work.pieces.append(piece)
                work.length += piece[1]
        if at < self._source.size:
            self._sink.zero(at, self._source.size - at)
        if work.pieces:
            yield work

    def _bring(self, work: _Work) -> _Brought:
        """In a worker: read the pieces, and find what of them is not zero."""
        buffer = self._buffers.take(BATCH)
        brought = _Brought(sum(work.pieces[-1]), buffer)
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
                brought.writes.append((offset + first, view[first:done]))
            if done < length:
                brought.zeros.append((offset + done, length - done))
        return brought

    def _write(self, brought: _Brought) -> None:
        for offset, length in brought.zeros:
            self._sink.zero(offset, length)
        for offset, view in brought.writes:
            self._sink.write(view, offset)
            self._copied.written += view.nbytes
        self._copied.unreadable += brought.unreadable
        brought.writes = []
        self._buffers.give(brought.buffer)


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the parts of a range, cut at multiples of a batch."""
    while start < end:
        stop = min(end, (start // BATCH + 1) * BATCH)
        yield start, stop - start
        start = stop
