"""Where the fields of log records and log items lie; no logic.

"XFS Algorithms & Data Structures", section Journaling Log. Records and operations are big-endian;
items have the byte order of the machine that wrote them, which the record names.
"""

from __future__ import annotations

import struct
from typing import Final

BASIC_BLOCK = 512
RECORD_MAGIC = 0xFEEDBABE
RECORD: Final = struct.Struct(">IIIIQQIIII")
"""h_magicno, h_cycle, h_version, h_len, h_lsn, h_tail_lsn, h_crc (little-endian, unused here),
h_prev_block, h_num_logops, and the first word of h_cycle_data.
"""
CRC_AT = 32
CYCLE_DATA_AT = 44
FORMAT: Final = struct.Struct(">I16sI")
"""h_fmt, h_fs_uuid, h_size, at 300."""
FORMAT_AT = 300
FORMAT_LINUX_LITTLE = 1
VERSIONS_KNOWN = 3
HEADER_COVERS = 32 << 10
"""Bytes of data whose first words one header block keeps."""
WORDS_A_HEADER = 64
RECORD_MAX = 256 << 10
IN_FLIGHT = 8
"""Records that may be written at a time (XLOG_MAX_ICLOGS)."""
CRC_SIZES = (328, 324)
"""Bytes of a record header that its checksum covers: 64-bit systems, and 32-bit x86."""
EXTENDED_SIZE = 260
"""The same of each further header."""

OPERATION: Final = struct.Struct(">IIBBH")
"""oh_tid, oh_len, oh_clientid, oh_flags, oh_res2."""
CLIENT_TRANSACTION, CLIENT_LOG = 0x69, 0xAA
START, COMMIT, CONTINUE, WAS_CONTINUED, END, UNMOUNT = 1, 2, 4, 8, 0x10, 0x20
TRANSACTION_MAGIC = 0x5452414E
TRANSACTION_HEADER = 16
REGIONS_MAX = 257
"""Regions of an item: every second chunk of the largest buffer, and what describes them."""

EFI, EFD = 0x1236, 0x1237
INODE, BUFFER, DQUOT, QUOTAOFF, ICREATE = 0x123B, 0x123C, 0x123D, 0x123E, 0x123F
RUI, RUD, CUI, CUD, BUI, BUD = 0x1240, 0x1241, 0x1242, 0x1243, 0x1244, 0x1245
ATTRI, ATTRD, XMI, XMD = 0x1246, 0x1247, 0x1248, 0x1249
DONE_OF: Final = {EFD: EFI, RUD: RUI, CUD: CUI, BUD: BUI, ATTRD: ATTRI, XMD: XMI}
"""Items that say that what another one announced was done."""

BUFFER_FORMAT: Final = struct.Struct("<HHHHqI")
"""blf_type, blf_size, blf_flags, blf_len, blf_blkno, blf_map_size; the bits follow."""
CHUNK = 128
"""Bytes that a bit of a buffer stands for."""
BUFFER_BLOCKS_MAX = 128
"""Basic blocks of a buffer: 64 KiB."""
INODE_BUFFER, CANCEL, DQUOT_FLAGS = 1, 2, 0x1C
TYPE_SHIFT = 11
TYPE_SUPERBLOCK = 18
"""What bits 11 to 15 of the flags say a buffer is (xfs_blft): the superblock."""
TYPES_KNOWN: Final = frozenset(range(1, 19))

INODE_FORMAT: Final = struct.Struct("<HHIHHIQ16sqii")
"""ilf_type, ilf_size, ilf_fields, ilf_asize, ilf_dsize, padding, ilf_ino, ilf_u, ilf_blkno,
ilf_len, ilf_boffset.
"""
ICREATE_FORMAT: Final = struct.Struct("<HH")
ICREATE_FIELDS: Final = struct.Struct(">IIIIII")
"""icl_ag, icl_agbno, icl_count, icl_isize, icl_length, icl_gen."""
DQUOT_FORMAT: Final = struct.Struct("<HHIqiI")
"""qlf_type, qlf_size, qlf_id, qlf_blkno, qlf_len, qlf_boffset."""
INTENT: Final = struct.Struct("<HHIQ")
"""Type, size, number of extents (or padding), and the id which the item that ends it names."""
EXTENT_FORMS: Final = {
    EFI: struct.Struct("<QI4x"),
    CUI: struct.Struct("<QI4x"),
    RUI: struct.Struct("<8xQ8xI4x"),
    BUI: struct.Struct("<8xQ8xI4x"),
}
"""First block and blocks of each extent that an intent names."""
