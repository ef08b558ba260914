"""Btrfs: log trees, which hold what fsync wrote since the last commit ("Trees", Log tree).

The superblock names the log root tree, and that names a log tree for each subvolume. A mount puts
their items into the trees of the commit. Neither the nodes of a log nor the extents that only its
items name are in the extent tree: both are added here to what the commit uses. All nodes are of the
generation after the commit, and lie where the commit has nothing: what it frees is not used again
before the next one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap, Numbers, Runs
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.filesystems.btrfs.tree import Items, NodeReader, Records, Root
from aipimage.volumes.journals.notes import IN_USE, check_still
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView


class Log(NamedTuple):
    """What the log trees of a volume occupy and name.

    Attributes:
        trees: how many there are. nodes: logical addresses of their nodes, and of those of the log
            root tree. extents: logical addresses and bytes of data, shape (n, 2).
    """

    trees: int
    nodes: Numbers
    extents: Runs


def keep_log(
    view: VolumeView,
    superblock: Superblock,
    chunks: ChunkMap,
    free: ClusterMap,
    options: SurveyOptions,
) -> str:
    """Mark as used in ``free``, the map of the last commit, what a replay of the log needs; return
    a note of it for the user.

    Raises:
        LayoutError: the log is not understood, or may change while it is read.
    """
    check_still(options)
    try:
        log = _read(view, superblock, chunks)
        _verify_nodes(log.nodes, superblock, chunks, free)
        runs = _verified_runs(log.extents, superblock, chunks)
    except LayoutError as error:
        raise LayoutError(f"its log cannot be trusted: {error}") from error
    before = free.total
    free.set_used_runs(_node_runs(log.nodes, superblock, chunks))
    free.set_used_runs(runs)
    trees = f"{log.trees:,} log tree{'s' if log.trees != 1 else ''}"
    extents = f"{len(log.extents):,} extent{'s' if len(log.extents) != 1 else ''}"
    kept = before - free.total
    return f"{IN_USE}{trees} with {extents} were read; {kept:,} bytes are kept beyond its map"


def _read(view: VolumeView, superblock: Superblock, chunks: ChunkMap) -> Log:
    holds = chunks.kinds & np.uint64(layout.GROUP_METADATA) != 0
    view.allow(int(chunks.lengths[holds].sum()))
    generation = superblock.generation + 1
    reader = NodeReader(view, superblock, chunks, generation)
    top = Root(layout.LOG_TREE, superblock.log_root, superblock.log_root_level, generation)
    roots = [root for items in reader.walk(top) for root in _roots(items, generation)]
    if len({root.block for root in roots}) != len(roots):
        raise LayoutError("two log trees begin at the same node")
    extents = [np.empty((0, 2), np.uint64)]
    for root in roots:
        extents += map(_extents, reader.walk(root))
    # Files that share an extent name it more than once.
    return Log(len(roots), np.concatenate(reader.seen), np.unique(np.concatenate(extents), axis=0))


def _roots(items: Items, generation: int) -> list[Root]:
    """The log trees that items of the log root tree name: keys of one object, and the number of the
    subvolume as offset.
    """
    keys, bodies = items.keys, items.bodies(layout.ROOT)
    if (keys["objectid"] != layout.LOG_TREE).any() or (keys["type"] != layout.ROOT_ITEM).any():
        raise LayoutError("the log root tree has items of an unknown kind")
    if (bodies["generation"] != generation).any() or (bodies["level"] >= layout.LEVELS_MAX).any():
        raise LayoutError("a log tree is of another generation, or of an impossible level")
    return [
        Root(layout.LOG_TREE, int(body["bytenr"]), int(body["level"]), generation)
        for body in bodies
    ]


def _extents(items: Items) -> Runs:
    """The extents that items of a log tree name, logical addresses and bytes."""
    if not np.isin(items.keys["type"], layout.LOG_ITEMS).all():
        raise LayoutError("a log tree has items of an unknown kind")
    files = items.of_type(layout.FILE_EXTENT_ITEM)
    heads = files.bodies(layout.FILE_EXTENT_HEAD)
    is_mapped = np.isin(
        heads["type"], (layout.FILE_EXTENT_REGULAR, layout.FILE_EXTENT_PREALLOCATED)
    )
    if (
        heads["encryption"].any()
        or (~is_mapped & (heads["type"] != layout.FILE_EXTENT_INLINE)).any()
    ):
        raise LayoutError("a log tree has an extent of an unknown kind")
    bodies: Records = files.chosen(is_mapped).bodies(layout.FILE_EXTENT)
    bodies = bodies[bodies["disk_bytenr"] != 0]
    return np.column_stack(
        [bodies[name].astype(np.uint64) for name in ("disk_bytenr", "disk_num_bytes")]
    )


def _verify_nodes(
    nodes: Numbers, superblock: Superblock, chunks: ChunkMap, free: ClusterMap
) -> None:
    """Nodes lie in chunks for them, each once, and nothing of the commit is there."""
    if len(np.unique(nodes)) != len(nodes):
        raise LayoutError("a node belongs to two log trees")
    index, _ = chunks.find(nodes, np.full(len(nodes), superblock.nodesize, np.uint64))
    if not (chunks.kinds[index] & np.uint64(layout.GROUP_METADATA)).all():
        raise LayoutError("a node of a log tree lies among data")
    runs = _node_runs(nodes, superblock, chunks)
    if not _are_free(runs, free):
        raise LayoutError("a node of a log tree lies where the last commit has something else")


def _node_runs(nodes: Numbers, superblock: Superblock, chunks: ChunkMap) -> Runs:
    """Where nodes lie, all copies, in sectors of the device."""
    lengths = np.full(len(nodes), superblock.nodesize, np.uint64)
    return _device_runs(nodes, lengths, superblock, chunks)


def _are_free(runs: Runs, free: ClusterMap) -> bool:
    """Whether runs of sectors that do not overlap are free, all of them."""
    before = free.free_clusters
    free.set_free_runs(runs)
    return free.free_clusters == before


def _verified_runs(extents: Runs, superblock: Superblock, chunks: ChunkMap) -> Runs:
    """Where extents lie, all copies, in sectors of the device."""
    starts, lengths = extents[:, 0], extents[:, 1]
    if ((starts | lengths) % np.uint64(superblock.sectorsize)).any() or not lengths.all():
        raise LayoutError("an extent of it begins or ends inside of a sector")
    index, fit = chunks.find(starts, lengths)
    if not fit or not (chunks.kinds[index] & np.uint64(layout.GROUP_DATA)).all():
        raise LayoutError("an extent of it lies in no block group for data")
    return _device_runs(starts, lengths, superblock, chunks)


def _device_runs(
    starts: Numbers, lengths: Numbers, superblock: Superblock, chunks: ChunkMap
) -> Runs:
    index, _ = chunks.find(starts, lengths)
    runs: npt.NDArray[np.uint64] = chunks.device_runs(index, starts, lengths)
    return runs // np.uint64(superblock.sectorsize)
