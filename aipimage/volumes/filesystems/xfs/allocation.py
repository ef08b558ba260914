"""The allocation map of an XFS volume.

Everything that says what is free is compared: both B+trees of each allocation group with each
other, their sums with the group's header, the headers' sum with the superblock, and all of it with
what is known to be in use.
"""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt

from aipimage.volumes.clusters import CLUSTERS_MAX, ClusterMap
from aipimage.volumes.filesystems.xfs.groups import BATCH_BYTES, Groups, Numbers, read_groups
from aipimage.volumes.filesystems.xfs.inuse import FROZEN, check_same, named_runs, read_log
from aipimage.volumes.filesystems.xfs.layout import NULL_LSN
from aipimage.volumes.filesystems.xfs.log import CycleError, NotReplayedError, clean_head
from aipimage.volumes.filesystems.xfs.superblock import Superblock, read_superblock
from aipimage.volumes.filesystems.xfs.trees import Leaves, Tree
from aipimage.volumes.journals.notes import in_use_note
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_REALTIME_NOTE = "its realtime section lies on another device and is not part of this volume"


def read_allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """Return what is free of an XFS volume; ``LayoutError`` in any doubt.

    ``used_end`` is the size of the file system, which a mount demands to be there in full.
    """
    view.allow(1 << 17)
    superblock = read_superblock(view)
    if superblock.dblocks > CLUSTERS_MAX:
        raise LayoutError(f"its {superblock.dblocks:,} blocks are more than can be looked at")
    notes = [_REALTIME_NOTE] if superblock.realtime else []
    try:
        head = clean_head(view, superblock)
    except NotReplayedError as doubt:
        try:
            free, note = _in_use(view, superblock, options)
        except LayoutError:
            if isinstance(doubt, CycleError):
                raise doubt from None
            raise
        notes.insert(0, note)
    else:
        free = _read_map(view, superblock, head, is_counted=True)
    return Allocation(free, used_end=superblock.size, notes=tuple(notes))


def _in_use(
    view: VolumeView, superblock: Superblock, options: SurveyOptions
) -> tuple[ClusterMap, str]:
    """Return what is free of a volume whose log is open, and what is said of it."""
    found = read_log(view, superblock, options)
    if found.overlay is None or found.result is None:
        return _read_map(view, superblock, found.lsn, is_counted=False), FROZEN
    with contextlib.closing(found.overlay) as overlay:
        after = VolumeView(overlay, 0, view.size, 1 << 17)
        replayed = read_superblock(after)
        check_same(superblock, replayed)
        free = _read_map(after, replayed, found.lsn, is_counted=False)
    total = free.total
    free.set_used_runs(named_runs(superblock, found.result))
    return free, in_use_note("log", found.result.transactions, total - free.total)


