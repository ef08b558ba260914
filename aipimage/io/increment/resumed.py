"""Resuming an increment that was interrupted (docs/format.md, section 11).

What no frame and no checkpoint names before the checkpoint is as in the parent. The digests of what
they name are not in the file yet, so those blocks are read from the source again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.extents import EXTENT_DTYPE, SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import DIGEST_DTYPE, Digests
from aipimage.format.tables import FrameExtents, unpack_at
from aipimage.io.blocks.sources import BlockSource, read_with_retries
from aipimage.io.creating.resume import ResumedState
from aipimage.io.increment.scan import block_digests
from aipimage.io.increment.update import DeviceUpdate
from aipimage.io.records.walk import Walked
from aipimage.ranges import ByteRanges, aligned, difference, joined

_EMPTY_BLOCKS = 16_384
_Row = tuple[int, int, int, int, int]
"""Sector, sectors, packed position, origin, kind."""


class Replay:
    """Maps again what is in the partial file, device by device.

    Attributes:
        changed: bytes that were found changed, of the device replayed last.
    """

    def __init__(self, state: ResumedState, sources: list[BlockSource]) -> None:
        self._state, self._sources = state, sources
        self._frames = state.frames()
        self._waiting: tuple[Walked, int, FrameExtents] | None = None
        self.changed = 0

    def device(self, update: DeviceUpdate, number: int) -> int:
        """Bring a device to where the checkpoint was; return the byte to resume from."""
        checkpoint, source = self._state.checkpoint, self._sources[number]
        self.changed = 0
        rows = sorted([*self._frame_rows(number), *self._note_rows(number)])
        if number > checkpoint.device:
            return 0
        if rows:
            self._map(update, rows)
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
                yield unpack_at(at)[1], sectors, position, index, int(Kind.DATA)
                position += sectors

    def _note_rows(self, number: int) -> Iterator[_Row]:
        for sector, sectors, kind in self._state.notes_of(number):
            yield sector, sectors, 0, 0, kind

    def _map(self, update: DeviceUpdate, rows: list[_Row]) -> None:
        extents = np.array([(row[1], row[2], row[3], row[4]) for row in rows], EXTENT_DTYPE)
        update.replace_extents([row[0] for row in rows], extents)
        self.changed = sum(row[1] for row in rows if row[4] != Kind.UNUSED) * SECTOR

    def _digest_again(self, update: DeviceUpdate, source: BlockSource, rows: list[_Row]) -> None:
        """Digest the blocks that some rows touch; whole blocks without data need no look."""
        if update.digest_view is None:
            return
        touched = aligned(_ranges(rows), c.BLOCK, update.sectors * SECTOR)
        empty = _whole_blocks(_ranges([row for row in rows if row[4] != Kind.DATA]))
        parts = [(start, length, True) for start, length in empty.tolist()]
        parts += [(start, length, False) for start, length in difference(touched, empty).tolist()]
        for start, length, is_empty in sorted(parts):
            first, last = start // c.BLOCK, -(-(start + length) // c.BLOCK)
            step = _EMPTY_BLOCKS if is_empty else 1
            for block in range(first, last, step):
                numbers = np.arange(block, min(block + step, last), dtype=np.uint64)
                found = np.zeros(len(numbers), DIGEST_DTYPE)
                update.set_digests(numbers, found if is_empty else _digest_of(source, block))


def _digest_of(source: BlockSource, block: int) -> Digests:
    at = block * c.BLOCK
    buffer = bytearray(min(c.BLOCK, source.size - at))
    read_with_retries(source, buffer, at, sector=source.sector_size)
    return block_digests(memoryview(buffer), np.ones(1, np.bool_)).astype(DIGEST_DTYPE)


def _ranges(rows: list[_Row]) -> ByteRanges:
    found = np.array([row[:2] for row in rows], np.uint64).reshape(-1, 2)
    return joined(found * np.uint64(SECTOR))


def _whole_blocks(ranges: ByteRanges) -> ByteRanges:
    """The blocks that lie in some ranges wholly, as ranges."""
    block = np.uint64(c.BLOCK)
    low = (ranges[:, 0] + block - np.uint64(1)) // block
    high = ranges.sum(1) // block
    some = high > low
    return np.column_stack((low[some], high[some] - low[some])) * block
