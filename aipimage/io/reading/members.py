"""The files of a chain, found by their ids in the directories that are searched (docs/format.md,
section 9.4).

Names mean nothing here: a file is what its header says. Files of other chains, and all that is
not an image, are passed over. What looks like an image and cannot be read is remembered, for
messages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    LimitError,
    PasswordError,
    StorageError,
    UnsupportedError,
    reworded,
)
from aipimage.format import constants as c
from aipimage.format.header import Header, decode_core, decode_core_length
from aipimage.format.origins import OriginEntry
from aipimage.format.parts import decode_part_header
from aipimage.format.record import Reference
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import OtherFile
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.tail import check_member, read_segments
from aipimage.io.system.filepool import FilePool
from aipimage.io.system.storage import Storage, StrPath, absolute

SUFFIXES = (".aiv", ".aii")
_HEAD = 4096
_FILES_MAX = 100_000
_HINTS_MAX = 8
"""Names that are tried for an origin."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that begins like an image of the chain; ``created`` in microseconds, as in the
    header.
    """

    path: str
    file_id: bytes
    chain_id: bytes
    created: int


class MemberFiles:
    """Which files of some directories belong to which chain; looked at once, when first asked.

    Attributes:
        unreadable: (path, why) of files that are named like images and cannot be read as such.
    """

    def __init__(self, storage: Storage, directories: Sequence[StrPath]) -> None:
        self.storage = storage
        self.directories = [os.fspath(directory) or "." for directory in directories]
        self.unreadable: list[tuple[str, str]] = []
        self._found: list[Candidate] | None = None
        self._lock = threading.Lock()

    def of_chain(self, chain_id: bytes) -> list[Candidate]:
        """All files of a chain, in the order of the directories and of their names."""
        return [each for each in self.all() if each.chain_id == chain_id]

    def all(self) -> list[Candidate]:
        """All files that begin like images."""
        with self._lock:
            if self._found is None:
                self._found = list(self._scan())
            return self._found

    def _scan(self) -> Iterator[Candidate]:
        for path in _distinct(self._names()):
            try:
                header = peek_header(self.storage, path)
            except AipImageError as error:
                self.unreadable.append((path, str(error)))
                continue
            yield Candidate(path, header.file_id, header.chain_id, header.created)

    def _names(self) -> Iterator[str]:
        for directory in self.directories:
            names = [
                name
                for name in self.storage.list_directory(directory)
                if name.lower().endswith(SUFFIXES)
            ]
            if len(names) > _FILES_MAX:
                raise LimitError(f"{directory}: over {_FILES_MAX} files look like images")
            yield from (os.path.join(directory, name) for name in names)


def peek_header(storage: Storage, path: str) -> Header:
    """Read the header core of a file, of part 1 where it is split, and nothing else."""
    try:
        return _peeked(storage, path)
    except UnsupportedError:
        raise
    except (FormatError, IntegrityError):
        # A damaged header has a copy, which only the end of the stream leads to.
        with contextlib.suppress(AipImageError), open_stream(storage, path) as stream:
            return read_header(stream)
        raise


def _peeked(storage: Storage, path: str) -> Header:
    with storage.open_read(path) as file:
        head = file.pread(_HEAD, 0)
        start = _header_start(path, head)
        length = decode_core_length(head[start:])
        end = start + length
        return decode_core(head[start:end] if end <= len(head) else file.pread(length, start))


def _header_start(path: str, head: bytes) -> int:
    if not head.startswith(c.PART_MAGIC):
        return 0
    if decode_part_header(head[: c.PART_RECORD]).number != 1:
        raise IncompleteError(f"{path}: is not the first part of its image")
    return c.PART_RECORD


def _distinct(paths: Iterable[str]) -> Iterator[str]:
    """A directory that is passed twice counts once."""
    seen: set[str] = set()
    for path in paths:
        key = absolute(path)
        if key not in seen:
            seen.add(key)
            yield path


def searched(search: StrPath | Sequence[StrPath] | None) -> list[StrPath]:
    """The directories of an argument ``search``: one alone, several, or none."""
    if search is None:
        return []
    return [search] if isinstance(search, (str, os.PathLike)) else list(search)


class Held:
    """A file of the chain that others read from: its stream, and which origins lie where in it."""

    def __init__(self, stream: InStream, segments: SegmentMap) -> None:
        self.stream, self.segments = stream, segments

    def read_into(self, origin: bytes, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with stored bytes from an address on; the caller is inside of the gate of
        the image that needs them, and the pool closes no file that is being read.
        """
        at = self.segments.find(origin, offset, buffer.nbytes)
        if at is None:
            at = self.segments.locate(origin, offset, buffer.nbytes)
        self.stream.pread_inside(buffer, at)


