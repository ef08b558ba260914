"""Reading images from elsewhere than files of the system: the public, small side of the storage.

Whatever can open a name for reading at any place serves as an ``Opener``: a folder in an object
store, the members of an archive, files in memory. Only reading goes through it; what is written
(the target of a merge or a conversion) lies in files of the system.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol, runtime_checkable

from aipimage import checks
from aipimage.errors import AipImageError, RequestError, StorageError
from aipimage.io.system.storage import (
    DEFAULT,
    File,
    FileInfo,
    Storage,
    StrPath,
    SystemCalls,
    flat_view,
)

_SEPARATOR = "/"


@runtime_checkable
class RandomAccess(Protocol):
    """One thing that is read at any place, by any thread.

    Attributes:
        size: bytes; fixed while it is open.
    """

    @property
    def size(self) -> int: ...

    def readinto_at(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset`` on, and return the bytes read: fewer than asked only at
        the end, 0 after it. Raises ``OSError`` where it cannot be read.
        """
        ...

    def close(self) -> None:
        """Give it up. Not called before reads under way have ended."""
        ...


@runtime_checkable
class Opener(Protocol):
    """A folder of things that can be read; used by any thread.

    Names are relative paths with ``/`` between their parts, without ``.`` and ``..``.
    """

    def open(self, name: str) -> RandomAccess | BinaryIO:
        """Open a name: a :class:`RandomAccess`, or a seekable binary file object, which is read
        under a lock. It is closed by the caller.

        Raises:
            FileNotFoundError: there is no such name. OSError: it cannot be opened.
        """
        ...

    def names(self) -> Iterable[str]:
        """All names, in any order; ``OSError`` where they cannot be listed."""
        ...


class FileAccess:
    """A seekable binary file object as :class:`RandomAccess`; read under a lock, because it has
    one position for all.
    """

    def __init__(
        self, stream: BinaryIO, *, closes: bool = True, lock: threading.Lock | None = None
    ) -> None:
        self._stream, self._closes, self._lock = stream, closes, lock or threading.Lock()
        with self._lock:
            self.size = stream.seek(0, os.SEEK_END)

    def readinto_at(self, buffer: memoryview, offset: int) -> int:
        """See :class:`RandomAccess`."""
        with self._lock:
            self._stream.seek(offset)
            part = self._stream.read(buffer.nbytes)
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close the file object, where it is ours."""
        if self._closes:
            self._stream.close()


class FileObjects:
    """File objects that are open already, by name; they stay open, and the caller's."""

    def __init__(self, files: Mapping[str, BinaryIO], name: str = "<file objects>") -> None:
        self.name = name
        self._files = {each: (file, threading.Lock()) for each, file in files.items()}

    def open(self, name: str) -> RandomAccess:
        """See :class:`Opener`."""
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        stream, lock = self._files[name]
        return FileAccess(stream, closes=False, lock=lock)

    def names(self) -> list[str]:
        """See :class:`Opener`."""
        return list(self._files)


class FunctionOpener:
    """Two functions as an :class:`Opener`; :meth:`of_filesystem` makes one of fsspec's."""

    def __init__(
        self,
        open_: Callable[[str], RandomAccess | BinaryIO],
        names: Callable[[], Iterable[str]],
        name: str = "<storage>",
    ) -> None:
        self.name, self._open, self._names = name, open_, names

    @classmethod
    def of_filesystem(cls, filesystem: Any, root: str) -> FunctionOpener:
        """A folder of a file system in the manner of fsspec: ``open(path, "rb")`` and
        ``find(root)``.
        """
        base = root.rstrip(_SEPARATOR) + _SEPARATOR

        def names() -> list[str]:
            found = (str(each) for each in filesystem.find(root))
            return [each.rpartition(base)[2] for each in found]

        return cls(lambda name: filesystem.open(base + name, "rb"), names, root)

    def open(self, name: str) -> RandomAccess | BinaryIO:
        """See :class:`Opener`."""
        return self._open(name)

    def names(self) -> Iterable[str]:
        """See :class:`Opener`."""
        return self._names()


