"""Writing a device of an image back: frames in batches on worker threads, each verified before it
is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.extents import SECTOR, Kind
from aipimage.format.constants import RecordType
from aipimage.format.record import Reference
from aipimage.io.devicemap import Piece
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.sinks import BlockSink, open_target
from aipimage.io.storage import Storage

if TYPE_CHECKING:
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
    """Pieces of data that one worker restores, in device order."""

    pieces: list[Piece] = field(default_factory=list)
    sectors: int = 0


def restore_device(
    image: Image, device: int, target: str, force: bool, set_size: bool, executor: Executor | None,
    threads: int | None, progress: ProgressCallback | None, storage: Storage,
) -> RestoreResult:  # fmt: skip
    """Restore one device; the public form is :meth:`aipimage.Image.restore`."""
    entry = image.devices[device]
    # The map's root is read before the target is touched: a damaged image refuses with nothing
    # written.
    entry.map.root()
    sink = open_target(target, entry.size, force=force, set_size=set_size, storage=storage)
    try:
        result = _Restorer(image, device, sink).run(executor, threads, progress)
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    return result


class _Restorer:
    def __init__(self, image: Image, device: int, sink: BlockSink) -> None:
        self._image, self._device, self._sink = image, image.devices[device], sink
        self._written = self._read = 0

    def run(
        self, executor: Executor | None, threads: int | None, progress: ProgressCallback | None
    ) -> RestoreResult:
        size = self._device.size
        reporter = Reporter("restore", size, progress)
        with executor_for(executor, threads, "restore") as (pool, in_flight):
            for work in in_order(pool, self._restore, self._plan(), in_flight):
                self._written += work.sectors * SECTOR
                end = work.pieces[-1].start + work.pieces[-1].length
                reporter.report(end * SECTOR, self._written)
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

    def _restore(self, work: _Work) -> _Work:
        frame_sectors = self._image.header.frame_sectors
        last: tuple[int, int] | None = None
        plain = memoryview(b"")
        loader = _FrameRun(self._image, work.pieces)
        for piece in work.pieces:
            offset, left, position = piece.start * SECTOR, self._bytes(piece), piece.position
            while left > 0:
                number, inside = divmod(position, frame_sectors)
                if last != (piece.origin, number):
                    plain, last = loader.frame(piece.origin, number), (piece.origin, number)
                part = plain[inside * SECTOR : inside * SECTOR + left]
                if not part.nbytes:
                    raise FormatError(
                        f"{self._image.path}: the map points behind the end of a frame"
                    )
                self._sink.write(part, offset)
                offset, left = offset + part.nbytes, left - part.nbytes
                position += part.nbytes // SECTOR
        return work


class _FrameRun:
    """Loads the frames of one piece of work; those that lie next to each other come with one
    read.
    """

    def __init__(self, image: Image, pieces: list[Piece]) -> None:
        self._image = image
        frame = image.header.frame_sectors
        self._wanted = sorted(
            {
                (piece.origin, number)
                for piece in pieces
                for number in range(
                    piece.position // frame, (piece.position + piece.length - 1) // frame + 1
                )
            }
        )
        self._next = 0
        self._data = memoryview(b"")
        self._refs: dict[tuple[int, int], tuple[Reference, int]] = {}

    def frame(self, origin: int, number: int) -> memoryview:
        """Return the plain bytes of a frame, verified."""
        key = (origin, number)
        if key not in self._refs:
            self._read_run(key)
        ref, at = self._refs[key]
        try:
            data = self._data[at : at + ref.record_length]
            opened = self._image.records.open(data, ref, RecordType.FRAME)
        except AipImageError as error:
            raise type(error)(f"{self._image.path}: frame {number}: {error}") from error
        if opened.header.number != number:
            raise IntegrityError(f"{self._image.path}: frame {number} bears another number")
        return memoryview(opened.plain).cast("B")

    def _read_run(self, key: tuple[int, int]) -> None:
        origin, number = key
        table = self._image.tables[origin]
        refs = [table.frame(number)]
        wanted = set(self._wanted)
        end = refs[0].offset + refs[0].record_length
        while (origin, number + len(refs)) in wanted:
            ref = table.frame(number + len(refs))
            if ref.offset != end or end - refs[0].offset + ref.record_length > 8 << 20:
                break
            refs.append(ref)
            end += ref.record_length
        start = refs[0].offset
        self._data = memoryview(self._image.records.read(refs[0].origin, start, end - start))
        self._refs = {
            (origin, number + index): (ref, ref.offset - start) for index, ref in enumerate(refs)
        }
