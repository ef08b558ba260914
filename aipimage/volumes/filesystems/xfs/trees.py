"""The two B+trees in which an allocation group keeps its free space: by block and by length.

"XFS Algorithms & Data Structures", section AG Free Space B+trees. The trees of many groups are
walked together, level by level from the roots down: what is said of a block is an element of an
array. A block tells its own level, which falls with every step, and no level may name a block
twice: so a walk ends, and no loop is possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.xfs import layout
from aipimage.volumes.filesystems.xfs.groups import Groups, Numbers, check_own
from aipimage.volumes.filesystems.xfs.layout import NULL_BLOCK, Records
from aipimage.volumes.filesystems.xfs.superblock import Superblock, check_crc
from aipimage.volumes.view import LayoutError, VolumeView

_CHUNK_BYTES = 2 << 20
_RUN_BYTES = 1 << 20


class Level(NamedTuple):
    """Blocks of a level, those of all groups, in the order of their keys.

    Attributes:
        groups: index of each block's group. blocks: number within it. keys: what the block above
            says the first record is, (start block, blocks), or -1 for a root.
    """

    groups: Numbers
    blocks: Numbers
    keys: Numbers

    @classmethod
    def joined(cls, parts: list[Level]) -> Level:
        """Several, in the order of their groups; blocks of one group keep their order."""
        groups = np.concatenate([part.groups for part in parts])
        order = np.argsort(groups, kind="stable")
        blocks = np.concatenate([part.blocks for part in parts])[order]
        return cls(groups[order], blocks, np.concatenate([part.keys for part in parts])[order])


class Leaves(NamedTuple):
    """Records of leaves next to each other.

    Attributes:
        groups: index of each record's group. starts: its block within the group. counts: blocks.
    """

    groups: Numbers
    starts: Numbers
    counts: Numbers


class Tree:
    """One of the two trees, of a batch of groups.

    Args:
        by_count: whether it is the one that is ordered by length.

    Attributes:
        in_use: blocks of the volume that its nodes and leaves take, filled while it is walked.
    """

    def __init__(
        self, view: VolumeView, superblock: Superblock, groups: Groups, head: int, by_count: bool
    ) -> None:
        self._view, self._superblock, self._groups, self._head = view, superblock, groups, head
        self._by_count = by_count
        name = "cnt" if by_count else "bno"
        self._roots: Numbers = getattr(groups, f"{name}_root")
        self._levels: Numbers = getattr(groups, f"{name}_level")
        letter = b"C" if by_count else b"B"
        is_new = superblock.version == 5
        self._magic = b"AB3" + letter if is_new else b"ABT" + letter
        self._header = layout.SHORT_BLOCK_CRC if is_new else layout.SHORT_BLOCK
        self.in_use: list[Numbers] = []

    def walk(self) -> Iterator[Leaves]:
        """Yield all records, in arrays, in the order of the tree; groups ascending."""
        below: list[Level] = []
        for height in range(int(self._levels.max()) - 1, -1, -1):
            roots = np.flatnonzero(self._levels == height + 1)
            keys = np.full((len(roots), 2), -1, np.int64)
            level = Level.joined([*below, Level(roots, self._roots[roots], keys)])
            self._check_places(level)
            if height:
                below = [self._children(*part) for part in self._read(level, height)]
            else:
                for rows, found, groups in self._read(level, height):
                    yield self._records(rows, found, groups)

    def _check_places(self, level: Level) -> None:
        """Every block is inside of its group, and is named once."""
        lengths = self._groups.lengths[level.groups]
        if ((level.blocks < self._superblock.header_blocks) | (level.blocks >= lengths)).any():
            raise LayoutError("a B+tree of free space leads out of its allocation group")
        places = self._places(level)
        if len(np.unique(places)) != len(places):
            raise LayoutError("a B+tree of free space has a block twice")
        self.in_use.append(places)

    def _places(self, level: Level) -> Numbers:
        return self._groups.numbers[level.groups] * self._superblock.agblocks + level.blocks

    def _read(
        self, level: Level, height: int
    ) -> Iterator[tuple[npt.NDArray[np.uint8], Records, Numbers]]:
        """Yield the blocks of a level with their headers and groups, all checked."""
        size = max(1, _CHUNK_BYTES // self._superblock.blocksize)
        ends = np.append(level.groups[1:] != level.groups[:-1], True)
        before = np.where(np.roll(ends, 1), NULL_BLOCK, np.roll(level.blocks, 1))
        behind = np.where(ends, NULL_BLOCK, np.roll(level.blocks, -1))
        for low in range(0, len(ends), size):
            part = Level(*(values[low : low + size] for values in level))
            rows = self._blocks(self._places(part))
            found = layout.records(rows, self._header)
            self._check_headers(rows, found, part, height)
            wrong = (found["left"] != before[low : low + size]) | (
                found["right"] != behind[low : low + size]
            )
            if wrong.any():
                raise LayoutError("blocks of a B+tree of free space do not name each other")
            yield rows, found, part.groups

    def _blocks(self, places: Numbers) -> npt.NDArray[np.uint8]:
        """Read blocks of the volume; those that lie next to each other at once."""
        size = self._superblock.blocksize
        rows = np.empty((len(places), size), np.uint8)
        most = max(1, _RUN_BYTES // size)
        heads = np.flatnonzero(np.diff(places, prepend=-2) != 1).tolist()
        for low, high in zip(heads, [*heads[1:], len(places)], strict=True):
            for start in range(low, high, most):
                count = min(most, high - start)
                data = self._view.read_array(int(places[start]) * size, count * size)
                rows[start : start + count] = data.reshape(count, size)
        return rows

    def _check_headers(
        self, rows: npt.NDArray[np.uint8], found: Records, part: Level, height: int
    ) -> None:
        if (found["magic"] != self._magic).any() or (found["level"] != height).any():
            raise LayoutError("a block of a B+tree of free space is not of its tree and level")
        if self._superblock.version == 5:
            check_crc(rows, 52, "the checksum of a block of a B+tree of free space is wrong")
            check_own(self._superblock, self._head, found, "a block of a B+tree of free space")
            address = self._places(part) * (self._superblock.blocksize // layout.BASIC_BLOCK)
            owners = self._groups.numbers[part.groups]
            if ((found["blkno"] != address) | (found["owner"] != owners)).any():
                raise LayoutError("a block of a B+tree of free space belongs elsewhere")
        room = self._superblock.blocksize - self._header.itemsize
        numbers = found["numrecs"].astype(np.int64)
        is_root = part.keys[:, 0] < 0
        least = np.where(is_root & (height == 0), 0, 1)
        if (numbers > room // (12 if height else 8)).any() or (numbers < least).any():
            raise LayoutError("a block of a B+tree of free space has an impossible count")
        first = self._pairs(rows, room)[:, 0]
        columns = [0, 1] if self._by_count else [0]
        if (first[:, columns] != part.keys[:, columns])[~is_root].any():
            raise LayoutError("a key of a B+tree of free space is not that of the block below")

    def _pairs(self, rows: npt.NDArray[np.uint8], room: int) -> Numbers:
        """Keys or records: (start block, blocks), 8 bytes each, as many as fit ``room``."""
        header = self._header.itemsize
        pairs = np.ascontiguousarray(rows[:, header : header + room // 8 * 8]).view(">u4")
        return pairs.reshape(len(rows), -1, 2).astype(np.int64)

    def _children(self, rows: npt.NDArray[np.uint8], found: Records, groups: Numbers) -> Level:
        """What nodes point at: their keys, then room for more, and then block numbers."""
        header = self._header.itemsize
        most = (self._superblock.blocksize - header) // 12
        there = np.arange(most) < found["numrecs"].astype(np.int64)[:, None]
        pointers = np.ascontiguousarray(rows[:, header + 8 * most : header + 12 * most])
        blocks = pointers.view(">u4").astype(np.int64)
        return Level(
            np.repeat(groups, found["numrecs"].astype(np.int64)),
            blocks[there],
            self._pairs(rows, 8 * most)[there],
        )

    def _records(self, rows: npt.NDArray[np.uint8], found: Records, groups: Numbers) -> Leaves:
        pairs = self._pairs(rows, self._superblock.blocksize - self._header.itemsize)
        numbers = found["numrecs"].astype(np.int64)
        pairs = pairs[np.arange(pairs.shape[1]) < numbers[:, None]]
        return Leaves(np.repeat(groups, numbers), pairs[:, 0], pairs[:, 1])
