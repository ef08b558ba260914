"""Writing a device of an image back: frames in batches on worker threads, each verified before it
is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aipimage.errors import FormatError, IntegrityError
from aipimage.extents import DATA, SECTOR, Kind
from aipimage.io.buffers import Buffers
from aipimage.io.codec import BytesLike
from aipimage.io.devicemap import Piece
from aipimage.io.frames import FrameRun, open_frames
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.sinks import BlockSink, open_target
from aipimage.io.storage import Storage

if TYPE_CHECKING:
    from aipimage.io.device import Device
    from aipimage.io.image import Image

_BATCH_SECTORS = (2 << 20) // SECTOR


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What was restored.

    Attributes:
        target: path. size: bytes of the device. written: bytes of data written; the rest reads as
            zeros.
        unreadable: bytes that the source could not give when it was imaged; they are zeros on the
            target.
        seconds: wall time.
    """

    target: str
    size: int
    written: int
    unreadable: int
    seconds: float


@dataclass(slots=True)
class _Work:
    """Pieces of data that one worker brings, in device order."""

    pieces: list[Piece] = field(default_factory=list)
    sectors: int = 0


@dataclass(slots=True)
class _Brought:
    """What a worker brought: parts that follow each other on the target, by their offset.

    ``buffers`` hold frames that are stored as they are; they are given back after writing.
    """

    end: int
    writes: list[tuple[int, list[BytesLike]]] = field(default_factory=list)
    buffers: list[bytearray] = field(default_factory=list)


def restore_device(
    image: Image, device: int, target: str, force: bool, set_size: bool, executor: Executor | None,
    threads: int | None, progress: ProgressCallback | None, storage: Storage,
) -> RestoreResult:  # fmt: skip
    """Restore one device; the public form is :meth:`aipimage.Image.restore`."""
    entry = image.devices[device]
    # The map's root is read before the target is touched: a damaged image refuses with nothing
    # written.
    entry.map.root()
    _check_files(image, entry)
    sink = open_target(target, entry.size, force=force, set_size=set_size, storage=storage)
    try:
        result = _Restorer(image, device, sink).run(executor, threads, progress)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return result


def _check_files(image: Image, device: Device) -> None:
    """``IncompleteError`` unless all files that hold the device's data are there: found out before
    the target is touched.
    """
    needed: set[int] = set()
    for _, block in device.map.walk():
        needed.update(np.unique(block["origin"][block["kind"] == DATA]).tolist())
    for index in needed:
        origin = image.seal.origins[index].origin
        if not image.segments.holds(origin):
            image.foreign.holder(origin)


class _Restorer:
    def __init__(self, image: Image, device: int, sink: BlockSink) -> None:
        self._image, self._device, self._sink = image, image.devices[device], sink
        self._buffers = Buffers()
        self._written = 0

    def run(
        self, executor: Executor | None, threads: int | None, progress: ProgressCallback | None
    ) -> RestoreResult:
        size = self._device.size
        reporter = Reporter("restore", size, progress)
        with executor_for(executor, threads, "restore") as (pool, in_flight):
            for brought in in_order(pool, self._bring, self._plan(), in_flight):
                self._write(brought)
                reporter.report(brought.end, self._written)
        reporter.report(size, self._written, final=True)
        seconds = time.monotonic() - reporter.started
        unreadable = self._device.bytes_of(Kind.UNREADABLE)
        return RestoreResult(self._sink.name, size, self._written, unreadable, seconds)

    def _plan(self) -> Iterator[_Work]:
        """Cut the map into work; ranges without data are zeroed on the way, which is free on a new
        file.
        """
        work = _Work()
        for piece in self._pieces():
            if piece.kind == Kind.DATA:
                for part in self._cut(piece):
                    work.pieces.append(part)
                    work.sectors += part.length
                    if work.sectors >= _BATCH_SECTORS:
                        yield work
                        work = _Work()
            elif piece.kind == Kind.LOST:
                raise IntegrityError(
                    f"{self._image.path}: byte {piece.start * SECTOR} of device "
                    f"{self._device.index} "
                    "was lost to damage before this image was repaired"
                )
            else:
                self._sink.zero(piece.start * SECTOR, self._bytes(piece))
        if work.pieces:
            yield work

    def _pieces(self) -> Iterator[Piece]:
        for first, block in self._device.map.walk():
            start = first
            for length, position, origin, kind in block.tolist():
                yield Piece(start, length, kind, origin, position)
                start += length

    def _cut(self, piece: Piece) -> Iterator[Piece]:
        """Parts of at most a batch that end where frames end, so that no frame is decoded twice."""
        frame = self._image.header.frame_sectors
        start, end = piece.start, piece.start + piece.length
        position = piece.position
        while start < end:
            length = min(end - start, _BATCH_SECTORS - position % frame)
            yield Piece(start, length, piece.kind, piece.origin, position)
            start, position = start + length, position + length

    def _bytes(self, piece: Piece) -> int:
        return min(piece.length * SECTOR, self._device.size - piece.start * SECTOR)

    def _bring(self, work: _Work) -> _Brought:
        """In a worker: read, verify and decode the frames of some pieces."""
        size = self._image.header.frame_size
        last = work.pieces[-1]
        brought = _Brought((last.start + last.length) * SECTOR)
        frames = load_frames(self._image, work.pieces, self._buffers, brought.buffers)
        at = -1
        for piece in work.pieces:
            offset, left = piece.start * SECTOR, self._bytes(piece)
            position = piece.position * SECTOR
            while left > 0:
                number, inside = divmod(position, size)
                part = frames[piece.origin, number][inside : inside + left]
                if not len(part):
                    raise FormatError(
                        f"{self._image.path}: the map points behind the end of a frame"
                    )
                if offset != at:
                    brought.writes.append((offset, []))
                brought.writes[-1][1].append(part)
                at = offset = offset + len(part)
                left, position = left - len(part), position + len(part)
        return brought

    def _write(self, brought: _Brought) -> None:
        """Write in the calling thread alone: writers of one file would wait for its lock in turns,
        spinning (docs/performance.md).
        """
        for offset, parts in brought.writes:
            self._sink.writev(parts, offset)
            self._written += sum(map(len, parts))
        brought.writes = []
        for buffer in brought.buffers:
            self._buffers.give(buffer)


