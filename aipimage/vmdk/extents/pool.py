"""Keeps few of a disk's many extent files open: the one read longest ago is closed.

A disk of 64 TiB in extents of 2 GB has 32,768 files; a process may have 1024 open.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aipimage.errors import ClosedError
from aipimage.io.system.storage import close_all
from aipimage.vmdk.model import ExtentReader, PieceArray

OPEN_AT_ONCE = 16
"""Extents of a disk that stay open."""

Opener = Callable[[], ExtentReader]


class _Opened:
    """An open extent, and how many reads are under way in it."""

    __slots__ = ("extent", "readers")

    def __init__(self, extent: ExtentReader) -> None:
        self.extent, self.readers = extent, 0


class ExtentPool:
    """Opens extents when they are read, for any number of threads; one in use is never closed."""

    def __init__(self, limit: int = OPEN_AT_ONCE) -> None:
        self._limit = limit
        self._extents: OrderedDict[int, _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    @contextmanager
    def lent(self, key: int, opener: Opener) -> Iterator[ExtentReader]:
        """Yield the extent that ``opener`` opens, open as long as the context lasts."""
        opened = self._taken(key, opener)
        try:
            yield opened.extent
        finally:
            with self._lock:
                opened.readers -= 1
                idle = self._surplus()
            close_all(idle)

    def _taken(self, key: int, opener: Opener) -> _Opened:
        with self._lock:
            if self._is_closed:
                raise ClosedError("the disk is closed")
            opened = self._extents.get(key)
            if opened is None:
                # Under the lock: two threads that want one extent shall not open it twice.
                opened = self._extents[key] = _Opened(opener())
            self._extents.move_to_end(key)
            opened.readers += 1
            return opened

    def _surplus(self) -> list[ExtentReader]:
        over = len(self._extents) - (0 if self._is_closed else self._limit)
        idle = [key for key, opened in self._extents.items() if not opened.readers]
        return [self._extents.pop(key).extent for key in idle[: max(over, 0)]]

    def close(self) -> None:
        """Close all for good; an extent that is being read is closed when that has ended."""
        with self._lock:
            self._is_closed = True
            idle = self._surplus()
        close_all(idle)


class PooledExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`."""

    def __init__(self, pool: ExtentPool, key: int, opener: Opener) -> None:
        """Open the extent once, so that what is wrong with it shows now."""
        self._pool, self._key, self._opener = pool, key, opener
        with pool.lent(key, opener) as extent:
            self.name, self.size = extent.name, extent.size
            self.warnings: tuple[str, ...] = getattr(extent, "warnings", ())

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
