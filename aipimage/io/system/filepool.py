"""Reading more files than a process may have open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipimage.io.system.pool import Pool
from aipimage.io.system.storage import File, Storage

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


class FilePool(Pool[str, File]):
    """Opens files by their names when they are read."""

    def __init__(self, storage: Storage, limit: int | None = None) -> None:
        super().__init__(
            limit or files_open(), lambda name: f"{name}: the image that read it is closed"
        )
        self._storage = storage

    def add(self, file: File) -> None:
        """Take over a file that is open already; its name is that by which it is read."""
        self.put(file.name, file)

    def pread_into(self, name: str, buffer: Buffer, offset: int) -> int:
        """Like :meth:`File.pread_into` of the file ``name``."""
        opened = self.lend(name, lambda: self._storage.open_read(name))
        try:
            return opened.thing.pread_into(buffer, offset)
        finally:
            self.take_back(opened)


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
