"""Where the extents of a descriptor may lie: in its own folder, and nowhere else unless allowed.

A descriptor is a text that any user can write. One that names ``/etc/shadow`` as a flat extent
would hand out that file as a disk (hostile-inputs class 36, CVE-2022-47951).
"""

from __future__ import annotations

import os
import re

from aipimage.errors import RequestError
from aipimage.io.system.storage import Storage, StrPath
from aipimage.vmdk.descriptor import ExtentLine

_ELSEWHERE = re.compile(r"[/\\]|^\.{1,2}$|^[A-Za-z]:")
"""Separators of POSIX and of Windows, drives, the folder itself and the one above."""
_HERE = re.compile(r"(?:\.[/\\]+)+(?=.)", re.DOTALL)
"""The folder itself in front of a name."""


def extent_path(
    descriptor: StrPath, line: ExtentLine, storage: Storage, *, allow_outside: bool = False
) -> str:
    """Return the path of the file that an extent line names: of the spellings that its name has
    in the encoding of the descriptor, the first that is there.

    Raises:
        RequestError: it leads out of the descriptor's folder, also by a symbolic link, and
            ``allow_outside`` is not set. Nothing outside of the folder was opened. StorageError:
            links cannot be followed.
    """
    path = _path(descriptor, line.name, line.name, storage, allow_outside)
    if not line.spellings or storage.exists(path):
        return path
    for spelling in line.spellings:
        # In the bytes of some encodings a letter may end in that of a backslash.
        read = spelling if "/" in spelling else line.name
        other = _path(descriptor, spelling, read, storage, allow_outside)
        if storage.exists(other):
            return other
    return path


def _path(descriptor: StrPath, name: str, read: str, storage: Storage, allow_outside: bool) -> str:
    """The path of ``name``, which people read as ``read``; errors as ``extent_path``."""
    folder = os.path.dirname(os.fspath(descriptor)) or os.curdir
    if not name or "\0" in name:
        raise RequestError(f"{os.fspath(descriptor)}: an extent without the name of a file")
    if allow_outside:
        return os.path.join(folder, name)
    here = _HERE.match(read)
    if _ELSEWHERE.search(read[here.end() :] if here else read):
        raise _outside(descriptor, read)
    path = os.path.join(folder, name[here.end() :] if here else name)
    real = storage.resolve(path)
    homes = (storage.resolve(folder), os.path.dirname(storage.resolve(descriptor)))
    if os.path.dirname(real) not in homes:
        raise _outside(descriptor, read)
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
