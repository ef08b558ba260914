"""Sparse files in a tar of GNU's: the map of what is there, in the four forms that it has.

Source: GNU tar manual, "Storing Sparse Files": the old form after a header of type ``S``; pax
records 0.0 (``GNU.sparse.offset``, ``.numbytes``), 0.1 (``GNU.sparse.map``); and 1.0, lines of
digits in front of the content.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aipimage.errors import FormatError, LimitError
from aipimage.vmdk.ovf.tar import BLOCK, SIZE_MAX, decode_name, decode_number, padding

PIECES_MAX = 65_536
MAP_MAX = 4 << 20
"""Bytes of a map in front of the content at most: two numbers of 20 digits for each piece."""
_ENTRY = struct.Struct("<12s12s")
_IN_HEADER, _IN_BLOCK = 4, 21
_PREFIX = b"GNU.sparse."

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an offset of the archive: ``(length, offset)``."""


@dataclass(frozen=True, slots=True)
class SparseMap:
    """Where a file has content.

    Attributes:
        size: bytes of the file. areas: (offset, length) in it, ascending. taken: bytes that the
            map itself takes in the archive, before the content. name: what the file is called, or
            ``None`` where its header says it.
    """

    size: int
    areas: tuple[tuple[int, int], ...]
    taken: int
    name: str | None = None


def old_gnu_map(header: bytes, read: Read, at: int, name: str) -> SparseMap:
    """Return the map of a header of type ``S``, whose content or rest of the map is at ``at``.

    Raises:
        FormatError: damaged. LimitError: a number or their count over a limit.
    """
    size = decode_number(header[483:495], name)
    areas = _entries(header[386:482], _IN_HEADER, name)
    more, taken = header[482], 0
    while more:
        block = read(BLOCK, at + taken)
        if len(block) != BLOCK:
            raise FormatError(f"{name}: the tar archive is cut short in the map of a sparse file")
        taken += BLOCK
        areas += _entries(block, _IN_BLOCK, name)
        more = block[504]
        _verified_count(len(areas), name)
    return SparseMap(size, tuple(areas), taken)


def _entries(data: bytes, count: int, name: str) -> list[tuple[int, int]]:
    found = []
    for at in range(0, count * _ENTRY.size, _ENTRY.size):
        offset, length = _ENTRY.unpack_from(data, at)
        if not offset.strip(b"\0 ") and not length.strip(b"\0 "):
            break
        found.append((decode_number(offset, name), decode_number(length, name)))
    return found


def pax_map(
    records: Sequence[tuple[bytes, bytes]], read: Read, at: int, stored: int, name: str
) -> SparseMap | None:
    """Return the map in pax records; ``None`` where the file is not sparse.

    Args:
        at, stored: where the file's bytes are in the archive, and how many.

    Raises:
        FormatError: damaged. LimitError: a number or their count over a limit.
    """
    told = {key.removeprefix(_PREFIX): value for key, value in records if key.startswith(_PREFIX)}
    if not told:
        return None
    called = decode_name(told[b"name"]) if b"name" in told else None
    size = _number(told.get(b"realsize", told.get(b"size", b"")), name)
    if told.get(b"major") == b"1":
        areas, taken = _map_before(read, at, stored, name)
        return SparseMap(size, areas, taken, called)
    if b"map" in told:
        numbers = told[b"map"].split(b",") if told[b"map"] else []
    else:
        wanted = (_PREFIX + b"offset", _PREFIX + b"numbytes")
        numbers = [value for key, value in records if key in wanted]
    return SparseMap(size, _paired(numbers, name), 0, called)


def _map_before(
    read: Read, at: int, stored: int, name: str
) -> tuple[tuple[tuple[int, int], ...], int]:
    """The map of version 1.0 and the bytes that it takes, whole blocks."""
    text = read(min(stored, MAP_MAX), at)
    first = text.find(b"\n", 0, 24)
    count = _number(text[: max(first, 0)], name)
    _verified_count(count, name)
    lines = text.split(b"\n", 2 * count + 1)
    if len(lines) < 2 * count + 2:
        raise FormatError(f"{name}: the map of a sparse file in the tar archive is damaged")
    taken = len(text) - len(lines[-1])
    return _paired(lines[1:-1], name), taken + padding(taken)


def _paired(numbers: Sequence[bytes], name: str) -> tuple[tuple[int, int], ...]:
    _verified_count(len(numbers) // 2, name)
    if len(numbers) % 2:
        raise FormatError(f"{name}: the map of a sparse file in the tar archive is damaged")
    values = [_number(each, name) for each in numbers]
    return tuple(zip(values[::2], values[1::2], strict=True))


def _number(digits: bytes, name: str) -> int:
    if not digits.isdigit() or len(digits) > 19 or int(digits) > SIZE_MAX:
        raise FormatError(f"{name}: not a number in the map of a sparse file: {digits[:40]!r}")
    return int(digits)


def _verified_count(count: int, name: str) -> None:
    if count > PIECES_MAX:
        raise LimitError(f"{name}: a sparse file in the tar archive has over {PIECES_MAX} pieces")


def verified_pieces(
    found: SparseMap, at: int, stored: int, name: str
) -> tuple[tuple[int, int, int], ...]:
    """Return (offset in the file, offset in the archive, length) of each area.

    Raises:
        FormatError: areas overlap, reach past the file's end, or are not what is stored.
    """
    pieces, low, place = [], 0, at + found.taken
    for offset, length in found.areas:
        if offset < low or offset + length > found.size:
            raise FormatError(f"{name}: the map of a sparse file in the tar archive is damaged")
        if length:
            pieces.append((offset, place, length))
        low, place = offset + length, place + length
    if place != at + stored:
        raise FormatError(f"{name}: a sparse file of the tar archive is not as long as its map")
    return tuple(pieces)
