"""Reading the stream from one file or from parts (docs/format.md, sections 1 and 12)."""

from __future__ import annotations

import contextlib
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from aipimage.errors import FormatError, IncompleteError, IntegrityError, StorageError, naming
from aipimage.format import constants as c
from aipimage.format.parts import PartFooter, decode_part_footer, decode_part_header
from aipimage.format.trailer import trailer_copy
from aipimage.io.blocks.containers import not_an_image
from aipimage.io.stream.outstream import part_path
from aipimage.io.system.closing import Gate
from aipimage.io.system.filepool import FILES_OPEN, FilePool, PooledFile
from aipimage.io.system.storage import File, Storage, StrPath, close_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PART_SUFFIX = re.compile(r"\.(\d{3,5})$")


class Readable(Protocol):
    """What a stream reads a part through."""

    @property
    def name(self) -> str: ...

    def pread_into(self, buffer: Buffer, offset: int) -> int: ...

    def close(self) -> None: ...


class InStream:
    """A stream of ``size`` bytes, read at given offsets from any thread.

    Attributes:
        name: the path of the file, of the first part where it is split.
        footers: the parts in order; empty where the image is not split.
        gate: is shut when the stream is closed; every read passes it.
        healed: what of the stream is damaged and read from its copy, each once.
    """

    def __init__(
        self, name: str, files: Sequence[Readable], footers: list[PartFooter], size: int
    ) -> None:
        self.name, self.files, self.footers, self.size = name, files, footers, size
        self._starts = [footer.start for footer in footers]
        self.gate = Gate(name)
        self._healed: list[tuple[int, bytes]] = []
        self.healed: list[str] = []

    def __enter__(self) -> InStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def first_piece(self) -> int:
        """Bytes of the stream that lie in its first part, all where it is not split."""
        return self.footers[0].length if self.footers else self.size

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill ``buffer``; ``IncompleteError`` where the stream ends before."""
        with self.gate:
            self.pread_inside(memoryview(buffer).cast("B"), offset)

    def pread_inside(self, view: memoryview, offset: int) -> None:
        """As :meth:`pread_into`, for a caller that is inside of the gate; ``view`` is of bytes."""
        self._pread_into(view, offset)
        for start, data in self._healed:
            low, high = max(offset, start), min(offset + view.nbytes, start + len(data))
            if low < high:
                view[low - offset : high - offset] = data[low - start : high - start]

    def heal(self, offset: int, data: bytes, what: str) -> None:
        """Return ``data`` to every later read at ``offset``: the file is damaged there, and has a
        whole copy elsewhere (docs/format.md, section 10.1). ``what`` it is, for messages.
        """
        self._healed.append((offset, data))
        if what not in self.healed:
            self.healed.append(what)

    @property
    def is_healed(self) -> bool:
        """Whether any byte is returned that differs from the file."""
        return bool(self._healed)

    def pread_raw(self, length: int, offset: int) -> bytearray:
        """Like :meth:`pread`, but as it is in the file."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        with self.gate:
            self._pread_into(memoryview(buffer), offset)
        return buffer

    def _pread_into(self, view: memoryview, offset: int) -> None:
        if offset < 0 or offset + view.nbytes > self.size:
            raise IncompleteError(
                f"{self.name}: ends at byte {self.size}, before offset {offset + view.nbytes}"
            )
        if not self.footers:
            self._fill(self.files[0], view, offset)
            return
        while view.nbytes:
            index = bisect_right(self._starts, offset) - 1
            inside = offset - self._starts[index]
            taken = min(view.nbytes, self.footers[index].length - inside)
            self._fill(self.files[index], view[:taken], c.PART_RECORD + inside)
            view, offset = view[taken:], offset + taken

    def pread(self, length: int, offset: int) -> bytearray:
        """Return exactly ``length`` bytes."""
        if offset < 0 or offset + length > self.size:
            raise IncompleteError(
                f"{self.name}: ends at byte {self.size}, before offset {offset + length}"
            )
        buffer = bytearray(length)
        self.pread_into(buffer, offset)
        return buffer

    def _fill(self, file: Readable, view: memoryview, offset: int) -> None:
        if file.pread_into(view, offset) != view.nbytes:
            raise IncompleteError(f"{file.name}: became shorter while it was read")

    def close(self) -> None:
        """Close every file, after the reads under way; a second call does nothing."""
        self.gate.shut()
        close_all(self.files)


def open_stream(storage: Storage, path: StrPath, pool: FilePool | None = None) -> InStream:
    """Open an image file or any part of a split image.

    Args:
        pool: reads the files through it, so that they need not all stay open.

    Raises:
        FormatError: it is not an image. IncompleteError: a part is missing, named by its number.
    """
    path = os.fspath(path)
    _refuse_without_first_part(storage, path)
    first = storage.open_read(path)
    try:
        magic = first.pread(8, 0)
        if magic == c.PART_MAGIC:
            return _open_parts(storage, path, first, pool)
        size = first.size()
        if magic != c.HEADER_MAGIC and not _ends_like_an_image(first, size):
            raise not_an_image(first)
        if pool is None:
            return InStream(path, [first], [], size)
        pool.add(first)
        return InStream(path, [PooledFile(pool, path)], [], size)
    except BaseException:
        with contextlib.suppress(StorageError):
            first.close()
        raise


