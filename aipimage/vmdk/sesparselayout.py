"""The two headers of seSparse extents, and where their fields lie.

VMware has published no description. Source: block/vmdk.c of qemu 7.2, "SESparse". The reader and
the checker share this, and nothing of what they make of it. All integers are little-endian;
positions and sizes are in sectors of 512 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aipimage.errors import FormatError, LimitError, UnsupportedError
from aipimage.vmdk.layout import ESX_TABLE_ENTRIES, SECTOR, SESPARSE_MAGIC

VERSION = 0x2_0000_0001
VOLATILE_MAGIC = 0xCAFECAFE
SE_GRAIN = 8
"""Sectors of a grain, 4 KiB."""
TABLE_SECTORS = 64
CAPACITY_MAX = 1 << 37
"""Sectors at most: 64 TiB, the largest disk of ESX; 2^22 tables."""

_CONST = struct.Struct("<26Q304s")
_VOLATILE = struct.Struct("<4Q480s")
AT: Mapping[str, int] = {
    "version": 8,
    "capacity": 16,
    "grain_size": 24,
    "table_size": 32,
    "flags": 40,
    "reserved": 48,
}
"""Bytes at which fields of the header begin that never changes."""
REPLAY_AT, RESERVED_AT = 24, 32
"""Likewise of the header that changes."""


class SeFields(NamedTuple):
    """The header that never changes, as it stands; ``reserved`` whether bytes that must be zero are
    not. ``regions``: first sector and size of each, in the order of :class:`SeHeader`.
    """

    version: int
    capacity: int
    grain_size: int
    table_size: int
    flags: int
    reserved: bool
    regions: tuple[tuple[int, int], ...]


class SeVolatile(NamedTuple):
    """The header that changes, as it stands; ``reserved`` as above."""

    magic: int
    replay: int
    reserved: bool


@dataclass(frozen=True, slots=True)
class SeHeader:
    """The header that never changes; positions and sizes in sectors.

    Attributes:
        capacity: sectors of the extent. Every other name stands for a region of the file: its
            first sector and its size.
    """

    capacity: int
    volatile: tuple[int, int]
    journal_header: tuple[int, int]
    journal: tuple[int, int]
    directory: tuple[int, int]
    tables: tuple[int, int]
    free_bitmap: tuple[int, int]
    backmap: tuple[int, int]
    grains: tuple[int, int]


def encode_se_header(header: SeHeader) -> bytes:
    """Return the 512 bytes of the header that never changes."""
    regions = (
        *header.volatile,
        *header.journal_header,
        *header.journal,
        *header.directory,
        *header.tables,
        *header.free_bitmap,
        *header.backmap,
        *header.grains,
    )
    return _CONST.pack(
        SESPARSE_MAGIC, VERSION, header.capacity, SE_GRAIN, TABLE_SECTORS, 0, 0, 0, 0, 0, *regions,
        b"",
    )  # fmt: skip


def unpack_se_header(data: bytes) -> SeFields:
    """Return the 512 bytes of the header that never changes, with nothing checked."""
    _, version, capacity, grain, table, flags, *numbers, padding = _CONST.unpack(data)
    return SeFields(
        version,
        capacity,
        grain,
        table,
        flags,
        any(numbers[:4]) or any(padding),
        tuple(zip(numbers[4::2], numbers[5::2], strict=True)),
    )


def decode_se_header(data: bytes, name: str) -> SeHeader:
    """Return the header that never changes, of which every number has passed its check.

    Raises:
        FormatError: not a header, or damaged. UnsupportedError: a version, grain size, table size
            or flag that is not known. LimitError: a number over a limit (hostile-inputs class 38).
    """
    if int.from_bytes(data[:8], "little") != SESPARSE_MAGIC:
        raise FormatError(f"{name}: is not a seSparse extent")
    found = unpack_se_header(data)
    if found[:1] + found[2:5] != (VERSION, SE_GRAIN, TABLE_SECTORS, 0):
        raise UnsupportedError(
            f"{name}: unknown seSparse extent: version {found.version:#x}, grains of "
            f"{found.grain_size} sectors, tables of {found.table_size}, flags {found.flags:#x}"
        )
    if found.reserved:
        raise UnsupportedError(f"{name}: a seSparse header with fields that must be zero")
    capacity = found.capacity
    if capacity > CAPACITY_MAX:
        raise LimitError(f"{name}: a seSparse extent of {capacity} sectors; 64 TiB is possible")
    header = SeHeader(capacity, *found.regions)
    if header.directory[1] * (SECTOR // 8) < -(-capacity // (SE_GRAIN * ESX_TABLE_ENTRIES)):
        raise FormatError(f"{name}: its grain directory is too small for {capacity} sectors")
    return header


def encode_se_volatile(free_table: int, transaction: int, replay: bool) -> bytes:
    """Return the 512 bytes of the header that changes."""
    return _VOLATILE.pack(VOLATILE_MAGIC, free_table, transaction, replay, b"")


def unpack_se_volatile(data: bytes) -> SeVolatile:
    """Return the 512 bytes of the header that changes, with nothing checked."""
    magic, _, _, replay, padding = _VOLATILE.unpack(data)
    return SeVolatile(magic, replay, any(padding))


def check_se_volatile(data: bytes, name: str) -> None:
    """Check the header that changes.

    Raises:
        FormatError: it is not one. UnsupportedError: its journal is not empty, or unknown fields.
    """
    found = unpack_se_volatile(data)
    if found.magic != VOLATILE_MAGIC:
        raise FormatError(f"{name}: the second header of the seSparse extent is damaged")
    if found.replay:
        raise UnsupportedError(
            f"{name}: was not closed, and its journal holds changes; let ESX open and close the "
            "disk, or consolidate its snapshots, and copy it again"
        )
    if found.reserved:
        raise UnsupportedError(f"{name}: a seSparse header with fields that must be zero")
