"""Where a file's blocks begin: the way to its first block, and what is seen on it.

ext4 Data Structures, "The Contents of inode.i_block": extent trees, and direct and indirect blocks.
"""

from __future__ import annotations

import struct

from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView

BlockRanges = list[tuple[int, int]]
"""First block and blocks."""


def blocks_of_file(
    view: VolumeView, sb: Superblock, groups: Groups, number: int
) -> tuple[int, BlockRanges]:
    """Return the first block of a file, and blocks of it: all of those that its inode names and
    those of the extent nodes above its first block, so that at most 5 blocks are read.

    Raises:
        LayoutError: the inode is that of no file with content, or leads out of the file system.
    """
    view.allow(layout.EXTENT_DEPTH_MAX * sb.block_size)
    flags, blocks = inode_of(view, sb, groups, number)
    if flags & layout.EXTENTS_FL:
        return _through_extents(view, sb, blocks)
    numbers = struct.unpack("<15I", blocks)
    named = _verified(sb, [(block, 1) for block in numbers if block])
    if not numbers[0]:
        raise LayoutError(f"inode {number:,} has no first block")
    return numbers[0], named


def inode_of(view: VolumeView, sb: Superblock, groups: Groups, number: int) -> tuple[int, bytes]:
    """Return flags and i_block of a file's inode; ``LayoutError`` where it is that of none."""
    if not 0 < number <= sb.inodes_count:
        raise LayoutError(f"inode {number:,} is out of range")
    view.allow(sb.block_size)
    group, index = divmod(number - 1, sb.inodes_per_group)
    at = int(groups.inode_table[group]) * sb.block_size + index * sb.inode_size
    data = view.read(at, struct.calcsize(layout.INODE))
    mode, flags, blocks = struct.unpack(layout.INODE, data)
    if mode & layout.S_IFMT != layout.S_IFREG:
        raise LayoutError(f"inode {number:,} is not a file")
    return int(flags), bytes(blocks)


def _through_extents(view: VolumeView, sb: Superblock, node: bytes) -> tuple[int, BlockRanges]:
    """Go down to the first leaf; each node is one level below the last, so that this ends."""
    seen: BlockRanges = []
    depth = _depth(node)
    while True:
        if _depth(node) != depth:
            raise LayoutError("two levels of a file's extents contradict each other")
        found = _verified(sb, _entries(node, depth))
        seen += found
        first = found[0][0]
        if not depth:
            return first, seen
        depth -= 1
        node = view.read(first * sb.block_size, sb.block_size)


def _depth(node: bytes) -> int:
    """The verified depth of an extent node; its first entry is that of the file's first block."""
    depth = node_depth(node)
    (logical,) = struct.unpack_from("<I", node, layout.EXTENT_ENTRY_SIZE)
    if logical:
        raise LayoutError("a file begins with a hole")
    return depth


def node_depth(node: bytes) -> int:
    """The verified depth of an extent node that has at least one entry."""
    magic, entries, most, depth, _ = struct.unpack_from(layout.EXTENT_HEADER, node)
    room = len(node) // layout.EXTENT_ENTRY_SIZE - 1
    if magic != layout.EXTENT_MAGIC or not 0 < entries <= most <= room:
        raise LayoutError("a file's extents cannot be read")
    if depth > layout.EXTENT_DEPTH_MAX:
        raise LayoutError("a file's extents are too deep")
    return int(depth)


def named_by_node(node: bytes) -> BlockRanges:
    """Blocks that an extent node names itself; none where it is another thing, or empty."""
    try:
        return [run for run in _entries(node, node_depth(node)) if run[1]]
    except LayoutError:
        return []


def _entries(node: bytes, depth: int) -> BlockRanges:
    size = layout.EXTENT_ENTRY_SIZE
    count = struct.unpack_from(layout.EXTENT_HEADER, node)[1]
    found: BlockRanges = []
    for at in range(size, size + count * size, size):
        if depth:
            _, low, high, _ = struct.unpack_from(layout.EXTENT_INDEX, node, at)
            found.append((high << 32 | low, 1))
            continue
        _, length, high, low = struct.unpack_from(layout.EXTENT, node, at)
        if length > layout.EXTENT_INITIALISED_MAX:
            length -= layout.EXTENT_INITIALISED_MAX
        found.append((high << 32 | low, length))
    return found


def _verified(sb: Superblock, ranges: BlockRanges) -> BlockRanges:
    for block, count in ranges:
        if not count or not sb.first_data_block < block <= block + count <= sb.blocks:
            raise LayoutError(f"a file's block {block:,} is out of range")
    return ranges
