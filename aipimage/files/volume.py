"""The files of one volume, by path and by identity."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Self

from aipimage import checks
from aipimage.errors import AipImageError, ClosedError
from aipimage.files.entry import Entry, entry_of
from aipimage.files.errors import DamagedVolumeError, NoFileError, UnreadableFileError
from aipimage.files.fileobject import FileObject
from aipimage.files.model import DIRECTORY, FILE, SYMLINK, Item, Reader, Runs, Stream  # fmt: skip
from aipimage.files.paths import is_pattern, joined, matcher, parts_of
from aipimage.files.window import Window

FileLike = str | int | Entry
"""A path, an identity, or an entry of the same volume."""
OnError = Callable[[str, AipImageError], None]
DEPTH_MAX = 4096
_KINDS = {FILE: "a file", DIRECTORY: "a directory", SYMLINK: "a symbolic link"}


class Files:
    """Directories and files of a volume, read-only. Get one from :func:`aipimage.files.open` or
    ``image.files``; use it as a context manager.

    Safe for threads: looking for files takes turns, reading their contents does not.

    Attributes:
        name: of the volume, for messages. kind: of its file system, as ``blkid`` names it.
    """

    def __init__(self, reader: Reader, window: Window, stack: ExitStack) -> None:
        self.name, self.kind = window.name, reader.kind
        self._reader, self._window, self._stack = reader, window, stack
        self._lock, self._closed = threading.RLock(), False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what was opened for it; its files cannot be read any more."""
        self._closed = True
        self._stack.close()

    def check_open(self) -> None:
        """``ClosedError`` after ``close``."""
        if self._closed:
            raise ClosedError(f"{self.name}: its files are closed")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what of the volume cannot be trusted, such as a journal that is not
        understood.
        """
        return tuple(f"{self.name}: {text}" for text in self._reader.warnings)

    # One file

    def stat(self, file: FileLike = "/") -> Entry:
        """What is known of a file. Symbolic links are not followed.

        Raises:
            NoFileError: there is none. DamagedVolumeError: the way to it is damaged.
        """
        with self._reading(file):
            if isinstance(file, Entry):
                return file
            if isinstance(file, int):
                return entry_of(self._reader.node(file), "", "", self)
            return self._found(checks.instance("file", file, str, "a path or an identity"))

    def open(self, file: FileLike, stream: str = "") -> FileObject:
        """Open the content of a file, or one of its streams: a binary file, which is a block source
        as well.

        Raises:
            NoFileError: there is none, or it is not a file. UnreadableFileError: its content is
                encrypted. DamagedVolumeError: where it lies cannot be known.
        """
        entry = self.stat(file)
        with self._reading(entry):
            if entry.kind != FILE and not stream:
                raise _wrong_kind(entry)
            content = self._reader.content(entry, stream)
            self._check_runs(content.runs)
        name = f"{self.name}: {entry.path or entry.identity}{stream and ':' + stream}"
        return FileObject(self._window, entry, content, name)

    def target(self, file: FileLike) -> str:
        """What a symbolic link leads to; empty for all else."""
        entry = self.stat(file)
        with self._reading(entry):
            return self._reader.target(entry) if entry.kind == SYMLINK else ""

    def xattrs(self, file: FileLike) -> Mapping[str, bytes]:
        """Extended attributes of a file by their names."""
        entry = self.stat(file)
        with self._reading(entry):
            return self._reader.xattrs(entry)

    def streams(self, file: FileLike) -> tuple[Stream, ...]:
        """Contents of a file besides the one that has no name."""
        entry = self.stat(file)
        with self._reading(entry):
            return self._reader.streams(entry)

    # Many

    def entries(
        self, directory: FileLike = "/", on_error: OnError | None = None
    ) -> Iterator[Entry]:
        """Yield what is in a directory, in the order of the volume and in bounded memory.

        Args:
            on_error: called with the path and the error of what cannot be shown, instead of
                raising it; the rest is yielded.

        Raises:
            NoFileError: there is none, or it is not a directory. DamagedVolumeError: as said.
        """
        folder = self.stat(directory)
        if folder.kind != DIRECTORY:
            raise _wrong_kind(folder, DIRECTORY)
        return self._entries(folder, on_error)

    def walk(self, directory: FileLike = "/", on_error: OnError | None = None) -> Iterator[Entry]:
        """Yield all that is below a directory, each directory before its content. Symbolic links
        are not followed, and a directory that was entered already is not entered again.

        Args:
            on_error: see :meth:`entries`.
        """
        folder = self.stat(directory)
        entered = {folder.identity}
        stack = [self.entries(folder, on_error)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            yield entry
            if entry.kind != DIRECTORY:
                continue
            if entry.identity in entered or len(stack) >= DEPTH_MAX:
                why = "is in itself, or has two names" if len(stack) < DEPTH_MAX else "is too deep"
                _report(on_error, entry.path, DamagedVolumeError(
                    f"{self.name}: {entry.path}: this directory {why}; it is not entered again"
                ))  # fmt: skip
                continue
            entered.add(entry.identity)
            stack.append(self._entries(entry, on_error))

    def glob(self, pattern: str, on_error: OnError | None = None) -> Iterator[Entry]:
        """Yield what matches a pattern: ``*``, ``?`` and ``[…]`` within a name, ``**`` for any
        number of directories. Where case does not count in the file system, it does in patterns.

        Args:
            on_error: see :meth:`entries`.
        """
        seen: set[str] = set()
        parts = parts_of(pattern)
        several = parts.count("**") > 1
        for entry in self._globbed(self.stat(), parts, on_error):
            if several and entry.path in seen:
                continue
            if several:
                seen.add(entry.path)
            yield entry

    def _globbed(
        self, folder: Entry, parts: tuple[str, ...], on_error: OnError | None
    ) -> Iterator[Entry]:
        if not parts:
            yield folder
        elif parts[0] == "**":
            yield from self._globbed(folder, parts[1:], on_error)
            if folder.kind == DIRECTORY:
                for entry in self.walk(folder, on_error):
                    if entry.kind == DIRECTORY:
                        yield from self._globbed(entry, parts[1:], on_error)
                    elif not parts[1:]:
                        yield entry
        elif folder.kind == DIRECTORY and is_pattern(parts[0]):
            matches = matcher(parts[0])
            for entry in self._entries(folder, on_error):
                if matches(entry.name):
                    yield from self._globbed(entry, parts[1:], on_error)
        elif folder.kind == DIRECTORY:
            with self._reading(folder):
                found = self._child(folder, parts[0])
            if found is not None:
                yield from self._globbed(found, parts[1:], on_error)

    # Inside

    def _entries(self, folder: Entry, on_error: OnError | None) -> Iterator[Entry]:
        items: Iterator[Item] = iter(())
        try:
            with self._reading(folder):
                items = self._reader.entries(folder)
        except AipImageError as error:
            _report(on_error, folder.path, error)
        while True:
            path = folder.path
            try:
                with self._reading(folder):
                    item = next(items, None)
                    if item is None:
                        return
                    if item.error is not None:
                        raise item.error
                    path = joined(folder.path, item.name)
                entry = self._entry(folder, item)
            except AipImageError as error:
                _report(on_error, path, error)
                continue
            yield entry

    def _entry(self, folder: Entry, item: Item) -> Entry:
        path = joined(folder.path, item.name)
        with self._reading(path):
            node = item.node or self._reader.node(item.identity)
            return entry_of(node, item.name, path, self)

    def _found(self, path: str) -> Entry:
        found = entry_of(self._reader.node(self._reader.root), "", "/", self)
        for name in parts_of(path):
            if found.kind != DIRECTORY:
                raise _wrong_kind(found, DIRECTORY)
            child = self._child(found, name)
            if child is None:
                raise NoFileError(f"there is no {name!r} in {found.path}")
            found = child
        return found

    def _child(self, folder: Entry, name: str) -> Entry | None:
        """A file in a directory by its name: the one that is called just so, else one that the
        file system takes for it.
        """
        like: Item | None = None
        for item in self._reader.entries(folder):
            if item.name == name and item.error is None:
                return self._entry(folder, item)
            if like is None and item.error is None and self._reader.same(folder, item.name, name):
                like = item
        return self._entry(folder, like) if like is not None else None

    def _check_runs(self, runs: Runs) -> None:
        """No reader lets content be read from outside of its volume."""
        if len(runs):
            self._window.check(int(runs[:, 1].min()), 0)
            self._window.check(int((runs[:, 1] + runs[:, 2]).max()), 0)

    @contextmanager
    def _reading(self, file: FileLike) -> Iterator[None]:
        """Take a turn at the reader; errors name the volume and the file."""
        self.check_open()
        shown = file.path or file.identity if isinstance(file, Entry) else file
        if isinstance(file, Entry) and file.files is not self:
            raise NoFileError(f"{self.name}: {shown} is a file of {file.files.name}")
        with self._lock:
            try:
                yield
            except AipImageError as error:
                if not str(error).startswith(f"{self.name}: "):
                    error.args = (f"{self.name}: {shown}: {error}", *error.args[1:])
                raise


def _wrong_kind(entry: Entry, wanted: str = FILE) -> AipImageError:
    kind = _KINDS.get(entry.kind)
    if kind is None:
        return UnreadableFileError(
            f"{entry.files.name}: {entry.path}: is a {entry.kind} and has no content", "special"
        )
    return NoFileError(f"{entry.files.name}: {entry.path}: is {kind}, not {_KINDS[wanted]}")


def _report(on_error: OnError | None, path: str, error: AipImageError) -> None:
    if on_error is None:
        raise error
    on_error(path, error)
