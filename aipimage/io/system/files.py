"""An open file or block device: positional, safe for threads, finishing short transfers and
retrying interrupted ones. Every ``OSError`` leaves here as ``StorageError``.

What a platform lacks is done without (holes, locks), or in a slower way (positional reads).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Protocol

from aipimage.errors import StorageError, TargetError
from aipimage.io.system import calls
from aipimage.io.system.calls import (
    BLKDISCARD,
    BLKRRPART,
    BLKSSZGET,
    BLKZEROOUT,
    NOT_SUPPORTED,
    SystemCalls,
    storage_errors,
    uninterrupted,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

_P = ParamSpec("_P")

_MAX_OFFSET = 2**63 - 1
_IOV_MAX = 1024
# No system uses this descriptor, so every call on a closed file fails with EBADF. (With -1 some of
# Python's functions raise ValueError instead.)
_CLOSED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The answer of ``stat``; the sizes are 0 for a block device: ask ``File.size()``."""

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
        with storage_errors("read the state", self.name):
            return FileInfo.from_stat(uninterrupted(self._system.fstat, self._descriptor))

    def size(self) -> int:
        """Return the size in bytes now, of a block device too."""
        if not self.is_block_device:
            return self.info().size
        self._check_open()
        with storage_errors("read the size", self.name):
            return uninterrupted(self._system.lseek, self._descriptor, 0, os.SEEK_END)

    def sector_size(self) -> int:
        """Return the logical sector size in bytes: what the device says, 512 for a file."""
        if not self.is_block_device:
            return 512
        with storage_errors("read the sector size", self.name):
            answer = uninterrupted(self._system.ioctl, self._descriptor, BLKSSZGET, bytes(4))
        return int(struct.unpack("i", answer)[0])

    # Reading

    def pread_into(self, buffer: Buffer, offset: int) -> int:
        """Fill `buffer` from `offset`; return the bytes read: fewer only at the end of the file."""
        view = flat_view(buffer)
        total, done = view.nbytes, 0
        if offset > _MAX_OFFSET:
            return 0
        if self._descriptor == _CLOSED:
            self._check_open()
        try:
            while done < total:
                got = self._preadv(view[done:], offset + done)
                if got == 0:
                    break
                done += got
        except OSError as error:
            action = f"read {total - done} bytes at offset {offset + done}"
            raise StorageError.from_os_error(action, self.name, error) from error
        return done

    def _preadv(self, view: memoryview, offset: int) -> int:
        try:
            return self._system.preadv(self._descriptor, (view,), offset)
        except InterruptedError:
            return uninterrupted(self._system.preadv, self._descriptor, (view,), offset)

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset` on: fewer only at the end of the file."""
        buffer = bytearray(length)
        got = self.pread_into(buffer, offset)
        return bytes(memoryview(buffer)[:got])

    def advise_sequential(self) -> None:
        """Announce that the file is read from front to back; a hint, never an error."""
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
                return uninterrupted(self._system.lseek, self._descriptor, offset, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno not in NOT_SUPPORTED:
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
        if not calls.POSITIONAL:
            views = [memoryview(b"".join(views))] if views else []
        first, at = 0, offset
        try:
            while first < len(views):
                done = uninterrupted(
                    self._system.pwritev, self._descriptor, views[first : first + _IOV_MAX], at
                )
                if done <= 0:
                    # Trying again might never end; no system does this to a healthy file.
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

        A failure is final: the system may have dropped the pages that it could not write, and would
        report success at the next attempt. So every later write or sync of this file fails too.
        The caller must give the file up; opening it again to continue would lose data.
        """
        with self._sync_lock:
            self._check_trusted()
            try:
                uninterrupted(self._system.fsync, self._descriptor)
            except OSError as error:
                self._sync_error = StorageError.from_os_error(
                    "make the data durable", self.name, error
                )
                raise self._sync_error from error

    def truncate(self, size: int) -> None:
        """Cut or extend a regular file to `size` bytes; what is added is a hole."""
        self._check_trusted()
        with storage_errors(f"set the size to {size} bytes", self.name):
            uninterrupted(self._system.ftruncate, self._descriptor, size)

    def punch_hole(self, offset: int, length: int) -> bool:
        """Make the range a hole, which reads as zeros; ``False`` where that is not supported."""
        self._check_trusted()
        return self._optional(
            "punch a hole", self._system.punch_hole, self._descriptor, offset, length
        )

    def discard(self, offset: int, length: int) -> bool:
        """Discard a range of a block device, which may then read as anything; as ``punch_hole``."""
        return self._range_ioctl("discard", BLKDISCARD, offset, length)

    def zero_out(self, offset: int, length: int) -> bool:
        """Let a block device fill the range with zeros; ``False`` where that is not supported."""
        return self._range_ioctl("zero", BLKZEROOUT, offset, length)

    def reread_partitions(self) -> bool:
        """Have the system read a device's partition table again; ``False`` where it
        does not: the device is not a whole disk, or a partition of it is in use.
        """
        try:
            uninterrupted(self._system.ioctl, self._descriptor, BLKRRPART, b"")
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
            uninterrupted(call, *args, **kwargs)
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                return False
            raise StorageError.from_os_error(action, self.name, error) from error
        return True

    def _check_trusted(self) -> None:
        self._check_open()
        if self._sync_error is not None:
            raise StorageError(
                f"{self.name}: an earlier sync did not make it durable; no more is written to it",
                self._sync_error.errno,
            ) from self._sync_error

    # Owning

    def lock(self) -> bool:
        """Lock the file for this writer alone until it is closed, without waiting.

        Returns:
            whether it is locked: ``False`` where the platform or the file system has no such locks.

        Raises:
            TargetError: another writer has it, or it was replaced between opening and locking.
        """
        try:
            uninterrupted(self._system.flock, self._descriptor)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise TargetError(
                    f"{self.name}: this process or another process is writing it; close it, or "
                    "wait until it has ended"
                ) from error
            if error.errno in NOT_SUPPORTED or error.errno == errno.ENOLCK:
                return False
            raise StorageError.from_os_error("lock", self.name, error) from error
        if not self._still_named():
            raise TargetError(
                f"{self.name}: another process has just replaced or removed it; try again"
            )
        return True

    def _still_named(self) -> bool:
        """Whether the name still leads here: the previous writer may have renamed it at its end."""
        here = self.info()
        try:
            with storage_errors("read the state", self.name):
                there = uninterrupted(self._system.stat, self.name)
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
            # The descriptor is gone all the same; closing again might hit another file.
            pass
        except OSError as error:
            raise StorageError.from_os_error("close", self.name, error) from error


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


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
