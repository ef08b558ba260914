"""Btrfs: the extent tree ("Trees", Extent tree; struct btrfs_extent_item)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.filesystems.btrfs.tree import Items
from aipimage.volumes.filesystems.btrfs.trees import BlockGroups
from aipimage.volumes.view import LayoutError

_EXTENTS = (layout.EXTENT_ITEM, layout.METADATA_ITEM)
_KNOWN = (*_EXTENTS, *layout.BACKREFS, layout.BLOCK_GROUP_ITEM)


def add_extents(
    items: Iterable[Items],
    superblock: Superblock,
    chunks: ChunkMap,
    groups: BlockGroups,
    free: ClusterMap,
) -> None:
    """Mark all extents as used in ``free`` and count them in ``groups``, which also takes the block
    group items of the tree.

    Raises:
        LayoutError: an extent is not possible, overlaps with another one, or is in no chunk.
    """
    end = 0
    for some in items:
        kinds = some.keys["type"]
        if not np.isin(kinds, _KNOWN).all():
            raise LayoutError("its extent tree has items of an unknown kind")
        if superblock.block_group_tree and (kinds == layout.BLOCK_GROUP_ITEM).any():
            raise LayoutError("it has block groups in two trees")
        groups.add(some)
        extents = some.chosen(np.isin(kinds, _EXTENTS))
        if len(extents.keys):
            end = _add(extents, superblock, chunks, groups, free, end)


def _add(
    extents: Items,
    superblock: Superblock,
    chunks: ChunkMap,
    groups: BlockGroups,
    free: ClusterMap,
    end: int,
) -> int:
    """Take extents that lie past ``end``; return the end of the last one."""
    starts = extents.keys["objectid"].astype(np.uint64)
    is_node = extents.keys["type"] == layout.METADATA_ITEM
    lengths = np.where(is_node, np.uint64(superblock.nodesize), extents.keys["offset"])
    lengths = lengths.astype(np.uint64)
    if ((starts | lengths) % np.uint64(superblock.sectorsize)).any() or not lengths.all():
        raise LayoutError("an extent begins or ends inside of a sector")
    index, fit = chunks.find(starts, lengths)
    if not fit:
        raise LayoutError("an extent lies in no block group")
    _verify_kinds(extents, lengths, superblock, chunks.kinds[index])
    ends = starts + lengths
    if int(starts[0]) < end or (ends[:-1] > starts[1:]).any():
        raise LayoutError("two extents overlap")
    groups.count(index, lengths)
    runs = chunks.device_runs(index, starts, lengths)
    free.set_used_runs(runs // np.uint64(superblock.sectorsize))
    return int(ends[-1])


def _verify_kinds(
    extents: Items, lengths: np.ndarray, superblock: Superblock, kinds: np.ndarray
) -> None:
    """Tree nodes are in block groups for them, and data in theirs (mixed ones have both)."""
    is_short = extents.keys["type"] == layout.METADATA_ITEM
    flags = extents.bodies(layout.EXTENT)["flags"] & np.uint64(3)
    is_node = flags == layout.EXTENT_TREE_BLOCK
    wrong = ~is_node & (flags != layout.EXTENT_DATA)
    wrong |= is_node & (lengths != superblock.nodesize)
    wrong |= is_short & (~is_node | (extents.keys["offset"] >= layout.LEVELS_MAX))
    place = np.where(
        is_node, layout.GROUP_METADATA | layout.GROUP_SYSTEM, layout.GROUP_DATA
    ).astype(np.uint64)
    wrong |= kinds & place == 0
    if wrong.any() or (is_short.any() and not superblock.skinny):
        raise LayoutError("an extent is of a kind that is not possible where it is")
