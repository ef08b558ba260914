"""Keeps few of a disk's many extent files open: the one read longest ago is closed.

A disk of 64 TiB in extents of 2 GB has 32,768 files; a process may have 1024 open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aipimage.io.system.pool import Pool
from aipimage.vmdk.model import ExtentReader
from aipimage.vmdk.pieces import PieceArray

OPEN_AT_ONCE = 16
"""Extents of a disk that stay open."""

Opener = Callable[[], ExtentReader]


class ExtentPool(Pool[int, ExtentReader]):
    """Opens the extents of a disk, by their numbers, when they are read."""

    def __init__(self, limit: int = OPEN_AT_ONCE) -> None:
        super().__init__(limit, lambda number: "the disk is closed")


class PooledExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`."""

    def __init__(self, pool: ExtentPool, key: int, opener: Opener) -> None:
        """Open the extent once, so that what is wrong with it shows now."""
        self._pool, self._key, self._opener = pool, key, opener
        with pool.lent(key, opener) as extent:
            self.name, self.size = extent.name, extent.size
            self.warnings = extent.warnings

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """See ``ExtentReader.pieces``."""
        with self._pool.lent(self._key, self._opener) as extent:
            yield from extent.pieces(start, end)

    def read_data(self, view: memoryview, offset: int) -> None:
        """See ``ExtentReader.read_data``."""
        with self._pool.lent(self._key, self._opener) as extent:
            extent.read_data(view, offset)

    def close(self) -> None:
        """Close the whole pool."""
        self._pool.close()
