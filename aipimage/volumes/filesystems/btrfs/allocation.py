"""Btrfs: the allocation map.

What is in use: the extents of the extent tree, at all places where their chunks keep them; the
first MiB of the device; 64 KiB from each superblock on ("On-disk Format"). All else is free, within
chunks and outside of them. Where the volume has a valid free space tree, it must say the same. What
a log tree keeps is added after that (``logtree.py``).
"""

from __future__ import annotations

import numpy as np

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap, Numbers, Runs
from aipimage.volumes.filesystems.btrfs.extents import add_extents
from aipimage.volumes.filesystems.btrfs.freespacetree import add_free_space
from aipimage.volumes.filesystems.btrfs.logtree import keep_log
from aipimage.volumes.filesystems.btrfs.superblock import Superblock, read_superblock
from aipimage.volumes.filesystems.btrfs.tree import NodeReader
from aipimage.volumes.filesystems.btrfs.trees import (
    BlockGroups,
    Roots,
    read_chunks,
    verify_device_extents,
)
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See ``Parser.allocation``. Reads at most the metadata that the superblock counts as used."""
    if not isinstance(filesystem.details, bytes):
        raise RuntimeError("internal error: a Btrfs volume without its superblock")
    superblock = read_superblock(view, filesystem.details)
    chunks = read_chunks(view, superblock)
    view.allow(_metadata_bytes(superblock, chunks))
    reader = NodeReader(view, superblock, chunks)
    roots = Roots(reader, superblock)
    verify_device_extents(reader.walk(roots.of(layout.DEVICE_TREE)), chunks, superblock)
    groups = BlockGroups(chunks)
    if superblock.block_group_tree:
        for items in reader.walk(roots.of(layout.BLOCK_GROUP_TREE)):
            groups.add(items)
    free = _new_map(superblock)
    add_extents(reader.walk(roots.of(layout.EXTENT_TREE)), superblock, chunks, groups, free)
    groups.verify(superblock)
    _reserve(free, superblock)
    if superblock.free_space_tree:
        listed = _new_map(superblock)
        listed.set_used_runs(chunks.device_ranges // np.uint64(superblock.sectorsize))
        add_free_space(reader.walk(roots.of(layout.FREE_SPACE_TREE)), superblock, chunks, listed)
        _reserve(listed, superblock)
        if not _equal(free, listed):
            raise LayoutError("its free space tree and its extent tree disagree")
    nodes = np.concatenate([*reader.seen, roots.blocks])
    if _is_any_free(free, chunks.first_places(nodes, superblock.nodesize), superblock):
        raise LayoutError("its extent tree calls a tree node free")
    notes: tuple[str, ...] = ()
    if superblock.log_root:
        notes = (keep_log(view, superblock, chunks, free, options),)
    # A device that is smaller than its file system is not mounted, however much of it is free.
    return Allocation(free, used_end=superblock.device_bytes, notes=notes)


def _metadata_bytes(superblock: Superblock, chunks: ChunkMap) -> int:
    """The most that nodes can take which are read once each."""
    holds = chunks.kinds & np.uint64(layout.GROUP_METADATA | layout.GROUP_SYSTEM) != 0
    return min(int(chunks.lengths[holds].sum()), superblock.bytes_used)


def _new_map(superblock: Superblock) -> ClusterMap:
    """A map in which everything is free."""
    count = superblock.device_bytes // superblock.sectorsize
    found = ClusterMap(superblock.sectorsize, count, 0, superblock.device_bytes)
    found.set_free_runs(np.array([(0, count)], np.uint64))
    return found


def _reserve(free: ClusterMap, superblock: Superblock) -> None:
    rows = [(0, layout.RESERVED)] + [(offset, layout.STRIPE) for offset in layout.SUPERBLOCKS]
    size, end = superblock.sectorsize, free.count
    runs = [
        (offset // size, min(length // size, end - offset // size))
        for offset, length in rows
        if offset // size < end
    ]
    free.set_used_runs(np.array(runs, np.uint64))


def _equal(one: ClusterMap, other: ClusterMap) -> bool:
    """Whether two maps have the same free clusters; they give them in the same portions."""
    runs, others = one.free_runs(0, one.count), other.free_runs(0, other.count)
    pairs = zip(runs, others, strict=False)
    return all(np.array_equal(a, b) for a, b in pairs) and one.total == other.total


def _is_any_free(free: ClusterMap, places: Numbers, superblock: Superblock) -> bool:
    """Whether a node at one of some places of the device lies in free space, be it in part."""
    places = np.unique(places)
    size = np.uint64(superblock.nodesize)
    for rows in free.ranges(0, free.size):
        low, high = rows[0, 0], rows[-1, 0] + rows[-1, 1]
        near = places[np.searchsorted(places + size, low, "right") : np.searchsorted(places, high)]
        if _touch(rows, near, size):
            return True
    return False


def _touch(rows: Runs, places: Numbers, size: np.uint64) -> bool:
    """Whether one of the ranges ``places`` .. + ``size`` overlaps with one of the rows."""
    before = np.searchsorted(rows[:, 0], places + size) - 1
    there = before >= 0
    last = rows[before[there]]
    return bool((last[:, 0] + last[:, 1] > places[there]).any())