def _ends_like_an_image(file: File, size: int) -> bool:
    """Whether a trailer, or the copy of one, says so where the first bytes do not (docs/format.md,
    section 10.1).
    """
    stated = c.TRAILER_MAGIC, size.to_bytes(8, "little")
    for at in (size - c.TRAILER, trailer_copy(size)):
        head = file.pread(24, at) if at > 0 else b""
        if (head[:8], head[16:24]) == stated:
            return True
    return False


def _refuse_without_first_part(storage: Storage, path: str) -> None:
    """Say that part 1 is missing rather than that there is no such file, where others are there."""
    if not storage.exists(path) and storage.exists(part_path(path, 2)):
        raise IncompleteError(f"{path}: part 1 is missing")


def base_path(path: str) -> str:
    """The name of the set that ``path`` belongs to: without the suffix of a part."""
    return _PART_SUFFIX.sub("", path)


def _open_parts(storage: Storage, path: str, named: File, pool: FilePool | None) -> InStream:
    set_id = decode_part_header(named.pread(c.PART_RECORD, 0)).set_id
    found: dict[int, tuple[Readable, PartFooter]] = {}
    opened: list[File] = []
    try:
        names = _sibling_names(storage, path)
        if pool is None and len(names) > FILES_OPEN:
            pool = FilePool(storage)
        for name in names:
            file = storage.open_read(name)
            opened.append(file)
            number = _take_part(file, set_id, found)
            if pool is not None:
                file.close()
                found[number] = (PooledFile(pool, name), found[number][1])
        _check_set(base_path(path), found)
        named.close()
    except BaseException:
        with contextlib.suppress(StorageError):
            close_all(opened)
        raise
    ordered = [found[number] for number in sorted(found)]
    footers = [footer for _, footer in ordered]
    last = footers[-1]
    return InStream(
        base_path(path), [file for file, _ in ordered], footers, last.start + last.length
    )


def _sibling_names(storage: Storage, path: str) -> list[str]:
    """All files that can be parts of the set, in any order; the headers say which are."""
    directory, base = os.path.split(base_path(path))
    pattern = re.compile(re.escape(base) + r"(\.\d{3,5})?$")
    names = [name for name in storage.list_directory(directory or ".") if pattern.match(name)]
    if len(names) > c.PARTS_MAX:
        raise FormatError(f"{path}: over {c.PARTS_MAX} files look like its parts")
    return [os.path.join(directory, name) for name in names]


def files_of(storage: Storage, path: StrPath) -> list[str]:
    """Name the files of an image that are there, part 1 first, also where others are missing.

    Raises:
        FormatError: ``path`` is not an image. StorageError: it cannot be read.
    """
    name = os.fspath(path)
    with storage.open_read(name) as first:
        magic = first.pread(8, 0)
        if magic == c.HEADER_MAGIC:
            return [name]
        if magic != c.PART_MAGIC:
            raise not_an_image(first)
        set_id = decode_part_header(first.pread(c.PART_RECORD, 0)).set_id
    found = []
    for each in _sibling_names(storage, name):
        with storage.open_read(each) as file:
            head = file.pread(c.PART_RECORD, 0)
        with contextlib.suppress(FormatError, IntegrityError):
            header = decode_part_header(head)
            if header.set_id == set_id:
                found.append((header.number, each))
    return [each for _, each in sorted(found)]


def _take_part(file: File, set_id: bytes, found: dict[int, tuple[Readable, PartFooter]]) -> int:
    """Note a part by its number, and return that."""
    size = file.size()
    with naming(file.name):
        header = decode_part_header(file.pread(c.PART_RECORD, 0))
        footer = decode_part_footer(file.pread(c.PART_RECORD, max(0, size - c.PART_RECORD)))
    if header.set_id != set_id:
        raise FormatError(f"{file.name}: is a part of another image; move it away")
    if footer[:3] != header or footer.length + 2 * c.PART_RECORD != size:
        raise FormatError(f"{file.name}: its part header, footer and size contradict each other")
    if header.number in found:
        other = found[header.number][0].name
        raise FormatError(f"{file.name} and {other}: both are part {header.number}; move one away")
    found[header.number] = (file, footer)
    return header.number


def _check_set(path: str, found: dict[int, tuple[Readable, PartFooter]]) -> None:
    most = max(found)
    missing = [number for number in range(1, most + 1) if number not in found]
    if missing:
        listed = ", ".join(str(number) for number in missing[:10])
        many = f"parts {listed} are" if len(missing) > 1 else f"part {listed} is"
        raise IncompleteError(f"{path}: {many} missing")
    last = [number for number, (_, footer) in found.items() if footer.last]
    if not last:
        raise IncompleteError(f"{path}: part {most + 1} is missing (the last part is not there)")
    if last != [most]:
        raise FormatError(f"{path}: part {last[0]} says that it is the last, part {most} follows")
    end = 0
    for number in range(1, most + 1):
        footer = found[number][1]
        if footer.start != end:
            raise FormatError(f"{path}: part {number} does not continue part {number - 1}")
        end = footer.start + footer.length
