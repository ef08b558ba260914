"""Encodes and decodes the headers and markers of hosted extents, each number checked by name.

Sources: VMware "Virtual Disk Format 5.0" technical note, sections "Hosted Sparse Extents",
"Grain Directory", "Stream-Optimized Compressed Sparse Extents", "ESX Server Sparse Extents"; what
it leaves open is as qemu 7.2 and open-vmdk have it (docs/vmdk.md, "What is written"). All integers
are little-endian; positions and sizes are in sectors of 512 bytes unless a name says bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from aipimage.errors import FormatError, LimitError, UnsupportedError

SECTOR = 512
SPARSE_MAGIC = b"KDMV"
COWD_MAGIC = b"COWD"
SESPARSE_MAGIC = 0xCAFEBABE
NEWLINES = b"\n \r\n"
"""Bytes 73 to 76 of a sparse header: a transfer as text changes them (note, "Hosted Sparse
Extents")."""
GD_AT_END = 0xFFFF_FFFF_FFFF_FFFF
"""``gd_offset`` of a streamOptimized header: the footer has the true one."""
TABLE_ENTRIES = 512
"""Entries of a grain table, 2 KiB."""
ESX_TABLE_ENTRIES = 4096
"""Entries of a grain table of COWD and seSparse extents."""
GRAIN = 128
"""Sectors of a grain as written here, 64 KiB; what all readers accept."""
ZEROED = 1
"""A grain table entry that says: zeros, whatever a parent has (flag ``ZEROED_GRAINS``)."""
DESCRIPTOR_SECTORS = 20
"""Sectors reserved for an embedded descriptor; VirtualBox adds lines of its own."""
GRAIN_MAX = 8192
"""Sectors of a grain at most, 4 MiB; the note gives no bound, files have 8 to 128."""
CAPACITY_MAX = 1 << 55
"""Sectors of an extent at most: bytes fit a signed 64-bit number."""
MAX_SECTORS_32 = 1 << 32
"""Sectors that a 32-bit grain table entry reaches: 2 TiB."""

_SPARSE = struct.Struct("<4sIIQQQQIQQQB4sH433x")
MARKER = struct.Struct("<QII")
"""Value, size and kind (note, "Markers")."""
GRAIN_MARKER = struct.Struct("<QI")
"""Of a grain, 12 bytes: its data begin where another marker has its kind."""


class SparseFlags(IntFlag):
    """``flags`` of a sparse header."""

    NEWLINE_TEST = 1 << 0
    REDUNDANT_TABLE = 1 << 1
    ZEROED_GRAINS = 1 << 2
    COMPRESSED = 1 << 16
    MARKERS = 1 << 17


KNOWN_FLAGS = 0x3_0007
"""A plain number: the complement of flags leaves out the bits that no flag has."""
INCOMPATIBLE_FLAGS = 0xFFFF_0000
"""Flags that change what the data mean: one that is not known forbids to read on. Those of the
lower half may be ignored by readers that do not know them."""


class MarkerType(IntEnum):
    """``type`` of a metadata marker, whose ``size`` is 0."""

    EOS = 0
    GRAIN_TABLE = 1
    GRAIN_DIRECTORY = 2
    FOOTER = 3


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """The header, or footer, of a hosted sparse extent (note, "Hosted Sparse Extents").

    Attributes:
        version: 1 to 3. flags: see :class:`SparseFlags`. capacity: sectors of the extent.
        grain_size: sectors. descriptor_offset, descriptor_size: sectors; 0 where there is none.
        table_entries: entries of a grain table. rgd_offset, gd_offset: sectors; of the redundant
            and of the primary grain directory. overhead: sectors before the first grain.
        unclean: the file was not closed. compression: 0 none, 1 deflate.
    """

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    table_entries: int
    rgd_offset: int
    gd_offset: int
    overhead: int
    unclean: bool = False
    newlines: bytes = NEWLINES
    compression: int = 0

    @property
    def compressed(self) -> bool:
        """Whether grains are deflate streams after markers."""
        return bool(self.flags & SparseFlags.COMPRESSED)

    @property
    def tables(self) -> int:
        """Entries of the grain directory: one grain table each."""
        return -(-self.capacity // (self.grain_size * self.table_entries))

    @property
    def grains(self) -> int:
        """Grains of the extent; the last may be short."""
        return -(-self.capacity // self.grain_size)


def encode_sparse_header(header: SparseHeader) -> bytes:
    """Return the 512 bytes of a header or footer."""
    return _SPARSE.pack(
        SPARSE_MAGIC, header.version, header.flags, header.capacity, header.grain_size,
        header.descriptor_offset, header.descriptor_size, header.table_entries, header.rgd_offset,
        header.gd_offset, header.overhead, header.unclean, header.newlines, header.compression,
    )  # fmt: skip


def unpack_sparse_header(data: bytes, name: str) -> SparseHeader:
    """Return a header as it stands, with nothing checked but its length and magic: for a checker.

    Raises:
        FormatError: not 512 bytes, or another magic.
    """
    if len(data) != SECTOR or data[:4] != SPARSE_MAGIC:
        raise FormatError(f"{name}: no VMDK sparse extent begins here")
    (
        _, version, flags, capacity, grain_size, descriptor_offset, descriptor_size, entries,
        rgd_offset, gd_offset, overhead, unclean, newlines, compression,
    ) = _SPARSE.unpack(data)  # fmt: skip
    return SparseHeader(
        version, flags, capacity, grain_size, descriptor_offset, descriptor_size, entries,
        rgd_offset, gd_offset, overhead, bool(unclean), newlines, compression,
    )  # fmt: skip


def decode_sparse_header(data: bytes, name: str) -> SparseHeader:
    """Return a header of which every number has passed its check.

    Raises:
        FormatError: not a header, or damaged. UnsupportedError: a newer version or compression.
        LimitError: a number over a limit (hostile-inputs class 38).
    """
    header = unpack_sparse_header(data, name)
    if header.version not in (1, 2, 3):
        raise UnsupportedError(f"{name}: VMDK sparse extent of unknown version {header.version}")
    if header.flags & SparseFlags.NEWLINE_TEST and header.newlines != NEWLINES:
        raise FormatError(f"{name}: was changed by a transfer as text; fetch it again, as binary")
    compressed = header.compressed
    if compressed and header.compression != 1:
        raise UnsupportedError(f"{name}: unknown VMDK compression {header.compression}")
    verified_grain_size(header.grain_size, name)
    verified_capacity(header.capacity, name)
    if not 1 <= header.table_entries <= TABLE_ENTRIES:
        raise LimitError(
            f"{name}: grain tables of {header.table_entries} entries; at most {TABLE_ENTRIES}"
        )
    return header


def verified_grain_size(sectors: int, name: str) -> int:
    """Return the size of a grain; ``LimitError`` unless a power of two, 1 to ``GRAIN_MAX``."""
    if not 1 <= sectors <= GRAIN_MAX or sectors & (sectors - 1):
        raise LimitError(
            f"{name}: grains of {sectors} sectors; a power of two up to {GRAIN_MAX} is possible"
        )
    return sectors


def verified_capacity(sectors: int, name: str) -> int:
    """Return the capacity of an extent; ``LimitError`` where bytes would not fit 63 bits."""
    if not 0 <= sectors <= CAPACITY_MAX:
        raise LimitError(f"{name}: says that it has {sectors} sectors")
    return sectors


def encode_marker(value: int, size: int, kind: int = 0) -> bytes:
    """Return the 16 bytes of a marker (note, "Markers").

    Args:
        value: the grain's first sector on the disk, or the sectors of metadata that follow.
        size: bytes of compressed data that follow at byte 12; 0 for metadata, whose ``kind`` then
            stands there.
    """
    return MARKER.pack(value, size, kind)


def decode_marker(data: bytes) -> tuple[int, int, int]:
    """Return (value, size, kind) of a marker; ``kind`` has a meaning where ``size`` is 0."""
    value, size, kind = MARKER.unpack_from(data)
    return int(value), int(size), int(kind)
