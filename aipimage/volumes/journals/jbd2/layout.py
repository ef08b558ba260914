"""Where the fields of a journal lie; no logic. Big-endian, but for fast commits.

ext4 Data Structures, "Journal (jbd2)". The names are those of that document.
"""

from __future__ import annotations

import struct
from typing import Final

MAGIC = 0xC03B3998
HEADER: Final = struct.Struct(">III")
"""h_magic, h_blocktype, h_sequence."""
DESCRIPTOR, COMMIT, SUPERBLOCK_V1, SUPERBLOCK_V2, REVOKE = 1, 2, 3, 4, 5

SUPERBLOCK_SIZE = 1024
SUPERBLOCK: Final = struct.Struct(">6I")
"""s_blocksize, s_maxlen, s_first, s_sequence, s_start, s_errno, at 12."""
SUPERBLOCK_AT = 12
FEATURES: Final = struct.Struct(">III16sI")
"""s_feature_compat, _incompat, _ro_compat, s_uuid, s_nr_users, at 36."""
FEATURES_AT = 36
CHECKSUM_TYPE_AT, FAST_BLOCKS_AT, CHECKSUM_AT = 0x50, 0x54, 0xFC
CHECKSUM_CRC32C = 4

COMPAT_CHECKSUM = 1
REVOKES, IS_64BIT, ASYNC_COMMIT, CSUM_V2, CSUM_V3, FAST_COMMIT = 1, 2, 4, 8, 0x10, 0x20
INCOMPAT_KNOWN = REVOKES | IS_64BIT | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT

TAG_V3: Final = struct.Struct(">IIII")
"""t_blocknr, t_flags, t_blocknr_high, t_checksum."""
TAG: Final = struct.Struct(">IHH")
"""t_blocknr, t_checksum, t_flags; t_blocknr_high follows with 64bit, 2 more bytes with csum_v2."""
ESCAPED, SAME_UUID, DELETED, LAST = 1, 2, 4, 8
UUID_SIZE, TAIL_SIZE = 16, 4

COMMIT_BLOCK: Final = struct.Struct(">BB2xI28xQ")
"""h_chksum_type, h_chksum_size, h_chksum[0], h_commit_sec, at 12."""
COMMIT_AT, COMMIT_CHECKSUM_AT = 12, 16
CHECKSUM_CRC32, CHECKSUM_CRC32_SIZE = 1, 4
REVOKE_COUNT_AT, REVOKE_RECORDS_AT = 12, 16

FAST_BLOCKS_DEFAULT = 256
BLOCKS_MIN = 1024
"""Blocks that a journal keeps beside its fast commits."""
FAST_TAG: Final = struct.Struct("<HH")
"""fc_tag, fc_len."""
ADD_RANGE, DEL_RANGE, CREAT, LINK, UNLINK, INODE, PAD, TAIL, HEAD = range(1, 10)
FAST_HEAD: Final = struct.Struct("<II")
"""fc_features, fc_tid."""
FAST_RANGE: Final = struct.Struct("<I4xHHI")
"""fc_ino, and of the extent ee_len, ee_start_hi, ee_start_lo."""
FAST_INODE: Final = struct.Struct("<I")
"""fc_ino; the inode follows."""
