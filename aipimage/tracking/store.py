"""The tracker's file while a tracker has it open: docs/tracking.md, "The tracker's file"."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from aipimage.errors import StorageError
from aipimage.io.changes.trackerfile import CLEAN, IN_USE, Head, TrackerState, encode_tracker
from aipimage.io.changes.wholefile import sync_directory_of, write_whole
from aipimage.io.system.storage import File, Storage


class TrackerStore:
    """One tracker's file, locked.

    Attributes:
        path: where it is, with links followed.
        quiet: the file on the disk may say "clean", so that ``begin_use`` comes before the next
            mark. True after opening whatever was read: what an earlier process wrote, and never
            synced, is not sure to be on the disk.
    """

    def __init__(self, storage: Storage, path: str, file: File | None, head: Head | None) -> None:
        self.path, self.quiet = path, True
        self._storage, self._file, self._head = storage, file, head

    @property
    def epoch(self) -> str | None:
        """Hexadecimal id of what was written last."""
        return self._head.epoch.hex() if self._head else None

    def begin_use(self) -> None:
        """Let the file say, durably, that marks may be missing in it."""
        if self._file is not None and self._head is not None:
            self._file.pwrite(replace(self._head, state=IN_USE).encode(), 0)
            self._file.sync()
        self.quiet = False

    def write(self, state: TrackerState, *, overwrite: bool = True) -> None:
        """Replace the file, make everything durable, and only then say that it is clean."""
        if self.quiet:
            # Until the directory is durable the old file may come back, and must not be trusted.
            self.begin_use()
        head, content = encode_tracker(state)
        file = write_whole(self._storage, self.path, [head.encode(), *content], replace=overwrite)
        self._adopt(file, head)
        sync_directory_of(self._storage, self.path)
        # Before the attempt, because one that fails may still reach the disk.
        self.quiet = True
        file.pwrite(replace(head, state=CLEAN).encode(), 0)
        file.sync()

    def _adopt(self, file: File, head: Head) -> None:
        old, self._file, self._head = self._file, file, head
        if old is not None:
            with contextlib.suppress(StorageError):
                old.close()

    def close(self) -> None:
        """Give up the file and its lock."""
        if self._file is not None:
            self._file.close()