class ForeignFiles:
    """Reads the records of origins that other files of the chain hold; safe for threads.

    Nothing is looked for before the first such read. Whatever is read is compared with a digest
    that the image's own seal binds, so a wrong file leads to an error and never to other data.

    Attributes:
        explain: returns what ends the message about an origin that no file holds; see
            :func:`aipimage.io.reading.explaining.explain_what_is_missing`.
        refused: (path, why) of files of the chain that cannot be used.
    """

    def __init__(
        self, files: MemberFiles, own: Header, keys: ChainKeys | None, own_path: str
    ) -> None:
        self.files, self._own, self._keys = files, own, keys
        self._own_path = own_path
        self._pool = FilePool(files.storage)
        self._by_origin: dict[bytes, Held] = {}
        self.explain: Callable[[], str] = str
        self._explained: str | None = None
        self._opened: dict[str, Held | None] = {}
        self._hints: dict[bytes, dict[str, None]] = {}
        self._candidates: list[Candidate] | None = None
        self._by_file_id: dict[bytes, list[Candidate]] = {}
        self.refused: list[tuple[str, str]] = []
        self._strangers: dict[bytes, AipImageError] = {}
        self._lock = threading.Lock()

    def read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Return stored bytes from an address on.

        Raises:
            IncompleteError: no file that was found holds the origin.
        """
        buffer = bytearray(length)
        self.read_into(origin, offset, memoryview(buffer))
        return buffer

    def read_into(self, origin: bytes, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with stored bytes from an address on."""
        while True:
            held = self._by_origin.get(origin)
            if held is None or not held.segments.covers(origin, offset, buffer.nbytes):
                held = self._first(origin, offset, buffer.nbytes)
            try:
                return self._read_from(held, origin, offset, buffer)
            except StorageError as error:
                # Files are closed and opened again, so one can be gone meanwhile: its data may
                # lie in another one.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                    raise
                self._give_up(held, error)

    def _read_from(self, held: Held, origin: bytes, offset: int, buffer: memoryview) -> None:
        try:
            held.read_into(origin, offset, buffer)
        except FormatError as error:
            message = (
                f"{self._own_path}: needs data that {held.stream.name} does not have (any more): "
                f"it was lost, or left out by a merge; {error}"
            )
            raise reworded(error, message) from error

    def _give_up(self, gone: Held, error: StorageError) -> None:
        """A file is not there any more: look for all that it held in others."""
        with self._lock:
            for path in [path for path, held in self._opened.items() if held is gone]:
                self._opened[path] = None
                self.refused.append((path, str(error)))
            for origin in [each for each, held in self._by_origin.items() if held is gone]:
                del self._by_origin[origin]

    def hint(self, origin: bytes, name: str) -> None:
        """Note that a file of this name is said to hold an origin, which is only looked at."""
        if name:
            names = self._hints.setdefault(origin, {})
            if len(names) < _HINTS_MAX:
                names[name] = None

    def has_named(self, entry: OriginEntry) -> bool:
        """Whether a file of the name that an entry has is there; it is not opened."""
        directories = self.files.directories if entry.file_name else ()
        return any(
            self.files.storage.exists(os.path.join(each, entry.file_name)) for each in directories
        )

    def name_of(self, origin: bytes) -> str:
        """The base name of the file that was found to hold an origin; empty before."""
        held = self._by_origin.get(origin)
        return os.path.basename(held.stream.name) if held is not None else ""

    def _first(self, origin: bytes, offset: int, length: int) -> Held:
        """The file that is read at an address."""
        held = self.holder(origin)
        if held.segments.covers(origin, offset, length):
            return held
        # A merge leaves dead records out, which a file that went into it still has.
        with self._lock:
            return next(self._holding(origin, offset, length), held)

    def others(self, ref: Reference) -> Iterator[OtherFile]:
        """Yield the files that hold a record besides the one that it is read from, each once, for
        :attr:`RecordReader.others` (section 16).
        """
        at = ref.origin, ref.offset, ref.record_length
        first = self._first(*at)
        with self._lock:
            found = {absolute(each.stream.name): each for each in self._holding(*at)}
        found.pop(absolute(first.stream.name), None)
        for held in found.values():
            yield os.path.basename(held.stream.name), partial(_read_record, held, ref)

    def holder(self, origin: bytes) -> Held:
        """The file that holds an origin.

        Raises:
            IncompleteError: no file that was found holds it. ClosedError: the image was closed.
            FormatError, PasswordError: the file of this id has other sizes, another suite or key.
        """
        self._pool.check_open(self._own_path)
        held = self._by_origin.get(origin)
        if held is not None:
            return held
        with self._lock:
            held = self._by_origin.get(origin) or next(self._holding(origin), None)
            if held is not None:
                self._by_origin[origin] = held
                return held
        # Without the lock, because an explanation may look at other files of the chain.
        if self._explained is None:
            self._explained = self.explain()
        text = self._missing(origin) + self._explained
        stranger = self._strangers.get(origin)
        raise IncompleteError(text) if stranger is None else reworded(stranger, text)

    def close(self) -> None:
        """Close all files for good."""
        self._pool.close()

    def _holding(self, origin: bytes, offset: int = 0, length: int = 0) -> Iterator[Held]:
        """Yield the files that hold an origin, and ``length`` bytes at an address of it: of those
        that are open, those that hints name, and all that the directories have. One may come twice.
        """
        for held in (*self._opened.values(), *self._hinted(origin)):
            if held is not None and _has(held, origin, offset, length):
                yield held
        # A file begins with the origin that it is named by; a resumed or merged one holds more.
        others = self._of_chain()
        for candidate in (*self._by_file_id.get(origin, []), *others):
            held = self._open(candidate)
            if held is not None and _has(held, origin, offset, length):
                yield held

    def _of_chain(self) -> list[Candidate]:
        """All other files of the chain, looked for once."""
        if self._candidates is None:
            own = absolute(self._own_path)
            found = self.files.of_chain(self._own.chain_id)
            self._candidates = [each for each in found if absolute(each.path) != own]
            for candidate in self._candidates:
                self._by_file_id.setdefault(candidate.file_id, []).append(candidate)
        return self._candidates

    def _hinted(self, origin: bytes) -> Iterator[Held]:
        """Files of the names that are noted for an origin, as far as they are of the chain."""
        own = absolute(self._own_path)
        for name in self._hints.get(origin, {}):
            for directory in self.files.directories:
                path = os.path.join(directory, name)
                if path in self._opened or absolute(path) == own:
                    continue
                # Whatever is wrong with it, a search would find it again, and say so.
                with contextlib.suppress(AipImageError):
                    self._opened[path] = held = self._opened_file(path)
                    yield held

    def _open(self, candidate: Candidate) -> Held | None:
        path = candidate.path
        if path not in self._opened:
            try:
                self._opened[path] = self._opened_file(path)
            except AipImageError as error:
                self._opened[path] = None
                self.refused.append((path, str(error)))
                if type(error) in (FormatError, PasswordError):
                    # It is the file, and has other sizes, suite or key (section 16).
                    self._strangers[candidate.file_id] = error
        return self._opened[path]

    def _opened_file(self, path: str) -> Held:
        stream = open_stream(self.files.storage, path, self._pool)
        header = read_header(stream)
        check_member(stream, header, self._own, self._keys)
        return Held(stream, read_segments(stream, header, self._keys))

    def _missing(self, origin: bytes) -> str:
        where = ", ".join(self.files.directories)
        text = (
            f"{self._own_path}: an image of its chain that holds origin {origin.hex()} is missing; "
            f"it was looked for in {where}"
        )
        also = self.refused or self.files.unreadable
        return text + (f"; {also[0][1]}" if also else "")


def _read_record(held: Held, ref: Reference) -> bytearray:
    buffer = bytearray(ref.record_length)
    held.read_into(ref.origin, ref.offset, memoryview(buffer))
    return buffer


def _has(held: Held, origin: bytes, offset: int, length: int) -> bool:
    if not length:
        return held.segments.holds(origin)
    return held.segments.covers(origin, offset, length)


def stat_is_directory(storage: Storage, path: StrPath) -> bool:
    """Whether a path leads to a directory."""
    try:
        return storage.stat(path).is_directory
    except StorageError:
        return False
