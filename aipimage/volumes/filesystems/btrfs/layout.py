"""Btrfs: the structures on disk, after "On-disk Format" and "Trees" of the Btrfs documentation and
the kernel's ``include/uapi/linux/btrfs_tree.h``. All numbers are little-endian, nothing is padded.
"""

from __future__ import annotations

import numpy as np

# Superblock ("On-disk Format", Superblock; struct btrfs_super_block).

MAGIC = b"_BHRfS_M"
SUPERBLOCK_BYTES = 4096
SUPERBLOCKS = (64 << 10, 64 << 20, 256 << 30)
"""Bytes of the device at which the superblock and its copies lie, as far as the device reaches."""
STRIPE = 64 << 10
"""Bytes around each of them in which nothing is allocated, and the only legal stripe length."""
RESERVED = 1 << 20
"""Bytes at the start of a device in which nothing is allocated (BTRFS_DEVICE_RANGE_RESERVED)."""
CHECKSUM_BYTES = 32
SYSTEM_CHUNKS_MAX = 2048

SUPERBLOCK = np.dtype(
    {
        "names": [
            "checksum", "fsid", "bytenr", "flags", "magic", "generation", "root", "chunk_root",
            "log_root", "total_bytes", "bytes_used", "num_devices", "sectorsize", "nodesize",
            "sys_chunk_array_size", "chunk_root_generation", "compat_flags", "compat_ro_flags",
            "incompat_flags", "csum_type", "root_level", "chunk_root_level", "log_root_level",
            "devid", "device_bytes", "device_uuid", "device_fsid", "label", "metadata_uuid",
            "sys_chunk_array",
        ],
        "formats": [
            "V32", "V16", "<u8", "<u8", "V8", "<u8", "<u8", "<u8",
            "<u8", "<u8", "<u8", "<u8", "<u4", "<u4",
            "<u4", "<u8", "<u8", "<u8",
            "<u8", "<u2", "u1", "u1", "u1", "<u8",
            "<u8", "V16", "V16", "V256", "V16",
            "V2048",
        ],
        "offsets": [
            0x0, 0x20, 0x30, 0x38, 0x40, 0x48, 0x50, 0x58,
            0x60, 0x70, 0x78, 0x88, 0x90, 0x94,
            0xA0, 0xA4, 0xAC, 0xB4,
            0xBC, 0xC4, 0xC6, 0xC7, 0xC8, 0xC9,
            0xD1, 0x10B, 0x11B, 0x12B, 0x23B,
            0x32B,
        ],
        "itemsize": SUPERBLOCK_BYTES,
    }
)  # fmt: skip

HEADER_WRITTEN = 1
SUPER_SEEDING = 1 << 32
FLAGS_KNOWN = HEADER_WRITTEN | 2 | SUPER_SEEDING
"""Written, relocated, seeding. Others say that a tool or an error left the volume half-way."""

SKINNY_METADATA = 1 << 8
METADATA_UUID = 1 << 10
MIXED_BACKREF = 1 << 0
INCOMPAT_KNOWN = 0b1_0000_1111_1111_1111 & ~(1 << 12)
"""Bits 0 to 11 (mixed backrefs, default subvolume, mixed groups, LZO, zstd, big metadata, extended
references, RAID56, skinny metadata, no holes, metadata UUID, RAID1C34) and 16 (simple quotas).
"""
INCOMPAT_WHOLE = {
    1 << 12: "it is made for a zoned device",
    1 << 13: "it uses version 2 of the extent tree",
    1 << 14: "it uses the RAID stripe tree",
}
FREE_SPACE_TREE_FLAG = 1 << 0
FREE_SPACE_TREE_VALID = 1 << 1
BLOCK_GROUP_TREE_FLAG = 1 << 3
COMPAT_RO_KNOWN = 0b1111

# Trees (struct btrfs_header, btrfs_item, btrfs_key_ptr).

LEVELS_MAX = 8
KEY = [("objectid", "<u8"), ("type", "u1"), ("offset", "<u8")]
HEADER = np.dtype(
    [
        ("checksum", "V32"),
        ("fsid", "V16"),
        ("bytenr", "<u8"),
        ("flags", "<u8"),
        ("chunk_tree_uuid", "V16"),
        ("generation", "<u8"),
        ("owner", "<u8"),
        ("nritems", "<u4"),
        ("level", "u1"),
    ]
)
ITEM = np.dtype([*KEY, ("data", "<u4"), ("size", "<u4")])
POINTER = np.dtype([*KEY, ("block", "<u8"), ("generation", "<u8")])

