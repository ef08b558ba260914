"""Writing the stream: to one file, to parts, or to a pipe (docs/format.md, sections 1 and 12).

A stream only grows. The files are called ``NAME.partial`` until :meth:`OutStream.finish` has made
all of them durable and renamed them, part 1 last: a file with the final name is whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

from aipimage.errors import LimitError, RequestError, StorageError, TargetError
from aipimage.format import constants as c
from aipimage.format.parts import PartFooter, PartHeader, encode_part_footer, encode_part_header
from aipimage.io.stream.leftparts import PARTIAL as PARTIAL
from aipimage.io.stream.leftparts import part_path as part_path
from aipimage.io.stream.leftparts import remove_left_parts
from aipimage.io.system.storage import File, Storage, absolute, close_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART_OVERHEAD = 2 * c.PART_RECORD
PART_MIN = 16_384
"""The smallest part, in bytes: header core and key areas must fit in the first (section 12)."""


class OutStream(Protocol):
    """What the writer of an image needs: a stream that grows, and is finished or aborted."""

    position: int

    @property
    def file_count(self) -> int:
        """Files that the stream lies in so far; 1 where it is not in files of ours."""

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Add bytes at the end."""

    def sync(self) -> None:
        """Make all that was added durable."""

    def finish(self) -> None:
        """Make the stream durable under its final name."""

    def abort(self, keep: bool) -> None:
        """Abort; ``keep`` leaves the partial files for a later resume."""


def verified_part_size(split: int) -> int:
    """Return the bytes of the stream that a part of ``split`` bytes holds."""
    if split < PART_MIN:
        raise RequestError(f"a part size of {split} bytes is too small; use at least {PART_MIN}")
    return split - PART_OVERHEAD


