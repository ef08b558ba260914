"""Reading in bulk: many neighbouring frames at a time, past the cache, for restoring, converting
and comparing. Each is verified before it is decoded, to where it is wanted if it lies there in one
piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from aipimage.errors import AipImageError, StorageError, reworded
from aipimage.extents import SECTOR, Kind
from aipimage.io.index.devicemap import Piece
from aipimage.io.reading.located import located, range_of_frame
from aipimage.io.records.codec import BytesLike
from aipimage.io.records.frames import NOWHERE, FrameRun, OpenedFrame, Places, read_frames
from aipimage.io.system.buffers import Buffers

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device
    from aipimage.io.reading.image import ImageReader


def read_range(device: Device, view: memoryview, offset: int, buffers: Buffers) -> None:
    """Fill ``view`` from byte ``offset`` of a device, with one read for neighbouring frames and
    without the cache: for what reads a device from end to end. Safe for threads.

    Raises:
        IntegrityError: stored bytes are damaged, or the range is marked as lost.
    """
    if not view.nbytes:
        return
    fill_together(device, view, [(offset, 0, view.nbytes)], buffers)


def fill_together(
    device: Device, view: memoryview, spans: Sequence[tuple[int, int, int]], buffers: Buffers
) -> None:
    """Fill parts of ``view`` from a device, as :func:`read_range` does; a frame that several of
    them need is decoded once. Most are decompressed to where they belong.

    Args:
        spans: (byte offset on the device, offset in ``view``, bytes) of each part, which do not
            meet in ``view``.
    """
    taken: list[bytearray] = []
    size = device.image.header.frame_size
    wanted = Wanted(size)
    parts = []
    for offset, at, length in spans:
        first, last = offset // SECTOR, (offset + length - 1) // SECTOR
        pieces = device.map.pieces(first, last - first + 1)
        wanted.add(pieces, offset, at, length)
        parts.append((view[at : at + length], offset, pieces))
    data = [piece for _, _, pieces in parts for piece in pieces if piece.kind == Kind.DATA]
    frames = load_frames(
        device.image, data, buffers, taken, view, wanted.starts, device=device.index
    )
    for part, offset, pieces in parts:
        device.fill_from(part, offset, pieces, frames)
    for buffer in taken:
        buffers.give(buffer)


class Wanted:
    """Which frames lie in one piece where a view is filled.

    Attributes:
        starts: (origin, number) -> offset in the view, of frames that are needed there whole, and
            nowhere else.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen: set[tuple[int, int]] = set()
        self.starts: dict[tuple[int, int], int] = {}

    def add(self, pieces: Sequence[Piece], offset: int, at: int, length: int) -> None:
        """Add the pieces of ``length`` bytes from ``offset`` on, which the view has from ``at``."""
        for piece in pieces:
            if piece.kind != Kind.DATA:
                continue
            position = piece.position * SECTOR
            end = position + piece.length * SECTOR
            # Where the packed stream would begin in the view if all of it lay there.
            base = at + piece.start * SECTOR - offset - position
            for number in range(position // self._size, (end - 1) // self._size + 1):
                key, low = (piece.origin, number), number * self._size
                if key in self._seen:
                    self.starts.pop(key, None)
                    continue
                self._seen.add(key)
                start = base + low
                is_inside = at <= start and start + self._size <= at + length
                if position <= low and low + self._size <= end and is_inside:
                    self.starts[key] = start


def load_frames(
    image: ImageReader,
    pieces: list[Piece],
    buffers: Buffers,
    taken: list[bytearray],
    view: memoryview | None = None,
    starts: Mapping[tuple[int, int], int] | None = None,
    *,
    device: int = 0,
) -> dict[tuple[int, int], BytesLike | None]:
    """Return the plain bytes of all frames that some pieces of data need, by (origin, number).

    They lie in buffers, which are added to ``taken``; or, where ``starts`` has an offset in
    ``view`` for them, there, if they are full and compressed: then they are ``None``. ``device`` is
    the number of the device that the pieces are of.
    """

    def take(length: int) -> memoryview:
        taken.append(buffers.take(length))
        return memoryview(taken[-1])[:length]

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
    frames: dict[tuple[int, int], BytesLike | None] = {}
    for origin, run in frame_runs(image, wanted):
        places = places_of(image, origin, run, view, starts)
        for opened in read_frames(image, run, take, take, places):
            plain: memoryview | None
            if opened.error is not None:
                here = range_of_frame(pieces, origin, opened.number, size)
                plain = _elsewhere(image, origin, opened, device, here)
            else:
                plain = None if opened.is_placed else memoryview(opened.plain)
            frames[origin, opened.number] = plain
    return frames


def _elsewhere(
    image: ImageReader, origin: int, frame: OpenedFrame, device: int, here: tuple[int, int]
) -> memoryview:
    """A damaged frame from another file of the chain, if one has it whole."""
    assert frame.error is not None
    try:
        return image.frame_elsewhere(origin, frame.number, frame.error)
    except StorageError:
        raise
    except AipImageError as error:
        text = f"frame {frame.number}: {error}"
        raise located(reworded(error, text), image.path, device, *here) from frame.error


def places_of(
    image: ImageReader,
    origin: int,
    run: FrameRun,
    view: memoryview | None,
    starts: Mapping[tuple[int, int], int] | None,
) -> Places:
    """The places of the frames of one run."""
    if view is None or not starts:
        return NOWHERE
    numbers = range(run.first, run.first + len(run.entries))
    here = {number: starts[origin, number] for number in numbers if (origin, number) in starts}
    return Places(view, here, image.header.frame_size)


def frame_runs(image: ImageReader, wanted: list[tuple[int, int]]) -> Iterator[tuple[int, FrameRun]]:
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


def _apart(image: ImageReader, run: FrameRun) -> Iterator[FrameRun]:
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
