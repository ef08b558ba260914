"""The superblock of a journal."""

from __future__ import annotations

import struct
from typing import NamedTuple

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.journals.jbd2 import layout
from aipimage.volumes.view import LayoutError

_ALL_ONES = 0xFFFFFFFF


class Journal(NamedTuple):
    """What a journal's superblock says, verified. Blocks are numbered within the journal.

    Attributes:
        block_size: bytes. first: block of the ring. last: the block after the ring. end: the block
            after the journal.
        sequence: of the first transaction. start: block at which it begins; 0: nothing is to be
            replayed.
        csum: version of the checksums: 0 (none), 1, 2 or 3. seed: of those of version 2 and 3.
        is_64bit, is_async, has_fast_commits: features.
    """

    block_size: int
    first: int
    last: int
    end: int
    sequence: int
    start: int
    csum: int
    seed: int
    is_64bit: bool
    is_async: bool
    has_fast_commits: bool

    @property
    def ring(self) -> int:
        """Blocks of the ring."""
        return self.last - self.first

    @property
    def tag_size(self) -> int:
        """Bytes of a tag of a descriptor."""
        if self.csum == 3:
            return layout.TAG_V3.size
        return layout.TAG.size + 4 * self.is_64bit + 2 * (self.csum == 2)

    @property
    def tail_size(self) -> int:
        """Bytes at the end of descriptors and revoke blocks that their checksum takes."""
        return layout.TAIL_SIZE if self.csum >= 2 else 0


def journal_of(data: bytes, block_size: int, blocks: int) -> Journal:
    """Return what 1,024 bytes say of a journal of ``blocks`` blocks.

    Raises:
        LayoutError: a feature is not known, or a number contradicts the others.
    """
    magic, kind, _ = layout.HEADER.unpack_from(data)
    if magic != layout.MAGIC or kind not in (layout.SUPERBLOCK_V1, layout.SUPERBLOCK_V2):
        raise LayoutError("it has no superblock")
    size, end, first, sequence, start, errno = layout.SUPERBLOCK.unpack_from(
        data, layout.SUPERBLOCK_AT
    )
    compat, incompat, ro_compat, uuid, _ = layout.FEATURES.unpack_from(data, layout.FEATURES_AT)
    if kind == layout.SUPERBLOCK_V1:
        compat = incompat = ro_compat = 0
    unknown = compat & ~layout.COMPAT_CHECKSUM | incompat & ~layout.INCOMPAT_KNOWN | ro_compat
    if unknown:
        raise LayoutError(f"it has features that are not known ({unknown:#x})")
    csum = _checksums(data, compat, incompat)
    if errno:
        raise LayoutError("it was ended by an error")
    last = end - _fast_blocks(data, end) if incompat & layout.FAST_COMMIT else end
    if size != block_size or not end <= blocks or not 0 < first < last:
        raise LayoutError(f"it has {end:,} blocks of {size:,} bytes from {first:,} on")
    if start and not first <= start < last:
        raise LayoutError(f"it begins at block {start:,}, which it does not have")
    return Journal(
        block_size, first, last, end, sequence, start, csum, crc32c(uuid, _ALL_ONES),
        bool(incompat & layout.IS_64BIT), bool(incompat & layout.ASYNC_COMMIT),
        bool(incompat & layout.FAST_COMMIT),
    )  # fmt: skip


def _checksums(data: bytes, compat: int, incompat: int) -> int:
    """The version of the checksums; those of version 2 and 3 cover the superblock as well."""
    found = [
        version
        for version, there in (
            (1, compat & layout.COMPAT_CHECKSUM),
            (2, incompat & layout.CSUM_V2),
            (3, incompat & layout.CSUM_V3),
        )
        if there
    ]
    if len(found) > 1:
        raise LayoutError("it has checksums of two kinds")
    if not found or found == [1]:
        return found[0] if found else 0
    if data[layout.CHECKSUM_TYPE_AT] != layout.CHECKSUM_CRC32C:
        raise LayoutError("it has checksums of an unknown kind")
    at = layout.CHECKSUM_AT
    (stored,) = struct.unpack_from(">I", data, at)
    if crc32c(data[:at] + bytes(4) + data[at + 4 : layout.SUPERBLOCK_SIZE], _ALL_ONES) != stored:
        raise LayoutError("its superblock has a wrong checksum")
    return found[0]


def _fast_blocks(data: bytes, end: int) -> int:
    (number,) = struct.unpack_from(">I", data, layout.FAST_BLOCKS_AT)
    number = number or layout.FAST_BLOCKS_DEFAULT
    if end - number < layout.BLOCKS_MIN:
        raise LayoutError("its fast commits leave no room for others")
    return int(number)
