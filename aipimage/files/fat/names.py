"""Directory entries of FAT: short names, and the long ones before them.

fatgen103, FAT Directory Structure and FAT Long Directory Entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

ENTRY_SIZE = 32
END, DELETED, STANDS_FOR_DELETED = 0x00, 0xE5, 0x05
READ_ONLY, HIDDEN, SYSTEM, LABEL, DIRECTORY, ARCHIVE = 1, 2, 4, 8, 16, 32
_LONG, _ATTRIBUTES = 0x0F, 0x3F
_LAST, _ORDER, _PARTS_MAX, _LETTERS_MAX = 0x40, 0x3F, 20, 255
_SMALL_BASE, _SMALL_EXTENSION = 0x08, 0x10
_ENTRY = struct.Struct("<11sBBBHHHHHHHI")
FLAG_NAMES = {READ_ONLY: "read-only", HIDDEN: "hidden", SYSTEM: "system", ARCHIVE: "archive"}


class Short(NamedTuple):
    """The fields of an entry, as they are stored.

    Attributes:
        name: 11 bytes. attributes, case: DIR_Attr, DIR_NTRes. tens, time, date: of the creation.
        accessed: a date. high, low: halves of the first cluster. written_time, written_date.
        size: bytes.
    """

    name: bytes
    attributes: int
    case: int
    tens: int
    time: int
    date: int
    accessed: int
    high: int
    written_time: int
    written_date: int
    low: int
    size: int


class Named(NamedTuple):
    """An entry: where it lies in the data that was passed, its name, its fields."""

    at: int
    name: str
    short: Short


def decode_short(data: bytes, at: int = 0) -> Short:
    """Decode 32 bytes; every value is taken as it is."""
    return Short._make(_ENTRY.unpack_from(data, at))


def is_file(short: Short) -> bool:
    """Whether an entry is that of a file or directory."""
    return short.name[0] not in (END, DELETED) and not short.attributes & LABEL


class LongNames:
    """Gathers the names of a directory, whose entries come in order, in any number of pieces.

    Args:
        code_page: of short names, as Python calls it.
    """

    def __init__(self, code_page: str) -> None:
        self._code_page = code_page
        self._parts: list[bytes] = []
        self._next, self._checksum = 0, 0
        self.ended = False

    def names(self, data: bytes) -> Iterator[Named]:
        """Yield the files and directories of a piece; sets ``ended`` at the mark of the end."""
        for at in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
            first, attributes = data[at], data[at + 11] & _ATTRIBUTES
            if first == END:
                self.ended = True
                return
            if first != DELETED and attributes == _LONG:
                self._gather(data[at : at + ENTRY_SIZE])
                continue
            short = decode_short(data, at)
            if is_file(short) and short.name[:2] not in (b". ", b".."):
                yield Named(at, self._name(short), short)
            self._parts = []

    def _gather(self, entry: bytes) -> None:
        """A part of a long name: the last one comes first, each with the checksum of the short
        name that follows.
        """
        order, checksum = entry[0] & _ORDER, entry[13]
        if entry[0] & _LAST:
            self._parts, self._checksum, self._next = [], checksum, order
        if not 0 < order <= _PARTS_MAX or order != self._next or checksum != self._checksum:
            self._parts, self._next = [], 0
            return
        self._parts.insert(0, entry[1:11] + entry[14:26] + entry[28:32])
        self._next -= 1

    def _name(self, short: Short) -> str:
        """The long name, where it is whole and belongs to this entry; else the short one."""
        if self._parts and self._next == 0 and self._checksum == short_checksum(short.name):
            found = _letters(b"".join(self._parts))
            if 0 < len(found) <= 2 * _LETTERS_MAX:
                return found.decode("utf-16-le", "surrogatepass")
        return short_name(short, self._code_page)


def _letters(data: bytes) -> bytes:
    """UTF-16 up to the letter 0."""
    for at in range(0, len(data), 2):
        if data[at : at + 2] == b"\0\0":
            return data[:at]
    return data


def short_checksum(name: bytes) -> int:
    """The checksum of a short name of 11 bytes (fatgen103, Organization and Association of Short
    and Long Directory Entries).
    """
    total = 0
    for byte in name:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def short_name(short: Short, code_page: str) -> str:
    """A short name as it is shown: with its point, and in small letters where its bits say so."""
    name = short.name
    if name[0] == STANDS_FOR_DELETED:
        name = bytes([DELETED]) + name[1:]
    base = name[:8].rstrip(b" ").decode(code_page, "surrogateescape")
    extension = name[8:].rstrip(b" ").decode(code_page, "surrogateescape")
    if short.case & _SMALL_BASE:
        base = base.lower()
    if short.case & _SMALL_EXTENSION:
        extension = extension.lower()
    return f"{base}.{extension}" if extension else base
