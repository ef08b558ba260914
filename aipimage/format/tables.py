"""Frame extents, table and digest leaves, index pages: docs/format.md, sections 6 and 8."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import verified_equal, verified_length, verified_limit, verified_range
from aipimage.format.record import Reference, decode_reference, encode_reference, record_length

FRAME_EXTENT_DTYPE = np.dtype([("at", "<u8"), ("sectors", "<u4")])
"""Section 6.1: ``at`` is a place, as :func:`pack_at` makes it."""

FRAME_ENTRY_DTYPE = np.dtype(
    [("offset", "<u8"), ("record_length", "<u4"), ("plain_length", "<u4"), ("digest", "V32")]
)
"""Section 6.2."""

SECTOR_BITS = 48
"""Section 6.1: of a place, the lower bits that are the sector; the upper 16 are the device."""
SECTOR_LIMIT = 1 << SECTOR_BITS
_LEAF = struct.Struct("<QII")
_INDEX = struct.Struct("<II")
_KEY = struct.Struct("<Q")
_ENTRY = _KEY.size + c.REFERENCE

FrameExtents = npt.NDArray[np.void]
FrameEntries = npt.NDArray[np.void]


class IndexEntry(NamedTuple):
    """Section 6.3."""

    key: int
    ref: Reference


def pack_at(device: int, sector: int) -> int:
    """Return a place: device and sector in one number (section 6.1)."""
    return device << SECTOR_BITS | sector


def unpack_at(at: int) -> tuple[int, int]:
    """Return (device, sector) of a place."""
    return at >> SECTOR_BITS, at & (SECTOR_LIMIT - 1)


def devices_of(at: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the devices of places."""
    return at >> np.uint64(SECTOR_BITS)


def encode_frame_entry(offset: int, length: int, plain_length: int, digest: bytes) -> bytes:
    """Return the 48 bytes of one frame in a leaf."""
    return struct.pack("<QII32s", offset, length, plain_length, digest)


