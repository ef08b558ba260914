"""The journal and multiple mount protection: whether anybody else has a say in the bitmaps."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.extents import blocks_of_file
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.placement import Ranges
from aipimage.volumes.filesystems.ext.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView


class Places(NamedTuple):
    """What the rest of the file system says of blocks.

    Attributes:
        fixed: the blocks of the groups' structures. free: the free clusters.
    """

    sb: Superblock
    fixed: Ranges
    free: ClusterMap

    def check(self, what: str, block: int, count: int) -> None:
        """Check that blocks inside of the file system are in use, and not by the groups.

        Raises:
            LayoutError: they are free, or another structure lies there.
        """
        at = int(np.searchsorted(self.fixed[:, 1], block, "right"))
        if at < len(self.fixed) and int(self.fixed[at, 0]) < block + count:
            raise LayoutError(f"{what} lies over other structures, at block {block:,}")
        block -= self.sb.first_data_block
        last = -(-(block + count) // self.sb.ratio)
        if next(self.free.free_runs(block // self.sb.ratio, last), None) is not None:
            raise LayoutError(f"the bitmaps call blocks of {what} free")


def check_journal(view: VolumeView, sb: Superblock, groups: Groups, places: Places) -> None:
    """Check that an internal journal is empty, whatever the superblock says, and in use.

    A journal on another device is not looked at: the recover feature of the volume tells.

    Raises:
        LayoutError: there is none where one must be, it cannot be read, or it holds something.
    """
    if not sb.compat & layout.COMPAT_HAS_JOURNAL:
        return
    if not sb.journal_inum:
        if not sb.journal_is_elsewhere:
            raise LayoutError("its journal is missing")
        return
    try:
        _check_internal(view, sb, groups, places)
    except LayoutError as error:
        raise LayoutError(f"its journal cannot be trusted: {error}") from error


def _check_internal(view: VolumeView, sb: Superblock, groups: Groups, places: Places) -> None:
    first, ranges = blocks_of_file(view, sb, groups, sb.journal_inum)
    head = view.read(first * sb.block_size, struct.calcsize(layout.JOURNAL_SUPERBLOCK))
    magic, kind, start, errno = struct.unpack(layout.JOURNAL_SUPERBLOCK, head)
    if magic != layout.JOURNAL_MAGIC or kind not in layout.JOURNAL_SUPERBLOCK_TYPES:
        raise LayoutError("it has no superblock")
    if start:
        raise LayoutError("it was not replayed")
    if errno:
        raise LayoutError("it was ended by an error")
    for block, count in ranges:
        places.check("it", block, count)


def check_mmp(view: VolumeView, sb: Superblock, places: Places) -> None:
    """Check that no host claims the volume (ext4 Data Structures, "Multiple Mount Protection").

    Raises:
        LayoutError: the block is damaged, or says that the volume is in use or was left so.
    """
    if not sb.incompat & layout.INCOMPAT_MMP:
        return
    if not sb.first_data_block < sb.mmp_block < sb.blocks:
        raise LayoutError(f"its mount protection at block {sb.mmp_block:,} is out of range")
    view.allow(layout.MMP_SIZE)
    data = view.read(sb.mmp_block * sb.block_size, layout.MMP_SIZE)
    magic, sequence = struct.unpack_from(layout.MMP, data)
    if magic != layout.MMP_MAGIC:
        raise LayoutError("its mount protection has no magic number")
    at = layout.MMP_CHECKSUM_AT
    found = crc32c(data[:at], sb.seed)
    if sb.has_metadata_csum and found != int.from_bytes(data[at:], "little"):
        raise LayoutError("its mount protection has a wrong checksum")
    if sequence != layout.MMP_SEQ_CLEAN:
        raise LayoutError("a host has it mounted, or did not unmount it")
    places.check("its mount protection", sb.mmp_block, 1)