def read_range(device: Device, view: memoryview, offset: int, buffers: Buffers) -> None:
    """Fill ``view`` from byte ``offset`` of a device, with one read for neighbouring frames and
    without the cache: for somebody who reads on and on. Safe for threads.

    Raises:
        IntegrityError: stored bytes are damaged, or the range is marked as lost.
    """
    if not view.nbytes:
        return
    first, last = offset // SECTOR, (offset + view.nbytes - 1) // SECTOR
    pieces = device.map.pieces(first, last - first + 1)
    taken: list[bytearray] = []
    data = [piece for piece in pieces if piece.kind == Kind.DATA]
    frames = load_frames(device.image, data, buffers, taken)
    device.fill_from(view, offset, pieces, frames)
    for buffer in taken:
        buffers.give(buffer)


def load_frames(
    image: Image, pieces: list[Piece], buffers: Buffers, taken: list[bytearray]
) -> dict[tuple[int, int], BytesLike]:
    """Return the plain bytes of all frames that some pieces of data need, by (origin, number).

    Frames that are stored as they are lie in buffers, which are added to ``taken``.
    """
    size = image.header.frame_sectors
    wanted = sorted(
        {
            (piece.origin, number)
            for piece in pieces
            for number in range(
                piece.position // size, (piece.position + piece.length - 1) // size + 1
            )
        }
    )
    frames: dict[tuple[int, int], BytesLike] = {}
    for origin, run in frame_runs(image, wanted):
        buffer = buffers.take(run.length)
        taken.append(buffer)
        data = image.read_stored(run.origin, run.start, memoryview(buffer)[: run.length])
        for opened in open_frames(image.records, run, data):
            if opened.error is not None:
                raise type(opened.error)(
                    f"{image.path}: frame {opened.number}: {opened.error}"
                ) from opened.error
            frames[origin, opened.number] = memoryview(opened.plain)
    return frames


def frame_runs(image: Image, wanted: list[tuple[int, int]]) -> Iterator[tuple[int, FrameRun]]:
    """Yield (origin, run) for ascending (origin, number): frames that lie next to each other."""
    start = 0
    for at in range(1, len(wanted) + 1):
        origin, first = wanted[start]
        if at < len(wanted) and wanted[at] == (origin, first + at - start):
            continue
        table = image.tables[origin]
        for run in table.runs(first, wanted[at - 1][1] + 1):
            for part in _apart(image, run):
                yield origin, part
        start = at


def _apart(image: Image, run: FrameRun) -> Iterator[FrameRun]:
    """Frames whose addresses follow each other may lie in different places of this file (section
    9.3); then each is read alone.
    """
    if not image.segments.holds(run.origin) or image.segments.covers(
        run.origin, run.start, run.length
    ):
        yield run
        return
    for row in range(len(run.entries)):
        yield FrameRun(run.origin, run.first + row, run.entries[row : row + 1])
