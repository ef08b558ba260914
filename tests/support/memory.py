"""A disk in memory behind ``SystemCalls``: the whole library runs on it, without a real file."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from aipimage.io.system.storage import SystemCalls

ROOT = "/disk"


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class MemorySystem(SystemCalls):
    """Files by absolute path in one directory, :data:`ROOT`.

    Attributes:
        files: path to content; put a ``bytearray`` there to change bytes under an open image.
        reads: (path, offset, length) of every read, where a test sets it to a list.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.files: dict[str, bytearray] = {
            path: bytearray(data) for path, data in (files or {}).items()
        }
        self.reads: list[tuple[str, int, int]] | None = None
        self._open: dict[int, tuple[str, bytearray | None]] = {}
        self._next = 1000
        self._lock = threading.RLock()

    def snapshot(self) -> dict[str, bytes]:
        """Return a copy of all files."""
        with self._lock:
            return {path: bytes(data) for path, data in self.files.items()}

    @property
    def open_descriptors(self) -> int:
        """How many files are open."""
        return len(self._open)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        with self._lock:
            data = None
            if path != ROOT:
                if flags & os.O_CREAT:
                    if path in self.files:
                        raise _error(errno.EEXIST)
                    self.files[path] = bytearray()
                if path not in self.files:
                    raise _error(errno.ENOENT)
                data = self.files[path]
            self._next += 1
            self._open[self._next] = (path, data)
            return self._next

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._content(descriptor)
            del self._open[descriptor]

    def _content(self, descriptor: int) -> bytearray | None:
        if descriptor not in self._open:
            raise _error(errno.EBADF)
        return self._open[descriptor][1]

    def _bytes(self, descriptor: int) -> bytearray:
        data = self._content(descriptor)
        if data is None:
            raise _error(errno.EISDIR)
        return data

    def _status(self, data: bytearray | None) -> Any:
        kind = stat.S_IFDIR if data is None else stat.S_IFREG
        return SimpleNamespace(
            st_mode=kind | 0o644,
            st_nlink=1,
            st_uid=os.geteuid(),
            st_gid=os.getegid(),
            st_size=len(data or b""),
            st_mtime_ns=7,
            st_dev=1,
            st_ino=id(data),
            st_blocks=-(-len(data or b"") // 512),
            st_rdev=0,
        )

    def fstat(self, descriptor: int) -> Any:
        with self._lock:
            return self._status(self._content(descriptor))

    def stat(self, path: str) -> Any:
        with self._lock:
            if path != ROOT and path not in self.files:
                raise _error(errno.ENOENT)
            return self._status(self.files.get(path))

    def lstat(self, path: str) -> Any:
        return self.stat(path)

    def realpath(self, path: str) -> str:
        return os.path.normpath(path)

    def listdir(self, path: str) -> list[str]:
        with self._lock:
            return [os.path.basename(name) for name in self.files]

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        with self._lock:
            data = self._bytes(descriptor)
            done = 0
            for view in buffers:
                part = data[offset + done : offset + done + view.nbytes]
                view[: len(part)] = part
                done += len(part)
            if self.reads is not None:
                self.reads.append((self._open[descriptor][0], offset, done))
            return done

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        with self._lock:
            data = self._bytes(descriptor)
            new = b"".join(buffers)
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(new)] = new
            return len(new)

    def fsync(self, descriptor: int) -> None:
        with self._lock:
            self._content(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            data = self._bytes(descriptor)
            del data[size:]
            data.extend(bytes(size - len(data)))

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        raise _error(errno.EINVAL)

    def replace(self, old: str, new: str) -> None:
        with self._lock:
            if old not in self.files:
                raise _error(errno.ENOENT)
            self.files[new] = self.files.pop(old)

    def unlink(self, path: str) -> None:
        with self._lock:
            if path not in self.files:
                raise _error(errno.ENOENT)
            del self.files[path]

    def flock(self, descriptor: int) -> None:
        raise _error(errno.ENOSYS)

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        raise _error(errno.ENOTTY)

    def punch_hole(self, descriptor: int, offset: int, length: int) -> None:
        raise _error(errno.EOPNOTSUPP)

    def advise_sequential(self, descriptor: int) -> None:
        return
