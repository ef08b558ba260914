"""Where the extents of a descriptor may lie: in its own folder, and nowhere else unless allowed.

A descriptor is a text that anybody can write. One that names ``/etc/shadow`` as a flat extent would
hand out that file as a disk (hostile-inputs class 36, CVE-2022-47951).
"""

from __future__ import annotations

import os
import re

from aipimage.errors import RequestError
from aipimage.io.storage import Storage, StrPath

_ELSEWHERE = re.compile(r"[/\\]|^\.{1,2}$|^[A-Za-z]:")
"""Separators of POSIX and of Windows, drives, the folder itself and the one above."""


def extent_path(
    descriptor: StrPath, name: str, storage: Storage, *, allow_outside: bool = False
) -> str:
    """Return the path of the file that an extent line calls ``name``.

    Raises:
        RequestError: it leads out of the descriptor's folder, also by a symbolic link, and
            ``allow_outside`` is not set. Nothing outside of the folder was opened. StorageError:
            links cannot be followed.
    """
    folder = os.path.dirname(os.fspath(descriptor)) or os.curdir
    if not name or "\0" in name:
        raise RequestError(f"{os.fspath(descriptor)}: an extent without the name of a file")
    path = os.path.join(folder, name)
    if allow_outside:
        return path
    if _ELSEWHERE.search(name):
        raise _outside(descriptor, name)
    real = storage.resolve(path)
    homes = (storage.resolve(folder), os.path.dirname(storage.resolve(descriptor)))
    if os.path.dirname(real) not in homes:
        raise _outside(descriptor, name)
    return path


def refuse_device(descriptor: StrPath, name: str) -> RequestError:
    """The error for an extent that is a block device, though it lies in the folder."""
    return RequestError(
        f"{os.fspath(descriptor)}: its extent {name[:200]!r} is a device and no file; if you trust "
        "the descriptor, allow it with allow_outside"
    )


def _outside(descriptor: StrPath, name: str) -> RequestError:
    return RequestError(
        f"{os.fspath(descriptor)}: its extent {name[:200]!r} is outside of the descriptor's folder;"
        " if you trust the descriptor, allow it with allow_outside"
    )
