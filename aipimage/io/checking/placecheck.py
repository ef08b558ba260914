"""Whether the extents of the frames of a run are where the map has their sectors (docs/format.md,
sections 6.1 and 13).

All of a run is compared at once; where something does not fit, its frames are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aipimage.errors import AipImageError
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.tables import decode_frame_extents, unpack_at
from aipimage.io.index.devicemap import Piece
from aipimage.io.records.frames import FailedFrame, OpenedRun
from aipimage.io.records.runextents import extents_of


class PlaceCheck:
    """The check of one run that was opened.

    Args:
        tag, frame_size: bytes. device: that the extents must be on, ``None`` for any.
    """

    def __init__(self, opened: OpenedRun, tag: int, frame_size: int, device: int | None) -> None:
        self._run, self._device = opened.run, device
        self._frame_sectors = frame_size // SECTOR
        self._extents = extents_of(opened, tag)
        self._plain = opened.run.entries["plain_length"]
        self._opened = np.ones(len(self._plain), np.bool_)
        self._opened[[failed.number - opened.run.first for failed in opened.failed]] = False

    def compare(self, pieces: Sequence[Piece]) -> tuple[list[FailedFrame], list[int]]:
        """Compare with the pieces of the map that need frames of the run.

        Returns:
            frames whose extents are wrong by themselves, and the numbers of those that lie
            elsewhere than the pieces say.
        """
        doubtful = self._extents.doubtful(self._plain) & self._opened
        if not doubtful.any() and self._agree(pieces):
            return [], []
        failed: list[FailedFrame] = []
        misplaced: list[int] = []
        for row in np.flatnonzero(self._opened).tolist():
            number = self._run.first + row
            try:
                if not self._agrees(row, pieces):
                    misplaced.append(number)
            except AipImageError as error:
                failed.append(FailedFrame(number, error))
        return failed, misplaced

    def _agree(self, pieces: Sequence[Piece]) -> bool:
        """Whether every sector of the pieces that a frame of the run holds is where it says."""
        sectors = self._extents.sectors.astype(np.int64)
        count = np.diff(self._extents.bounds)
        # Packed positions: each frame begins at a multiple of the frame size.
        before = np.cumsum(sectors) - sectors
        first = np.repeat(before[self._extents.bounds[:-1][count > 0]], count[count > 0])
        rows = np.repeat(np.arange(len(count)), count)
        packed = (self._run.first + rows) * self._frame_sectors + before - first
        at = self._extents.at
        device = (at >> np.uint64(48)).astype(np.int64)
        shift = (at & np.uint64((1 << 48) - 1)).astype(np.int64) - packed
        if self._device is not None and (device != self._device).any():
            return False
        # Neighbours that are shifted alike, on one device, are as one extent.
        group = np.cumsum(np.diff(shift, prepend=shift[:1]) != 0)
        start = np.array([piece.start for piece in pieces], np.int64)
        position = np.array([piece.position for piece in pieces], np.int64)
        end = position + np.array([piece.length for piece in pieces], np.int64)
        low = (packed + sectors).searchsorted(position, "right")
        high = packed.searchsorted(end, "left")
        some = low < high
        low, last = low[some], high[some] - 1
        wanted = (start - position)[some]
        return bool((shift[low] == wanted).all() and (group[low] == group[last]).all())

    def _agrees(self, row: int, pieces: Sequence[Piece]) -> bool:
        """The same for one frame; the error where its extents are wrong."""
        extents = self._of(row)
        start = (self._run.first + row) * self._frame_sectors
        end = start + self._frame_sectors
        return all(
            _agree(extents, piece, start, self._device)
            for piece in pieces
            if piece.position < end and piece.position + piece.length > start
        )

    def _of(self, row: int) -> list[tuple[int, int]]:
        """(device and sector in one number, sectors) of each extent of a frame."""
        data, plain_length = self._extents.bytes_of(row), int(self._plain[row])
        if len(data) == c.FRAME_EXTENT:
            at, sectors = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
            if sectors * SECTOR == plain_length:
                return [(at, sectors)]
        found = decode_frame_extents(data, plain_length)
        return [(int(at), int(sectors)) for at, sectors in found.tolist()]


def _agree(
    extents: Sequence[tuple[int, int]], piece: Piece, start: int, device: int | None
) -> bool:
    """Whether what a piece has of a frame lies where the frame's extents say.

    Args:
        start: packed position of the frame. device: that it must be on, ``None`` for any.
    """
    packed, low, high = start, piece.position, piece.position + piece.length
    for at, sectors in extents:
        if packed < high and packed + sectors > low:
            number, sector = unpack_at(at)
            if sector - packed != piece.start - piece.position or device not in (None, number):
                return False
        packed += sectors
    return True
