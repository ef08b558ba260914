"""Writing a device of an image back: frames in batches on worker threads, each verified before it
is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from aipimage.extents import DATA, SECTOR, ExtentArray, Kind
from aipimage.io.blocks.sinks import BlockSink, open_target
from aipimage.io.index.devicemap import Piece
from aipimage.io.reading.bulkread import load_pieces
from aipimage.io.reading.copying import Brought, Counts, PieceCopy
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.located import lost
from aipimage.io.reading.results import RestoreResult
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage

_BATCH_SECTORS = (2 << 20) // SECTOR
LOST = int(Kind.LOST)


class Placed(NamedTuple):
    """A range of a device, and where it is written to. All in bytes; ``source`` is whole sectors.

    Attributes:
        source: first byte on the device. length: bytes. target: first byte on the target.
    """

    source: int
    length: int
    target: int


@dataclass(slots=True)
class _Work:
    """Pieces of data that one worker brings, each with its offset on the target and its bytes.

    ``end``: bytes of all ranges up to the last piece.
    """

    pieces: list[Piece] = field(default_factory=list)
    targets: list[tuple[int, int]] = field(default_factory=list)
    sectors: int = 0
    end: int = 0


@with_notices
def restore_device(
    image: ImageReader,
    device: int,
    target: str,
    force: bool,
    set_size: bool,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
    storage: Storage,
    untouched: Sequence[tuple[int, int]] = (),
) -> RestoreResult:
    """Restore one device as it is, byte for byte.

    Args:
        untouched: (start, end) in bytes of volumes that the image does not have: of a device that
            is restored to, they are left as they are.
    """
    started = time.monotonic()
    size = image.devices[device].size
    placed = [Placed(0, size, 0)]
    check_ranges(image, device, placed)
    sink = open_target(
        target, size, force=force, set_size=set_size, storage=storage, untouched=untouched
    )
    try:
        counts = restore_ranges(image, device, placed, sink, executor, threads, progress)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    seconds = time.monotonic() - started
    return RestoreResult(
        sink.name, size, counts.written, counts.unreadable, seconds, device, unused=counts.unused
    )


def check_ranges(image: ImageReader, device: int, placed: Sequence[Placed]) -> None:
    """Walk the maps of what is to be restored, before the target is touched.

    Raises:
        FormatError, IntegrityError: a map is damaged, or data was lost before a repair.
        IncompleteError: a file that holds data of the ranges is not there.
    """
    entry = image.devices[device]
    entry.map.root()
    needed: set[int] = set()
    for part in placed:
        for first, block in entry.map.walk(*_sectors(part)):
            needed.update(np.unique(block["origin"][block["kind"] == DATA]).tolist())
            if (block["kind"] == LOST).any():
                _refuse_lost(image, device, part, first, block)
    for index in needed:
        origin = image.origins.entry(index).origin
        if not image.segments.holds(origin):
            image.foreign.holder(origin)


def _refuse_lost(
    image: ImageReader, device: int, part: Placed, first: int, block: ExtentArray
) -> None:
    """``IntegrityError`` where an extent that lies in the range was lost."""
    low, high = _sectors(part)
    start = first
    for length, _, _, kind in block.tolist():
        if kind == LOST and start < high and start + length > low:
            raise lost(image.path, device, max(start, low) * SECTOR, SECTOR)
        start += length


def restore_ranges(
    image: ImageReader,
    device: int,
    placed: Sequence[Placed],
    sink: BlockSink,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> Counts:
    """Write ranges of a device to a sink; every frame is verified before it is written. Ranges must
    not meet on the target.

    Raises:
        IntegrityError: stored bytes are damaged, or data was lost before a repair.
        StorageError: the target cannot be written. CancelledError: the callback said so.
    """
    return _Restorer(image, device, placed, sink).run(executor, threads, progress)


def _sectors(part: Placed) -> tuple[int, int]:
    """First sector of a range, and the one after it."""
    if part.source % SECTOR:
        raise RuntimeError(f"internal error: a range begins inside a sector: {part}")
    return part.source // SECTOR, -(-(part.source + part.length) // SECTOR)


class _Restorer(PieceCopy[_Work]):
    def __init__(
        self, image: ImageReader, device: int, placed: Sequence[Placed], sink: BlockSink
    ) -> None:
        super().__init__("restore", sum(part.length for part in placed), sink)
        self._image, self._device = image, image.devices[device]
        self._placed = placed

    def plan(self) -> Iterator[_Work]:
        """Cut the maps into work; see :class:`PieceCopy`."""
        work, before = _Work(), 0
        for part in self._placed:
            for piece in self._pieces(part):
                target = piece.start * SECTOR - part.source + part.target
                if piece.kind != Kind.DATA:
                    self._without_data(piece, target, self._bytes(piece, part))
                    continue
                for cut in self._cut(piece):
                    work.pieces.append(cut)
                    at = target + (cut.start - piece.start) * SECTOR
                    work.targets.append((at, self._bytes(cut, part)))
                    work.sectors += cut.length
                    work.end = before + (cut.start + cut.length) * SECTOR - part.source
                    if work.sectors >= _BATCH_SECTORS:
                        yield work
                        work = _Work()
            before += part.length
        if work.pieces:
            yield work

    def _without_data(self, piece: Piece, target: int, length: int) -> None:
        if piece.kind == Kind.LOST:
            raise lost(self._image.path, self._device.index, piece.start * SECTOR, SECTOR)
        if piece.kind == Kind.UNUSED:
            self.counts.unused += length
            self._sink.discard(target, length)
            return
        if piece.kind == Kind.UNREADABLE:
            self.counts.unreadable += length
        self._sink.zero(target, length)

    def _pieces(self, part: Placed) -> Iterator[Piece]:
        """The pieces of a range, cut at both of its ends; neighbours that are free are one."""
        low, high = _sectors(part)
        unused: Piece | None = None
        for first, block in self._device.map.walk(low, high):
            start = first
            for length, position, origin, kind in block.tolist():
                begin, end = max(start, low), min(start + length, high)
                if begin < end:
                    piece = Piece(begin, end - begin, kind, origin, position + begin - start)
                    if kind == Kind.UNUSED:
                        unused = _joined(unused, piece)
                    else:
                        if unused is not None:
                            yield unused
                            unused = None
                        yield piece
                start += length
        if unused is not None:
            yield unused

    def _cut(self, piece: Piece) -> Iterator[Piece]:
        """Parts of at most a batch that end where frames end, so that no frame is decoded twice."""
        frame = self._image.header.frame_sectors
        start, end = piece.start, piece.start + piece.length
        position = piece.position
        while start < end:
            length = min(end - start, _BATCH_SECTORS - position % frame)
            yield Piece(start, length, piece.kind, piece.origin, position)
            start, position = start + length, position + length

    def _bytes(self, piece: Piece, part: Placed) -> int:
        end = min(part.source + part.length, self._device.size)
        return min(piece.length * SECTOR, end - piece.start * SECTOR)

    def bring(self, work: _Work) -> Brought:
        """In a worker: read, verify and decode the frames of some pieces, one after the other into
        a buffer.
        """
        brought, total = Brought(work.end), sum(length for _, length in work.targets)
        brought.buffers.append(self.buffers.take(total))
        view = memoryview(brought.buffers[0])[:total]
        places, at, end = [], 0, -1
        for offset, length in work.targets:
            places.append((0, at, length))
            if offset != end:
                brought.writes.append((offset, []))
            brought.writes[-1][1].append(view[at : at + length])
            at, end = at + length, offset + length
        load_pieces(self._image, work.pieces, places, view, self.buffers, device=self._device.index)
        return brought


def _joined(before: Piece | None, piece: Piece) -> Piece:
    return piece if before is None else before._replace(length=before.length + piece.length)
