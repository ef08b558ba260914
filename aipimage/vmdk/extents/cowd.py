"""Extents of vmfsSparse disks, called COWD by their magic: deltas and thin disks of ESX.

Source: VMware "Virtual Disk Format 5.0" technical note, "ESX Server Sparse Extents": a header of
four sectors, one grain directory and no second one, grain tables of 4096 entries of 32 bits; an
entry is the grain's sector in the file, 0 where there is none. Zeroed grains are not known here.
"""

from __future__ import annotations

import numpy as np

from aipimage.io.system.cache import FrameCache
from aipimage.io.system.storage import File
from aipimage.vmdk.cowdlayout import HEADER_SECTORS, CowdHeader, decode_cowd_header
from aipimage.vmdk.extents.esx import EsxExtent, EsxLayout, Places, Raw, verified_sectors
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import SECTOR


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
    # The note has the directory right after the header, and everything else after both.
    data_from = directory_end if header.gd_offset == HEADER_SECTORS else HEADER_SECTORS
    layout = EsxLayout(
        header.capacity,
        header.grain_size,
        np.dtype("<u4"),
        header.gd_offset,
        data_from,
        _sectors,
        _sectors,
    )
    return EsxExtent(inner, layout, cache)


def _sectors(entries: Raw) -> Places:
    """An entry is a sector of the file; 0 is none."""
    return entries.astype(np.int64)
