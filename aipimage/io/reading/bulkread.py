"""Reading in bulk: many neighbouring frames at a time, past the cache, for restoring, converting
and comparing. Each is verified before it is decoded, to where it is wanted if it lies there in one
piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError, StorageError, reworded
from aipimage.extents import SECTOR, Kind
from aipimage.io.index.devicemap import Piece
from aipimage.io.reading.located import located, past_frame, range_of_frame
from aipimage.io.records.frames import Copies, FailedFrame, FrameRun, copy_frame, read_run
from aipimage.io.system.buffers import Buffers

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device
    from aipimage.io.reading.image import ImageReader

Numbers = npt.NDArray[np.int64]


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
    data: list[Piece] = []
    places: list[tuple[int, int, int]] = []
    parts = []
    for offset, at, length in spans:
        first, last = offset // SECTOR, (offset + length - 1) // SECTOR
        others = []
        for piece in device.map.pieces(first, last - first + 1):
            if piece.kind == Kind.DATA:
                start = max(piece.start * SECTOR, offset)
                end = min((piece.start + piece.length) * SECTOR, offset + length)
                data.append(piece)
                places.append((start - piece.start * SECTOR, at + start - offset, end - start))
            else:
                others.append(piece)
        parts.append((view[at : at + length], offset, others))
    load_pieces(device.image, data, places, view, buffers, device=device.index)
    for part, offset, others in parts:
        device.fill_from(part, offset, others)


def load_pieces(
    image: ImageReader,
    pieces: Sequence[Piece],
    places: Sequence[tuple[int, int, int]],
    view: memoryview,
    buffers: Buffers,
    *,
    device: int = 0,
) -> None:
    """Fill parts of ``view`` with the content of pieces of data.

    Args:
        places: of each piece: bytes of it to skip, offset in ``view``, and bytes.
        buffers: hold what is stored meanwhile. device: the number of the one that the pieces are
            of.
    """
    cuts = cut_frames(pieces, places, image.header.frame_size)
    is_short = False
    for origin, run, rows in frame_runs(image, cuts):
        buffer = buffers.take(run.length)
        copies, is_whole = cuts.copies(rows, run)
        for opened in read_run(image, run, memoryview(buffer), copies, view):
            for failed in opened.failed:
                size = image.header.frame_sectors
                here = range_of_frame(pieces, origin, failed.number, size)
                plain = _elsewhere(image, origin, failed, device, here)
                copy_frame(plain, copies, failed.number - run.first, view)
        is_short |= not is_whole.all()
        buffers.give(buffer)
    if is_short:
        raise past_frame(image.path)


def _elsewhere(
    image: ImageReader, origin: int, failed: FailedFrame, device: int, here: tuple[int, int]
) -> memoryview:
    """A damaged frame from another file of the chain, if one has it whole."""
    try:
        return image.frame_elsewhere(origin, failed.number, failed.error)
    except StorageError:
        raise
    except AipImageError as error:
        text = f"frame {failed.number}: {error}"
        raise located(reworded(error, text), image.path, device, *here) from failed.error


class Cuts(NamedTuple):
    """Parts of frames that are wanted, ascending by origin and number; bytes.

    Attributes:
        origin, number: of the frame. inside, length: the part of it. place: where it is wanted.
        piece: which of the pieces wants it.
    """

    origin: Numbers
    number: Numbers
    inside: Numbers
    length: Numbers
    place: Numbers
    piece: Numbers

    def chosen(self, rows: npt.NDArray[Any] | slice) -> Cuts:
        """Some of them."""
        return Cuts(*(column[rows] for column in self))

    def copies(self, rows: slice, run: FrameRun) -> tuple[Copies, npt.NDArray[np.bool_]]:
        """Those of a run as :func:`open_run` takes them, and which of them its frames have whole;
        of the others, what the frames have.
        """
        row = self.number[rows] - run.first
        plain = run.entries["plain_length"].astype(np.int64)[row]
        inside, length = self.inside[rows], self.length[rows]
        whole: npt.NDArray[np.bool_] = inside + length <= plain
        inside = np.minimum(inside, plain)
        length = np.minimum(length, plain - inside)
        return np.column_stack((row, inside, length, self.place[rows])).astype(np.uint64), whole


def cut_frames(pieces: Sequence[Piece], places: Sequence[tuple[int, int, int]], size: int) -> Cuts:
    """Cut pieces of data where frames of ``size`` bytes end; ``places`` as in
    :func:`load_pieces`.
    """
    origin = np.array([piece.origin for piece in pieces], np.int64)
    position = np.array([piece.position for piece in pieces], np.int64) * SECTOR
    skip, place, length = np.array(places, np.int64).reshape(-1, 3).T
    start = position + skip
    first, last = start // size, (start + length - 1) // size
    counts = last - first + 1
    piece = np.repeat(np.arange(len(pieces)), counts)
    number = first[piece] + np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    low = np.maximum(start[piece], number * size)
    high = np.minimum((start + length)[piece], (number + 1) * size)
    cuts = Cuts(
        origin[piece], number, low - number * size, high - low,
        place[piece] + low - start[piece], piece,
    )  # fmt: skip
    return cuts.chosen(np.lexsort((number, cuts.origin)))


def frame_runs(image: ImageReader, cuts: Cuts) -> Iterator[tuple[int, FrameRun, slice]]:
    """Yield (origin, run, its rows of the cuts): frames that lie next to each other."""
    if not len(cuts.number):
        return
    apart = (np.diff(cuts.origin) != 0) | (np.diff(cuts.number) > 1)
    for low, high in pairwise([0, *(np.flatnonzero(apart) + 1).tolist(), len(cuts.number)]):
        origin, numbers = int(cuts.origin[low]), cuts.number[low:high]
        for run in image.tables[origin].runs(int(numbers[0]), int(numbers[-1]) + 1):
            for part in _apart(image, run):
                bounds = numbers.searchsorted((part.first, part.first + len(part.entries)))
                yield origin, part, slice(low + int(bounds[0]), low + int(bounds[1]))


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
