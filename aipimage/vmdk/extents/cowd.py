"""Extents of vmfsSparse disks, called COWD by their magic: deltas and thin disks of ESX.

Source: VMware "Virtual Disk Format 5.0" technical note, "ESX Server Sparse Extents": a header of
four sectors, one grain directory and no second one, grain tables of 4096 entries of 32 bits; an
entry is the grain's sector in the file, 0 where there is none. Zeroed grains are not known here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from aipimage.errors import FormatError, LimitError, UnsupportedError
from aipimage.io.cache import FrameCache
from aipimage.io.storage import File
from aipimage.vmdk.extents.esx import (
    ENTRIES,
    EsxExtent,
    EsxLayout,
    Places,
    Raw,
    verified_sectors,
)
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import COWD_MAGIC, SECTOR, verified_grain_size

HEADER_SECTORS = 4
_HEADER = struct.Struct("<4sIIIIIII")
_UNCLEAN = struct.Struct("<I")
_UNCLEAN_AT = 1648
_PARENT_AT = 32
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
        not: there the descriptor alone tells it.
        """
        return bool(self.parent) or not self.flags & _ROOT_FLAG


def encode_cowd_header(header: CowdHeader) -> bytes:
    """Return the 2048 bytes of a header; of its other texts and generations all are empty."""
    data = bytearray(HEADER_SECTORS * SECTOR)
    _HEADER.pack_into(
        data, 0, COWD_MAGIC, header.version, header.flags, header.capacity, header.grain_size,
        header.gd_offset, header.gd_entries, header.free_sector,
    )  # fmt: skip
    data[_PARENT_AT : _PARENT_AT + len(header.parent)] = header.parent
    _UNCLEAN.pack_into(data, _UNCLEAN_AT, header.unclean)
    return bytes(data)


def decode_cowd_header(data: bytes, name: str) -> CowdHeader:
    """Return a header of 2048 bytes of which every number has passed its check.

    Raises:
        FormatError: not a header, or damaged. UnsupportedError: another version or flags.
        LimitError: a number over a limit (hostile-inputs class 38).
    """
    magic, version, flags, capacity, grain, gd_offset, entries, free = _HEADER.unpack_from(data)
    if magic != COWD_MAGIC:
        raise FormatError(f"{name}: no vmfsSparse extent (COWD) begins here")
    if version != 1 or flags & ~_KNOWN_FLAGS:
        raise UnsupportedError(
            f"{name}: vmfsSparse extent of unknown version {version} or flags {flags:#x}"
        )
    verified_grain_size(grain, name)
    if gd_offset < HEADER_SECTORS:
        raise FormatError(f"{name}: the grain directory lies within the header")
    if entries < -(-capacity // (grain * ENTRIES)):
        raise LimitError(
            f"{name}: a grain directory of {entries} entries is too small for {capacity} sectors"
        )
    (unclean,) = _UNCLEAN.unpack_from(data, _UNCLEAN_AT)
    return CowdHeader(
        flags, capacity, grain, gd_offset, entries, free, version, bool(unclean), _parent(data)
    )


def _parent(data: bytes) -> bytes:
    """``parentFileName``, empty where that cannot be a name."""
    name = data[_PARENT_AT : _PARENT_AT + _PARENT_MAX].partition(b"\0")[0]
    is_text = len(name) >= _PARENT_LEAST and all(byte >= 0x20 and byte != 0x7F for byte in name)
    return name if is_text else b""


def read_cowd_header(file: File) -> CowdHeader:
    """Return the header of the extent in a file; errors as :func:`open_cowd`."""
    return _header_of(ExtentFile(file))


def _header_of(file: ExtentFile) -> CowdHeader:
    data = file.read(0, HEADER_SECTORS * SECTOR, "the header")
    return decode_cowd_header(bytes(data), file.name)


def open_cowd(file: File, sectors: int | None, cache: FrameCache | None = None) -> EsxExtent:
    """Return the extent in a file, which is the extent's from then on, and stays the caller's where
    this fails.

    Args:
        sectors: what the descriptor says, ``None`` to take the header's word. cache: for tables.

    Raises:
        FormatError: not such an extent, damaged, cut short or of another size.
        SourceError: it cannot be read.
    """
    inner = ExtentFile(file)
    header = _header_of(inner)
    verified_sectors(file.name, header.capacity, sectors)
    directory_end = header.gd_offset + -(-header.gd_entries * 4 // SECTOR)
    # The note has the directory right behind the header, and everything else behind both.
    data_from = directory_end if header.gd_offset == HEADER_SECTORS else HEADER_SECTORS
    layout = EsxLayout(
        header.capacity, header.grain_size, np.dtype("<u4"), header.gd_offset, data_from, _sectors,
        _sectors,
    )  # fmt: skip
    return EsxExtent(inner, layout, cache)


def _sectors(entries: Raw) -> Places:
    """An entry is a sector of the file; 0 is none."""
    return entries.astype(np.int64)
