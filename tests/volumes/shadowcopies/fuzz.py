"""A fuzz target for shadow copies: the header, and the beginnings of the blocks of structures."""

from __future__ import annotations

from aipimage.volumes.shadowcopies.copies import read_shadow_copies
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.shadowcopies.built import (
    BLOCK,
    FORWARDER,
    HEADER_AT,
    OVERLAY,
    Copy,
    put,
    volume_header,
)

BLOCKS, FIRST = 96, 60
PART = 512
"""Bytes of each block of structures that an input has."""


def fuzz_shadow_copies(data: bytes) -> None:
    """Read all copies of a volume; what they need and what they read is inside of it."""
    pieces = {HEADER_AT: data[:PART]}
    for number, at in enumerate(range(PART, len(data), PART)):
        if FIRST + number < BLOCKS:
            pieces[(FIRST + number) * BLOCK] = data[at : at + PART]
    source = SparseSource(BLOCKS * BLOCK, {at: piece for at, piece in pieces.items() if piece})
    try:
        found = read_shadow_copies(VolumeView(source, 0, source.size))
        if found is None:
            return
        for rows in found.needed():
            assert (rows.sum(axis=1) <= source.size).all()
    except LayoutError:
        return
    for copy in found.copies:
        assert copy.size <= source.size
        copy.source.read_into(bytearray(min(copy.size, 8 * BLOCK)), 0)
        copy.source.read_into(bytearray(min(copy.size, 700)), copy.size - min(copy.size, 700))


def seeds() -> list[bytes]:
    """No copy, one, and two with all kinds of blocks."""
    plain = (3 * BLOCK, 0, 40 * BLOCK, 0, 0)
    more = [
        plain,
        (4 * BLOCK, 6 * BLOCK, 0, FORWARDER, 0),
        (6 * BLOCK, BLOCK, 41 * BLOCK, 0, 0),
        (5 * BLOCK, BLOCK, 42 * BLOCK, OVERLAY, 0xFF),
    ]
    none = bytes(BLOCKS // 8)
    ranges = [(40 * BLOCK, 0, 3 * BLOCK)]
    copies = [[Copy([plain], none)], [Copy(more, none, none, ranges), Copy([plain], none)]]
    return [volume_header(0), *map(_packed, copies)]


def _packed(copies: list[Copy]) -> bytes:
    volume = bytearray(BLOCKS * BLOCK)
    put(volume, iter(range(FIRST * BLOCK, BLOCKS * BLOCK, BLOCK)), copies)
    blocks = range(FIRST * BLOCK, BLOCKS * BLOCK, BLOCK)
    parts = [volume[at : at + PART] for at in blocks]
    while parts and not any(parts[-1]):
        parts.pop()
    return bytes(volume[HEADER_AT : HEADER_AT + PART]) + b"".join(map(bytes, parts))
