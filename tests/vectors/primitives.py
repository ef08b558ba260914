"""What all builders of vectors share: digests, key derivation, lists of extents, parts."""

from __future__ import annotations

import struct
from collections.abc import Callable

from blake3 import blake3
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FRAME, LEAF, INDEX, MAP, DIGESTS, METADATA, CHECKPOINT, CONTINUATION, SEGMENTS, SEAL = range(1, 11)
LAYER, LAYER_LEAF = 11, 12
UNUSED, ZERO, DATA, UNREADABLE, PAGE, LOST = range(6)
NONE = bytes(64)
Change = Callable[[bytes], bytes]
Extent = tuple[int, int, int, bytes]
"""Length, packed position or page number, kind, origin; sectors."""


def h(data: bytes) -> bytes:
    """Section 1."""
    return blake3(data).digest()


def noise(length: int, seed: str) -> bytes:
    """Bytes that do not compress."""
    return blake3(seed.encode()).digest(length)


def hkdf(key: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(SHA256(), length, salt, info).derive(key)


def put(at: int, layout: str, *values: int) -> Change:
    """Overwrite a field."""

    def change(data: bytes) -> bytes:
        new, place = struct.pack("<" + layout, *values), at % len(data)
        return data[:place] + new + data[place + len(new) :]

    return change


def flip(at: int) -> Change:
    """Flip one bit of a byte."""

    def change(data: bytes) -> bytes:
        place = at % len(data)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return change


def joined(rows: list[Extent]) -> list[Extent]:
    """Neighbours that continue each other as one."""
    found: list[Extent] = []
    for length, position, kind, origin in rows:
        if found and kind != PAGE and found[-1][2:] == (kind, origin):
            before = found[-1]
            if kind != DATA or before[1] + before[0] == position:
                found[-1] = (before[0] + length, before[1], kind, origin)
                continue
        found.append((length, position, kind, origin))
    return found


def cut(extents: list[Extent], first: int, count: int) -> list[Extent]:
    """The extents of a range."""
    found: list[Extent] = []
    at = 0
    for length, position, kind, origin in extents:
        low, high = max(at, first), min(at + length, first + count)
        if low < high:
            shift = low - at if kind == DATA else 0
            found.append((high - low, position + shift, kind, origin))
        at += length
    return found


def in_parts(stream: bytes, file_id: bytes, room: int, first: int | None = None) -> list[bytes]:
    """Section 12; ``first``: bytes of the stream in part 1, where it is shorter."""
    parts = []
    starts = [0, *range(room if first is None else first, len(stream), room)]
    for number, start in enumerate(starts, 1):
        end = [*starts, len(stream)][number]
        piece = stream[start:end]
        head = struct.pack("<8s16sIIQQ48s", b"AIVPART1", file_id, number, 0, start, 0, b"")
        foot = struct.pack(
            "<8s16sIIQQ48s",
            b"AIVPEND1",
            file_id,
            number,
            end == len(stream),
            start,
            len(piece),
            b"",
        )
        parts.append(head + h(head) + piece + foot + h(foot))
    return parts
