"""The files of a virtual disk while it is written: ``NAME.partial`` until all of them are whole.

The file that a disk is opened by, its descriptor or its only file, is there and locked from the
beginning to the end, and gets its name last: a file of that name is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from aipimage.errors import StorageError, TargetError
from aipimage.io.blocks.sinks import open_in_place
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import File, Storage, absolute, close_all
from aipimage.vmdk.writing.naming import note_names, remove_note, take_back_names

STATE = ".state"
NEW = ".new"
"""Behind the name of a checkpoint while it is written."""


class DiskFiles:
    """The files of one disk.

    Args:
        path: of the file that the disk is opened by. extents: paths of the others.
        overwrite: replace ``path``; a disk of several files is never replaced.

    Attributes:
        untrusted: a sync failed, so what is on the disk is unknown.

    Raises:
        TargetError: something is there already, or the directory is not.
    """

    def __init__(
        self, storage: Storage, path: str, extents: Sequence[str], overwrite: bool
    ) -> None:
        self.path, self.extents = path, tuple(extents)
        self._storage, self._overwrite = storage, overwrite
        self._open: dict[str, File] = {}
        self._made: list[str] = []
        self._named = self.untrusted = False
        self._check_directory()
        if self.extents:
            take_back_names(storage, path)
        self._check_names()

    @property
    def state_path(self) -> str:
        """Where a checkpoint of this disk lies."""
        return self.path + PARTIAL + STATE

    def _check_directory(self) -> None:
        directory = os.path.dirname(absolute(self.path))
        storage = self._storage
        if not (storage.exists(directory) and storage.stat(directory).is_directory):
            raise TargetError(f"{directory}: no such directory; make it first")
        if (directory + "/").startswith("/dev/") and not (directory + "/").startswith("/dev/shm/"):
            # A mistyped device would become a file in memory.
            raise TargetError(f"{self.path}: there is no such device")

    def _check_names(self) -> None:
        for name in (self.path, *self.extents):
            if not self._storage.exists(name):
                continue
            if not self._storage.stat(name).is_regular:
                raise TargetError(
                    f"{name}: is not a regular file; a virtual disk is written to files"
                )
            if not self._overwrite:
                raise TargetError(
                    f"{name}: is already there; choose another name or replace it (overwrite=True)"
                )
            if self.extents:
                raise TargetError(
                    f"{name}: a disk of several files cannot be replaced in one step; remove the "
                    "old one first"
                )
            # Refuses what is in use, and images.
            open_in_place(name, force=True, storage=self._storage).close()

    def create(self, name: str) -> File:
        """Create ``name.partial`` and lock it; one of ours that no process writes is replaced.

        Raises:
            TargetError: another process is writing it, or it is not ours.
        """
        partial = name + PARTIAL
        left = self._storage.open_left(partial)
        if left is not None:
            with left:
                left.lock()
                self._forget_state(name)
            self._storage.remove(partial)
        self._forget_state(name)
        file = self._storage.create(partial)
        self._locked(file)
        self._own(name, file)
        return file

    def _forget_state(self, name: str) -> None:
        """A checkpoint must never meet another file than its own."""
        if name == self.path:
            self._remove_state()

    def _remove_state(self) -> None:
        for path in (self.state_path, self.state_path + NEW):
            self._storage.remove(path, missing_ok=True)
        if self.extents:
            remove_note(self._storage, self.path)

    def _locked(self, file: File) -> None:
        """Lock a file that was just made; where that fails it is removed, if it is still ours."""
        try:
            file.lock()
        except BaseException as error:
            if not isinstance(error, TargetError):
                with contextlib.suppress(StorageError):
                    self._storage.remove(file.name, missing_ok=True)
            file.close()
            raise

    def reopen(self, name: str) -> File | None:
        """Open and lock what an earlier run left of a file; ``None`` where there is nothing.

        Raises:
            TargetError: another process is writing it, or it is not ours.
        """
        file = self._storage.open_left(name + PARTIAL)
        if file is None:
            return None
        try:
            file.lock()
        except BaseException:
            file.close()
            raise
        self._own(name, file)
        return file

    def _own(self, name: str, file: File) -> None:
        self._open[name] = file
        if name not in self._made:
            self._made.append(name)

    def sync(self, file: File) -> None:
        """Make a file durable."""
        try:
            file.sync()
        except StorageError:
            self.untrusted = True
            raise

    def sync_names(self) -> None:
        """Make the names of the files durable."""
        try:
            self._storage.sync_directory(os.path.dirname(absolute(self.path)))
        except StorageError:
            self.untrusted = True
            raise

    def complete(self, name: str) -> None:
        """Make an extent durable and close it."""
        self.sync(self._open[name])
        self._open.pop(name).close()

    def finish(self) -> None:
        """Make all durable, give the files their names, the one that opens the disk last, and make
        the names durable.
        """
        for file in list(self._open.values()):
            self.sync(file)
        if not self._overwrite:
            for name in (*self.extents, self.path):
                if self._storage.exists(name):
                    raise TargetError(
                        f"{name}: another program created it meanwhile; nothing was replaced"
                    )
        if self.extents:
            self._note_names()
        if os.name == "nt":
            # Windows does not rename an open file; elsewhere it stays open, and so locked.
            self._close()
        self._rename_all()
        self._named = True
        self._remove_state()
        self.sync_names()
        self._close()

    def _note_names(self) -> None:
        """Where there is no room for the note, only an interruption of the renaming needs it."""
        try:
            note_names(self._storage, self.path, self.extents)
        except StorageError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                return
            self.untrusted = True
            raise

    def _rename_all(self) -> None:
        """Where a renaming fails, those before are taken back."""
        named: list[str] = []
        try:
            for name in (*self.extents, self.path):
                self._storage.rename(name + PARTIAL, name)
                named.append(name)
        except BaseException:
            for name in reversed(named):
                # Best effort: the failure that led here is the one to report.
                with contextlib.suppress(StorageError):
                    self._storage.rename(name, name + PARTIAL)
            raise

    def release(self) -> None:
        """Close what is open and leave everything as it is."""
        with contextlib.suppress(StorageError):
            self._close()

    def abort(self, keep: bool) -> None:
        """Give up: remove the partial files, unless they are kept for a later resume. Raises
        nothing.
        """
        # Removed before they are closed, that is while the disk is locked, where that is possible.
        if os.name == "nt":
            self.release()
        if self._made and not self._named and (self.untrusted or not keep):
            with contextlib.suppress(StorageError):
                self._remove_state()
            for name in reversed(self._made):
                with contextlib.suppress(StorageError):
                    self._storage.remove(name + PARTIAL, missing_ok=True)
        self.release()

    def _close(self) -> None:
        files, self._open = list(self._open.values()), {}
        close_all(files)
