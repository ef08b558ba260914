"""Reading the file allocation tables, and what of the clusters they call free.

An entry of 0 is a free cluster. All others are in use, also those marked as bad: what the file
system will not use again is not ours to leave out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.fat.geometry import Geometry
from aipimage.volumes.view import LayoutError, VolumeView

STEP = 1 << 20
"""Clusters that are looked at together: 4 MiB of a FAT32, and all of any other."""
# fatgen103, FAT Data Structure: FAT[1] of FAT16 and FAT32; set where all is well.
_CLEAN = {16: 0x8000, 32: 0x0800_0000}
_NO_ERRORS = {16: 0x4000, 32: 0x0400_0000}
Raw = npt.NDArray[np.uint8]


def declare(view: VolumeView, geometry: Geometry) -> None:
    """Let the view read every table once, and the head of one again."""
    bits = geometry.entry_bits[-1]
    view.allow(geometry.fats * ((geometry.clusters + 2) * bits // 8 + 16) + 16)


def is_marked_dirty(view: VolumeView, geometry: Geometry, media: int) -> bool:
    """Look at the entries 0 and 1, which stand for no cluster; return whether they say that the
    volume was not taken down.

    Raises:
        LayoutError: the table does not begin as one of this volume, or says that it had errors.
    """
    bits = geometry.entry_bits[-1]
    start = geometry.fat_start + (geometry.active or 0) * geometry.fat_size
    head = entries_of(view.read_array(start, bits // 4), bits, 0, 2)
    if int(head[0]) & 0xFF != media:
        raise LayoutError("its FAT does not begin with the media byte of its boot sector")
    if bits == 12:
        return False
    if not int(head[1]) & _NO_ERRORS[bits]:
        raise LayoutError("its FAT says that errors were met")
    return not int(head[1]) & _CLEAN[bits]


def entries_of(raw: Raw, bits: int, first: int, count: int) -> npt.NDArray[np.uint32]:
    """Return ``count`` entries from number ``first`` on of a table, or of a part of it that begins
    with an entry; FAT32's without the four bits that mean nothing (fatgen103, FAT Data Structure).
    """
    if bits == 32:
        wide: npt.NDArray[np.uint32] = raw.view("<u4")[first : first + count]
        return wide & np.uint32(0x0FFF_FFFF)
    if bits == 16:
        return raw[: len(raw) & ~1].view("<u2")[first : first + count].astype(np.uint32)
    # Two entries of 12 bits lie in three bytes: an even one in the low bits of the first two, an
    # odd one in the high bits of the last two.
    number = np.arange(first, first + count)
    at = number + number // 2
    pairs = raw[at].astype(np.uint32) | raw[at + 1].astype(np.uint32) << np.uint32(8)
    odd = (number % 2).astype(np.bool_)
    entries: npt.NDArray[np.uint32] = np.where(odd, pairs >> np.uint32(4), pairs & np.uint32(0xFFF))
    return entries


def read_map(view: VolumeView, geometry: Geometry, may_differ: bool = False) -> ClusterMap:
    """Return what is free by all of the tables, which may differ where one is in force and the
    others are old, or where ``may_differ`` says so.

    Raises:
        LayoutError: the tables differ though they are kept equal, or cannot be read.
    """
    may_differ |= geometry.active is not None
    found = ClusterMap(geometry.cluster_size, geometry.clusters, geometry.data_start, geometry.size)
    step = STEP if geometry.entry_bits == (32,) else geometry.clusters
    for first in range(0, geometry.clusters, step):
        count = min(step, geometry.clusters - first)
        free = np.ones(count, np.bool_)
        for raw in _tables(view, geometry, first, count, may_differ):
            for bits in geometry.entry_bits:
                head = 0 if bits == 32 else 2
                free &= entries_of(raw, bits, head, count) == 0
        found.set_free_bits(first, np.packbits(free, bitorder="little"), count)
    return found


def _tables(
    view: VolumeView, geometry: Geometry, first: int, count: int, may_differ: bool
) -> list[Raw]:
    """Read the part of every table that is for these clusters: of FAT32 from their entries on, of
    others from the start. Equal ones are given once.
    """
    if geometry.entry_bits == (32,):
        offset, length = 4 * (first + 2), 4 * count
    else:
        offset, length = 0, -(-(count + 2) * geometry.entry_bits[-1] // 8)
    starts = [geometry.fat_start + n * geometry.fat_size for n in range(geometry.fats)]
    tables = [view.read_array(starts[0] + offset, length)]
    for number, start in enumerate(starts[1:], 1):
        table = view.read_array(start + offset, length)
        if np.array_equal(tables[0], table):
            continue
        if not may_differ:
            raise LayoutError(f"its FATs 0 and {number} differ")
        # Not every driver knows which table is in force. What any of them calls used is kept.
        tables.append(table)
    return tables