class _Calls(SystemCalls):
    """The calls of a file that something else than the system reads."""

    def __init__(self, access: RandomAccess) -> None:
        super().__init__()
        self._access = access

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        got: object = _asked(self._access.readinto_at, flat_view(buffers[0]), offset)
        if isinstance(got, bool) or not isinstance(got, int) or not 0 <= got <= buffers[0].nbytes:
            raise OSError(errno.EPROTO, f"it gave {got!r} for {buffers[0].nbytes} bytes")
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
        self.mount = (name if isinstance(name, str) and name else "<storage>").rstrip(_SEPARATOR)

    def path_of(self, name: str) -> str:
        """The path of a name of the opener."""
        parts = name.split(_SEPARATOR)
        if not all(parts) or {".", ".."} & set(parts):
            raise RequestError(f"{name!r}: not a name of a storage; pass one as it lists them")
        return f"{self.mount}{_SEPARATOR}{name}"

    def folder_of(self, name: str) -> str:
        """The path of a folder of the opener, by ``""`` or ``"."`` for its root."""
        return self.mount if name in ("", ".", _SEPARATOR) else self.path_of(name.rstrip("/"))

    def _inside(self, path: StrPath) -> str | None:
        """The name below the mount, ``""`` for itself; ``None`` for a file of the system."""
        text = os.fspath(path)
        if text == self.mount:
            return ""
        start = self.mount + _SEPARATOR
        return text[len(start) :] if text.startswith(start) else None

    def _all_names(self) -> list[str]:
        found: list[str] = _answered(
            lambda: list(self._opener.names()), f"{self.mount}: cannot list its names"
        )
        for name in found:
            checks.texts(**{"a name that the storage gave": name})
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
        if not name or any(each.startswith(name + _SEPARATOR) for each in self._all_names()):
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
        start = name + _SEPARATOR if name else ""
        below = [each[len(start) :] for each in self._all_names() if each.startswith(start)]
        return sorted({each.split(_SEPARATOR)[0] for each in below})

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


def chosen_storage(storage: Opener | Storage | None) -> Storage:
    """The storage for what a caller gave: an opener, one of ours, or nothing."""
    if storage is None:
        return DEFAULT
    if isinstance(storage, Storage):
        return storage
    return OpenerStorage(
        checks.instance("storage", storage, Opener, "an object with open(name) and names()")
    )


class Input:
    """Where an image is read from: a path, a name of an opener, or file objects.

    Attributes:
        storage: that reads it. path: of the image there.
    """

    def __init__(self, name: str, given: object, storage: Opener | Storage | None) -> None:
        if not checks.is_path(given) and storage is None:
            self.storage, self.path = _of_objects(name, given)
            return
        self.storage = chosen_storage(storage)
        self.path = checks.path(name, given)
        if isinstance(self.storage, OpenerStorage) and self.storage is not storage:
            self.path = self.storage.path_of(self.path)


def _of_objects(name: str, given: object) -> tuple[Storage, str]:
    """A file object, or those of the parts of one image in any order."""
    objects: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    accepted = "a path, a seekable binary file object, or a list of those of all parts"
    if not objects or not all(callable(getattr(each, "read", None)) for each in objects):
        raise checks.wrong_type(name, given, accepted)
    found = getattr(objects[0], "name", None)
    base = os.path.basename(found) if isinstance(found, str) else ""
    names = [base or "image.aiv"] if len(objects) == 1 else _part_names(len(objects))
    storage = OpenerStorage(FileObjects(dict(zip(names, objects, strict=True)), "<file object>"))
    return storage, storage.path_of(names[0])


def _part_names(count: int) -> list[str]:
    return ["image.aiv", *(f"image.aiv.{number:03}" for number in range(2, count + 1))]


def readable_inputs(
    name: str, given: Sequence[object], storage: Opener | Storage | None
) -> tuple[Storage, list[str]]:
    """Several images: paths, names of an opener, or file objects of whole images each."""
    if storage is not None or all(checks.is_path(each) for each in given):
        chosen = chosen_storage(storage)
        names = checks.paths(name, given)
        if isinstance(chosen, OpenerStorage) and chosen is not storage:
            names = [chosen.path_of(each) for each in names]
        return chosen, names
    files: dict[str, BinaryIO] = {}
    keys: list[str] = []
    for at, each in enumerate(given):
        if checks.is_path(each):
            keys.append(checks.path(f"{name}[{at}]", each))
        elif callable(getattr(each, "read", None)):
            keys.append(f"<file objects>/image {at}.aiv")
            files[f"image {at}.aiv"] = each  # type: ignore[assignment]
        else:
            accepted = "a path, or a seekable binary file object"
            raise checks.wrong_type(f"{name}[{at}]", each, accepted)
    return OpenerStorage(FileObjects(files)), keys


def folders_of(search: object, storage: Opener | Storage | None) -> tuple[Storage, list[str]]:
    """The storage, and folders of it or of the system."""
    found = chosen_storage(storage)
    if isinstance(found, OpenerStorage) and found is not storage:
        given = [search] if isinstance(search, str) else search
        folders = checks.words("search", given)
        return found, [found.folder_of(each) for each in folders]
    return found, checks.paths("search", search)


def refuse_to_remove(storage: Storage) -> None:
    """``RequestError`` where images are not files of the system."""
    if isinstance(storage, OpenerStorage):
        raise RequestError("images that are only read cannot be removed; leave remove out")
