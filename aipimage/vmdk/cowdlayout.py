"""The header of vmfsSparse extents, called COWD by their magic, and where its fields lie.

Source: VMware "Virtual Disk Format 5.0" technical note, "ESX Server Sparse Extents". The reader
and the checker share this, and nothing of what they make of it. All integers are little-endian;
positions and sizes are in sectors of 512 bytes unless a name says bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from aipimage.errors import FormatError, LimitError, UnsupportedError
from aipimage.vmdk.layout import COWD_MAGIC, ESX_TABLE_ENTRIES, SECTOR, verified_grain_size

HEADER_SECTORS = 4
_HEADER = struct.Struct("<4sIIIIIII")
_UNCLEAN = struct.Struct("<I")
AT: Mapping[str, int] = {
    "version": 4,
    "flags": 8,
    "capacity": 12,
    "grain_size": 16,
    "gd_offset": 20,
    "gd_entries": 24,
    "free_sector": 28,
    "parent": 32,
    "unclean": 1648,
}
"""Bytes at which fields begin."""
_PARENT_MAX = 1024
_PARENT_LEAST = 4
"""A root has its number of cylinders there, which is below 2^24: three bytes and a zero."""
_ROOT_FLAG = 0x1
_KNOWN_FLAGS = 0x3


@dataclass(frozen=True, slots=True)
class CowdHeader:
    """The header (note, "ESX Server Sparse Extents", ``COWDisk_Header``); positions and sizes are
    in sectors.

    Attributes:
        version: 1. flags: 3. capacity, grain_size: sectors. gd_offset: of the grain directory.
        gd_entries: its entries, a grain table each. free_sector: the next free one of the file.
        unclean: the file was not closed. parent: ``parentFileName`` of a child; a root has its
            geometry there, and this is empty.
    """

    flags: int
    capacity: int
    grain_size: int
    gd_offset: int
    gd_entries: int
    free_sector: int
    version: int = 1
    unclean: bool = False
    parent: bytes = b""

    @property
    def is_child(self) -> bool:
        """Whether the header itself says that the extent is half of a delta. Deltas of later ESX do
        not: there the descriptor alone says so.
        """
        return bool(self.parent) or not self.flags & _ROOT_FLAG


def encode_cowd_header(header: CowdHeader) -> bytes:
    """Return the 2048 bytes of a header; of its other texts and generations all are empty."""
    data = bytearray(HEADER_SECTORS * SECTOR)
    _HEADER.pack_into(
        data,
        0,
        COWD_MAGIC,
        header.version,
        header.flags,
        header.capacity,
        header.grain_size,
        header.gd_offset,
        header.gd_entries,
        header.free_sector,
    )
    at = AT["parent"]
    data[at : at + len(header.parent)] = header.parent
    _UNCLEAN.pack_into(data, AT["unclean"], header.unclean)
    return bytes(data)


def unpack_cowd_header(data: bytes) -> CowdHeader:
    """Return a header of 2048 bytes as it stands, with nothing checked: for a checker."""
    _, version, flags, capacity, grain, gd_offset, entries, free = _HEADER.unpack_from(data)
    (unclean,) = _UNCLEAN.unpack_from(data, AT["unclean"])
    return CowdHeader(
        flags, capacity, grain, gd_offset, entries, free, version, bool(unclean), _parent(data)
    )


def decode_cowd_header(data: bytes, name: str) -> CowdHeader:
    """Return a header of 2048 bytes of which every number has passed its check.

    Raises:
        FormatError: not a header, or damaged. UnsupportedError: another version or flags.
        LimitError: a number over a limit (hostile-inputs class 38).
    """
    if data[: len(COWD_MAGIC)] != COWD_MAGIC:
        raise FormatError(f"{name}: is not a vmfsSparse extent (COWD)")
    header = unpack_cowd_header(data)
    flags, capacity, entries = header.flags, header.capacity, header.gd_entries
    if header.version != 1 or flags & ~_KNOWN_FLAGS:
        raise UnsupportedError(
            f"{name}: vmfsSparse extent of unknown version {header.version} or flags {flags:#x}"
        )
    verified_grain_size(header.grain_size, name)
    if header.gd_offset < HEADER_SECTORS:
        raise FormatError(f"{name}: the grain directory lies within the header")
    if entries < -(-capacity // (header.grain_size * ESX_TABLE_ENTRIES)):
        raise LimitError(
            f"{name}: a grain directory of {entries} entries is too small for {capacity} sectors"
        )
    return header


def _parent(data: bytes) -> bytes:
    """``parentFileName``, empty where that cannot be a name."""
    name = data[AT["parent"] : AT["parent"] + _PARENT_MAX].partition(b"\0")[0]
    is_text = len(name) >= _PARENT_LEAST and all(byte >= 0x20 and byte != 0x7F for byte in name)
    return name if is_text else b""
