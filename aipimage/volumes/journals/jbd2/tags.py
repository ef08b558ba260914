"""Descriptor and revoke blocks: which blocks of the volume a transaction writes, and which of them
must not be written any more.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.journals.jbd2 import layout
from aipimage.volumes.journals.jbd2.superblock import Journal
from aipimage.volumes.view import LayoutError

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def tags_of(journal: Journal, data: bytes, limit: int) -> npt.NDArray[np.int64]:
    """Return the tags of a descriptor, shape (n, 3): block of the volume, or ``limit`` where it is
    larger; whether the logged block is escaped; its checksum. ``LayoutError`` for a flag that is
    not known.
    """
    found, at, end = [], layout.HEADER.size, len(data) - journal.tail_size
    while at + journal.tag_size <= end:
        if journal.csum == 3:
            low, flags, high, checksum = layout.TAG_V3.unpack_from(data, at)
        else:
            low, checksum, flags = layout.TAG.unpack_from(data, at)
            high = struct.unpack_from(">I", data, at + 8)[0] if journal.is_64bit else 0
        if flags & ~(layout.ESCAPED | layout.SAME_UUID | layout.DELETED | layout.LAST):
            raise LayoutError("a transaction in it has flags that are not known")
        block = (high << 32 if journal.is_64bit else 0) | low
        found.append((min(block, limit), flags & layout.ESCAPED, checksum))
        at += journal.tag_size + (0 if flags & layout.SAME_UUID else layout.UUID_SIZE)
        if flags & layout.LAST:
            break
    return np.array(found, np.int64).reshape(-1, 3)


def revokes_of(journal: Journal, data: bytes) -> npt.NDArray[np.int64]:
    """Return the blocks that a revoke block names."""
    (end,) = struct.unpack_from(">I", data, layout.REVOKE_COUNT_AT)
    if not layout.REVOKE_RECORDS_AT <= end <= len(data) - journal.tail_size:
        raise LayoutError("a list of revoked blocks in it is damaged")
    size = 8 if journal.is_64bit else 4
    body = data[layout.REVOKE_RECORDS_AT : end]
    numbers = np.frombuffer(body[: len(body) // size * size], f">u{size}")
    # What is too large for a block becomes a number that every check refuses.
    found: npt.NDArray[np.int64] = np.minimum(numbers, np.uint64(1 << 62)).astype(np.int64)
    return found


def has_right_tail(journal: Journal, data: bytes) -> bool:
    """Whether the checksum at the end of a descriptor or revoke block is right."""
    if not journal.tail_size:
        return True
    (stored,) = struct.unpack_from(">I", data, len(data) - 4)
    return bool(crc32c(data[:-4] + bytes(4), journal.seed) == stored)


def has_right_commit(journal: Journal, data: bytes, transaction: int) -> bool:
    """Whether the checksum of a commit block is right; ``transaction``: that of version 1."""
    kind, size, stored, _ = layout.COMMIT_BLOCK.unpack_from(data, layout.COMMIT_AT)
    if journal.csum >= 2:
        at = layout.COMMIT_CHECKSUM_AT
        return crc32c(data[:at] + bytes(4) + data[at + 4 :], journal.seed) == int(stored)
    if journal.csum == 1 and (kind or size or stored):
        wanted = layout.CHECKSUM_CRC32, layout.CHECKSUM_CRC32_SIZE, transaction
        return bool((kind, size, stored) == wanted)
    return True


def crc32_big_endian(data: bytes, register: int) -> int:
    """CRC-32 with the highest bit first, as version 1 has it; not inverted. Mirroring every byte
    and the register makes it the usual one.
    """
    mirrored = _mirrored(register) ^ 0xFFFFFFFF
    return _mirrored(zlib.crc32(data.translate(_REVERSED), mirrored) ^ 0xFFFFFFFF)


def _mirrored(register: int) -> int:
    return int.from_bytes(register.to_bytes(4, "little").translate(_REVERSED), "big")
