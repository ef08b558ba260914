"""Btrfs: the free space tree ("Trees", Free space tree; struct btrfs_free_space_info)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.filesystems.btrfs.tree import Items
from aipimage.volumes.view import LayoutError

_KNOWN = (layout.FREE_SPACE_INFO, layout.FREE_SPACE_EXTENT, layout.FREE_SPACE_BITMAP)


def add_free_space(
    items: Iterable[Items], superblock: Superblock, chunks: ChunkMap, free: ClusterMap
) -> None:
    """Mark as free what the tree calls free of the block groups.

    Raises:
        LayoutError: free space lies across the end of a block group, or in parts of a sector.
    """
    for some in items:
        if not np.isin(some.keys["type"], _KNOWN).all():
            raise LayoutError("its free space tree has items of an unknown kind")
        for kind in _KNOWN[1:]:
            runs = _of_kind(some.of_type(kind), superblock, chunks)
            free.set_free_runs(runs // np.uint64(superblock.sectorsize))


def _of_kind(items: Items, superblock: Superblock, chunks: ChunkMap) -> npt.NDArray[np.uint64]:
    """The free runs that items of one type name, in bytes of the device."""
    starts = items.keys["objectid"].astype(np.uint64)
    lengths = items.keys["offset"].astype(np.uint64)
    if ((starts | lengths) % np.uint64(superblock.sectorsize)).any():
        raise LayoutError("free space begins or ends inside of a sector")
    # mkfs.btrfs leaves what it had said of block groups that it removed afterwards.
    live = _live(starts, lengths, chunks)
    items, starts, lengths = items.chosen(live), starts[live], lengths[live]
    if len(starts) and int(items.keys["type"][0]) == layout.FREE_SPACE_BITMAP:
        starts, lengths = _bitmap_runs(items, superblock.sectorsize)
    index, fit = chunks.find(starts, lengths)
    if not fit:
        raise LayoutError("free space lies across the end of a block group")
    return chunks.device_runs(index, starts, lengths)


def _live(
    starts: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], chunks: ChunkMap
) -> npt.NDArray[np.bool_]:
    """Which ranges touch a chunk at all."""
    ends = starts + lengths
    if (ends < starts).any():
        raise LayoutError("free space ends past all addresses")
    after = np.searchsorted(chunks.starts, ends) - 1
    there = after >= 0
    after = np.maximum(after, 0)
    live: npt.NDArray[np.bool_] = there & (chunks.starts[after] + chunks.lengths[after] > starts)
    return live


def _bitmap_runs(
    items: Items, sectorsize: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Runs of the bitmaps, one bit a sector, set where it is free."""
    found = []
    for row, key in enumerate(items.keys):
        bits = int(key["offset"]) // sectorsize
        if int(key["size"]) != -(-bits // 8):
            raise LayoutError(
                f"a bitmap of free space is {int(key['size'])} bytes long where its range needs "
                f"{-(-bits // 8)}"
            )
        runs = _core.bitmap_to_extents(items.body(row), bits) * np.uint64(sectorsize)
        runs[:, 0] += np.uint64(int(key["objectid"]))
        found.append(runs)
    both = np.concatenate(found)
    return both[:, 0], both[:, 1]
