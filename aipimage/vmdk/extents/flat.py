"""Flat extents, whose bytes are the disk's, and extents of zeros (the note, "Flat Extents", "Zero
extents"). What a flat extent holds is data whatever it looks like (hostile-inputs class 37).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.errors import IncompleteError
from aipimage.io.system.storage import File
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.pieces import PieceArray, State

_ROWS = 4096
"""Rows of an array at most."""


def open_flat(file: File, sectors: int | None, offset: int = 0) -> FlatExtent:
    """Return the extent of ``sectors`` from sector ``offset`` of a file on; all the rest of the
    file when ``sectors`` is ``None``. The file is the extent's from then on.

    Raises:
        IncompleteError: the file is shorter. SourceError: its size cannot be read.
    """
    inner = ExtentFile(file)
    begin = offset * SECTOR
    size = (inner.size - begin) // SECTOR * SECTOR if sectors is None else sectors * SECTOR
    if size < 0 or begin + size > inner.size:
        raise IncompleteError(
            f"{inner.name}: has {inner.size} bytes, and the descriptor says "
            f"{begin + max(size, 0)}: the extent was cut short; copy it again"
        )
    return FlatExtent(inner, begin, size)


class FlatExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`. Holes of the file are zeros."""

    warnings: tuple[str, ...] = ()

    def __init__(self, file: ExtentFile, begin: int, size: int) -> None:
        self._file, self._begin = file, begin
        self.name, self.size = file.name, size

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what the file system says of holes, at whole sectors."""
        rows: list[tuple[int, int, int]] = []
        at, end = start, min(end, self.size)
        for low, length in self._file.source.data_ranges(self._begin + start, self._begin + end):
            # A hole may end within a sector where file systems have small blocks.
            first = max(at, (low - self._begin) // SECTOR * SECTOR)
            stop = min(end, -(-(low + length - self._begin) // SECTOR) * SECTOR)
            if first > at:
                rows.append((at, first - at, State.ZERO))
            if stop > first:
                rows.append((first, stop - first, State.DATA))
                at = stop
            if len(rows) >= _ROWS:
                yield np.array(rows, np.int64)
                rows = []
        if at < end:
            rows.append((at, end - at, State.ZERO))
        if rows:
            yield np.array(rows, np.int64)

    def read_data(self, view: memoryview, offset: int) -> None:
        """See ``ExtentReader.read_data``; ranges that are holes may be read too."""
        self._file.read_into(view, self._begin + offset, "the data")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ZeroExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`: an extent of type ZERO, without a file."""

    warnings: tuple[str, ...] = ()

    def __init__(self, name: str, sectors: int) -> None:
        self.name, self.size = name, sectors * SECTOR

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield one row."""
        end = min(end, self.size)
        if start < end:
            yield np.array([(start, end - start, State.ZERO)], np.int64)

    def read_data(self, view: memoryview, offset: int) -> None:
        """Never called: nothing here is data."""
        raise RuntimeError(f"internal error: data of a zero extent at {offset}")

    def close(self) -> None:
        """Do nothing."""
