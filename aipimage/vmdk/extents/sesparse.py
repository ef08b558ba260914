"""Extents of seSparse disks: deltas of ESX for disks over 2 TiB, and all deltas from VMFS 6 on.

VMware has published no description. Sources: what qemu 7.2 reads (block/vmdk.c, "seSparse"), and
as strict as that, since the meaning of other values is not published. Two headers of a
sector, one that never changes and one that does; a grain directory of 64-bit entries; grain tables
of 64 sectors, counted from the region of tables; grains of 8 sectors, counted from the region of
grains. The four topmost bits of an entry are its type. After a crash a journal holds writes to the
tables that are not yet in them: such a file is refused.
"""

from __future__ import annotations

import numpy as np

from aipimage.errors import FormatError
from aipimage.io.system.cache import FrameCache
from aipimage.io.system.storage import File
from aipimage.vmdk.extents.esx import (
    NOWHERE,
    ZEROS,
    EsxExtent,
    EsxLayout,
    Places,
    Raw,
    verified_sectors,
)
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.sesparselayout import (
    SE_GRAIN,
    TABLE_SECTORS,
    check_se_volatile,
    decode_se_header,
)

_TYPE = np.uint64(60)
_TABLE_THERE = np.uint64(0x1000_0000)
_UNALLOCATED, _UNMAPPED, _ZERO, _ALLOCATED = (np.uint64(kind) for kind in range(4))


def open_sesparse(file: File, sectors: int | None, cache: FrameCache | None = None) -> EsxExtent:
    """Return the extent in a file, which is the extent's from then on, and stays the caller's where
    this fails.

    Args:
        sectors: what the descriptor says, ``None`` to take the header's word. cache: for tables.

    Raises:
        FormatError: not such an extent, damaged, cut short or of another size.
        UnsupportedError: its journal is not empty, or it has unknown fields.
        SourceError: it cannot be read.
    """
    inner, name = ExtentFile(file), file.name
    header = decode_se_header(bytes(inner.read(0, SECTOR, "the header")), name)
    verified_sectors(name, header.capacity, sectors)
    volatile = inner.read(header.volatile[0] * SECTOR, SECTOR, "the second header")
    check_se_volatile(bytes(volatile), name)
    tables, grains = header.tables[0], header.grains[0]
    inner.verified_range(tables * SECTOR, 0, "the region of grain tables")
    inner.verified_range(grains * SECTOR, 0, "the region of grains")
    layout = EsxLayout(
        header.capacity,
        SE_GRAIN,
        np.dtype("<u8"),
        header.directory[0],
        1,
        lambda entries: table_places(entries, tables, name),
        lambda entries: grain_places(entries, grains, name),
    )
    return EsxExtent(inner, layout, cache)


def table_places(entries: Raw, region: int, name: str) -> Places:
    """Return where grain tables begin: an entry is 0, or 0x10000000 above the table's number."""
    there = entries != 0
    if (entries[there] >> np.uint64(32) != _TABLE_THERE).any():
        raise FormatError(f"{name}: an entry of the grain directory means nothing")
    numbers = (entries & np.uint64(0xFFFF_FFFF)).astype(np.int64)
    return np.where(there, numbers * TABLE_SECTORS + region, 0)


def grain_places(entries: Raw, region: int, name: str) -> Places:
    """Return where grains begin, by the type in the topmost four bits: 0 not allocated, 1 unmapped
    by the guest and 2 zero, both of which read as zeros, 3 allocated.

    Of an allocated grain's number the lowest 12 bits stand above the other 48.
    """
    kinds = entries >> _TYPE
    if (kinds > _ALLOCATED).any() or entries[kinds == _UNALLOCATED].any():
        raise FormatError(f"{name}: an entry of a grain table means nothing")
    low = (entries >> np.uint64(48)) & np.uint64(0xFFF)
    high = (entries & np.uint64(0xFFFF_FFFF_FFFF)) << np.uint64(12)
    numbers = np.minimum(low | high, np.uint64(NOWHERE // SE_GRAIN)).astype(np.int64)
    places = np.where(kinds == _ALLOCATED, numbers * SE_GRAIN + region, 0)
    return np.where((kinds == _UNMAPPED) | (kinds == _ZERO), ZEROS, places)
