"""Block sinks: what an image is restored to.

``open_target`` makes every refusal before the first byte is written: in use, too small, not empty.
Whoever has another kind of target writes a class with the members of ``BlockSink``.

Targets stay thin: ranges of zeros become holes in a file, and are given back to a device where it
promises to read them as zeros afterwards. BLKDISCARD makes no such promise: it is used only for
what may read as anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from aipimage._core import is_zero
from aipimage.errors import StorageError, TargetError
from aipimage.io.blocks.marks import begins_like_image
from aipimage.io.system.mounts import SystemUse
from aipimage.io.system.storage import DEFAULT, File, FileInfo, Storage, StrPath

if TYPE_CHECKING:
    from typing_extensions import Buffer

PARTIAL_SUFFIX = ".partial"
_ZERO_CHUNK = 1 << 20
_ZEROS = bytes(_ZERO_CHUNK)
_ZERO_STEP = 1 << 30
_DISCARD_MIN = 1 << 20
"""Smaller ranges are left alone: a call for each costs more than it gives."""
_EDGE = 1 << 20
"""Bytes at both ends of a long free range, where a superblock would lie."""


@runtime_checkable
class BlockSink(Protocol):
    """What an image is restored to. ``write``, ``zero`` and ``discard`` may come from any thread,
    in any order.

    Attributes:
        name: for messages.
        size: in bytes; ``None`` for a file that grows with what is written.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int | None: ...

    def write(self, buffer: Buffer, offset: int) -> None:
        """Write all of `buffer` at `offset` (bytes). ``StorageError`` when that fails."""
        ...

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all of `buffers`, one after the other, from `offset` on; like ``write``."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros, as cheaply as the target can. ``StorageError`` likewise."""
        ...

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs what the range holds: it reads as zeros in a file afterwards, and as
        anything on a device. ``StorageError`` likewise.
        """
        ...

    def finish(self) -> None:
        """Give the target its final size and name and make it durable; then it is closed."""
        ...

    def abort(self) -> None:
        """Give up: leave nothing that looks whole where that can be helped. Raises nothing."""
        ...


class FileSink:
    """A regular file that is written anew, sparse.

    Args:
        file: new, or an existing one whose content is given up at the first write.
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
            _write_zeros(self._file, offset, length)

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: as ``zero``."""
        self.zero(offset, length)

    def _start(self, offset: int, end: int) -> None:
        """Check the bounds; empty the file once, so that what it held before cannot shine through.

        Done here and not on opening: until the first byte is there to be written, the old content
        may still be wanted.
        """
        _check_bounds(self.name, offset, end, self.size)
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


class DeviceSink:
    """A block device, claimed for this writer alone.

    Args:
        file: the device, opened exclusively. untouched: (start, end) of what is not discarded.
    """

    def __init__(self, file: File, untouched: Sequence[tuple[int, int]] = ()) -> None:
        self.name = file.name
        self.size: int = file.size()
        self._file = file
        self._sector = file.sector_size()
        self._can_punch = True
        self._can_zero_out = True
        self._can_discard = True
        self._untouched = sorted(untouched)

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``."""
        length = sum(memoryview(buffer).nbytes for buffer in buffers)
        _check_bounds(self.name, offset, offset + length, self.size)
        self._file.pwritev(buffers, offset)

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: given back if the device can, else zeroed by it, else by us."""
        _check_bounds(self.name, offset, offset + length, self.size)
        # The device's own ways take whole sectors only.
        start = -(-offset // self._sector) * self._sector
        end = (offset + length) // self._sector * self._sector
        if start >= end:
            _write_zeros(self._file, offset, length)
            return
        _write_zeros(self._file, offset, start - offset)
        # In steps, because a device may take long, and nothing interrupts a call.
        for at in range(start, end, _ZERO_STEP):
            part = min(_ZERO_STEP, end - at)
            if not self._zero_sectors(at, part):
                _write_zeros(self._file, at, part)
        _write_zeros(self._file, end, offset + length - end)

    def _zero_sectors(self, offset: int, length: int) -> bool:
        """Have the device do it; a way that it refused once is not tried again."""
        if self._can_punch:
            # On a device this unmaps, but only where unmapped sectors are sure to read as zeros.
            self._can_punch = self._file.punch_hole(offset, length)
            if self._can_punch:
                return True
        if self._can_zero_out:
            self._can_zero_out = self._file.zero_out(offset, length)
        return self._can_zero_out

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: whole MiB are discarded where the device can, all else is left
        as it is. The ends of long ranges become zeros: free space at the end of a volume may hold
        an old superblock, of an array say, that would be taken for the volume's own.
        """
        _check_bounds(self.name, offset, offset + length, self.size)
        at, end = offset, offset + length
        for low, high in self._untouched:
            if low < end and high > at:
                if low > at:
                    self._discard(at, low - at)
                at = max(at, high)
        if at < end:
            self._discard(at, end - at)

    def _discard(self, offset: int, length: int) -> None:
        if length >= _EDGE:
            edge = min(_EDGE, length // 2)
            self.zero(offset, edge)
            self.zero(offset + length - edge, edge)
            offset, length = offset + edge, length - 2 * edge
        start = -(-offset // _DISCARD_MIN) * _DISCARD_MIN
        end = (offset + length) // _DISCARD_MIN * _DISCARD_MIN
        for at in range(start, end, _ZERO_STEP):
            if not self._can_discard:
                return
            # A hint: a device that fails at it is not worse off than one that cannot.
            try:
                self._can_discard = self._file.discard(at, min(_ZERO_STEP, end - at))
            except StorageError:
                self._can_discard = False

    def finish(self) -> None:
        """Sync, have the system look at the partitions that are there now, and close."""
        self._file.sync()
        self._file.reread_partitions()
        self._file.close()

    def abort(self) -> None:
        """Close; what was written stays."""
        with contextlib.suppress(StorageError):
            self._file.close()


def open_target(
    path: StrPath,
    size: int | None,
    *,
    force: bool = False,
    set_size: bool = False,
    storage: Storage = DEFAULT,
    use: SystemUse | None = None,
    untouched: Sequence[tuple[int, int]] = (),
) -> BlockSink:
    """Open what an image is restored to, or refuse; nothing is changed before the first write.

    A block device must be unused and large enough. A name that is not there yet becomes a new file,
    written as ``NAME.partial`` until ``finish``. An existing file loses all its content: it must be
    empty, or `force` given. A larger one keeps its size, reading as zeros past the restored bytes,
    and a smaller one is refused, unless `set_size` is given: then it ends up with `size` exactly.

    Args:
        path: the device or file; symbolic links are followed.
        size: how many bytes will be restored, or ``None`` when that is not known before.
        force: give up an existing file's content, and an interrupted restore's ``.partial``. It
            never allows writing to what is mounted or in use.
        set_size: give an existing file the size that was restored.
        storage: how files are reached.
        use: what is mounted; read now when not given.
        untouched: (start, end) in bytes of what is never discarded on a device.

    Raises:
        TargetError: mounted or in use, too small, not empty, no such directory, or being written
            by somebody else.
        RequestError: a directory, pipe, socket or character device.
        StorageError: it cannot be opened or created.
    """
    name = storage.resolve(path)
    try:
        info = storage.stat(name)
    except StorageError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return _new_file(name, size, force, storage)
    use = SystemUse(storage) if use is None else use
    if info.is_block_device:
        return _device(name, size, info, storage, use, untouched)
    return _existing_file(name, size, storage, use, force=force, set_size=set_size)


def _device(
    name: str,
    size: int | None,
    info: FileInfo,
    storage: Storage,
    use: SystemUse,
    untouched: Sequence[tuple[int, int]],
) -> DeviceSink:
    file = _claimed_device(name, info, storage, use)
    try:
        _refuse_too_small(name, file.size(), size)
        return DeviceSink(file, untouched)
    except BaseException:
        file.close()
        raise


def _claimed_device(name: str, info: FileInfo, storage: Storage, use: SystemUse) -> File:
    """A device that is not in use, opened for us alone."""
    _refuse_use(name, use.of_device(info.device_number))
    try:
        file = storage.open_update(name, exclusive=True)
    except StorageError as error:
        if error.errno == errno.EBUSY:
            raise TargetError(
                f"{name}: in use by the system or another program; unmount or stop it first"
            ) from error
        raise
    try:
        if file.info().device_number != info.device_number:
            raise TargetError(f"{name}: became another device while it was opened; try again")
        return file
    except BaseException:
        file.close()
        raise


def _existing_file(
    name: str, size: int | None, storage: Storage, use: SystemUse, *, force: bool, set_size: bool
) -> FileSink:
    file = _claimed_file(name, storage, use, force)
    try:
        has = file.size()
        if has and size is not None and not set_size:
            _refuse_too_small(name, has, size, hint="; ask to set its size (set_size=True)")
            size = has
        return FileSink(file, size, None, storage)
    except BaseException:
        file.close()
        raise


def _claimed_file(name: str, storage: Storage, use: SystemUse, force: bool) -> File:
    """A file that is neither in use nor an image, locked; without ``force`` it must be empty."""
    file = storage.open_update(name)
    try:
        info = file.info()
        _refuse_use(name, use.of_file(info.device, info.inode))
        file.lock()
        if begins_like_image(file):
            raise TargetError(f"{name}: is an image itself; remove it first if it is not needed")
        if info.size and not force:
            raise TargetError(f"{name}: already there and not empty; overwrite it (force=True)")
        return file
    except BaseException:
        file.close()
        raise


def _new_file(name: str, size: int | None, force: bool, storage: Storage) -> FileSink:
    directory, partial = os.path.dirname(name), name + PARTIAL_SUFFIX
    if not (storage.exists(directory) and storage.stat(directory).is_directory):
        raise TargetError(f"{directory}: no such directory; make it first")
    if (directory + "/").startswith("/dev/") and not (directory + "/").startswith("/dev/shm/"):
        # A mistyped device would become a file in memory.
        raise TargetError(f"{name}: there is no such device")
    if force:
        storage.remove_left(partial)
    try:
        file = storage.create(partial)
    except StorageError as error:
        if error.errno == errno.EEXIST:
            raise TargetError(
                f"{partial}: left by an interrupted restore, or one is running; "
                "overwrite it (force=True): it goes when nobody writes it"
            ) from error
        raise
    sink = FileSink(file, size, name, storage)
    try:
        file.lock()
    except TargetError:
        file.close()  # another writer was quicker: the file is no longer ours to remove
        raise
    except BaseException:
        sink.abort()
        raise
    return sink


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """What a target is before it is opened.

    Attributes:
        name: its path, links followed. exists: ``False``: a new file would be made.
        is_device: a block device. size: bytes now, 0 for a new file. sector_size: logical, bytes.
        device_number: of a block device (``st_rdev``).
    """

    name: str
    exists: bool
    is_device: bool
    size: int
    sector_size: int
    device_number: int


def look_at_target(path: StrPath, storage: Storage = DEFAULT) -> TargetInfo:
    """Say what a target is; nothing is changed, and ``open_target`` may refuse it all the same.

    Raises:
        RequestError: a directory, pipe, socket or character device.
        StorageError: it cannot be looked at.
    """
    name = storage.resolve(path)
    try:
        info = storage.stat(name)
    except StorageError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return TargetInfo(name, False, False, 0, 512, 0)
    if not info.is_block_device:
        return TargetInfo(name, True, False, info.size, 512, 0)
    with storage.open_read(name) as file:
        return TargetInfo(name, True, True, file.size(), file.sector_size(), info.device_number)


def open_in_place(
    path: StrPath, *, force: bool = False, storage: Storage = DEFAULT, use: SystemUse | None = None
) -> File:
    """Open a device or a file that is not empty, to change some bytes of it and leave the rest.

    Raises:
        TargetError: in use, an image itself, or a file that is there and ``force`` is not given.
        RequestError, StorageError: as for ``open_target``.
    """
    name = storage.resolve(path)
    info = storage.stat(name)
    use = SystemUse(storage) if use is None else use
    if info.is_block_device:
        return _claimed_device(name, info, storage, use)
    return _claimed_file(name, storage, use, force)


def _refuse_use(name: str, use: str | None) -> None:
    if use is not None:
        raise TargetError(f"{name}: {use}; unmount or detach it first")


def _refuse_too_small(name: str, has: int, needed: int | None, hint: str = "") -> None:
    if needed is not None and has < needed:
        raise TargetError(f"{name}: too small: it has {has} bytes, {needed} are needed{hint}")


def _check_bounds(name: str, offset: int, end: int, size: int | None) -> None:
    if offset < 0 or end < offset or (size is not None and end > size):
        raise RuntimeError(f"internal error: write to [{offset}, {end}) of {name}, size {size}")


def _write_zeros(file: File, offset: int, length: int) -> None:
    """Write zeros where there are none yet: what reads as zeros may be a hole, and stays one."""
    chunk = bytearray(min(length, _ZERO_CHUNK))
    end = offset + length
    while offset < end:
        part = memoryview(chunk)[: end - offset]
        got = file.pread_into(part, offset)
        if got < part.nbytes or not is_zero(part):
            file.pwrite(memoryview(_ZEROS)[: part.nbytes], offset)
        offset += part.nbytes
