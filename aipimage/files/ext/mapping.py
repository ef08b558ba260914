"""Where the blocks of a file are: extent trees and indirect blocks, with holes.

ext4 Data Structures, "The Contents of inode.i_block".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.errors import LimitError
from aipimage.files.errors import DamagedVolumeError
from aipimage.files.ext import layout
from aipimage.files.ext.inodes import Inode
from aipimage.files.model import RUNS_MAX, Runs
from aipimage.files.window import Window
from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext import layout as ext
from aipimage.volumes.filesystems.ext.superblock import Superblock

_BLOCKS_MAX = 1 << 32
_EXTENT = np.dtype([("block", "<u4"), ("length", "<u2"), ("high", "<u2"), ("low", "<u4")])
_INDEX = np.dtype([("block", "<u4"), ("low", "<u4"), ("high", "<u2"), ("unused", "<u2")])
Rows = npt.NDArray[np.int64]


def runs_of(window: Window, sb: Superblock, inode: Inode) -> Runs:
    """Return where the content of a file lies, in bytes, up to its size; what is not there, or was
    never written, reads as zeros.

    Raises:
        DamagedVolumeError: its map contradicts itself or leads out of the volume.
        LimitError: it is in more than 4,194,304 pieces.
    """
    walk = _Walk(window, sb, inode)
    if inode.flags & layout.EXTENTS_FL:
        rows = list(walk.extents(inode.blocks, None, 0, _BLOCKS_MAX))
    else:
        rows = list(walk.numbers(struct.unpack("<15I", inode.blocks)))
    return _in_bytes(sb, inode, rows)


class _Walk:
    """Reads the blocks of a map. None is read twice, so that it ends whatever they lead to."""

    def __init__(self, window: Window, sb: Superblock, inode: Inode) -> None:
        self._window, self._sb, self._inode = window, sb, inode
        self._seen: set[int] = set()
        self._count = 0

    def _node(self, block: int) -> bytes:
        if not self._sb.first_data_block < block < self._sb.blocks:
            raise DamagedVolumeError(f"damaged: its map leads to block {block:,}")
        if block in self._seen:
            raise DamagedVolumeError(f"damaged: its map has block {block:,} twice")
        self._seen.add(block)
        size = self._sb.block_size
        return self._window.structure(block * size, size)

    def _counted(self, rows: Rows) -> Rows:
        self._count += len(rows)
        if self._count > RUNS_MAX:
            raise LimitError(f"it is in more than {RUNS_MAX:,} pieces")
        return rows

    # Extents

    def extents(self, node: bytes, depth: int | None, low: int, high: int) -> Iterator[Rows]:
        """Yield (block of the file, block of the volume, blocks) of the written extents of a node
        that stands for the blocks from ``low`` to below ``high``.
        """
        magic, count, most, found, _ = struct.unpack_from(ext.EXTENT_HEADER, node)
        room = len(node) // ext.EXTENT_ENTRY_SIZE - 1
        if magic != ext.EXTENT_MAGIC or not count <= most <= room:
            raise DamagedVolumeError("damaged: its extents cannot be read")
        if found > ext.EXTENT_DEPTH_MAX or depth not in (None, found):
            raise DamagedVolumeError("damaged: two levels of its extents contradict each other")
        if depth is not None:
            self._check(node, most)
        kind = _INDEX if found else _EXTENT
        entries = np.frombuffer(node, kind, count, ext.EXTENT_ENTRY_SIZE)
        starts = entries["block"].astype(np.int64)
        places = entries["high"].astype(np.int64) << 32 | entries["low"]
        if not found:
            yield self._counted(_leaf(entries, starts, places, low, high))
            return
        bounds = [*starts.tolist(), high]
        if bounds != sorted(set(bounds)) or (count and bounds[0] < low):
            raise DamagedVolumeError("damaged: its extents are not in their order")
        for place, first, last in zip(places.tolist(), bounds, bounds[1:], strict=False):
            yield from self.extents(self._node(place), found - 1, first, last)

    def _check(self, node: bytes, most: int) -> None:
        """The checksum of a block of extents lies after the room for its entries."""
        at = ext.EXTENT_ENTRY_SIZE * (most + 1)
        if not self._sb.has_metadata_csum:
            return
        if at + layout.EXTENT_TAIL_SIZE > len(node):
            raise DamagedVolumeError("damaged: a block of its extents has no checksum")
        (said,) = struct.unpack_from("<I", node, at)
        if crc32c(node[:at], self._inode.seed) != said:
            raise DamagedVolumeError("damaged: a block of its extents has a wrong checksum")

    # Block numbers

    def numbers(self, blocks: tuple[int, ...]) -> Iterator[Rows]:
        """Yield the same of a file that lists its blocks; 0 stands for a hole."""
        each, first = self._sb.block_size // 4, 0
        for level, part in enumerate((blocks[:12], blocks[12:13], blocks[13:14], blocks[14:])):
            span = each**level
            yield from self._below(np.array(part, np.int64), level, first)
            first += len(part) * span

    def _below(self, blocks: Rows, level: int, first: int) -> Iterator[Rows]:
        there = np.flatnonzero(blocks)
        size = self._sb.block_size
        if not level:
            numbers = blocks[there]
            heads = np.flatnonzero(
                (np.diff(numbers, prepend=-2) != 1) | (np.diff(there, prepend=-2) != 1)
            )
            lengths = np.diff(heads, append=len(numbers))
            yield self._counted(np.column_stack((there[heads] + first, numbers[heads], lengths)))
            return
        span = (size // 4) ** (level - 1)
        for index in there.tolist():
            start = first + index * span * (size // 4)
            if start * size >= self._inode.size and self._inode.kind == "file":
                return  # what is past the end is never read
            node = np.frombuffer(self._node(int(blocks[index])), "<u4").astype(np.int64)
            yield from self._below(node, level - 1, start)


def _leaf(entries: npt.NDArray[np.void], starts: Rows, places: Rows, low: int, high: int) -> Rows:
    """The written extents of a leaf; a longer length stands for one that was never written."""
    lengths = entries["length"].astype(np.int64)
    unwritten = lengths > ext.EXTENT_INITIALISED_MAX
    lengths = np.where(unwritten, lengths - ext.EXTENT_INITIALISED_MAX, lengths)
    ends = starts + lengths
    if len(starts) and (
        not lengths.all() or (starts[1:] < ends[:-1]).any() or starts[0] < low or ends[-1] > high
    ):
        raise DamagedVolumeError("damaged: its extents overlap, or are not in their order")
    rows: Rows = np.column_stack((starts, places, lengths))[~unwritten]
    return rows


def _in_bytes(sb: Superblock, inode: Inode, rows: list[Rows]) -> Runs:
    """The rows up to the end of the file; all of them lie inside of the file system."""
    found = np.concatenate([np.empty((0, 3), np.int64), *rows])
    first, ends = found[:, 1], found[:, 1] + found[:, 2]
    if (first <= sb.first_data_block).any() or (ends > sb.blocks).any():
        raise DamagedVolumeError("damaged: its map leads out of the file system")
    found *= sb.block_size
    found = found[found[:, 0] < inode.size]
    found[:, 2] = np.minimum(found[:, 2], inode.size - found[:, 0])
    return found
