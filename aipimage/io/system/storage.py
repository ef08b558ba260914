"""The one place where files are opened, read, written, synced, renamed, truncated and removed.

Three layers, thinnest first:

``SystemCalls``
    one method for one system call, raising ``OSError``. Tests replace it to fail, shorten, tear,
    count or record every call; nothing else in the library calls the system on a file.
``File``
    an open file or block device: positional, thread-safe, finishing short transfers and retrying
    interrupted ones.
``Storage``
    what has a path: opening, creating, renaming, removing, and making a directory's entries
    durable.

Every ``OSError`` leaves here as ``StorageError``. Linux is the first platform; what another lacks
is done without (holes, locks, directory syncs) or in a slower way (positional reads on Windows).
Nothing here fails at import time.

The three layers share a page because each is of use only with the next, and a reader checks them
together.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from aipimage import checks
from aipimage.errors import RequestError, StorageError, TargetError
from aipimage.io.system.notices import notice
from aipimage.io.system.strangers import as_a_new_file, not_a_file_of_its_own, not_only_ours

if TYPE_CHECKING:
    from typing_extensions import Buffer

StrPath = str | os.PathLike[str]
_P = ParamSpec("_P")
_T = TypeVar("_T")

# A signal storm must not become an endless loop; a real program sees one or two interruptions in a
# row.
_MAX_INTERRUPTIONS = 100
_MAX_OFFSET = 2**63 - 1
_IOV_MAX = 1024
# No system hands out this descriptor, so every call on a closed file fails with EBADF. (With -1
# some of Python's functions raise ValueError instead.)
_CLOSED = 2**31 - 1
_TEXT_LIMIT = 16 << 20

_POSITIONAL = hasattr(os, "preadv") and hasattr(os, "pwritev")
_OPEN_FLAGS = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

# linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE.
_PUNCH_HOLE = 0x01 | 0x02
# linux/fs.h: _IO(0x12, n). A few processors mark "no argument" with a bit of its own (asm/ioctl.h).
_IO_NONE = 0x2000_0000 if platform.machine().startswith(("ppc", "mips", "sparc", "alpha")) else 0
_BLKSSZGET = _IO_NONE | 0x1268
_BLKRRPART = _IO_NONE | 0x125F
_BLKDISCARD = _IO_NONE | 0x1277
_BLKZEROOUT = _IO_NONE | 0x127F
# What a file system or a device answers when it cannot do an optional thing.
_NOT_SUPPORTED = frozenset(
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
# fsync(2) on a directory: there is no such operation. Linux's own file systems say EINVAL, servers
# of FUSE and network ones what they like.
_NO_DIRECTORY_SYNC = frozenset(
    {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY}
)


# What Linux answers for a medium that cannot give the sectors (block/blk-core.c, blk_errors):
# anything else (no such device, no permission) would not be better for other sectors.
MEDIUM_ERRORS = frozenset(
    number
    for name in ("EIO", "ENODATA", "EILSEQ", "EREMOTEIO")
    if (number := getattr(errno, name, None)) is not None
)


class SystemCalls:
    """The raw calls on files, one method each; every one raises ``OSError``.

    Tests subclass it (``tests/support``). A method does one call and decides nothing.
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
        if _POSITIONAL:
            return os.preadv(descriptor, buffers, offset)
        with self._seek_lock:
            os.lseek(descriptor, offset, os.SEEK_SET)
            data = os.read(descriptor, buffers[0].nbytes)
        buffers[0][: len(data)] = data
        return len(data)

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if _POSITIONAL:
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


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What ``stat`` knows; the sizes are 0 for a block device: ask ``File.size()``."""

    size: int
    is_regular: bool
    is_block_device: bool
    is_directory: bool
    mtime_ns: int
    device: int
    inode: int
    allocated_bytes: int
    device_number: int

    @classmethod
    def from_stat(cls, result: os.stat_result) -> FileInfo:
        """Take over the fields that every platform has, and those that Linux adds."""
        return cls(
            size=result.st_size,
            is_regular=stat.S_ISREG(result.st_mode),
            is_block_device=stat.S_ISBLK(result.st_mode),
            is_directory=stat.S_ISDIR(result.st_mode),
            mtime_ns=result.st_mtime_ns,
            device=result.st_dev,
            inode=result.st_ino,
            allocated_bytes=getattr(result, "st_blocks", 0) * 512,
            device_number=getattr(result, "st_rdev", 0),
        )


class File:
    """An open regular file or block device, read and written at given offsets (bytes), from any
    thread.

    Attributes:
        name: the path it was opened by; every error begins with it.
    """

    def __init__(self, system: SystemCalls, descriptor: int, name: str, info: FileInfo) -> None:
        self.name = name
        self.is_block_device = info.is_block_device
        self._system = system
        self._descriptor = descriptor
        self._sync_lock = threading.Lock()
        self._sync_error: StorageError | None = None

    def __repr__(self) -> str:
        return f"<File {self.name!r}{' (closed)' if self._descriptor == _CLOSED else ''}>"

    def __enter__(self) -> File:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except StorageError:
            # The first failure says more than the close that follows it.
            if error is None:
                raise

    def info(self) -> FileInfo:
        """What the system knows about the file now; ``StorageError`` when it cannot be asked."""
        self._check_open()
        with _storage_errors("read the state", self.name):
            return FileInfo.from_stat(_uninterrupted(self._system.fstat, self._descriptor))

    def size(self) -> int:
        """Return the size in bytes now, of a block device too."""
        if not self.is_block_device:
            return self.info().size
        self._check_open()
        with _storage_errors("read the size", self.name):
            return _uninterrupted(self._system.lseek, self._descriptor, 0, os.SEEK_END)

    def sector_size(self) -> int:
        """Return the logical sector size in bytes: what the device says, 512 for a file."""
        if not self.is_block_device:
            return 512
        with _storage_errors("read the sector size", self.name):
            answer = _uninterrupted(self._system.ioctl, self._descriptor, _BLKSSZGET, bytes(4))
        return int(struct.unpack("i", answer)[0])

    # Reading

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """Fill `buffer` from `offset`; return the bytes read: fewer only at the end of the file."""
        view = flat_view(buffer)
        total, done = view.nbytes, 0
        if offset > _MAX_OFFSET:
            return 0
        self._check_open()
        try:
            while done < total:
                got = _uninterrupted(
                    self._system.preadv, self._descriptor, [view[done:]], offset + done
                )
                if got == 0:
                    break
                done += got
        except OSError as error:
            action = f"read {total - done} bytes at offset {offset + done}"
            raise StorageError.from_os_error(action, self.name, error) from error
        return done

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset` on: fewer only at the end of the file."""
        buffer = bytearray(length)
        got = self.pread_into(buffer, offset)
        return bytes(memoryview(buffer)[:got])

    def advise_sequential(self) -> None:
        """Tell the system that reading goes from front to back; a hint, never an error."""
        with contextlib.suppress(OSError):
            self._system.advise_sequential(self._descriptor)

    def seek_data(self, offset: int) -> int | None:
        """Return where the next data at or after `offset` begins; ``None`` when only a hole
        follows.

        Where holes cannot be seen (devices, some file systems, Windows) everything is data:
        `offset` itself.
        """
        return self._seek(offset, getattr(os, "SEEK_DATA", None), offset)

    def seek_hole(self, offset: int) -> int | None:
        """Return where the next hole at or after `offset` begins: at the latest the end of the
        file.

        ``None`` when `offset` is past the end.
        """
        return self._seek(offset, getattr(os, "SEEK_HOLE", None), None)

    def _seek(self, offset: int, whence: int | None, otherwise: int | None) -> int | None:
        self._check_open()
        try:
            if whence is not None:
                return _uninterrupted(self._system.lseek, self._descriptor, offset, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno not in _NOT_SUPPORTED:
                raise StorageError.from_os_error("look for holes", self.name, error) from error
        size = self.size()
        if offset >= size:
            return None
        return size if otherwise is None else otherwise

    # Writing

    def pwrite(self, buffer: Buffer, offset: int) -> None:
        """Write all of `buffer` at `offset`."""
        self.pwritev([buffer], offset)

    def pwritev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all of `buffers`, one after the other, from `offset` on.

        Raises:
            StorageError: the write failed, or an earlier ``sync`` of this file failed. Part of the
            bytes may be there.
        """
        self._check_trusted()
        views = [view for view in map(flat_view, buffers) if view.nbytes]
        if not _POSITIONAL:
            views = [memoryview(b"".join(views))] if views else []
        first, at = 0, offset
        try:
            while first < len(views):
                done = _uninterrupted(
                    self._system.pwritev, self._descriptor, views[first : first + _IOV_MAX], at
                )
                if done <= 0:
                    # Trying again could go on for ever; no system does this for a file in health.
                    raise OSError(errno.EIO, "the system took no bytes and gave no reason")
                at += done
                first = _advance(views, first, done)
        except OSError as error:
            left = sum(view.nbytes for view in views[first:])
            raise StorageError.from_os_error(
                f"write {left} bytes at offset {at}", self.name, error
            ) from error

    def sync(self) -> None:
        """Make all that was written durable.

        A failure is final: the system may have dropped the pages that it could not write and would
        call the next attempt a success. So every later write or sync of this file fails too.
        Whoever meets this must give the file up, not open it again to go on.
        """
        with self._sync_lock:
            self._check_trusted()
            try:
                _uninterrupted(self._system.fsync, self._descriptor)
            except OSError as error:
                self._sync_error = StorageError.from_os_error(
                    "make the data durable", self.name, error
                )
                raise self._sync_error from error

    def truncate(self, size: int) -> None:
        """Cut or extend a regular file to `size` bytes; what is added is a hole."""
        self._check_trusted()
        with _storage_errors(f"set the size to {size} bytes", self.name):
            _uninterrupted(self._system.ftruncate, self._descriptor, size)

    def punch_hole(self, offset: int, length: int) -> bool:
        """Give the range back, to read as zeros; ``False`` where that is not supported."""
        self._check_trusted()
        return self._optional(
            "punch a hole", self._system.punch_hole, self._descriptor, offset, length
        )

    def discard(self, offset: int, length: int) -> bool:
        """Tell a block device that the range is not needed; it may then read as anything."""
        return self._range_ioctl("discard", _BLKDISCARD, offset, length)

    def zero_out(self, offset: int, length: int) -> bool:
        """Let a block device fill the range with zeros; ``False`` where that is not supported."""
        return self._range_ioctl("zero", _BLKZEROOUT, offset, length)

    def reread_partitions(self) -> bool:
        """Have the system read a device's partition table again; ``False`` where it does not: it is
        no whole disk, or a partition of it is in use.
        """
        try:
            _uninterrupted(self._system.ioctl, self._descriptor, _BLKRRPART, b"")
        except OSError:
            return False
        return True

    def _range_ioctl(self, action: str, request: int, offset: int, length: int) -> bool:
        self._check_trusted()
        argument = struct.pack("QQ", offset, length)
        return self._optional(action, self._system.ioctl, self._descriptor, request, argument)

    def _optional(
        self, action: str, call: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> bool:
        try:
            _uninterrupted(call, *args, **kwargs)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                return False
            raise StorageError.from_os_error(action, self.name, error) from error
        return True

    def _check_trusted(self) -> None:
        self._check_open()
        if self._sync_error is not None:
            raise StorageError(
                f"{self.name}: making it durable failed before, so nothing more is written to it",
                self._sync_error.errno,
            ) from self._sync_error

    # Owning

    def lock(self) -> bool:
        """Take the file for this writer alone until it is closed, without waiting.

        Returns:
            whether it is locked: ``False`` where the platform or the file system has no such locks.

        Raises:
            TargetError: another writer has it, or it was replaced between opening and locking.
        """
        try:
            _uninterrupted(self._system.flock, self._descriptor)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise TargetError(
                    f"{self.name}: this process or another process is writing it; close it, or "
                    "wait until it has ended"
                ) from error
            if error.errno in _NOT_SUPPORTED or error.errno == errno.ENOLCK:
                return False
            raise StorageError.from_os_error("lock", self.name, error) from error
        if not self._still_named():
            raise TargetError(
                f"{self.name}: another process has just replaced or removed it; try again"
            )
        return True

    def _still_named(self) -> bool:
        """Whether the name still leads here: the writer before may have renamed it on finishing."""
        here = self.info()
        try:
            with _storage_errors("read the state", self.name):
                there = _uninterrupted(self._system.stat, self.name)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return (there.st_dev, there.st_ino) == (here.device, here.inode)

    def _check_open(self) -> None:
        if self._descriptor == _CLOSED:
            raise StorageError(f"{self.name}: the file is closed", errno.EBADF)

    def close(self) -> None:
        """Close; a second call does nothing. Makes nothing durable: that is ``sync``."""
        descriptor, self._descriptor = self._descriptor, _CLOSED
        if descriptor == _CLOSED:
            return
        try:
            self._system.close(descriptor)
        except InterruptedError:
            # The descriptor is gone all the same; closing again might hit somebody else's file.
            pass
        except OSError as error:
            raise StorageError.from_os_error("close", self.name, error) from error


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


class Storage:
    """Files by their paths, ``str`` or ``os.PathLike``; one with a NUL is a ``RequestError``."""

    def __init__(self, system: SystemCalls | None = None) -> None:
        self._system = SystemCalls() if system is None else system

    def open_read(self, path: StrPath) -> File:
        """Open a regular file or block device for reading.

        Raises:
            RequestError: it is a directory, pipe, socket or character device; found out without
            blocking. StorageError: it cannot be opened.
        """
        return self._open_existing(path, os.O_RDONLY)

    def open_update(self, path: StrPath, *, exclusive: bool = False) -> File:
        """Open an existing regular file or block device for reading and writing; errors as
        ``open_read``.

        With `exclusive`, a block device that the system or another program has claimed (mounted,
        swap, RAID, LVM) is refused with ``errno`` ``EBUSY``, and nobody else can claim it until it
        is closed.
        """
        return self._open_existing(path, os.O_RDWR, exclusive=exclusive)

    def create(self, path: StrPath) -> File:
        """Create a new file to read and write; ``EEXIST`` (``StorageError``) when it is there."""
        name = _checked(path)
        with _storage_errors("create", name):
            # O_EXCL follows no link either.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
            descriptor = _uninterrupted(self._system.open, name, flags)
        try:
            return self._wrap(descriptor, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.unlink(name)
            raise

    def _open_existing(self, path: StrPath, flags: int, *, exclusive: bool = False) -> File:
        name = _checked(path)
        with _storage_errors("open", name):
            # Looked at before opening, because opening a tape or a terminal may already do
            # something.
            before = _uninterrupted(self._system.stat, name)
            _refuse_other_kinds(name, before.st_mode)
            if exclusive and stat.S_ISBLK(before.st_mode):
                # Without O_CREAT this is Linux's way to claim a block device.
                flags |= os.O_EXCL
            descriptor = self._descriptor(name, flags)
        return self._wrap(descriptor, name)

    def _descriptor(self, name: str, flags: int) -> int:
        try:
            return _uninterrupted(self._system.open, name, flags | _NONBLOCK)
        except BlockingIOError:
            # Somebody holds a lease on the regular file (a Samba server): wait until it is given
            # up.
            return _uninterrupted(self._system.open, name, flags)

    def open_left(self, path: StrPath) -> File | None:
        """Open for update what an earlier run left under a name that can be guessed; ``None`` where
        there is nothing.

        Raises:
            TargetError: it is a link, not a regular file, or a file that others made or can
            change (``io/system/strangers.py``); it stays as it is. StorageError: it cannot be
            opened.
        """
        name = _checked(path)
        with _storage_errors("open", name):
            try:
                found = _uninterrupted(self._system.lstat, name)
            except (FileNotFoundError, NotADirectoryError):
                return None
            self._refuse_stranger(name, found)
            try:
                descriptor = self._descriptor(name, os.O_RDWR | _NOFOLLOW)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise _stranger(name, "is a symbolic link") from error
        file = self._wrap(descriptor, name)
        try:
            with _storage_errors("open", name):
                # The name may have changed hands since it was looked at.
                self._refuse_stranger(name, _uninterrupted(self._system.fstat, descriptor))
        except BaseException:
            file.close()
            raise
        return file

    def _refuse_stranger(self, name: str, found: os.stat_result) -> None:
        why = not_a_file_of_its_own(found)
        if why is None:
            folder = os.path.dirname(name) or os.curdir
            why = not_only_ours(found, _uninterrupted(self._system.stat, folder))
            if why is not None and as_a_new_file(found, self._new_file_in(folder)):
                return
        if why is not None:
            raise _stranger(name, why)

    def _new_file_in(self, folder: str) -> os.stat_result:
        """Return the status that a new file has in a folder; made for it, and removed at once."""
        name = os.path.join(folder, f".aipimage-{os.urandom(8).hex()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
        descriptor = _uninterrupted(self._system.open, name, flags)
        try:
            return _uninterrupted(self._system.fstat, descriptor)
        finally:
            with contextlib.suppress(OSError):
                self._system.close(descriptor)
            _uninterrupted(self._system.unlink, name)

    def left_text(self, path: StrPath, limit: int = _TEXT_LIMIT) -> str | None:
        """Return at most `limit` bytes of a text file that an earlier run left; ``None`` where
        there is none. Errors as of ``open_left``.
        """
        file = self.open_left(path)
        if file is None:
            return None
        with file:
            return file.pread(min(limit, file.size()), 0).decode("utf-8", "surrogateescape")

    def remove_left(self, path: StrPath) -> None:
        """Remove what an earlier run left, where there is something and nobody is writing it.

        Raises:
            TargetError: another process is writing it, or it is not ours (``open_left``).
        """
        file = self.open_left(path)
        if file is None:
            return
        with file:
            file.lock()
            if os.name != "nt":
                # Removed while it is locked: never another writer's file.
                self.remove(path)
                return
        self.remove(path)

    def _wrap(self, descriptor: int, name: str) -> File:
        """Look again at what was opened (the name may have changed hands) and own it."""
        try:
            with _storage_errors("open", name):
                result = _uninterrupted(self._system.fstat, descriptor)
            _refuse_other_kinds(name, result.st_mode)
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.close(descriptor)
            raise
        return File(self._system, descriptor, name, FileInfo.from_stat(result))

    def stat(self, path: StrPath) -> FileInfo:
        """What the system knows about `path`, links followed; never opens it."""
        name = _checked(path)
        with _storage_errors("read the state", name):
            return FileInfo.from_stat(_uninterrupted(self._system.stat, name))

    def exists(self, path: StrPath) -> bool:
        """Whether `path` leads to something; ``StorageError`` when that cannot be told."""
        try:
            self.stat(path)
        except StorageError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True

    def resolve(self, path: StrPath) -> str:
        """Return the absolute path with all symbolic links followed; its end need not exist."""
        name = _checked(path)
        with _storage_errors("follow the links", name):
            return _uninterrupted(self._system.realpath, name)

    def list_directory(self, path: StrPath) -> list[str]:
        """Return the names in a directory, sorted."""
        name = _checked(path)
        with _storage_errors("list", name):
            return sorted(_uninterrupted(self._system.listdir, name))

    def read_text(self, path: StrPath, limit: int = _TEXT_LIMIT) -> str:
        """Return a text file, at most `limit` bytes; for the system's tables of unknown size."""
        with self.open_read(path) as file:
            parts: list[bytes] = []
            at = 0
            while at < limit and (part := file.pread(min(1 << 16, limit - at), at)):
                parts.append(part)
                at += len(part)
        return b"".join(parts).decode("utf-8", "surrogateescape")

    def rename(self, old: StrPath, new: StrPath, *, replace: bool = True) -> None:
        """Give `old` the name `new` in one step; durable only after ``sync_directory``.

        Without `replace` an existing `new` is a ``StorageError`` with ``EEXIST``. That is a look
        before the step, not a lock: it stops mistakes; two writers are kept apart by ``File.lock``
        on the file that they write.
        """
        source, target = _checked(old), _checked(new)
        if not replace and self.exists(target):
            raise StorageError(
                f"{target}: cannot rename {source} to it: it is already there", errno.EEXIST
            )
        with _storage_errors(f"rename to {target}", source):
            _uninterrupted(self._system.replace, source, target)

    def remove(self, path: StrPath, *, missing_ok: bool = False) -> None:
        """Remove a file; durable only after ``sync_directory``."""
        name = _checked(path)
        try:
            with _storage_errors("remove", name):
                _uninterrupted(self._system.unlink, name)
        except StorageError as error:
            if not (missing_ok and error.errno == errno.ENOENT):
                raise

    def sync_directory(self, path: StrPath) -> None:
        """Make the names in directory `path` durable.

        Where that cannot be asked for, the result of the job has a warning
        (``io/system/notices.py``): the files are whole and durable, only their names may be lost
        with the power.

        Raises:
            StorageError: the file system tried, and failed.
        """
        name = _checked(path)
        if sys.platform == "win32":
            return
        with _storage_errors("make the directory durable", name):
            try:
                descriptor = _uninterrupted(self._system.open, name, os.O_RDONLY | os.O_DIRECTORY)
            except PermissionError as error:
                # A folder that one may write into and not list.
                notice(_undurable(name, error))
                return
            try:
                _uninterrupted(self._system.fsync, descriptor)
            except OSError as error:
                if error.errno not in _NO_DIRECTORY_SYNC:
                    raise
                notice(_undurable(name, error))
            finally:
                with contextlib.suppress(OSError):
                    self._system.close(descriptor)


def _uninterrupted(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do `call` again while a signal interrupts it. An interrupted call has done nothing yet."""
    for _ in range(_MAX_INTERRUPTIONS):
        try:
            return call(*args, **kwargs)
        except InterruptedError:
            continue
    return call(*args, **kwargs)


@contextlib.contextmanager
def _storage_errors(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError.from_os_error(action, path, error) from error


def _checked(path: StrPath) -> str:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise RequestError(f"{name!r}: give the path as text, not as bytes")
    if not name or "\0" in name:
        raise RequestError(f"{name!r}: not a path: it is empty or has a NUL character")
    return name


def _undurable(directory: str, error: OSError) -> str:
    return (
        f"{directory}: the directory cannot be synced ({error.strerror}); the data is durable, but "
        "after a power failure a new file may still bear its earlier name, or none"
    )


def _stranger(name: str, why: str) -> TargetError:
    return TargetError(
        f"{name}: {why}; only a file that this user alone made and can write is used there. "
        "Nothing was changed; look at it, and move it away"
    )


def _refuse_other_kinds(name: str, mode: int) -> None:
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "of an unknown kind")
    raise RequestError(f"{name}: is {kind}; give a regular file or a block device")


def absolute(path: StrPath) -> str:
    """Return a path from the root on, links not followed.

    Raises:
        StorageError: it is relative, and the working directory was removed.
    """
    name = os.fspath(path)
    try:
        return os.path.abspath(name)
    except OSError as error:
        raise StorageError(
            f"{name}: the working directory is not there any more; change to another one, or give "
            "whole paths",
            error.errno,
        ) from error


def close_all(files: Iterable[Closable]) -> None:
    """Close every file, also where one fails to; the first failure is raised at the end."""
    failure: StorageError | None = None
    for file in files:
        try:
            file.close()
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def flat_view(buffer: Buffer) -> memoryview:
    """View any contiguous buffer as bytes."""
    view = memoryview(buffer)
    if view.nbytes == 0:
        return memoryview(b"")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _advance(views: list[memoryview], first: int, done: int) -> int:
    """Drop `done` written bytes from the unwritten ``views[first:]``; return the new first."""
    while done:
        length = views[first].nbytes
        if done < length:
            views[first] = views[first][done:]
            return first
        done -= length
        first += 1
    return first


DEFAULT = Storage()


def chosen(storage: Storage | None) -> Storage:
    """The storage that was given, or that of the system's own files."""
    if storage is None:
        return DEFAULT
    return checks.instance("storage", storage, Storage, "a storage, or None")
