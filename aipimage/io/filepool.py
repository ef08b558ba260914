"""Reading more files than a process may have open: the one read longest ago is closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from aipimage.io.storage import File, Storage, close_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

FILES_OPEN = 256
"""Files that are open at once: well below what systems allow a process by default."""


class FilePool:
    """Opens files when they are read; reads are one at a time, so that none is closed meanwhile."""

    def __init__(self, storage: Storage, limit: int = FILES_OPEN) -> None:
        self._storage, self._limit = storage, limit
        self._files: OrderedDict[str, File] = OrderedDict()
        self._lock = threading.Lock()

    def pread_into(self, name: str, buffer: Buffer, offset: int) -> int:
        """Like :meth:`File.pread_into` of the file ``name``."""
        with self._lock:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = self._storage.open_read(name)
                if len(self._files) > self._limit:
                    self._files.popitem(last=False)[1].close()
            else:
                self._files.move_to_end(name)
            return file.pread_into(buffer, offset)

    def close(self) -> None:
        """Close all; a later read would open its file again."""
        with self._lock:
            files, self._files = self._files, OrderedDict()
        close_all(files.values())


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
