"""Flat extents: monolithicFlat, twoGbMaxExtentFlat and vmfs. What is zeros is a hole in the file.

Source: VMware "Virtual Disk Format 5.0" technical note, "Flat Extents" of "The Descriptor File".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aipimage.errors import FormatError
from aipimage.io.system.storage import File
from aipimage.vmdk.feed import GRAIN_BYTES, Numbers
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.pieces import runs_between


class FlatExtent:
    """Writes one extent.

    Args:
        file: new, or one that is continued. sectors: of the extent.

    Attributes:
        position: bytes of grains written so far.
    """

    def __init__(self, file: File, sectors: int) -> None:
        self._file, self._size = file, sectors * SECTOR
        self.position = 0

    def begin(self) -> None:
        """Give the file its size."""
        self._file.truncate(self._size)

    def add(self, numbers: Numbers, rows: Numbers, data: memoryview) -> None:
        """Write grains: ``numbers`` in the extent, ``rows`` in ``data``."""
        for low, high in runs_between((np.diff(numbers) != 1) | (np.diff(rows) != 1)):
            offset, start = int(numbers[low]) * GRAIN_BYTES, int(rows[low]) * GRAIN_BYTES
            length = min((high - low) * GRAIN_BYTES, self._size - offset)
            self._file.pwrite(data[start : start + length], offset)
            self.position += length

    def finish(self) -> None:
        """Nothing is left to write."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs to continue."""
        return {"size": self._size}

    def restore(self, state: dict[str, Any], next_grain: int) -> None:
        """Cut the file to where :meth:`state` was asked for, and continue; ``FormatError`` where
        that is not possible.
        """
        if state.get("size") != self._size or self._file.size() != self._size:
            raise FormatError("its size is not possible")
        self._file.truncate(min(next_grain * GRAIN_BYTES, self._size))
        self._file.truncate(self._size)