ROOT_TREE, EXTENT_TREE, CHUNK_TREE, DEVICE_TREE = 1, 2, 3, 4
FREE_SPACE_TREE, BLOCK_GROUP_TREE = 10, 11
LOG_TREE = 2**64 - 6
"""Of the log root tree, and of each of the log trees that it names."""
TREE_NAMES = {
    ROOT_TREE: "root tree",
    EXTENT_TREE: "extent tree",
    CHUNK_TREE: "chunk tree",
    DEVICE_TREE: "device tree",
    FREE_SPACE_TREE: "free space tree",
    BLOCK_GROUP_TREE: "block group tree",
    LOG_TREE: "log tree",
}

# Types of items.

FILE_EXTENT_ITEM = 108
LOG_ITEMS = (1, 12, 13, 24, 48, 60, 72, 84, 96, FILE_EXTENT_ITEM, 128)
"""What log trees have: inodes, references, extended ones, attributes, orphans, logged ranges of a
directory (by name, by index), entries of both kinds, extents of files, checksums of data.
"""
ROOT_ITEM = 132
EXTENT_ITEM, METADATA_ITEM = 168, 169
BACKREFS = (176, 178, 182, 184)
"""Tree block, extent data, shared block, shared data; they say who uses an extent."""
BLOCK_GROUP_ITEM = 192
FREE_SPACE_INFO, FREE_SPACE_EXTENT, FREE_SPACE_BITMAP = 198, 199, 200
DEV_EXTENT, DEV_ITEM, CHUNK_ITEM = 204, 216, 228

# Their bodies (struct btrfs_root_item up to its level, btrfs_extent_item, ...).

ROOT = np.dtype(
    {
        "names": ["generation", "bytenr", "level"],
        "formats": ["<u8", "<u8", "u1"],
        "offsets": [160, 176, 238],
        "itemsize": 239,
    }
)
EXTENT = np.dtype([("refs", "<u8"), ("generation", "<u8"), ("flags", "<u8")])
EXTENT_DATA, EXTENT_TREE_BLOCK = 1, 2
FILE_EXTENT_HEAD = np.dtype(
    {"names": ["encryption", "type"], "formats": ["u1", "u1"], "offsets": [17, 20], "itemsize": 21}
)
FILE_EXTENT_INLINE, FILE_EXTENT_REGULAR, FILE_EXTENT_PREALLOCATED = 0, 1, 2
FILE_EXTENT = np.dtype(
    {
        "names": ["disk_bytenr", "disk_num_bytes"],
        "formats": ["<u8", "<u8"],
        "offsets": [21, 29],
        "itemsize": 53,
    }
)
"""Of a regular or preallocated one: the whole extent, of which the file may use a part. An address
of zero is a hole.
"""
BLOCK_GROUP = np.dtype([("used", "<u8"), ("chunk_objectid", "<u8"), ("flags", "<u8")])
DEVICE_EXTENT = np.dtype(
    [
        ("chunk_tree", "<u8"),
        ("chunk_objectid", "<u8"),
        ("chunk_offset", "<u8"),
        ("length", "<u8"),
        ("chunk_tree_uuid", "V16"),
    ]
)
DEVICE = np.dtype(
    {
        "names": ["devid", "total_bytes", "uuid"],
        "formats": ["<u8", "<u8", "V16"],
        "offsets": [0, 8, 66],
        "itemsize": 98,
    }
)
CHUNK = np.dtype(
    [
        ("length", "<u8"),
        ("owner", "<u8"),
        ("stripe_len", "<u8"),
        ("type", "<u8"),
        ("io_align", "<u4"),
        ("io_width", "<u4"),
        ("sector_size", "<u4"),
        ("num_stripes", "<u2"),
        ("sub_stripes", "<u2"),
    ]
)
CHUNK_STRIPE = np.dtype([("devid", "<u8"), ("offset", "<u8"), ("dev_uuid", "V16")])
FIRST_CHUNK_TREE = 256

# Types of chunks and block groups.

GROUP_DATA, GROUP_SYSTEM, GROUP_METADATA = 1, 2, 4
GROUP_KINDS = GROUP_DATA | GROUP_SYSTEM | GROUP_METADATA
PROFILE_SINGLE, PROFILE_RAID0, PROFILE_DUP = 0, 1 << 3, 1 << 5
STRIPES = {PROFILE_SINGLE: 1, PROFILE_RAID0: 1, PROFILE_DUP: 2}
"""Stripes of the profiles that one device can hold; RAID0 of one stripe is laid out as SINGLE."""
