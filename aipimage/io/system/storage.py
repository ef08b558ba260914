"""Files by their paths: opening, creating, renaming, removing, and making a directory durable.

This is the door to the files of the system; the rest of the library imports from here.

``SystemCalls`` (``calls.py``)
    one method for one system call, which raises ``OSError``; tests replace it.
``File`` (``files.py``)
    an open file or block device.
``Storage``
    what has a path.

Every ``OSError`` leaves here as ``StorageError``. Where a platform cannot sync directories, that
is left out. Nothing here fails at import time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys

from aipimage import checks
from aipimage.errors import RequestError, StorageError, TargetError
from aipimage.io.system.calls import MEDIUM_ERRORS as MEDIUM_ERRORS
from aipimage.io.system.calls import SystemCalls as SystemCalls
from aipimage.io.system.calls import storage_errors, uninterrupted
from aipimage.io.system.files import Closable as Closable
from aipimage.io.system.files import File as File
from aipimage.io.system.files import FileInfo as FileInfo
from aipimage.io.system.files import close_all as close_all
from aipimage.io.system.files import flat_view as flat_view
from aipimage.io.system.notices import notice
from aipimage.io.system.strangers import as_a_new_file, not_a_file_of_its_own, not_only_ours

StrPath = str | os.PathLike[str]
_TEXT_LIMIT = 16 << 20
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)

# fsync(2) on a directory: there is no such operation. Linux's own file systems say EINVAL, servers
# of FUSE and network ones what they like.
_NO_DIRECTORY_SYNC = frozenset(
    {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY}
)


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
        swap, RAID, LVM) is refused with ``errno`` ``EBUSY``. No other program can claim it until it
        is closed.
        """
        return self._open_existing(path, os.O_RDWR, exclusive=exclusive)

    def create(self, path: StrPath) -> File:
        """Create a new file to read and write; ``EEXIST`` (``StorageError``) when it is there."""
        name = _checked(path)
        with storage_errors("create", name):
            # O_EXCL follows no link either.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
            descriptor = uninterrupted(self._system.open, name, flags)
        try:
            return self._wrap(descriptor, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.unlink(name)
            raise

    def _open_existing(self, path: StrPath, flags: int, *, exclusive: bool = False) -> File:
        name = _checked(path)
        with storage_errors("open", name):
            # Looked at before it is opened: opening a tape or a terminal may have an effect.
            before = uninterrupted(self._system.stat, name)
            _refuse_other_kinds(name, before.st_mode)
            if exclusive and stat.S_ISBLK(before.st_mode):
                # Without O_CREAT this is Linux's way to claim a block device.
                flags |= os.O_EXCL
            descriptor = self._descriptor(name, flags)
        return self._wrap(descriptor, name)

    def _descriptor(self, name: str, flags: int) -> int:
        try:
            return uninterrupted(self._system.open, name, flags | _NONBLOCK)
        except BlockingIOError:
            # Another program holds a lease on the regular file (a Samba server): wait for its end.
            return uninterrupted(self._system.open, name, flags)

    def open_left(self, path: StrPath) -> File | None:
        """Open for update a file that an earlier run left under a name that can be guessed;
        ``None`` where there is none.

        Raises:
            TargetError: it is a link, not a regular file, or other users made it or can change
            it (``io/system/strangers.py``); it stays as it is. StorageError: it cannot be
            opened.
        """
        name = _checked(path)
        with storage_errors("open", name):
            try:
                found = uninterrupted(self._system.lstat, name)
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
            with storage_errors("open", name):
                # The name may have changed hands since it was looked at.
                self._refuse_stranger(name, uninterrupted(self._system.fstat, descriptor))
        except BaseException:
            file.close()
            raise
        return file

    def _refuse_stranger(self, name: str, found: os.stat_result) -> None:
        why = not_a_file_of_its_own(found)
        if why is None:
            folder = os.path.dirname(name) or os.curdir
            why = not_only_ours(found, uninterrupted(self._system.stat, folder))
            if why is not None and as_a_new_file(found, self._new_file_in(folder)):
                return
        if why is not None:
            raise _stranger(name, why)

    def _new_file_in(self, folder: str) -> os.stat_result:
        """Return the status that a new file has in a folder; made for it, and removed at once."""
        name = os.path.join(folder, f".aipimage-{os.urandom(8).hex()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW
        descriptor = uninterrupted(self._system.open, name, flags)
        try:
            return uninterrupted(self._system.fstat, descriptor)
        finally:
            with contextlib.suppress(OSError):
                self._system.close(descriptor)
            uninterrupted(self._system.unlink, name)

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
        """Remove a file that an earlier run left, if there is one.

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
            with storage_errors("open", name):
                result = uninterrupted(self._system.fstat, descriptor)
            _refuse_other_kinds(name, result.st_mode)
        except BaseException:
            with contextlib.suppress(OSError):
                self._system.close(descriptor)
            raise
        return File(self._system, descriptor, name, FileInfo.from_stat(result))

    def stat(self, path: StrPath) -> FileInfo:
        """Return the state of `path`, links followed; never opens it."""
        name = _checked(path)
        with storage_errors("read the state", name):
            return FileInfo.from_stat(uninterrupted(self._system.stat, name))

    def exists(self, path: StrPath) -> bool:
        """Whether `path` leads to something; ``StorageError`` when the system cannot say."""
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
        with storage_errors("follow the links", name):
            return uninterrupted(self._system.realpath, name)

    def list_directory(self, path: StrPath) -> list[str]:
        """Return the names in a directory, sorted."""
        name = _checked(path)
        with storage_errors("list", name):
            return sorted(uninterrupted(self._system.listdir, name))

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
        with storage_errors(f"rename to {target}", source):
            uninterrupted(self._system.replace, source, target)

    def remove(self, path: StrPath, *, missing_ok: bool = False) -> None:
        """Remove a file; durable only after ``sync_directory``."""
        name = _checked(path)
        try:
            with storage_errors("remove", name):
                uninterrupted(self._system.unlink, name)
        except StorageError as error:
            if not (missing_ok and error.errno == errno.ENOENT):
                raise

    def sync_directory(self, path: StrPath) -> None:
        """Make the names in directory `path` durable.

        Where the file system has no such operation, the result of the job has a warning
        (``io/system/notices.py``): the files are whole and durable, but a power failure may lose
        their names.

        Raises:
            StorageError: the file system tried and failed.
        """
        name = _checked(path)
        if sys.platform == "win32":
            return
        with storage_errors("make the directory durable", name):
            try:
                descriptor = uninterrupted(self._system.open, name, os.O_RDONLY | os.O_DIRECTORY)
            except PermissionError as error:
                # A folder that may be written to, but not listed.
                notice(_undurable(name, error))
                return
            try:
                uninterrupted(self._system.fsync, descriptor)
            except OSError as error:
                if error.errno not in _NO_DIRECTORY_SYNC:
                    raise
                notice(_undurable(name, error))
            finally:
                with contextlib.suppress(OSError):
                    self._system.close(descriptor)


def _checked(path: StrPath) -> str:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise RequestError(f"{name!r}: is bytes; pass the path as text")
    if not name or "\0" in name:
        raise RequestError(f"{name!r}: is not a path: it is empty or has a NUL character")
    return name


def _undurable(directory: str, error: OSError) -> str:
    return (
        f"{directory}: the directory cannot be synced ({error.strerror}); the data is durable, but "
        "after a power failure a new file may still have its earlier name, or none"
    )


def _stranger(name: str, why: str) -> TargetError:
    return TargetError(
        f"{name}: {why}; only a file that this user made and no other user can write is used "
        "there. Nothing was changed; look at the file, and move it away"
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
    raise RequestError(f"{name}: is {kind}; pass a regular file or a block device")


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
            f"{name}: the working directory was removed; change to another one, or pass absolute "
            "paths",
            error.errno,
        ) from error


DEFAULT = Storage()


def chosen(storage: Storage | None) -> Storage:
    """Return the storage that was passed, or that of the system's own files."""
    if storage is None:
        return DEFAULT
    return checks.instance("storage", storage, Storage, "a storage, or None")