def encode_table_leaf(first: int, entries: bytes) -> bytes:
    """Return a frame table leaf; ``entries`` is the 48-byte entries one after the other."""
    return _LEAF.pack(first, len(entries) // FRAME_ENTRY_DTYPE.itemsize, 0) + entries


def decode_table_leaf(data: bytes | memoryview, frame_size: int) -> tuple[int, FrameEntries]:
    """Return (``first``, entries of :data:`FRAME_ENTRY_DTYPE`), every entry within its bounds."""
    first, count = _leaf_header(data, c.LEAF_FRAMES, FRAME_ENTRY_DTYPE.itemsize, "frame table leaf")
    verified_equal(first % c.LEAF_FRAMES, 0, "alignment of a frame table leaf")
    entries = np.frombuffer(data, FRAME_ENTRY_DTYPE, count, _LEAF.size)
    verified_limit(first, c.POSITION_LIMIT * 512 // frame_size - count, "first frame of a leaf")
    _check_frame_entries(entries, frame_size)
    return first, entries


def _check_frame_entries(entries: FrameEntries, frame_size: int) -> None:
    """Frames are written in the order of their numbers, so that their addresses ascend."""
    offset = entries["offset"]
    plain, length = entries["plain_length"], entries["record_length"]
    if (plain == 0).any() or (plain > frame_size).any() or (plain % 512).any():
        raise FormatError("a frame table leaf names a frame of an impossible size")
    if (length <= record_length(0)).any() or (length > record_length(c.BODY_MAX)).any():
        raise FormatError("a frame table leaf names a record of an impossible size")
    if (offset < c.CORE_MIN).any() or (offset > np.uint64(c.STREAM_MAX) - length).any():
        raise FormatError("a frame table leaf names an impossible offset")
    if (offset[:-1] + length[:-1] > offset[1:]).any():
        raise FormatError("the frames of a frame table leaf overlap or do not ascend")


def encode_digest_leaf(first: int, digests: bytes) -> bytes:
    """Return a block digest leaf; ``digests`` is 16 bytes a block."""
    return _LEAF.pack(first, len(digests) // c.BLOCK_DIGEST, 0) + digests


def decode_digest_leaf(data: bytes | memoryview, stripe_shift: int) -> tuple[int, bytes]:
    """Return (``first`` block, digests of 16 bytes each)."""
    blocks = 1 << (stripe_shift - 16)
    first, count = _leaf_header(data, blocks, c.BLOCK_DIGEST, "block digest leaf")
    verified_equal(first % blocks, 0, "alignment of a block digest leaf")
    verified_limit(first, c.DEVICE_SIZE_MAX // c.BLOCK - count, "first block of a leaf")
    return first, bytes(data[_LEAF.size :])


def _leaf_header(data: bytes | memoryview, most: int, size: int, what: str) -> tuple[int, int]:
    if len(data) < _LEAF.size:
        raise FormatError(f"a {what} is cut short")
    first, count, reserved = _LEAF.unpack_from(data)
    verified_range(count, 1, most, f"count of a {what}")
    verified_equal(reserved, 0, f"reserved field of a {what}")
    verified_length(data, _LEAF.size + count * size, what)
    return first, count


def encode_index(level: int, entries: list[IndexEntry]) -> bytes:
    """Return an index page of ``level`` over ``entries``."""
    body = b"".join(_KEY.pack(entry.key) + encode_reference(entry.ref) for entry in entries)
    return _INDEX.pack(level, len(entries)) + body


def decode_index(data: bytes | memoryview) -> tuple[int, list[IndexEntry]]:
    """Return (``level``, entries in ascending order of their keys)."""
    if len(data) < _INDEX.size:
        raise FormatError("an index page is cut short")
    level, count = _INDEX.unpack_from(data)
    verified_range(level, 1, c.INDEX_LEVELS, "level of an index page")
    verified_range(count, 1, c.INDEX_ENTRIES, "count of an index page")
    verified_length(data, _INDEX.size + count * _ENTRY, "index page")
    entries = []
    for at in range(_INDEX.size, len(data), _ENTRY):
        ref = decode_reference(data, at + _KEY.size)
        entries.append(IndexEntry(_KEY.unpack_from(data, at)[0], ref))
    if any(a.key >= b.key for a, b in pairwise(entries)):
        raise FormatError("the keys of an index page do not ascend")
    if any(entry.ref.record_length == 0 for entry in entries):
        raise FormatError("an index page has an empty reference")
    return level, entries


def encode_frame_extents(at: npt.ArrayLike, sectors: npt.ArrayLike) -> bytes:
    """Return 12 bytes an extent."""
    starts = np.asarray(at, "<u8")
    extents = np.empty(len(starts), FRAME_EXTENT_DTYPE)
    extents["at"], extents["sectors"] = starts, sectors
    return extents.tobytes()


def decode_frame_extents(data: bytes | memoryview, plain_length: int) -> FrameExtents:
    """Return an array of :data:`FRAME_EXTENT_DTYPE` whose sectors sum to the frame's."""
    verified_equal(len(data) % c.FRAME_EXTENT, 0, "remainder of the frame extents")
    extents = np.frombuffer(data, FRAME_EXTENT_DTYPE)
    sector = extents["at"] & np.uint64(SECTOR_LIMIT - 1)
    if (extents["sectors"] == 0).any() or (sector + extents["sectors"] > SECTOR_LIMIT).any():
        raise FormatError("an extent of a frame covers an impossible range")
    if (devices_of(extents["at"]) >= c.DEVICES_MAX).any():
        raise FormatError("an extent of a frame is on an impossible device")
    if int(extents["sectors"].sum(dtype=np.uint64)) * 512 != plain_length:
        raise FormatError("the extents of a frame do not sum to its length")
    return extents
