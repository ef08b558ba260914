"""Files that are only in memory, for the fuzz targets of VMDK: nothing reaches a disk."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from aipimage.io.system.storage import Storage, SystemCalls

FOLDER = "/fuzzed"


class MemoryCalls(SystemCalls):
    """The system calls that a reader needs, on files of one folder by their names."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self._files = {f"{FOLDER}/{name}": bytes(data) for name, data in files.items()}
        self._open: dict[int, str] = {}
        self._next = 1000

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        del flags, mode
        self.stat(path)
        self._next += 1
        self._open[self._next] = os.path.normpath(path)
        return self._next

    def close(self, descriptor: int) -> None:
        self._data(descriptor)
        del self._open[descriptor]

    def stat(self, path: str) -> os.stat_result:
        name = os.path.normpath(path)
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        number = sorted(self._files).index(name) + 1
        size = len(self._files[name])
        values = (stat.S_IFREG | 0o644, number, 1, 1, 0, 0, size, 0, 0, 0)
        return os.stat_result(values, {"st_blocks": 0, "st_rdev": 0, "st_mtime_ns": 0})

    def fstat(self, descriptor: int) -> os.stat_result:
        self._data(descriptor)
        return self.stat(self._open[descriptor])

    def realpath(self, path: str) -> str:
        return os.path.normpath(path)

    def listdir(self, path: str) -> list[str]:
        del path
        return [os.path.basename(name) for name in self._files]

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        part = self._data(descriptor)[offset : offset + buffers[0].nbytes]
        buffers[0][: len(part)] = part
        return len(part)

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        size = len(self._data(descriptor))
        if whence == os.SEEK_END or (whence == os.SEEK_HOLE and offset < size):
            return size
        if offset >= size:
            raise OSError(errno.ENXIO, "behind the end")
        return offset

    def advise_sequential(self, descriptor: int) -> None:
        self._data(descriptor)

    def _data(self, descriptor: int) -> bytes:
        if descriptor not in self._open:
            raise OSError(errno.EBADF, "not open")
        return self._files[self._open[descriptor]]

    def left_open(self) -> int:
        """Files that nobody has closed."""
        return len(self._open)


def in_memory(files: Mapping[str, bytes]) -> tuple[Storage, MemoryCalls]:
    """A storage of these files, and what is behind it."""
    calls = MemoryCalls(files)
    return Storage(calls), calls
