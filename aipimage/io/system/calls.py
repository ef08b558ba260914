"""The system's calls on files: the one place in the library that makes them.

:class:`SystemCalls` has one method for one call. Tests replace it to fail, shorten, tear, count or
record every call. Linux is the first platform; what another one lacks fails with ``ENOSYS`` or is
done in a slower way. Nothing here fails at import time.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from aipimage.errors import StorageError

_P = ParamSpec("_P")
_T = TypeVar("_T")

# A signal storm must not become an endless loop; a real program sees one or two interruptions in a
# row.
_MAX_INTERRUPTIONS = 100

POSITIONAL = hasattr(os, "preadv") and hasattr(os, "pwritev")
_OPEN_FLAGS = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
)
# linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE.
_PUNCH_HOLE = 0x01 | 0x02
# linux/fs.h: _IO(0x12, n). A few processors mark "no argument" with a bit of its own (asm/ioctl.h).
_IO_NONE = 0x2000_0000 if platform.machine().startswith(("ppc", "mips", "sparc", "alpha")) else 0
BLKSSZGET = _IO_NONE | 0x1268
BLKRRPART = _IO_NONE | 0x125F
BLKDISCARD = _IO_NONE | 0x1277
BLKZEROOUT = _IO_NONE | 0x127F
# The answers of a file system or a device that lacks an optional operation.
NOT_SUPPORTED = frozenset(
    {
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.ENOSYS,
        errno.EINVAL,
        errno.ENOTTY,
        errno.ENODEV,
        errno.EPERM,
    }
)
# The answers of Linux where the medium cannot deliver sectors (block/blk-core.c, blk_errors). Any
# other failure (no such device, no permission) concerns all sectors alike.
MEDIUM_ERRORS = frozenset(
    number
    for name in ("EIO", "ENODATA", "EILSEQ", "EREMOTEIO")
    if (number := getattr(errno, name, None)) is not None
)


class SystemCalls:
    """The raw calls on files, one method each; every one raises ``OSError``.

    Tests subclass it (``tests/support``). A method makes one call and decides nothing.
    """

    def __init__(self) -> None:
        self._seek_lock = threading.Lock()

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return os.open(path, flags | _OPEN_FLAGS, mode)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def realpath(self, path: str) -> str:
        return os.path.realpath(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if POSITIONAL:
            return os.preadv(descriptor, buffers, offset)
        with self._seek_lock:
            os.lseek(descriptor, offset, os.SEEK_SET)
            data = os.read(descriptor, buffers[0].nbytes)
        buffers[0][: len(data)] = data
        return len(data)

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if POSITIONAL:
            return os.pwritev(descriptor, buffers, offset)
        with self._seek_lock:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, buffers[0])

    def fsync(self, descriptor: int) -> None:
        if sys.platform == "darwin":
            # There a plain fsync leaves the data in the drive's own cache.
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        else:
            os.fsync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        with self._seek_lock:
            return os.lseek(descriptor, offset, whence)

    def replace(self, old: str, new: str) -> None:
        os.replace(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def flock(self, descriptor: int) -> None:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def ioctl(self, descriptor: int, request: int, argument: bytes) -> bytes:
        if sys.platform != "win32":
            import fcntl

            return fcntl.ioctl(descriptor, request, argument)
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def punch_hole(self, descriptor: int, offset: int, length: int) -> None:
        _libc_fallocate()(descriptor, _PUNCH_HOLE, offset, length)

    def advise_sequential(self, descriptor: int) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)


@functools.cache
def _libc_fallocate() -> Callable[[int, int, int, int], None]:
    """Return the C library's ``fallocate(2)``: ``os.posix_fallocate`` cannot punch holes."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    # The 64-bit name exists in glibc on every word size; musl has one name, always 64 bits wide.
    function: Any = getattr(library, "fallocate64", None) or library.fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
        if function(descriptor, mode, offset, length) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return fallocate


def uninterrupted(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Repeat `call` while a signal interrupts it. An interrupted call has done nothing yet."""
    for _ in range(_MAX_INTERRUPTIONS):
        try:
            return call(*args, **kwargs)
        except InterruptedError:
            continue
    return call(*args, **kwargs)


@contextlib.contextmanager
def storage_errors(action: str, path: str) -> Iterator[None]:
    """Turn an ``OSError`` into the ``StorageError`` of a failed `action` on `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError.from_os_error(action, path, error) from error
