"""Small files that are replaced as a whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aipimage.errors import StorageError
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import File, Storage, StrPath

if TYPE_CHECKING:
    from typing_extensions import Buffer


def write_whole(
    storage: Storage, path: StrPath, buffers: Sequence[Buffer], *, replace: bool
) -> File:
    """Write a file under another name, make it durable, and rename it; return it locked.

    The new name is durable after ``sync_directory_of``. A failure leaves what was there before.

    Raises:
        StorageError: writing failed; with ``EEXIST``, ``path`` is there and ``replace`` is false.
        TargetError: another process is writing the file.
    """
    name = os.fspath(path)
    temporary = name + PARTIAL
    # What a crash has left there is of no use: the file is written from memory each time.
    storage.remove_left(temporary)
    file = storage.create(temporary)
    try:
        file.lock()
        file.pwritev(buffers, 0)
        file.sync()
        storage.rename(temporary, name, replace=replace)
    except BaseException:
        with contextlib.suppress(StorageError):
            file.close()
        with contextlib.suppress(StorageError):
            storage.remove(temporary, missing_ok=True)
        raise
    file.name = name
    return file


def sync_directory_of(storage: Storage, path: StrPath) -> None:
    """Make the name of a file durable."""
    storage.sync_directory(os.path.dirname(os.fspath(path)) or os.curdir)
