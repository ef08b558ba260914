"""All blocks of a file, in their order: the whole extent tree, or all indirect blocks.

ext4 Data Structures, "The Contents of inode.i_block". What is read here is the journal, which has
no holes; a file with a hole is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.extents import inode_of, node_depth
from aipimage.volumes.filesystems.ext.groups import Groups
from aipimage.volumes.filesystems.ext.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView

BLOCKS_MAX = 1 << 24
"""Blocks of a file: 64 GiB in blocks of 4 KiB; mke2fs makes no journal of more than 40 GB."""
NODES_MAX = 1 << 16
"""Blocks of extents or of block numbers."""
RUNS_MAX = 1 << 20
Runs = npt.NDArray[np.int64]


class FileMap(NamedTuple):
    """Where a file lies.

    Attributes:
        runs: shape (n, 3): first block of the file, first block of the volume, blocks; ascending,
            from 0 on, without gaps.
        nodes: blocks of the volume that hold the map itself.
    """

    runs: Runs
    nodes: list[int]


def map_of_file(view: VolumeView, sb: Superblock, groups: Groups, number: int) -> FileMap:
    """Return where all of a file lies; every block is inside of the file system.

    Raises:
        LayoutError: it has holes, or its map is damaged or too large to be looked at.
    """
    flags, blocks = inode_of(view, sb, groups, number)
    walk = _Walk(view, sb)
    if flags & layout.EXTENTS_FL:
        runs = list(walk.extents(blocks, node_depth(blocks)))
    else:
        runs = list(walk.numbers(struct.unpack("<15I", blocks)))
    return FileMap(_verified(sb, runs), walk.nodes)


class _Walk:
    """Reads the blocks of a map; each level is below the one before, so that it ends."""

    def __init__(self, view: VolumeView, sb: Superblock) -> None:
        self._view, self._sb = view, sb
        self.nodes: list[int] = []

    def _node(self, block: int) -> bytes:
        if not self._sb.first_data_block < block < self._sb.blocks:
            raise LayoutError(f"a file's block {block:,} is out of range")
        self.nodes.append(block)
        if len(self.nodes) > NODES_MAX:
            raise LayoutError("a file's map is larger than can be looked at")
        self._view.allow(self._sb.block_size)
        return self._view.read(block * self._sb.block_size, self._sb.block_size)

    def extents(self, node: bytes, depth: int) -> Iterator[tuple[int, int, int]]:
        """Yield (block of the file, block of the volume, blocks) of an extent tree."""
        if node_depth(node) != depth:
            raise LayoutError("two levels of a file's extents contradict each other")
        size = layout.EXTENT_ENTRY_SIZE
        count = struct.unpack_from(layout.EXTENT_HEADER, node)[1]
        for at in range(size, size + count * size, size):
            if depth:
                _, low, high, _ = struct.unpack_from(layout.EXTENT_INDEX, node, at)
                yield from self.extents(self._node(high << 32 | low), depth - 1)
                continue
            logical, length, high, low = struct.unpack_from(layout.EXTENT, node, at)
            if not 0 < length <= layout.EXTENT_INITIALISED_MAX:
                raise LayoutError("a file has blocks without content")
            yield logical, high << 32 | low, length

    def numbers(self, blocks: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """Yield the same of a file that lists its blocks; it ends where the first is missing."""
        count = 0
        for level, part in enumerate((blocks[:12], blocks[12:13], blocks[13:14], blocks[14:])):
            for run in self._below(np.array(part, np.int64), level):
                yield count, *run
                count += run[1]
            if not part[-1]:
                return

    def _below(self, blocks: npt.NDArray[np.int64], level: int) -> Iterator[tuple[int, int]]:
        """Yield runs of the blocks that numbers at a level lead to, up to the first 0."""
        ends = np.flatnonzero(blocks == 0)
        blocks = blocks[: int(ends[0])] if len(ends) else blocks
        if not len(blocks):
            return
        if not level:
            heads = np.flatnonzero(np.diff(blocks, prepend=-2) != 1).tolist()
            for low, high in zip(heads, [*heads[1:], len(blocks)], strict=True):
                yield int(blocks[low]), high - low
            return
        for block in blocks.tolist():
            numbers = np.frombuffer(self._node(block), "<u4").astype(np.int64)
            yield from self._below(numbers, level - 1)
            if not numbers.all():
                return


def _verified(sb: Superblock, runs: list[tuple[int, int, int]]) -> Runs:
    found = np.array(runs, np.int64).reshape(-1, 3)
    if not 0 < len(found) <= RUNS_MAX:
        raise LayoutError("a file's map cannot be looked at")
    if (np.cumsum(found[:, 2]) - found[:, 2] != found[:, 0]).any():
        raise LayoutError("a file has a hole, or its blocks are not in their order")
    ends = found[:, 1] + found[:, 2]
    if (found[:, 1] <= sb.first_data_block).any() or (ends > sb.blocks).any():
        raise LayoutError("a file's blocks are out of range")
    if int(found[:, 2].sum()) > BLOCKS_MAX:
        raise LayoutError("a file is larger than can be looked at")
    return found
