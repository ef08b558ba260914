"""A file of plain bytes that an interrupted conversion resumes.

It is written with ascending offsets from one thread, and called ``NAME.partial`` until it is whole.
Beside it lies ``NAME.partial.state``: which bytes of it were made durable, and of which source they
are.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aipimage.errors import AipImageError, RequestError, StorageError
from aipimage.extents import SECTOR
from aipimage.io.blocks.sinks import PARTIAL_SUFFIX
from aipimage.io.system.storage import File, Storage, StrPath
from aipimage.vmdk.ovf.output import refuse_target

if TYPE_CHECKING:
    from typing_extensions import Buffer

STATE_SUFFIX = ".state"
CHECKPOINT_BYTES = 1 << 30
CHECKPOINT_SECONDS = 30.0
_NEW = ".new"
_STATE_MAX = 1 << 16
_VERSION = 1
_PROBE = 1 << 12
_PROBES = 16

Identity = Mapping[str, object]
Reader = Callable[[memoryview, int], object]


class RawFile:
    """A block sink: a new file, sparse, that gets its name once it is whole and durable.

    Attributes:
        start: bytes that an earlier run wrote, made durable, and this one leaves as they are;
            whole sectors. stored: bytes that the finished file takes.
    """

    def __init__(
        self,
        file: File,
        path: str,
        size: int,
        identity: Identity,
        start: int,
        storage: Storage,
        overwrite: bool,
    ) -> None:
        self.name, self.size, self.start = path, size, start
        self._file, self._identity = file, identity
        self._storage, self._overwrite = storage, overwrite
        self._end = self._safe = start
        self.stored = 0
        self._time = time.monotonic()
        self._done = self._untrusted = False
        # What an interrupted run wrote after its last checkpoint must not shine through holes.
        file.truncate(start)
        file.truncate(size)

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``; offsets ascend."""
        end = offset + sum(memoryview(buffer).nbytes for buffer in buffers)
        if offset < self._end or end > self.size:
            raise RuntimeError(
                f"internal error: write to [{offset}, {end}) of {self.name}, which has "
                f"{self.size} bytes and is written up to {self._end}"
            )
        if (
            offset - self._safe >= CHECKPOINT_BYTES
            or time.monotonic() - self._time >= CHECKPOINT_SECONDS
        ):
            self._checkpoint(offset)
        self._file.pwritev(buffers, offset)
        self._end = end

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: what is not written is a hole already."""

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: likewise."""

    def _checkpoint(self, offset: int) -> None:
        """Make everything before ``offset`` durable, and say so in the state."""
        self._sync(self._file)
        values = {"version": _VERSION, "size": self.size, "done": offset} | dict(self._identity)
        state, new = self._file.name + STATE_SUFFIX, self._file.name + STATE_SUFFIX + _NEW
        self._storage.remove(new, missing_ok=True)
        with self._storage.create(new) as file:
            file.pwrite(json.dumps(values).encode(), 0)
            self._sync(file)
        self._storage.rename(new, state)
        self._storage.sync_directory(os.path.dirname(state))
        self._safe, self._time = offset, time.monotonic()

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except StorageError:
            self._untrusted = True
            raise

    def finish(self) -> None:
        """Sync, rename, sync the directory; then the state is of no more use."""
        self._sync(self._file)
        self.stored = self._file.info().allocated_bytes
        self._storage.rename(self._file.name, self.name, replace=self._overwrite)
        self._done = True
        self._storage.sync_directory(os.path.dirname(self.name))
        self._storage.remove(self._file.name + STATE_SUFFIX, missing_ok=True)
        self._file.close()

    def abort(self) -> None:
        """Keep what a later run can resume, else remove the file; never keep it after a failed
        sync, because what is on the disk is unknown then.
        """
        partial = self._file.name
        gone = [partial + STATE_SUFFIX + _NEW]
        if not self._done and (self._untrusted or not self._safe):
            gone += [partial + STATE_SUFFIX, partial]
        for name in gone:
            with contextlib.suppress(StorageError):
                self._storage.remove(name, missing_ok=True)
        with contextlib.suppress(StorageError):
            self._file.close()


def open_raw_file(
    path: StrPath,
    size: int,
    identity: Identity,
    read: Reader,
    *,
    overwrite: bool,
    resume: bool,
    storage: Storage,
) -> RawFile:
    """Begin a file, or resume one that an interrupted conversion left.

    Args:
        size: bytes that it will have. identity: what identifies the source.
        read: fills a buffer from an offset of the source; ``SourceError`` where it cannot.

    Raises:
        TargetError: it is there already, in use, or being written; or its directory is not there.
        RequestError: what was left is of another source, or was changed meanwhile.
    """
    name = storage.resolve(path)
    refuse_target(name, overwrite, storage)
    partial = name + PARTIAL_SUFFIX
    file, start = storage.open_left(partial), 0
    if file is not None:
        _locked(file)
    try:
        if file is not None and resume:
            start = _done_before(file, partial, size, identity, read, storage)
        elif file is not None:
            storage.remove(partial)
            file.close()
            file = None
        if start == 0:
            storage.remove(partial + STATE_SUFFIX, missing_ok=True)
        if file is None:
            file = _locked(storage.create(partial))
        return RawFile(file, name, size, identity, start, storage, overwrite)
    except BaseException as error:
        if file is not None:
            if isinstance(error, StorageError) and start == 0:
                with contextlib.suppress(StorageError):
                    storage.remove(partial)
            file.close()
        raise


def _locked(file: File) -> File:
    try:
        file.lock()
    except BaseException:
        file.close()
        raise
    return file


def _done_before(
    file: File, partial: str, size: int, identity: Identity, read: Reader, storage: Storage
) -> int:
    """Bytes that an earlier run made durable; 0 where it had not come to a checkpoint.

    Raises:
        RequestError: they are of another source, or are not what the source has there.
    """
    text = storage.left_text(partial + STATE_SUFFIX, _STATE_MAX)
    if text is None:
        return 0
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise RequestError(
            f"{partial}{STATE_SUFFIX}: is not the state of a conversion; remove it, or begin "
            "anew (resume=False)"
        )
    done = state.pop("done", None)
    if state != {"version": _VERSION, "size": size} | dict(identity):
        raise RequestError(
            f"{partial}: was begun with another source or other options, or the source has "
            "changed; begin anew (resume=False)"
        )
    if type(done) is not int or not 0 <= done <= min(size, file.size()):
        return 0
    _compare(file, done, read)
    return done // SECTOR * SECTOR


def _compare(file: File, done: int, read: Reader) -> None:
    """Compare what is there with the source, in places spread over it and at its end."""
    places = {max(0, done - _PROBE), *(done * part // _PROBES for part in range(_PROBES))}
    for place in sorted(places):
        there = bytearray(min(_PROBE, done - place))
        wanted = bytearray(len(there))
        if not there:
            continue
        try:
            read(memoryview(wanted), place)
        except AipImageError:
            continue  # What cannot be read now could not be then, or is met again when writing.
        file.pread_into(there, place)
        if there != wanted:
            raise RequestError(
                f"{file.name}: what is there near byte {place} is not what the source has; "
                "begin anew (resume=False)"
            )
