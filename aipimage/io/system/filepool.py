"""Reading more files than a process may have open: the one read longest ago is closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from aipimage.errors import ClosedError
from aipimage.io.system.storage import File, Storage, close_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

FILES_OPEN = 256
"""Files that are open at once, where the system allows a process no more than it does by
default.
"""
_FILES_MOST = 2048


def files_open() -> int:
    """How many files a pool keeps open: a quarter of what the process may have, within bounds."""
    try:
        import resource
    except ImportError:
        return FILES_OPEN
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return _FILES_MOST
    return max(min(FILES_OPEN, soft // 4), min(_FILES_MOST, soft // 2))


class _Opened:
    """An open file, and how many reads are under way in it."""

    __slots__ = ("file", "readers")

    def __init__(self, file: File) -> None:
        self.file, self.readers = file, 0


class FilePool:
    """Opens files when they are read, for any number of threads; a file in use is never closed."""

    def __init__(self, storage: Storage, limit: int | None = None) -> None:
        self._storage, self._limit = storage, limit or files_open()
        self._files: OrderedDict[str, _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def check_open(self, name: str) -> None:
        """Raise ``ClosedError``, which names a file, after :meth:`close`."""
        if self._is_closed:
            raise ClosedError(f"{name}: the image that read it is closed")

    def add(self, file: File) -> None:
        """Take over a file that is open already; its name is that by which it is read."""
        with self._lock:
            before = self._files.get(file.name)
            if before is None:
                self._files[file.name] = _Opened(file)
            idle = [file] if before is not None else self._surplus()
        close_all(idle)

    def pread_into(self, name: str, buffer: Buffer, offset: int) -> int:
        """Like :meth:`File.pread_into` of the file ``name``."""
        with self._lock:
            self.check_open(name)
            opened = self._files.get(name)
            if opened is None:
                opened = self._files[name] = _Opened(self._storage.open_read(name))
            else:
                self._files.move_to_end(name)
            opened.readers += 1
        try:
            return opened.file.pread_into(buffer, offset)
        finally:
            with self._lock:
                opened.readers -= 1
                idle = self._surplus()
            close_all(idle)

    def _surplus(self) -> list[File]:
        """Take out the files read longest ago that nobody reads now, down to the limit."""
        surplus: list[File] = []
        over = len(self._files) - (0 if self._is_closed else self._limit)
        if over <= 0:
            return surplus
        for name in [name for name, opened in self._files.items() if not opened.readers][:over]:
            surplus.append(self._files.pop(name).file)
        return surplus

    def close(self) -> None:
        """Close all for good; a file that is being read is closed when that has ended."""
        with self._lock:
            self._is_closed = True
            idle = self._surplus()
        close_all(idle)


class PooledFile:
    """One file of a pool, as far as reading needs it."""

    def __init__(self, pool: FilePool, name: str) -> None:
        self.name, self._pool = name, pool

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """See :meth:`FilePool.pread_into`."""
        return self._pool.pread_into(self.name, buffer, offset)

    def close(self) -> None:
        """Close the whole pool."""
        self._pool.close()
