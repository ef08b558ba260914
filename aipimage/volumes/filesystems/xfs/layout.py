"""XFS on disk: the structures that free space depends on, as numpy records.

"XFS Algorithms & Data Structures" (the XFS disk format document): part "Global Structures",
sections Superblocks, AG Free Space Management, AG Inode Management, Journaling Log. All numbers are
big-endian but for checksums, which are CRC-32C, little-endian (section Self-Describing Metadata).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]

SUPERBLOCK_MAGIC = b"XFSB"
NULL_BLOCK = 0xFFFFFFFF
"""No block of an allocation group, such as the sibling of the last block of a level."""
NULL_LSN = 0xFFFFFFFFFFFFFFFF
"""A log sequence number that userspace writes."""
BASIC_BLOCK = 512
"""What disk addresses and the log count in, bytes."""


def _record(itemsize: int, **fields: tuple[str, int]) -> np.dtype[np.void]:
    """A record type whose ``fields`` (name -> type, offset) are those that are looked at."""
    spec: Any = {
        "names": list(fields),
        "formats": [kind for kind, _ in fields.values()],
        "offsets": [offset for _, offset in fields.values()],
        "itemsize": itemsize,
    }
    record: np.dtype[np.void] = np.dtype(spec)
    return record


SUPERBLOCK = _record(
    512,
    magic=("S4", 0), blocksize=(">u4", 4), dblocks=(">u8", 8), rblocks=(">u8", 16),
    uuid=("V16", 32), logstart=(">u8", 48), rootino=(">u8", 56),
    agblocks=(">u4", 84), agcount=(">u4", 88), logblocks=(">u4", 96),
    versionnum=(">u2", 100), sectsize=(">u2", 102), inodesize=(">u2", 104), inopblock=(">u2", 106),
    fname=("V12", 108),
    blocklog=("u1", 120), sectlog=("u1", 121), inodelog=("u1", 122), inopblog=("u1", 123),
    agblklog=("u1", 124), inprogress=("u1", 126), fdblocks=(">u8", 144), shared_vn=("u1", 179),
    features2=(">u4", 200), bad_features2=(">u4", 204),
    features_ro_compat=(">u4", 212), features_incompat=(">u4", 216),
    features_log_incompat=(">u4", 220), crc=("<u4", 224), lsn=(">u8", 240), meta_uuid=("V16", 248),
)  # fmt: skip

AGF = _record(
    512,
    magic=("S4", 0), versionnum=(">u4", 4), seqno=(">u4", 8), length=(">u4", 12),
    bno_root=(">u4", 16), cnt_root=(">u4", 20), rmap_root=(">u4", 24),
    bno_level=(">u4", 28), cnt_level=(">u4", 32), rmap_level=(">u4", 36),
    flfirst=(">u4", 40), fllast=(">u4", 44), flcount=(">u4", 48),
    freeblks=(">u4", 52), longest=(">u4", 56), btreeblks=(">u4", 60),
    uuid=("V16", 64), rmap_blocks=(">u4", 80), refcount_blocks=(">u4", 84),
    refcount_root=(">u4", 88), refcount_level=(">u4", 92), lsn=(">u8", 208), crc=("<u4", 216),
)  # fmt: skip

AGI = _record(
    512,
    magic=("S4", 0),
    versionnum=(">u4", 4),
    seqno=(">u4", 8),
    length=(">u4", 12),
    root=(">u4", 20),
    level=(">u4", 24),
    uuid=("V16", 296),
    crc=("<u4", 312),
    lsn=(">u8", 320),
    free_root=(">u4", 328),
    free_level=(">u4", 332),
)

AGFL = _record(
    512, magic=("S4", 0), seqno=(">u4", 4), uuid=("V16", 8), lsn=(">u8", 24), crc=("<u4", 32)
)
"""Version 5 only; before, the free list begins at the start of its sector."""
AGFL_HEADER = 36

SHORT_BLOCK = _record(
    16, magic=("S4", 0), level=(">u2", 4), numrecs=(">u2", 6), left=(">u4", 8), right=(">u4", 12)
)
"""A block of a B+tree inside of an allocation group: the first of its header."""
SHORT_BLOCK_CRC = _record(
    56,
    magic=("S4", 0),
    level=(">u2", 4),
    numrecs=(">u2", 6),
    left=(">u4", 8),
    right=(">u4", 12),
    blkno=(">u8", 16),
    lsn=(">u8", 24),
    uuid=("V16", 32),
    owner=(">u4", 48),
    crc=("<u4", 52),
)
"""The same in version 5."""

LOG_RECORD = _record(
    512,
    magic=(">u4", 0),
    cycle=(">u4", 4),
    version=(">u4", 8),
    len=(">u4", 12),
    lsn=(">u8", 16),
    crc=("<u4", 32),
    num_logops=(">u4", 40),
    uuid=("V16", 304),
    size=(">u4", 320),
)
LOG_MAGIC = 0xFEEDBABE
LOG_OPERATION = _record(12, len=(">u4", 4), clientid=("u1", 8), flags=("u1", 9))


# Superblock, sb_versionnum and sb_features2.
VERSION_MASK = 0x000F
VERSION_LOGV2 = 0x0400
VERSION_MOREBITS = 0x8000
LAZYSBCOUNT = 0x02
FEATURES2_KNOWN = 0x02 | 0x08 | 0x80 | 0x100 | 0x200

# Superblock, sb_features_ro_compat: finobt, rmapbt, reflink, inobtcount.
RO_FINOBT, RO_RMAPBT, RO_REFLINK = 1, 2, 4
RO_KNOWN = 0x0F
# Superblock, sb_features_incompat: ftype, spinodes, meta_uuid, bigtime, needsrepair, nrext64,
# exchrange, parent.
META_UUID, NEEDSREPAIR = 0x04, 0x10
INCOMPAT_KNOWN = 0xFF
# sb_features_log_incompat: logged extended attributes. It speaks of a log that is to be replayed.
LOG_INCOMPAT_KNOWN = 0x01


def records(rows: npt.NDArray[np.uint8], kind: np.dtype[np.void]) -> Records:
    """The record at the start of each row of an array of bytes."""
    return np.ascontiguousarray(rows[:, : kind.itemsize]).view(kind)[:, 0]


def offset_of(kind: np.dtype[np.void], name: str) -> int:
    """The byte of a record at which a field begins."""
    fields: Any = kind.fields
    return int(fields[name][1])
