"""Block group descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.crc import crc16, crc16_rows
from aipimage.volumes.filesystems.ext.superblock import Superblock, has_superblock
from aipimage.volumes.view import LayoutError, VolumeView

PIECE_BYTES = 4 << 20
"""Blocks that are read and verified at a time."""
Blocks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """What the descriptors say, an array each, one entry a group.

    Attributes:
        block_bitmap, inode_bitmap, inode_table: first blocks, all inside of the file system with
            all that belongs to them.
        free: clusters. is_uninit: no bitmap was ever written. bitmap_csum: of the bitmap.
    """

    block_bitmap: Blocks
    inode_bitmap: Blocks
    inode_table: Blocks
    free: Blocks
    is_uninit: npt.NDArray[np.bool_]
    bitmap_csum: npt.NDArray[np.uint32]


def read_groups(view: VolumeView, sb: Superblock) -> Groups:
    """Read and verify all descriptors.

    Raises:
        LayoutError: one has a wrong checksum, or leads out of the file system or of its group.
    """
    view.allow(sb.desc_blocks * sb.block_size)
    blocks = descriptor_blocks(sb)
    a_block = sb.block_size // sb.desc_size
    step = PIECE_BYTES // sb.block_size
    pieces = []
    for at in range(0, len(blocks), step):
        first = at * a_block
        rows = read_blocks(view, blocks[at : at + step], sb.block_size)
        rows = rows.reshape(-1, sb.desc_size)[: sb.groups - first]
        _check_descriptors(sb, rows, first)
        piece = _decoded(sb, rows)
        _check_places(sb, piece, first)
        pieces.append(piece)
    return Groups(
        *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in Groups.__slots__)
    )


def descriptor_blocks(sb: Superblock) -> Blocks:
    """The blocks that hold the descriptors: behind the superblock, from ``first_meta_bg`` on in
    the first of the groups that they describe (ext4 Data Structures, "Meta Block Groups").
    """
    numbers = np.arange(sb.desc_blocks, dtype=np.int64)
    blocks = sb.superblock_block + 1 + numbers
    group = numbers * (sb.block_size // sb.desc_size)
    own = sb.first_data_block + group * sb.blocks_per_group + has_superblock(sb)[group]
    if sb.first_data_block < sb.superblock_block:
        own[0] += 1
    return np.where(numbers < sb.first_meta_bg, blocks, own)


def read_blocks(view: VolumeView, blocks: Blocks, block_size: int) -> npt.NDArray[np.uint8]:
    """Return blocks that lie anywhere, shape (n, bytes); neighbours are read together."""
    found = np.empty((len(blocks), block_size), np.uint8)
    order = np.argsort(blocks, kind="stable")
    ascending = blocks[order]
    heads = np.flatnonzero(np.diff(ascending, prepend=-2) != 1).tolist()
    for head, tail in zip(heads, [*heads[1:], len(blocks)], strict=True):
        data = view.read_array(int(ascending[head]) * block_size, (tail - head) * block_size)
        found[order[head:tail]] = data.reshape(-1, block_size)
    return found


def _check_descriptors(sb: Superblock, rows: npt.NDArray[np.uint8], first: int) -> None:
    """ext4 Data Structures, "Block Group Descriptors", bg_checksum."""
    if not sb.has_group_checksums:
        return
    numbers = np.arange(first, first + len(rows), dtype="<u4").view(np.uint8).reshape(-1, 4)
    at = layout.DESC_CHECKSUM_AT
    said = rows[:, at : at + 2].copy().view("<u2")[:, 0]
    if sb.has_metadata_csum:
        zeros = np.zeros((len(rows), 2), np.uint8)
        covered = np.hstack((numbers, rows[:, :at], zeros, rows[:, at + 2 :]))
        wrong = crc32c_rows(covered, sb.seed) & np.uint32(0xFFFF) != said
    else:
        covered = np.hstack((numbers, rows[:, :at], rows[:, at + 2 :]))
        wrong = crc16_rows(covered, crc16(sb.uuid, 0xFFFF)) != said
    if wrong.any():
        raise LayoutError(
            f"the descriptor of its group {first + int(wrong.argmax()):,} has a wrong checksum"
        )


def _decoded(sb: Superblock, rows: npt.NDArray[np.uint8]) -> Groups:
    records = np.ascontiguousarray(rows).view(layout.descriptor_dtype(sb.desc_size))[:, 0]

    def number(name: str, bits: int) -> npt.NDArray[np.uint64]:
        low = records[f"{name}_lo"].astype(np.uint64)
        if sb.desc_size < layout.DESC_SIZE_64BIT_MIN:
            return low
        return low | records[f"{name}_hi"].astype(np.uint64) << np.uint64(bits)

    def block(name: str) -> Blocks:
        # What is too large for a block becomes a number that every check refuses.
        return np.minimum(number(name, 32), np.uint64(sb.blocks)).astype(np.int64)

    flagged = (records["bg_flags"] & layout.BG_BLOCK_UNINIT) != 0
    return Groups(
        block_bitmap=block("bg_block_bitmap"),
        inode_bitmap=block("bg_inode_bitmap"),
        inode_table=block("bg_inode_table"),
        free=number("bg_free_blocks_count", 16).astype(np.int64),
        is_uninit=flagged & sb.has_group_checksums,
        bitmap_csum=number("bg_block_bitmap_csum", 16).astype(np.uint32),
    )


def _check_places(sb: Superblock, piece: Groups, first: int) -> None:
    """All of a group lies in the file system; without flex_bg, in the group itself."""
    low = np.full(len(piece.free), sb.first_data_block, np.int64)
    high = np.full(len(piece.free), sb.blocks, np.int64)
    if not sb.incompat & layout.INCOMPAT_FLEX_BG:
        low += np.arange(first, first + len(low)) * sb.blocks_per_group
        high = np.minimum(low + sb.blocks_per_group, high)
    places = (
        ("block bitmap", piece.block_bitmap, 1),
        ("inode bitmap", piece.inode_bitmap, 1),
        ("inode table", piece.inode_table, sb.itable_blocks),
    )
    for name, start, length in places:
        wrong = np.flatnonzero((start < low) | (start + length > high))
        if len(wrong):
            raise LayoutError(
                f"the {name} of its group {first + int(wrong[0]):,} cannot be where its descriptor "
                "says"
            )
