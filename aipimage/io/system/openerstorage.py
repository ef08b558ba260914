"""A storage whose files an opener reads; what is written goes to files of the system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from aipimage import checks
from aipimage.errors import AipImageError, RequestError, StorageError
from aipimage.io.system.openers import SEPARATOR, FileAccess, Opener, RandomAccess
from aipimage.io.system.storage import (
    DEFAULT,
    File,
    FileInfo,
    Storage,
    StrPath,
    SystemCalls,
    flat_view,
)


class _Calls(SystemCalls):
    """The calls of a file that something else than the system reads."""

    def __init__(self, access: RandomAccess) -> None:
        super().__init__()
        self._access = access

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        got: object = _asked(self._access.readinto_at, flat_view(buffers[0]), offset)
        if isinstance(got, bool) or not isinstance(got, int) or not 0 <= got <= buffers[0].nbytes:
            raise OSError(errno.EPROTO, f"it returned {got!r} for {buffers[0].nbytes} bytes")
        return got

    def lseek(self, descriptor: int, offset: int, whence: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def advise_sequential(self, descriptor: int) -> None:
        """Nothing to advise."""

    def close(self, descriptor: int) -> None:
        _asked(self._access.close)


class _OpenedFile(File):
    """See :class:`File`; only read."""

    def __init__(self, access: RandomAccess, name: str) -> None:
        size = checks.whole(f"{name}: size", _asked(lambda: access.size))
        self._info = FileInfo(size, True, False, False, 0, 0, 0, 0, 0)
        super().__init__(_Calls(access), 0, name, self._info)

    def info(self) -> FileInfo:
        """What is known: the size."""
        self._check_open()
        return self._info


class OpenerStorage(Storage):
    """A storage with the names of an opener below a folder ``mount`` of its own, and files of the
    system elsewhere.
    """

    def __init__(self, opener: Opener, base: Storage = DEFAULT) -> None:
        super().__init__(base._system)
        self._opener = opener
        name = getattr(opener, "name", None)
        self.mount = (name if isinstance(name, str) and name else "<storage>").rstrip(SEPARATOR)

    def path_of(self, name: str) -> str:
        """The path of a name of the opener."""
        parts = name.split(SEPARATOR)
        if not all(parts) or {".", ".."} & set(parts):
            raise RequestError(f"{name!r}: not a name of a storage; pass one as it lists them")
        return f"{self.mount}{SEPARATOR}{name}"

    def folder_of(self, name: str) -> str:
        """The path of a folder of the opener, by ``""`` or ``"."`` for its root."""
        return self.mount if name in ("", ".", SEPARATOR) else self.path_of(name.rstrip("/"))

    def _inside(self, path: StrPath) -> str | None:
        """The name below the mount, ``""`` for itself; ``None`` for a file of the system."""
        text = os.fspath(path)
        if text == self.mount:
            return ""
        start = self.mount + SEPARATOR
        return text[len(start) :] if text.startswith(start) else None

    def _all_names(self) -> list[str]:
        found: list[str] = _answered(
            lambda: list(self._opener.names()), f"{self.mount}: cannot list its names"
        )
        for name in found:
            checks.texts(**{"a name that the storage lists": name})
        return found

    def open_read(self, path: StrPath) -> File:
        """See :class:`Storage`."""
        name = self._inside(path)
        if name is None:
            return super().open_read(path)
        shown = f"{os.fspath(path)}: cannot open it"
        opened = _answered(lambda: self._opener.open(name), shown)
        if not hasattr(opened, "readinto_at"):
            stream = opened
            opened = _answered(lambda: FileAccess(stream), shown)
        file: File = _answered(lambda: _OpenedFile(opened, os.fspath(path)), shown)
        return file

    def stat(self, path: StrPath) -> FileInfo:
        """See :class:`Storage`."""
        name = self._inside(path)
        if name is None:
            return super().stat(path)
        if not name or any(each.startswith(name + SEPARATOR) for each in self._all_names()):
            return FileInfo(0, False, False, True, 0, 0, 0, 0, 0)
        with self.open_read(path) as file:
            return file.info()

    def exists(self, path: StrPath) -> bool:
        """See :class:`Storage`."""
        name = self._inside(path)
        if name is None:
            return super().exists(path)
        names = self._all_names()
        return not name or name in names or any(each.startswith(name + "/") for each in names)

    def resolve(self, path: StrPath) -> str:
        """See :class:`Storage`; a name of an opener is what it is."""
        return super().resolve(path) if self._inside(path) is None else os.fspath(path)

    def list_directory(self, path: StrPath) -> list[str]:
        """See :class:`Storage`."""
        name = self._inside(path)
        if name is None:
            return super().list_directory(path)
        start = name + SEPARATOR if name else ""
        below = [each[len(start) :] for each in self._all_names() if each.startswith(start)]
        return sorted({each.split(SEPARATOR)[0] for each in below})

    def _open_existing(self, path: StrPath, flags: int, *, exclusive: bool = False) -> File:
        self._refuse(path)
        return super()._open_existing(path, flags, exclusive=exclusive)

    def create(self, path: StrPath) -> File:
        """See :class:`Storage`."""
        self._refuse(path)
        return super().create(path)

    def rename(self, old: StrPath, new: StrPath, *, replace: bool = True) -> None:
        """See :class:`Storage`."""
        self._refuse(old)
        self._refuse(new)
        super().rename(old, new, replace=replace)

    def remove(self, path: StrPath, *, missing_ok: bool = False) -> None:
        """See :class:`Storage`."""
        self._refuse(path)
        super().remove(path, missing_ok=missing_ok)

    def _refuse(self, path: StrPath) -> None:
        if self._inside(path) is not None:
            raise StorageError(f"{os.fspath(path)}: is only read, never written", errno.EROFS)


def _asked(call: Callable[..., Any], *arguments: object) -> Any:
    """Return the answer of a foreign object; what it raises becomes an ``OSError``, which is not
    damage.
    """
    try:
        return call(*arguments)
    except (OSError, AipImageError):
        raise
    except Exception as error:
        raise OSError(errno.EPROTO, f"{type(error).__name__}: {error}") from error


def _answered(call: Callable[[], Any], what: str) -> Any:
    """Likewise as a ``StorageError``."""
    try:
        return _asked(call)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{what}: {reason}", error.errno) from error
