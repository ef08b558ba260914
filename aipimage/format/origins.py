"""Origin entries: docs/format.md, section 7.1."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import verified_ids, verified_limit
from aipimage.format.record import NO_REFERENCE, Reference, decode_reference, encode_reference

_FIXED = struct.Struct("<16s16sQ")
_NAME_AT = _FIXED.size + c.REFERENCE
ENTRY_MIN = _NAME_AT + 1
"""Bytes of an entry without a name."""


class OriginEntry(NamedTuple):
    """What must be known of an origin to read its frames; field names as in section 7.1.

    ``name`` is as it is stored; :attr:`file_name` is what may be looked for.
    """

    origin: bytes
    holder: bytes
    frame_count: int
    table_root: Reference
    name: bytes = b""

    @property
    def sealed(self) -> tuple[bytes, bytes, int, Reference]:
        """All but the hint: what every entry of one origin must tell alike."""
        return self[:4]

    @property
    def file_name(self) -> str:
        """The hint; empty where there is none, or one that must be ignored."""
        return decode_name(self.name)


def encode_name(name: str) -> bytes:
    """Return a hint as it is stored; nothing for a name that a reader would ignore, or too long."""
    try:
        data = name.encode("utf-8")
    except UnicodeEncodeError:  # It has bytes that are not text.
        return b""
    return data if len(data) <= c.NAME_MAX and _is_plain(name) else b""


def decode_name(data: bytes) -> str:
    """Return a hint, or nothing for one that must be ignored: it may not lead anywhere else."""
    try:
        name = data.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return name if _is_plain(name) else ""


def _is_plain(name: str) -> bool:
    """Whether a name is that of a file in whatever directory it is looked for."""
    return name not in ("", ".", "..") and not any(each in name for each in "/\\\0")


def encode_origins(entries: Iterable[OriginEntry]) -> bytes:
    """Return the entries one after the other."""
    return b"".join(_encoded(entry) for entry in entries)


def _encoded(entry: OriginEntry) -> bytes:
    fixed = _FIXED.pack(entry.origin, entry.holder, entry.frame_count)
    return fixed + encode_reference(entry.table_root) + bytes([len(entry.name)]) + entry.name


def decode_origins(
    data: bytes | memoryview, at: int, count: int
) -> tuple[tuple[OriginEntry, ...], int]:
    """Return ``count`` entries from ``data[at:]`` on, and where they end."""
    found: list[OriginEntry] = []
    for _ in range(count):
        entry, at = _decoded(data, at)
        found.append(entry)
    if len({entry.origin for entry in found}) != len(found):
        raise FormatError("an origin has two entries in one place")
    return tuple(found), at


def _decoded(data: bytes | memoryview, at: int) -> tuple[OriginEntry, int]:
    if len(data) - at < ENTRY_MIN:
        raise FormatError("an origin entry is cut short")
    origin, holder, frames = _FIXED.unpack_from(data, at)
    root = decode_reference(data, at + _FIXED.size)
    end = at + ENTRY_MIN + data[at + _NAME_AT]
    if end > len(data):
        raise FormatError("the name in an origin entry is cut short")
    name = bytes(data[at + ENTRY_MIN : end])
    verified_ids((origin, holder), "origin entry")
    verified_limit(frames, c.FRAMES_MAX, "number of frames of an origin")
    if (frames == 0) != (root == NO_REFERENCE):
        raise FormatError("an origin entry has frames without a table, or a table for none")
    return OriginEntry(origin, holder, frames, root, name), end


def verified_ascending(entries: tuple[OriginEntry, ...]) -> tuple[OriginEntry, ...]:
    """Refuse entries of a page that do not ascend by their origins."""
    if any(a.origin >= b.origin for a, b in pairwise(entries)):
        raise FormatError("the origin entries of a map page do not ascend")
    return entries
