"""Opening the target of a restore: a new file, an existing file, or a block device.

``open_target`` makes every refusal before the first byte is written: in use, too small, not empty.
An embedder with another kind of target writes a class with the members of
:class:`~aipimage.io.blocks.model.BlockSink`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from aipimage.errors import StorageError, TargetError
from aipimage.io.blocks.devicesink import DeviceSink as DeviceSink
from aipimage.io.blocks.filesink import FileSink as FileSink
from aipimage.io.blocks.marks import begins_like_image
from aipimage.io.blocks.model import BlockSink as BlockSink
from aipimage.io.system.mounts import SystemUse
from aipimage.io.system.storage import DEFAULT, File, FileInfo, Storage, StrPath

PARTIAL_SUFFIX = ".partial"


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
    empty, or `force` true. A larger one keeps its size, reading as zeros past the restored bytes,
    and a smaller one is refused, unless `set_size` is true: then it ends up with `size` exactly.

    Args:
        path: the device or file; symbolic links are followed.
        size: how many bytes will be restored, or ``None`` when that is not known before.
        force: give up an existing file's content, and an interrupted restore's ``.partial``. It
            never allows writing to what is mounted or in use.
        set_size: set an existing file to the size that was restored.
        storage: how files are reached.
        use: what is mounted; read now where it is ``None``.
        untouched: (start, end) in bytes of what is never discarded on a device.

    Raises:
        TargetError: mounted or in use, too small, not empty, no such directory, or being written
            by another process.
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
                f"{partial}: already exists: a restore was interrupted or is running; "
                "overwrite it (force=True), which is refused while a process writes it"
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
        TargetError: in use, an image itself, or a file that exists and ``force`` is not true.
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
