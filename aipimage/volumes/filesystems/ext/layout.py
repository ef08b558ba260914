"""Where the fields of ext2, ext3 and ext4 lie; no logic.

ext4 Data Structures (Documentation/filesystems/ext4): "Super Block", "Block Group Descriptors",
"Multiple Mount Protection", "Journal (jbd2)", "Index Nodes", "Extent Tree". The names are those
of that document.
"""

from __future__ import annotations

from typing import Final

import numpy as np

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_SIZE = 1024
MAGIC = 0xEF53

_SUPERBLOCK_FIELDS: Final = {
    "s_inodes_count": (0x00, "<u4"),
    "s_blocks_count_lo": (0x04, "<u4"),
    "s_free_blocks_count_lo": (0x0C, "<u4"),
    "s_first_data_block": (0x14, "<u4"),
    "s_log_block_size": (0x18, "<u4"),
    "s_log_cluster_size": (0x1C, "<u4"),
    "s_blocks_per_group": (0x20, "<u4"),
    "s_clusters_per_group": (0x24, "<u4"),
    "s_inodes_per_group": (0x28, "<u4"),
    "s_magic": (0x38, "<u2"),
    "s_state": (0x3A, "<u2"),
    "s_rev_level": (0x4C, "<u4"),
    "s_inode_size": (0x58, "<u2"),
    "s_feature_compat": (0x5C, "<u4"),
    "s_feature_incompat": (0x60, "<u4"),
    "s_feature_ro_compat": (0x64, "<u4"),
    "s_uuid": (0x68, "V16"),
    "s_volume_name": (0x78, "V16"),
    "s_reserved_gdt_blocks": (0xCE, "<u2"),
    "s_journal_uuid": (0xD0, "V16"),
    "s_journal_inum": (0xE0, "<u4"),
    "s_journal_dev": (0xE4, "<u4"),
    "s_desc_size": (0xFE, "<u2"),
    "s_first_meta_bg": (0x104, "<u4"),
    "s_blocks_count_hi": (0x150, "<u4"),
    "s_free_blocks_count_hi": (0x158, "<u4"),
    "s_mmp_block": (0x168, "<u8"),
    "s_checksum_type": (0x175, "u1"),
    "s_backup_bgs": (0x24C, "(2,)<u4"),
    "s_checksum_seed": (0x270, "<u4"),
    "s_checksum": (0x3FC, "<u4"),
}
SUPERBLOCK: Final = np.dtype(
    {
        "names": list(_SUPERBLOCK_FIELDS),
        "formats": [form for _, form in _SUPERBLOCK_FIELDS.values()],
        "offsets": [offset for offset, _ in _SUPERBLOCK_FIELDS.values()],
        "itemsize": SUPERBLOCK_SIZE,
    }
)
SUPERBLOCK_CHECKSUM_AT = 0x3FC

STATE_VALID = 0x1
STATE_ERROR = 0x2
INODE_SIZE_MIN = 128
"""Bytes of an inode of revision 0, and the least of any."""

# s_feature_compat.
COMPAT_HAS_JOURNAL = 0x4
COMPAT_LAZY_BG = 0x40
COMPAT_SPARSE_SUPER2 = 0x200

# s_feature_incompat.
INCOMPAT_COMPRESSION = 0x1
INCOMPAT_FILETYPE = 0x2
INCOMPAT_RECOVER = 0x4
INCOMPAT_JOURNAL_DEV = 0x8
INCOMPAT_META_BG = 0x10
INCOMPAT_EXTENTS = 0x40
INCOMPAT_64BIT = 0x80
INCOMPAT_MMP = 0x100
INCOMPAT_FLEX_BG = 0x200
INCOMPAT_EA_INODE = 0x400
INCOMPAT_DIRDATA = 0x1000
INCOMPAT_CSUM_SEED = 0x2000
INCOMPAT_LARGEDIR = 0x4000
INCOMPAT_INLINE_DATA = 0x8000
INCOMPAT_ENCRYPT = 0x10000
INCOMPAT_CASEFOLD = 0x20000
INCOMPAT_KNOWN = (
    INCOMPAT_FILETYPE | INCOMPAT_RECOVER | INCOMPAT_JOURNAL_DEV | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS | INCOMPAT_64BIT | INCOMPAT_MMP | INCOMPAT_FLEX_BG | INCOMPAT_EA_INODE
    | INCOMPAT_DIRDATA | INCOMPAT_CSUM_SEED | INCOMPAT_LARGEDIR | INCOMPAT_INLINE_DATA
    | INCOMPAT_ENCRYPT | INCOMPAT_CASEFOLD
)  # fmt: skip

