"""Creates the files of a package, which get their names when they are whole, or feeds a pipe."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aipimage.errors import RequestError, StorageError, TargetError
from aipimage.io.blocks.sinks import PARTIAL_SUFFIX, open_in_place
from aipimage.io.system.storage import Storage, StrPath

if TYPE_CHECKING:
    from typing_extensions import Buffer

Append = Callable[[Sequence["Buffer"]], None]
"""Takes bytes for the end of a stream."""


class NewFile:
    """A file that is called ``NAME.partial`` until ``publish``; what it replaces stays whole until
    then.

    Attributes:
        path: its final name, links followed. position: bytes appended so far.
    """

    def __init__(self, path: StrPath, *, overwrite: bool, storage: Storage) -> None:
        """Refuse what cannot be written, then create the partial file.

        Raises:
            TargetError: already there and ``overwrite`` not given, in use, an image, being written
                by another process, or no such directory.
            RequestError: a device, directory or pipe. StorageError: it cannot be created.
        """
        self.path, self.position = storage.resolve(path), 0
        self._storage, self._overwrite = storage, overwrite
        self._replaces = refuse_target(self.path, overwrite, storage)
        self._published = False
        partial = self.path + PARTIAL_SUFFIX
        storage.remove_left(partial)
        self._file = storage.create(partial)
        try:
            self._file.lock()
        except TargetError:
            self._file.close()  # Another writer was quicker: the file is not ours to remove.
            raise
        except BaseException:
            self.abort()
            raise

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Add bytes at the end; ``StorageError`` where that fails."""
        self._file.pwritev(buffers, self.position)
        self.position += sum(memoryview(buffer).nbytes for buffer in buffers)

    def patch(self, data: bytes, offset: int) -> None:
        """Replace bytes that were appended before; ``StorageError`` likewise."""
        if offset + len(data) > self.position:
            raise RuntimeError(f"internal error: patch past the end of {self.path}")
        self._file.pwrite(data, offset)

    def sync(self) -> None:
        """Make all of it durable; ``StorageError`` where that fails, which is final."""
        self._file.sync()

    def withdraw(self) -> None:
        """Remove the file that this one will replace, where there is one, for good."""
        if self._replaces:
            self._storage.remove(self.path, missing_ok=True)
            self.sync_directory()

    def publish(self) -> None:
        """Give it its name, which is durable after ``sync_directory``, and close it."""
        if os.name == "nt":
            # Windows does not rename an open file; elsewhere it stays open, and so locked.
            self._file.close()
        if not self._overwrite and self._storage.exists(self.path):
            raise TargetError(
                f"{self.path}: another program created it meanwhile; nothing was replaced"
            )
        self._storage.rename(self._file.name, self.path)
        self._published = True

    def sync_directory(self) -> None:
        """Make its name durable."""
        self._storage.sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Close it, and so let go of the lock; ``StorageError`` where that fails."""
        self._file.close()

    def abort(self) -> None:
        """Give up: remove it unless it has its name. Raises nothing."""
        if os.name == "nt":
            self._close_quietly()
        if not self._published:
            # Removed while it is locked: never another writer's file.
            with contextlib.suppress(StorageError):
                self._storage.remove(self._file.name, missing_ok=True)
        self._close_quietly()

    def retract(self) -> None:
        """Give up: remove it also where it has its name, because a file beside it has none."""
        if self._published:
            with contextlib.suppress(StorageError):
                self._storage.remove(self.path, missing_ok=True)
        self.abort()

    def _close_quietly(self) -> None:
        with contextlib.suppress(StorageError):
            self._file.close()


def refuse_target(path: str, overwrite: bool, storage: Storage) -> bool:
    """Refuse a target that must not be written; nothing is changed.

    Returns:
        whether there is a file that will be replaced.
    """
    try:
        info = storage.stat(path)
    except StorageError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        directory = os.path.dirname(path)
        if not (storage.exists(directory) and storage.stat(directory).is_directory):
            raise TargetError(f"{directory}: no such directory; make it first") from None
        if (directory + "/").startswith("/dev/") and not (directory + "/").startswith("/dev/shm/"):
            raise TargetError(f"{path}: there is no such device") from None
        return False
    if info.is_block_device:
        raise RequestError(f"{path}: is a device; an appliance is a file: choose another name")
    if not overwrite:
        raise TargetError(
            f"{path}: is already there; choose another name or replace it (overwrite=True)"
        )
    open_in_place(path, force=True, storage=storage).close()
    return True
