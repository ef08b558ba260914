"""Reading images from elsewhere than files of the system: the public, small side of the storage.

Whatever can open a name for reading at any place serves as an ``Opener``: a folder in an object
store, the members of an archive, files in memory. Only reading goes through it; what is written
(the target of a merge or a conversion) lies in files of the system. ``openerstorage.py`` reads an
opener as a storage, and ``inputs.py`` chooses the storage for what a caller passed.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, Protocol, runtime_checkable

SEPARATOR = "/"


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
        """Close it. Not called before reads under way have ended."""
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
        base = root.rstrip(SEPARATOR) + SEPARATOR

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
