"""Shadow copies put into a volume by hand, from the description of their format alone: libvshadow,
"Volume Shadow Snapshot (VSS) format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK = 16384
IDENTIFIER = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")
HEADER_AT = 0x1E00
OWN = b"\x11" * 16
FORWARDER, OVERLAY, NOT_USED = 1, 2, 4
TIME = 133_000_000_000_000_000
"""2022, as a FILETIME."""
Descriptor = tuple[int, int, int, int, int]
"""Byte of the copy, byte of the store, byte of the volume, flags, bits of an overlay."""


@dataclass
class Copy:
    """A shadow copy; ``unused`` and ``before`` are its bitmaps, a bit a block."""

    descriptors: list[Descriptor]
    unused: bytes
    before: bytes | None = None
    ranges: list[tuple[int, int, int]] = field(default_factory=list)
    size: int | None = None
    flags: int = 0x40


def head(kind: int, place: int, following: int = 0, size: int = 0, version: int = 1) -> bytes:
    """The header of a block of structures."""
    fields = IDENTIFIER + struct.pack("<IIQQQQ", version, kind, 0, place, following, size)
    return fields.ljust(128, b"\0")


def volume_header(catalogue: int, storage: bytes = OWN, version: int = 1, kind: int = 1) -> bytes:
    """What lies in $Boot."""
    places = struct.pack("<IIQQQQQ", version, kind, HEADER_AT, HEADER_AT, 0, catalogue, 300 << 20)
    return (IDENTIFIER + places + OWN + storage).ljust(512, b"\0")


def put(volume: bytearray, area: Iterator[int], copies: list[Copy]) -> int:
    """Write copies, the oldest first, into blocks of ``area``; return the catalogue's place."""
    entries = b""
    for number, copy in enumerate(copies):
        entries += _put_copy(volume, area, copy, number, len(volume))
    catalogue = _chained(volume, area, 2, entries, 127 * 128)
    volume[HEADER_AT : HEADER_AT + 512] = volume_header(catalogue)
    return catalogue


def _put_copy(volume: bytearray, area: Iterator[int], copy: Copy, number: int, size: int) -> bytes:
    identifier = bytes([number + 1]) * 16
    rows = b"".join(struct.pack("<QQQII", *row) for row in copy.descriptors)
    descriptors = _chained(volume, area, 3, rows, 508 * 32)
    info = (
        b"\x22" * 16 + identifier + identifier + struct.pack("<IIII", 0xD, 1, 0x2000D, 0)
    ).ljust(512, b"\0")
    header = _chained(volume, area, 4, info, BLOCK - 128)
    rows = b"".join(struct.pack("<QQQ", *row) for row in copy.ranges)
    ranges = _chained(volume, area, 5, rows, 677 * 24)
    bitmap = _chained(volume, area, 6, copy.unused, BLOCK - 128)
    before = _chained(volume, area, 6, copy.before, BLOCK - 128) if copy.before else 0
    time = TIME + number * 36_000_000_000
    kind_2 = struct.pack("<QQ", 2, copy.size or size) + identifier
    kind_2 += struct.pack("<QQQ", number + 1, copy.flags, time)
    kind_3 = struct.pack("<QQ", 3, descriptors) + identifier
    kind_3 += struct.pack("<QQQQQQ", header, ranges, bitmap, 0, 0, before)
    return kind_2.ljust(128, b"\0") + kind_3.ljust(128, b"\0")


def _chained(volume: bytearray, area: Iterator[int], kind: int, data: bytes, room: int) -> int:
    """Write data into a chain of blocks; return the first."""
    parts = [data[at : at + room] for at in range(0, len(data), room)] or [b""]
    places = [next(area) for _ in parts]
    for part, place, following in zip(parts, places, [*places[1:], 0], strict=True):
        size = len(data) if kind == 4 else 0
        block = (head(kind, place, following, size) + part).ljust(BLOCK, b"\0")
        volume[place : place + BLOCK] = block
    return places[0]
