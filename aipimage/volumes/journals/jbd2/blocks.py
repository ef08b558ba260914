"""The blocks of a journal, which may lie in pieces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.view import LayoutError, VolumeView

_READ_AT_ONCE = 4 << 20


class JournalBlocks:
    """Reads blocks of a journal by their numbers in it.

    Args:
        view: of the volume. block_size: bytes. runs: shape (n, 3): first block of the journal,
            first block of the volume, blocks; ascending, without gaps from 0 on, inside of it.
    """

    def __init__(self, view: VolumeView, block_size: int, runs: npt.NDArray[np.int64]) -> None:
        self._view, self.block_size, self._runs = view, block_size, runs
        self.count = int(runs[-1, 0] + runs[-1, 2])

    def places(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The bytes of the volume at which blocks lie."""
        at = np.searchsorted(self._runs[:, 0], numbers, "right") - 1
        found = self._runs[at, 1] + numbers - self._runs[at, 0]
        places: npt.NDArray[np.int64] = found * self.block_size
        return places

    def read(self, number: int, count: int = 1) -> npt.NDArray[np.uint8]:
        """Return blocks next to each other in the journal, shape (count, bytes)."""
        if number < 0 or count < 0 or number + count > self.count:
            raise LayoutError("it leads out of itself")
        rows = np.empty((count, self.block_size), np.uint8)
        done = 0
        while done < count:
            place = int(self.places(np.array([number + done], np.int64))[0])
            length = min(count - done, self._left(number + done), self._most)
            self._view.allow(length * self.block_size)
            data = self._view.read_array(place, length * self.block_size)
            rows[done : done + length] = data.reshape(length, self.block_size)
            done += length
        return rows

    @property
    def _most(self) -> int:
        return max(1, _READ_AT_ONCE // self.block_size)

    def _left(self, number: int) -> int:
        """Blocks of the run that a block lies in, from it on."""
        at = int(np.searchsorted(self._runs[:, 0], number, "right")) - 1
        return int(self._runs[at, 0] + self._runs[at, 2]) - number