# s_feature_ro_compat.
RO_SPARSE_SUPER = 0x1
RO_LARGE_FILE = 0x2
RO_BTREE_DIR = 0x4
RO_HUGE_FILE = 0x8
RO_GDT_CSUM = 0x10
RO_DIR_NLINK = 0x20
RO_EXTRA_ISIZE = 0x40
RO_HAS_SNAPSHOT = 0x80
RO_QUOTA = 0x100
RO_BIGALLOC = 0x200
RO_METADATA_CSUM = 0x400
RO_REPLICA = 0x800
RO_READONLY = 0x1000
RO_PROJECT = 0x2000
RO_SHARED_BLOCKS = 0x4000
RO_VERITY = 0x8000
RO_ORPHAN_PRESENT = 0x10000
RO_KNOWN = (
    RO_SPARSE_SUPER | RO_LARGE_FILE | RO_BTREE_DIR | RO_HUGE_FILE | RO_GDT_CSUM | RO_DIR_NLINK
    | RO_EXTRA_ISIZE | RO_QUOTA | RO_BIGALLOC | RO_METADATA_CSUM | RO_REPLICA | RO_READONLY
    | RO_PROJECT | RO_VERITY | RO_ORPHAN_PRESENT
)  # fmt: skip

# What each of the older drivers understands; more than that makes it ext4.
EXT2_INCOMPAT = INCOMPAT_FILETYPE | INCOMPAT_META_BG
EXT3_INCOMPAT = EXT2_INCOMPAT | INCOMPAT_RECOVER
EXT3_RO = RO_SPARSE_SUPER | RO_LARGE_FILE | RO_BTREE_DIR

# Names of features that make a volume be taken whole, as the tools print them.
FEATURE_NAMES: Final = {
    ("compat", COMPAT_LAZY_BG): "lazy_bg",
    ("incompat", INCOMPAT_COMPRESSION): "compression",
    ("ro_compat", RO_HAS_SNAPSHOT): "snapshot",
    ("ro_compat", RO_SHARED_BLOCKS): "shared_blocks",
}

# Block group descriptors.
DESC_SIZE_MIN = 32
DESC_SIZE_64BIT_MIN = 64
DESC_SIZE_MAX = 1024
DESC_CHECKSUM_AT = 0x1E
BG_BLOCK_UNINIT = 0x2
_DESC_FIELDS: Final = {
    "bg_block_bitmap_lo": (0x00, "<u4"),
    "bg_inode_bitmap_lo": (0x04, "<u4"),
    "bg_inode_table_lo": (0x08, "<u4"),
    "bg_free_blocks_count_lo": (0x0C, "<u2"),
    "bg_flags": (0x12, "<u2"),
    "bg_block_bitmap_csum_lo": (0x18, "<u2"),
    "bg_checksum": (DESC_CHECKSUM_AT, "<u2"),
}
_DESC_64BIT_FIELDS: Final = {
    "bg_block_bitmap_hi": (0x20, "<u4"),
    "bg_inode_bitmap_hi": (0x24, "<u4"),
    "bg_inode_table_hi": (0x28, "<u4"),
    "bg_free_blocks_count_hi": (0x2C, "<u2"),
    "bg_block_bitmap_csum_hi": (0x38, "<u2"),
}


def descriptor_dtype(desc_size: int) -> np.dtype[np.void]:
    """The layout of a descriptor of so many bytes: the upper halves are there from 64 bytes on."""
    fields = dict(_DESC_FIELDS)
    if desc_size >= DESC_SIZE_64BIT_MIN:
        fields |= _DESC_64BIT_FIELDS
    return np.dtype(
        {
            "names": list(fields),
            "formats": [form for _, form in fields.values()],
            "offsets": [offset for offset, _ in fields.values()],
            "itemsize": desc_size,
        }
    )


# Inodes and extents.
S_IFMT, S_IFREG = 0xF000, 0x8000
EXTENTS_FL = 0x80000
INODE = "<H30xI4x60s"
"""i_mode, i_flags, i_block."""
EXTENT_HEADER = "<HHHHI"
"""eh_magic, eh_entries, eh_max, eh_depth, eh_generation."""
EXTENT_MAGIC = 0xF30A
EXTENT_DEPTH_MAX = 5
EXTENT_ENTRY_SIZE = 12
EXTENT = "<IHHI"
"""ee_block, ee_len, ee_start_hi, ee_start_lo."""
EXTENT_INDEX = "<IIHH"
"""ei_block, ei_leaf_lo, ei_leaf_hi, ei_unused."""
EXTENT_INITIALISED_MAX = 32_768
"""A longer ee_len stands for an extent without content, of that much less."""

# Journal superblock, big-endian.
JOURNAL_SUPERBLOCK = ">II20xII"
"""h_magic, h_blocktype, s_start, s_errno."""
JOURNAL_MAGIC = 0xC03B3998
JOURNAL_SUPERBLOCK_TYPES = (3, 4)

# Multiple mount protection.
MMP = "<II"
"""mmp_magic, mmp_seq."""
MMP_SIZE = 1024
MMP_MAGIC = 0x004D4D50
MMP_SEQ_CLEAN = 0xFF4D4D50
MMP_CHECKSUM_AT = 0x3FC
