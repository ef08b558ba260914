"""A regular file as a sink: sparse, and under its final name only when it is whole."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aipimage._core import is_zero
from aipimage.errors import StorageError
from aipimage.io.system.storage import File, Storage

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ZERO_CHUNK = 1 << 20
_ZEROS = bytes(_ZERO_CHUNK)


class FileSink:
    """A regular file that is written anew, sparse.

    Args:
        file: new, or an existing one, whose content is lost at the first write.
        size: the final size in bytes, or ``None``: as far as it was written or zeroed.
        final_name: the name that a new file gets in ``finish``; ``None`` for an existing file.
        storage: where it is renamed or removed.
    """

    def __init__(
        self, file: File, size: int | None, final_name: str | None, storage: Storage
    ) -> None:
        self.name = final_name or file.name
        self.size = size
        self._file = file
        self._final_name = final_name
        self._storage = storage
        self._lock = threading.Lock()
        self._started = False
        self._end = 0
        # Beyond this nothing was ever written: it is a hole already.
        self._written_end = 0
        self._renamed = False

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``."""
        end = offset + sum(memoryview(buffer).nbytes for buffer in buffers)
        with self._lock:
            self._start(offset, end)
            self._written_end = max(self._written_end, end)
        self._file.pwritev(buffers, offset)

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: free where nothing was written before."""
        with self._lock:
            self._start(offset, offset + length)
            length = min(length, self._written_end - offset)
        if length > 0 and not self._file.punch_hole(offset, length):
            write_zeros(self._file, offset, length)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: as ``zero``."""
        self.zero(offset, length)

    def _start(self, offset: int, end: int) -> None:
        """Check the bounds; empty the file once, so that what it held before cannot shine through.

        Done here and not on opening: until the first byte is there to be written, the old content
        may still be wanted.
        """
        check_bounds(self.name, offset, end, self.size)
        if not self._started:
            self._file.truncate(0)
            if self.size is not None:
                self._file.truncate(self.size)
            self._started = True
        self._end = max(self._end, end)

    def finish(self) -> None:
        """Set the size, sync, rename, sync the directory."""
        with self._lock:
            self._start(0, 0)
        self._file.truncate(self._end if self.size is None else self.size)
        self._file.sync()
        if self._final_name is None:
            self._file.close()
            return
        if os.name == "nt":
            # Windows does not rename an open file; elsewhere it stays open, and so locked.
            self._file.close()
        self._storage.rename(self._file.name, self._final_name, replace=False)
        self._renamed = True
        self._storage.sync_directory(os.path.dirname(self._final_name))
        self._file.close()

    def abort(self) -> None:
        """Remove a new file; leave an existing one as far as it came."""
        # Removed before it is closed, that is while it is locked: never another writer's file.
        if self._final_name is not None and not self._renamed and os.name != "nt":
            with contextlib.suppress(StorageError):
                self._storage.remove(self._file.name, missing_ok=True)
        with contextlib.suppress(StorageError):
            self._file.close()
        if self._final_name is not None and not self._renamed and os.name == "nt":
            with contextlib.suppress(StorageError):
                self._storage.remove(self._file.name, missing_ok=True)


def check_bounds(name: str, offset: int, end: int, size: int | None) -> None:
    if offset < 0 or end < offset or (size is not None and end > size):
        raise RuntimeError(f"internal error: write to [{offset}, {end}) of {name}, size {size}")


def write_zeros(file: File, offset: int, length: int) -> None:
    """Write zeros where there are none yet: what reads as zeros may be a hole, and stays one."""
    chunk = bytearray(min(length, _ZERO_CHUNK))
    end = offset + length
    while offset < end:
        part = memoryview(chunk)[: end - offset]
        got = file.pread_into(part, offset)
        if got < part.nbytes or not is_zero(part):
            file.pwrite(memoryview(_ZEROS)[: part.nbytes], offset)
        offset += part.nbytes