class FileStream:
    """The stream in one file, or in parts where ``split`` (bytes a part at most) is set.

    Args:
        overwrite: whether :meth:`finish` may replace a file that is already there.
    """

    _untrusted = False
    # Earlier parts are not closed here: a resume still reads them.
    _own_from = 1

    def __init__(
        self, storage: Storage, path: str, set_id: bytes, split: int | None, overwrite: bool = False
    ) -> None:
        self.path, self.position = path, 0
        self._storage, self._set_id, self._overwrite = storage, set_id, overwrite
        self._room = None if split is None else verified_part_size(split)
        self._files: list[File] = []
        self._starts: list[int] = []
        remove_left_parts(storage, path)
        try:
            self._open_part()
        except BaseException:
            self.abort(keep=False)
            raise

    @classmethod
    def reopen(
        cls,
        storage: Storage,
        path: str,
        set_id: bytes,
        split: int | None,
        files: list[File],
        starts: list[int],
        length: int,
        overwrite: bool = False,
    ) -> FileStream:
        """Continue partial files that are open for update and end at stream offset ``length``."""
        self = cls.__new__(cls)
        self.path, self.position = path, length
        self._storage, self._set_id, self._overwrite = storage, set_id, overwrite
        self._room = None if split is None else verified_part_size(split)
        self._files, self._starts = files, starts
        self._own_from = max(1, len(files))
        return self

    @property
    def file_count(self) -> int:
        """Files that the stream lies in so far."""
        return len(self._files)

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Add bytes at the end, opening parts as they fill."""
        if self._room is None:
            self._files[-1].pwritev(buffers, self.position)
            self.position += sum(memoryview(buffer).nbytes for buffer in buffers)
            return
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view.nbytes:
                view = view[self._append_to_part(view) :]

    def _append_to_part(self, view: memoryview) -> int:
        assert self._room is not None
        if self.position - self._starts[-1] == self._room:
            self._close_part(last=False)
            # A full part is not needed any more, and a process may have few files open.
            # Part 1 stays open: its lock keeps other writers away from the whole set.
            if len(self._files) > self._own_from:
                self._files[-1].close()
            self._open_part()
        inside = self.position - self._starts[-1]
        taken = min(view.nbytes, self._room - inside)
        self._files[-1].pwrite(view[:taken], c.PART_RECORD + inside)
        self.position += taken
        return taken

    def _open_part(self) -> None:
        number = len(self._files) + 1
        if number > c.PARTS_MAX:
            raise LimitError(f"{self.path}: over {c.PARTS_MAX} parts; choose a greater part size")
        final = part_path(self.path, number)
        if number > 1 and self._storage.exists(final):
            raise TargetError(f"{final}: is already there, from another split image; move it away")
        file = self._create(final + PARTIAL)
        self._files.append(file)
        self._starts.append(self.position)
        if self._room is not None:
            header = PartHeader(self._set_id, number, self.position)
            file.pwrite(encode_part_header(header), 0)

    def _create(self, name: str) -> File:
        """Create the partial file; a left one of ours is replaced, one being written is not."""
        self._storage.remove_left(name)
        file = self._storage.create(name)
        try:
            file.lock()
        except BaseException:
            file.close()
            raise
        return file

    def _close_part(self, last: bool) -> None:
        number, start = len(self._files), self._starts[-1]
        length = self.position - start
        footer = PartFooter(self._set_id, number, start, length, last)
        self._files[-1].pwrite(encode_part_footer(footer), c.PART_RECORD + length)
        self._sync_last()

    def sync(self) -> None:
        """Make all that was added durable: earlier parts were synced when they were full."""
        self._sync_last()

    def _sync_last(self) -> None:
        try:
            self._files[-1].sync()
        except StorageError:
            self._untrusted = True
            raise

    def finish(self) -> None:
        """Sync, rename every part (part 1 last), sync the directory, close."""
        if self._room is not None:
            self._close_part(last=True)
        self.give_names()

    def give_names(self) -> None:
        """Like :meth:`finish`, for files that are written to their end."""
        self._sync_last()
        if not self._overwrite and self._storage.exists(self.path):
            raise TargetError(
                f"{self.path}: another process created it meanwhile; nothing was replaced"
            )
        self._rename_all()
        self._storage.sync_directory(os.path.dirname(absolute(self.path)))
        self._close_files()

    def _rename_all(self) -> None:
        """Give every part its name, part 1 last; where that fails, take those names back."""
        named: list[str] = []
        try:
            for number in range(len(self._files), 0, -1):
                name = part_path(self.path, number)
                self._storage.rename(name + PARTIAL, name)
                named.append(name)
        except BaseException:
            for name in named:
                # Best effort: the failure that led here is the one to report.
                with contextlib.suppress(StorageError):
                    self._storage.rename(name, name + PARTIAL)
            raise

    def abort(self, keep: bool) -> None:
        """Close the partial files, and remove them unless they are kept for a resume."""
        names = [file.name for file in self._files]
        with contextlib.suppress(StorageError):
            self._close_files()
        # After a failed sync it is unknown what is on the disk.
        for name in names if self._untrusted or not keep else []:
            try:
                self._storage.remove(name, missing_ok=True)
            except StorageError:
                # The failure that led here is the one to report; a partial file is never taken
                # for whole.
                continue

    def _close_files(self) -> None:
        files, self._files = self._files, []
        close_all(files)


class PipeStream:
    """The stream into any object with ``write``: a pipe, a socket file, a tape, an upload."""

    file_count = 1

    def __init__(self, target: BinaryIO) -> None:
        self.position, self._target = 0, target

    def append(self, buffers: Sequence[Buffer]) -> None:
        """Write everything; a short write of a raw object is continued."""
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            self.position += view.nbytes
            while view.nbytes:
                written = self._write(view)
                view = view[written:]

    def _write(self, view: memoryview) -> int:
        try:
            written: object = self._target.write(view)
        except OSError as error:
            raise StorageError.from_os_error("write", self._name(), error) from error
        except Exception as error:
            raise StorageError(f"{self._name()}: cannot write to it: {error}") from error
        if written is None:
            raise StorageError(f"{self._name()}: is non-blocking and full; pass a blocking object")
        if not isinstance(written, int) or not 0 < written <= view.nbytes:
            raise StorageError(
                f"{self._name()}: took {written!r} of {view.nbytes} bytes, which cannot be"
            )
        return written

    def _name(self) -> str:
        return str(getattr(self._target, "name", "output stream"))

    def sync(self) -> None:
        """Flush the object; a pipe has no durability of its own."""
        try:
            flush = getattr(self._target, "flush", None)
            if flush is not None:
                flush()
        except OSError as error:
            raise StorageError.from_os_error("flush", self._name(), error) from error
        except Exception as error:
            raise StorageError(f"{self._name()}: cannot flush it: {error}") from error

    def finish(self) -> None:
        """Flush; the object stays open, it belongs to the caller."""
        self.sync()

    def abort(self, keep: bool) -> None:
        """Leave the object as it is: without a trailer it is never taken for whole."""