def _read_map(view: VolumeView, superblock: Superblock, head: int, is_counted: bool) -> ClusterMap:
    """Return what the trees of all groups call free. The superblock's own count of it is right only
    where a volume was unmounted (``is_counted``).
    """
    if superblock.version == 5 and head < superblock.lsn < NULL_LSN:
        raise LayoutError("its superblock is newer than the log")
    free = ClusterMap(superblock.blocksize, superblock.dblocks, 0, view.size)
    counted = total = 0
    batch = max(1, BATCH_BYTES // (4 * superblock.sectsize))
    for first in range(0, superblock.agcount, batch):
        count = min(batch, superblock.agcount - first)
        groups = read_groups(view, superblock, head, first, count)
        trees = _fill(view, superblock, groups, head, free)
        counted += int((groups.freeblks + groups.flcount + trees).sum())
        total += int(groups.freeblks.sum())
    if is_counted and counted != superblock.fdblocks:
        raise LayoutError(
            f"its superblock counts {superblock.fdblocks:,} free blocks, and its allocation groups "
            f"{counted:,}"
        )
    fixed = [(superblock.logstart, superblock.logblocks), (superblock.rootblock, 1)]
    free.set_used_runs(np.array(fixed, np.uint64))
    if free.free_clusters != total:
        raise LayoutError("blocks that are in use count as free")
    return free


def _fill(
    view: VolumeView, superblock: Superblock, groups: Groups, head: int, free: ClusterMap
) -> Numbers:
    """Mark what is free in groups, and return how many blocks without the roots their B+trees of
    free space have, those of the reverse map included.
    """
    view.allow(_tree_blocks_most(superblock, groups) * superblock.blocksize)
    by_block = Tree(view, superblock, groups, head, by_count=False)
    by_count = Tree(view, superblock, groups, head, by_count=True)
    sums = _Sums(superblock, groups)
    end = 0
    for leaves in by_block.walk():
        runs = sums.add(leaves)
        end = _check_ascending(runs, end)
        free.set_free_runs(runs.astype(np.uint64))
    again = _Sums(superblock, groups)
    last = (-1, -1)
    for leaves in by_count.walk():
        again.add(leaves)
        last = _check_by_count(leaves, last)
    sums.compare(again)
    used = np.concatenate([*by_block.in_use, *by_count.in_use])
    named = np.concatenate((used, groups.in_use[:, 0]))
    if len(np.unique(named)) != len(named):
        raise LayoutError("two structures of an allocation group take the same block")
    free.set_used_runs(np.column_stack((used, np.ones_like(used))).astype(np.uint64))
    free.set_used_runs(groups.in_use.astype(np.uint64))
    owners = used // superblock.agblocks - groups.numbers[0]
    trees = np.bincount(owners, minlength=len(groups.numbers)).astype(np.int64) - 2
    if superblock.rmap:
        trees += groups.rmap_blocks - 1
    if superblock.lazy and (trees != groups.btreeblks).any():
        raise LayoutError("an allocation group counts other B+tree blocks than it has")
    return trees


def _tree_blocks_most(superblock: Superblock, groups: Groups) -> int:
    """How many blocks both trees of some groups may have: as many as the groups say, or, where they
    do not count them, what their free runs may fill.
    """
    if superblock.lazy:
        return int((groups.btreeblks + 2).sum())
    runs = np.minimum(groups.freeblks, groups.lengths // 2 + 1)
    levels = groups.bno_level + groups.cnt_level
    most = np.minimum(levels * (runs + 1), groups.lengths - groups.freeblks)
    return int(most.sum())


class _Sums:
    """What the leaves of a tree come to, whatever their order."""

    def __init__(self, superblock: Superblock, groups: Groups) -> None:
        self._superblock, self._groups = superblock, groups
        self._free = np.zeros(len(groups.numbers), np.int64)
        self._longest = np.zeros(len(groups.numbers), np.int64)
        self._records = 0
        self._mixed = 0

    def add(self, leaves: Leaves) -> Numbers:
        """Count records; return them as runs of blocks of the volume, shape (n, 2)."""
        groups, lengths = self._groups, self._groups.lengths[leaves.groups]
        ends = leaves.starts + leaves.counts
        if (
            (leaves.starts < self._superblock.header_blocks).any()
            or (leaves.counts < 1).any()
            or (ends > lengths).any()
        ):
            raise LayoutError("a run of free space lies outside of its allocation group")
        sums = np.bincount(leaves.groups, leaves.counts, len(self._free))
        self._free += sums.astype(np.int64)
        np.maximum.at(self._longest, leaves.groups, leaves.counts)
        self._records += len(ends)
        starts = groups.numbers[leaves.groups] * self._superblock.agblocks + leaves.starts
        added = int(_mixed(starts, leaves.counts).sum(dtype=np.uint64))
        self._mixed = (self._mixed + added) % (1 << 64)
        return np.column_stack((starts, leaves.counts))

    def compare(self, other: _Sums) -> None:
        """Check that two trees hold the same, and what their groups' headers say."""
        for sums in (self, other):
            if (sums._free != self._groups.freeblks).any():
                raise LayoutError("an allocation group counts other free blocks than it lists")
            if (sums._longest != self._groups.longest).any():
                raise LayoutError("the longest run of free space is not what its header says")
        if (self._records, self._mixed) != (other._records, other._mixed):
            raise LayoutError("the two B+trees of free space disagree")


def _mixed(starts: Numbers, counts: Numbers) -> npt.NDArray[np.uint64]:
    """A number for each run whose sum tells sets of runs apart (the finaliser of splitmix64)."""
    values = starts.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values ^= counts.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed


def _check_ascending(runs: Numbers, end: int) -> int:
    """Check that runs begin behind ``end`` and behind each other; return where the last ends."""
    if not len(runs):
        return end
    ends = runs.sum(axis=1)
    if (runs[:, 0] < np.concatenate(([end], ends[:-1]))).any():
        raise LayoutError("runs of free space overlap, or are not in their order")
    return int(ends[-1])


def _check_by_count(leaves: Leaves, last: tuple[int, int]) -> tuple[int, int]:
    """Check that records ascend by group, then length, then block; ``last``: group and key of the
    one before, and the return value that of the last one.
    """
    if not len(leaves.groups):
        return last
    groups = np.concatenate(([last[0]], leaves.groups))
    keys = np.concatenate(([last[1]], leaves.counts << 32 | leaves.starts))
    if ((groups[1:] == groups[:-1]) & (keys[1:] <= keys[:-1])).any():
        raise LayoutError("runs of free space are not in the order of their lengths")
    return int(groups[-1]), int(keys[-1])
