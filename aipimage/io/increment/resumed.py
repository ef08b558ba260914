"""Going on with an increment that was interrupted (docs/format.md, section 11).

What no frame and no checkpoint names before the checkpoint is as in the parent. The digests of what
they name are not in the file yet, so those blocks are read from the source again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.extents import EXTENT_DTYPE, SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import DIGEST_DTYPE
from aipimage.format.tables import FrameExtents
from aipimage.io.increment.scan import block_digests
from aipimage.io.increment.update import DeviceUpdate
from aipimage.io.resume import ResumedState
from aipimage.io.sources import BlockSource, read_with_retries
from aipimage.io.walk import Walked

_Row = tuple[int, int, int, int, int]
"""Sector, sectors, packed position, origin, kind."""


class Replay:
    """Maps again what is in the partial file, device by device.

    Attributes:
        changed: bytes that were found changed, of the device replayed last.
    """

    def __init__(self, state: ResumedState, sources: list[BlockSource]) -> None:
        self._state, self._sources = state, sources
        self._frames = state.frames(sources)
        self._waiting: tuple[Walked, int, FrameExtents] | None = None
        self.changed = 0

    def device(self, update: DeviceUpdate, number: int) -> int:
        """Bring a device to where the checkpoint was; return the byte from which to go on."""
        checkpoint, source = self._state.checkpoint, self._sources[number]
        self.changed = 0
        rows = sorted([*self._frame_rows(number), *self._note_rows(number)])
        if number > checkpoint.device:
            if rows:
                raise FormatError("a partial image names sectors behind its checkpoint")
            return 0
        if rows:
            last = checkpoint.sector if number == checkpoint.device else update.sectors
            self._map(update, rows, last)
            self._digest_again(update, source, rows)
        return checkpoint.sector * SECTOR if number == checkpoint.device else source.size

    def _frame_rows(self, number: int) -> Iterator[_Row]:
        while True:
            found = self._waiting or next(self._frames, None)
            self._waiting = None
            if found is None:
                return
            walked, device, extents = found
            if device != number:
                self._waiting = found
                return
            index, position = self._state.enter(walked)
            for at, sectors in extents.tolist():
                yield at & ((1 << 48) - 1), sectors, position, index, int(Kind.DATA)
                position += sectors

    def _note_rows(self, number: int) -> Iterator[_Row]:
        for sector, sectors, kind in self._state.notes_of(number):
            yield sector, sectors, 0, 0, kind

    def _map(self, update: DeviceUpdate, rows: list[_Row], last: int) -> None:
        if any(a[0] + a[1] > b[0] for a, b in pairwise(rows)):
            raise FormatError("a partial image names a sector twice")
        if rows[-1][0] + rows[-1][1] > last:
            raise FormatError("a partial image names sectors behind its checkpoint")
        extents = np.array([(row[1], row[2], row[3], row[4]) for row in rows], EXTENT_DTYPE)
        update.replace_extents([row[0] for row in rows], extents)
        self.changed = sum(row[1] for row in rows) * SECTOR

    def _digest_again(self, update: DeviceUpdate, source: BlockSource, rows: list[_Row]) -> None:
        if update.digest_view is None:
            return
        for block in _blocks(rows).tolist():
            at = block * c.BLOCK
            buffer = bytearray(min(c.BLOCK, source.size - at))
            read_with_retries(source, buffer, at, sector=source.sector_size)
            found = block_digests(memoryview(buffer), np.ones(1, np.bool_))
            update.set_digests(np.array([block], np.uint64), found.astype(DIGEST_DTYPE))


def _blocks(rows: list[_Row]) -> npt.NDArray[np.int64]:
    """Numbers of all blocks that some rows touch, ascending."""
    per = c.BLOCK // SECTOR
    first = np.array([row[0] // per for row in rows], np.int64)
    last = np.array([(row[0] + row[1] - 1) // per for row in rows], np.int64)
    counts = last - first + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.unique(np.repeat(first, counts) + within)
