"""Where the fixed structures of each block group lie, which no bitmap may call free.

ext4 Data Structures, "Layout", "Flexible Block Groups", "Meta Block Groups"; sparse_super2 and
bigalloc as in ext2fs_super_and_bgd_loc2 of libext2fs, which all tools of e2fsprogs go by.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.superblock import Superblock, has_superblock
from aipimage.volumes.view import LayoutError

Ranges = npt.NDArray[np.int64]
"""Shape (n, 2): first block, and the block after the last."""


def fixed_ranges(sb: Superblock, groups: Groups) -> Ranges:
    """The blocks of all superblocks, descriptors, bitmaps and inode tables: ascending, disjoint.

    Raises:
        LayoutError: two structures lie in the same blocks.
    """
    tables = (
        (groups.block_bitmap, groups.block_bitmap + 1),
        (groups.inode_bitmap, groups.inode_bitmap + 1),
        (groups.inode_table, groups.inode_table + sb.itable_blocks),
    )
    rows = np.concatenate([_copies(sb), *(np.column_stack(table) for table in tables)])
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    overlaps = np.flatnonzero(rows[1:, 0] < rows[:-1, 1])
    if len(overlaps):
        raise LayoutError(f"two of its structures lie at block {int(rows[overlaps[0] + 1, 0]):,}")
    return rows


def _copies(sb: Superblock) -> Ranges:
    """The blocks of superblocks and descriptors, with what is reserved for more of these."""
    number = np.arange(sb.groups, dtype=np.int64)
    start = sb.first_data_block + number * sb.blocks_per_group
    has_super = has_superblock(sb)
    end = start + has_super
    if sb.first_data_block < sb.superblock_block:
        # With bigalloc and 1 KiB blocks the boot area, block 0, belongs to the first group.
        end[0] += 1
    a_block = sb.block_size // sb.desc_size
    uses_meta_bg = bool(sb.incompat & layout.INCOMPAT_META_BG)
    is_meta = (number // a_block >= sb.first_meta_bg) & uses_meta_bg
    end += np.where(is_meta, np.isin(number % a_block, (0, 1, a_block - 1)), 0)
    old = sb.first_meta_bg if uses_meta_bg else sb.desc_blocks + sb.reserved_gdt
    end += np.where(~is_meta & has_super, old, 0)
    rows = np.column_stack((start, np.minimum(end, sb.blocks)))
    return rows[rows[:, 1] > rows[:, 0]]
