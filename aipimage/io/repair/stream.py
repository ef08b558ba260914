"""The stream of a damaged image: what is missing or cannot be read is a hole of zeros.

Opening an image is strict (docs/format.md, section 12); here every part that is there is taken,
wherever its header or its footer says that it belongs.
"""

from __future__ import annotations

import contextlib
import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from aipimage.errors import AipImageError, FormatError, StorageError
from aipimage.format import constants as c
from aipimage.format.parts import PartHeader, decode_part_footer, decode_part_header
from aipimage.io.stream.instream import base_path
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import File, Storage, StrPath, close_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STEP = 4096
_LISTED = 10


@dataclass(slots=True)
class FilePiece:
    """A run of the stream in one file: ``length`` bytes at ``start``, from ``inside`` on."""

    file: File
    inside: int
    start: int
    length: int


class SalvageStream:
    """A stream that never ends a read early: holes are zeros, in which no record is whole.

    Attributes:
        name: what was asked for. size: bytes up to the end of the last piece.
        warnings: sentences about parts that are missing, doubled or foreign.
        unreadable: bytes that the file system could not read.
    """

    def __init__(self, name: str, pieces: Sequence[FilePiece], warnings: list[str]) -> None:
        self.name, self.warnings, self.unreadable = name, warnings, 0
        self._pieces = sorted(pieces, key=lambda piece: piece.start)
        for piece, after in pairwise(self._pieces):
            # A damaged footer was taken for a bit of the stream.
            piece.length = max(0, min(piece.length, after.start - piece.start))
        self._starts = [piece.start for piece in self._pieces]
        self._healed: list[tuple[int, bytes]] = []
        self.size = max((piece.start + piece.length for piece in self._pieces), default=0)
        # Where the first part ends does not matter for what can be saved.
        self.first_piece = self.size

    def __enter__(self) -> SalvageStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        close_all([piece.file for piece in self._pieces])

    def pread(self, length: int, offset: int) -> bytearray:
        """Return ``length`` bytes, fewer only past the end of the stream."""
        buffer = bytearray(max(0, min(length, self.size - offset)))
        self.pread_into(buffer, offset)
        return buffer

    def pread_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a buffer of zeros with what is there."""
        view = memoryview(buffer).cast("B")
        end = offset + view.nbytes
        index = max(0, bisect_right(self._starts, offset) - 1)
        for piece in self._pieces[index:]:
            low, high = max(offset, piece.start), min(end, piece.start + piece.length)
            if piece.start >= end:
                break
            if low < high:
                at = piece.inside + low - piece.start
                self._read(piece.file, view[low - offset : high - offset], at)
        for start, data in self._healed:
            low, high = max(offset, start), min(end, start + len(data))
            if low < high:
                view[low - offset : high - offset] = data[low - start : high - start]

    def heal(self, offset: int, data: bytes, what: str) -> None:
        """Return ``data`` to every reader at ``offset`` from now on (docs/format.md, section
        10.1).
        """
        self._healed.append((offset, data))

    def data_from(self, offset: int) -> int:
        """The first byte at or after ``offset`` that is in no hole, or the size."""
        index = max(0, bisect_right(self._starts, offset) - 1)
        for piece in self._pieces[index:]:
            if offset < piece.start + piece.length:
                return max(offset, piece.start)
        return self.size

    def _read(self, file: File, view: memoryview, at: int) -> None:
        with contextlib.suppress(StorageError):
            file.pread_into(view, at)
            return
        for start in range(0, view.nbytes, _STEP):
            part = view[start : start + _STEP]
            try:
                file.pread_into(part, at + start)
            except StorageError:
                part[:] = bytes(part.nbytes)
                self.unreadable += part.nbytes


def open_salvage(storage: Storage, path: StrPath) -> SalvageStream:
    """Open what there is of an image: a file, a ``.partial`` one, or any parts of a set.

    Raises:
        StorageError: there is no such file. FormatError: nothing of it can be part of an image.
    """
    name = os.fspath(path)
    named = storage.open_read(name) if storage.exists(name) else None
    siblings = _sibling_names(storage, name)
    if named is not None and not (_looks_like_part(named) or _is_suffixed(name)):
        head = named.pread(8, 0)
        if head == c.HEADER_MAGIC or not _any_part(storage, siblings, name):
            return SalvageStream(name, [FilePiece(named, 0, 0, named.size())], [])
    if named is not None:
        named.close()
    elif not siblings:
        storage.open_read(name).close()  # Says that there is no such file.
    return _open_parts(storage, name, siblings)


def _is_suffixed(name: str) -> bool:
    plain = name.removesuffix(PARTIAL)
    return base_path(plain) != plain


def _looks_like_part(file: File) -> bool:
    return _place_of(file) is not None or file.pread(8, 0) == c.PART_MAGIC


def _any_part(storage: Storage, names: list[str], own: str) -> bool:
    for name in names:
        if name != own:
            with storage.open_read(name) as file:
                if _place_of(file) is not None:
                    return True
    return False


def _sibling_names(storage: Storage, path: str) -> list[str]:
    directory, base = os.path.split(base_path(path.removesuffix(PARTIAL)))
    pattern = re.compile(re.escape(base) + r"(\.\d{3,5})?(\.partial)?$")
    found = [name for name in storage.list_directory(directory or ".") if pattern.match(name)]
    if len(found) > c.PARTS_MAX:
        raise FormatError(f"{path}: over {c.PARTS_MAX} files look like its parts")
    return sorted(os.path.join(directory, name) for name in found)


@dataclass(slots=True)
class _Part:
    """A file that is a part; ``whole`` where header, footer and size agree."""

    file: File
    place: PartHeader
    length: int
    whole: bool


def _place_of(file: File) -> PartHeader | None:
    """Set, number and start of a part, from its header or else its footer."""
    with contextlib.suppress(AipImageError):
        return decode_part_header(file.pread(c.PART_RECORD, 0))
    with contextlib.suppress(AipImageError):
        at = max(0, file.size() - c.PART_RECORD)
        return PartHeader(*decode_part_footer(file.pread(c.PART_RECORD, at))[:3])
    return None


def _read_part(file: File) -> _Part | None:
    place, size = _place_of(file), file.size()
    if place is None:
        return None
    length = max(0, size - c.PART_RECORD)
    with contextlib.suppress(AipImageError):
        footer = decode_part_footer(file.pread(c.PART_RECORD, max(0, size - c.PART_RECORD)))
        if footer[:3] == place:
            length = max(0, length - c.PART_RECORD)
            return _Part(file, place, length, footer.length == length)
    return _Part(file, place, length, False)


def _open_parts(storage: Storage, path: str, names: list[str]) -> SalvageStream:
    opened: list[File] = []
    try:
        parts: list[_Part] = []
        warnings: list[str] = []
        for name in names:
            opened.append(storage.open_read(name))
            part = _read_part(opened[-1])
            if part is None:
                warnings.append(f"{name}: is not a part, or its header and footer are damaged")
            else:
                parts.append(part)
        if not parts:
            raise FormatError(f"{path}: not an .aiv image, nor a part of one")
        chosen = _chosen(path, parts, warnings)
        kept = {id(part.file) for part in chosen}
        close_all([file for file in opened if id(file) not in kept])
        pieces = [FilePiece(p.file, c.PART_RECORD, p.place.start, p.length) for p in chosen]
        return SalvageStream(base_path(path.removesuffix(PARTIAL)), pieces, warnings)
    except BaseException:
        with contextlib.suppress(StorageError):
            close_all(opened)
        raise


def _chosen(path: str, parts: list[_Part], warnings: list[str]) -> list[_Part]:
    """One part for each number, all of one set."""
    named = [part.place.set_id for part in parts if part.file.name == path]
    counts = Counter(part.place.set_id for part in parts)
    set_id = named[0] if named else counts.most_common(1)[0][0]
    by_number: dict[int, _Part] = {}
    for part in sorted(parts, key=lambda each: not each.whole):
        number = part.place.number
        if part.place.set_id != set_id:
            warnings.append(f"{part.file.name}: is a part of another image and was left out")
        elif number in by_number:
            warnings.append(f"{part.file.name}: is part {number} again and was left out")
        else:
            by_number[number] = part
    missing = [number for number in range(1, max(by_number) + 1) if number not in by_number]
    if missing:
        listed = ", ".join(map(str, missing[:_LISTED]))
        warnings.append(f"{len(missing)} parts are missing, among them {listed}")
    return list(by_number.values())
