"""Where the fields of inodes, directories and extended attributes of ext lie; no logic.

ext4 Data Structures (Documentation/filesystems/ext4): "Index Nodes", "Directory Entries",
"Extended Attributes", "Inline Data". The names are those of that document.
"""

from __future__ import annotations

import struct
from typing import Final

ROOT = 2
S_IFMT: Final = 0xF000
KINDS: Final = {
    0x1000: "fifo", 0x2000: "character", 0x4000: "directory", 0x6000: "block", 0x8000: "file",
    0xA000: "symlink", 0xC000: "socket",
}  # fmt: skip
CORE = struct.Struct("<HHIIIIIHHII4x60sIII4xHHHHH2x")
"""i_mode, i_uid, i_size_lo, i_atime, i_ctime, i_mtime, i_dtime, i_gid, i_links_count, i_blocks_lo,
i_flags, i_block, i_generation, i_file_acl_lo, i_size_high, l_i_blocks_high, l_i_file_acl_high,
l_i_uid_high, l_i_gid_high, l_i_checksum_lo.
"""
CORE_SIZE, LINKS_AT = 128, 0x1A
CHECKSUM_LO_AT, EXTRA_SIZE_AT, CHECKSUM_HI_AT = 0x7C, 0x80, 0x82
CTIME_EXTRA_AT, MTIME_EXTRA_AT, ATIME_EXTRA_AT = 0x84, 0x88, 0x8C
CRTIME_AT, CRTIME_EXTRA_AT = 0x90, 0x94

COMPRESSED_FL, IMMUTABLE_FL, APPEND_FL, NODUMP_FL = 0x4, 0x10, 0x20, 0x40
ENCRYPT_FL, INDEX_FL, HUGE_FILE_FL = 0x800, 0x1000, 0x40000
EXTENTS_FL, VERITY_FL, EA_INODE_FL = 0x80000, 0x100000, 0x200000
INLINE_DATA_FL, CASEFOLD_FL = 0x1000_0000, 0x4000_0000
FLAG_NAMES: Final = {
    COMPRESSED_FL: "compressed", IMMUTABLE_FL: "immutable", APPEND_FL: "append-only",
    ENCRYPT_FL: "encrypted", VERITY_FL: "verity", INLINE_DATA_FL: "inline", CASEFOLD_FL: "casefold",
}  # fmt: skip
INLINE_MAX = 60
"""Bytes of i_block; what of inline data does not fit is in the attribute ``system.data``."""

EXTENT_TAIL_SIZE = 4
DIRENT = struct.Struct("<IHBB")
"""inode, rec_len, name_len, file_type, which without the feature filetype means nothing."""
DIRENT_MIN = 12
DIRENT_TAIL_TYPE, DIRENT_TAIL_SIZE = 0xDE, 12
INLINE_PARENT_SIZE = 4

XATTR_MAGIC = 0xEA02_0000
XATTR_HEADER = struct.Struct("<IIIII12x")
"""h_magic, h_refcount, h_blocks, h_hash, h_checksum."""
XATTR_CHECKSUM_AT = 16
XATTR_ENTRY = struct.Struct("<BBHIII")
"""e_name_len, e_name_index, e_value_offs, e_value_inum, e_value_size, e_hash."""
XATTR_PREFIXES: Final = {
    0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.",
    6: "security.", 7: "system.", 8: "system.richacl", 10: "gnu.",
}  # fmt: skip
"""Of 5 (Lustre) and 9 (encryption) nothing is shown, as the system does."""
XATTR_SYSTEM, XATTR_ACLS = 7, (2, 3)
XATTR_VALUE_MAX = 1 << 20
"""Bytes: the system allows 65,536."""
ACL_VERSION, ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HH")
ACL_WITH_ID = (0x02, 0x08)
"""ACL_USER and ACL_GROUP; the other entries have no id."""
