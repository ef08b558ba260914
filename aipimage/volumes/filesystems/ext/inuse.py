"""An ext3 or ext4 volume whose journal is open: a crashed one, or one that is in use.

Kept is what may be in use in any state in which a mount may leave the volume, whichever driver
mounts it and wherever its replay stops: what the bitmaps on the disk call used, what any logged
copy of them does, what fast commits name, the journal, and every block that it names.
"""

from __future__ import annotations

import itertools
import struct
from typing import NamedTuple

import numpy as np

from aipimage import _core
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.bitmaps import read_map
from aipimage.volumes.filesystems.ext.extents import BlockRanges, named_by_node
from aipimage.volumes.filesystems.ext.groups import Blocks, Groups, read_groups
from aipimage.volumes.filesystems.ext.journal import Places, check_mmp
from aipimage.volumes.filesystems.ext.mapping import FileMap, map_of_file
from aipimage.volumes.filesystems.ext.placement import fixed_ranges
from aipimage.volumes.filesystems.ext.superblock import Superblock, fields_of
from aipimage.volumes.filesystems.ext.trust import verified_superblock
from aipimage.volumes.journals.jbd2 import layout as jbd2
from aipimage.volumes.journals.jbd2.blocks import JournalBlocks
from aipimage.volumes.journals.jbd2.fastcommit import FastCommits, fast_commits
from aipimage.volumes.journals.jbd2.scan import Transactions, scan
from aipimage.volumes.journals.jbd2.superblock import journal_of
from aipimage.volumes.journals.notes import check_still, in_use_note
from aipimage.volumes.journals.redirected import RedirectedSource
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_SAME = (
    "block_size", "blocks", "first_data_block", "ratio", "clusters_per_group", "inodes_count",
    "inode_size", "desc_size", "reserved_gdt", "first_meta_bg", "uuid", "seed", "journal_inum",
)  # fmt: skip
"""What a superblock must say after the replay as before."""
_RUNS_AT_ONCE = 1 << 16


class Replayed(NamedTuple):
    """A volume as it will be once its journal was replayed.

    Attributes:
        view: reads it so. file: where the journal lies. blocks: reads the journal. log: its
            transactions. fast: its fast commits, which are not in the view.
    """

    view: VolumeView
    file: FileMap
    blocks: JournalBlocks
    log: Transactions
    fast: FastCommits


def is_open(data: bytes) -> bool:
    """Whether a superblock says that its journal is to be replayed."""
    return bool(fields_of(data)["s_feature_incompat"] & layout.INCOMPAT_RECOVER)


def read_in_use(view: VolumeView, data: bytes, options: SurveyOptions) -> Allocation:
    """Return the free clusters of a volume whose superblock, ``data``, says that it is in use.

    Raises:
        LayoutError: its journal is not understood, or what it makes of the volume is in doubt.
    """
    check_still(options)
    before = verified_superblock(data, view.size, in_use=True)
    groups_before = read_groups(view, before)
    try:
        replayed = replay(view, before, groups_before)
    except LayoutError as error:
        raise LayoutError(f"its journal cannot be trusted: {error}") from error
    replayed.view.allow(layout.SUPERBLOCK_SIZE)
    data = replayed.view.read(layout.SUPERBLOCK_OFFSET, layout.SUPERBLOCK_SIZE)
    sb = verified_superblock(data, view.size, in_use=True)
    if any(getattr(sb, name) != getattr(before, name) for name in _SAME):
        raise LayoutError("its journal gives it another size or shape")
    groups = read_groups(replayed.view, sb)
    _check_same(groups, groups_before)
    fixed = fixed_ranges(sb, groups)
    free = read_map(replayed.view, sb, groups, fixed, is_counted=False)
    places = Places(sb, fixed, free)
    ranges = [(int(block), int(count)) for _, block, count in replayed.file.runs]
    for block, count in [*ranges, *((node, 1) for node in replayed.file.nodes)]:
        places.check("its journal", block, count)
    check_mmp(view, sb, places)
    total = free.total
    _keep_copies(view, sb, groups_before, replayed, free)
    _keep_named(sb, replayed, free)
    kept = total - free.total
    note = in_use_note("journal", replayed.log.complete, kept, replayed.fast.commits)
    return Allocation(free, used_end=sb.blocks * sb.block_size, notes=(note,))


def replay(view: VolumeView, sb: Superblock, groups: Groups) -> Replayed:
    """Read the journal of a volume; ``LayoutError`` where it is not understood."""
    if not sb.compat & layout.COMPAT_HAS_JOURNAL or not sb.journal_inum:
        raise LayoutError("it lies on another device")
    file = map_of_file(view, sb, groups, sb.journal_inum)
    blocks = JournalBlocks(view, sb.block_size, file.runs)
    head = blocks.read(0)[0].tobytes()[: jbd2.SUPERBLOCK_SIZE]
    journal = journal_of(head, sb.block_size, blocks.count)
    log = scan(journal, blocks, sb.blocks)
    fast = fast_commits(journal, blocks, log.sequence)
    source = RedirectedSource(view, sb.block_size, log.moved(blocks))
    return Replayed(VolumeView(source, 0, view.size, 0), file, blocks, log, fast)


def _check_same(one: Groups, other: Groups) -> None:
    """Bitmaps and inode tables do not move."""
    for name in ("block_bitmap", "inode_bitmap", "inode_table"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            raise LayoutError("its journal moves a bitmap or an inode table")


def _keep_copies(
    view: VolumeView, sb: Superblock, groups: Groups, replayed: Replayed, free: ClusterMap
) -> None:
    """Mark as used what a bitmap on the disk calls used, or a copy of it in the journal, of all
    groups that have such a copy: of the others the map after the replay is that on the disk.
    """
    log = replayed.log
    order = np.argsort(groups.block_bitmap, kind="stable")
    ascending: Blocks = groups.block_bitmap[order]
    at = np.minimum(np.searchsorted(ascending, log.blocks), len(ascending) - 1)
    rows = np.flatnonzero(ascending[at] == log.blocks)
    owners = order[at[rows]]
    by_group = np.argsort(owners, kind="stable")
    rows, owners = rows[by_group], owners[by_group]
    heads = np.flatnonzero(np.diff(owners, prepend=-1)).tolist()
    for low, high in itertools.pairwise([*heads, len(rows)]):
        group = int(owners[low])
        used = np.zeros(sb.block_size, np.uint8)
        if not groups.is_uninit[group]:
            view.allow(sb.block_size)
            used |= view.read_array(int(groups.block_bitmap[group]) * sb.block_size, sb.block_size)
        for row in rows[low:high].tolist():
            copy = replayed.blocks.read(int(log.numbers[row]))[0]
            if log.escaped[row]:
                copy[:4] = np.frombuffer(jbd2.MAGIC.to_bytes(4, "big"), np.uint8)
            used |= copy
        first = group * sb.clusters_per_group
        count = min(sb.clusters_per_group, sb.clusters - first)
        for runs in _core.iter_bitmap_extents(used, count, _RUNS_AT_ONCE):
            runs[:, 0] += np.uint64(first)
            free.set_used_runs(runs)


def _keep_named(sb: Superblock, replayed: Replayed, free: ClusterMap) -> None:
    """Mark as used the journal, all that it names, and what fast commits name."""
    log, fast = replayed.log, replayed.fast
    named = np.concatenate((log.blocks, log.revoked[:, 0], replayed.file.nodes)).astype(np.int64)
    # A transaction that was cut off may name anything.
    named = np.unique(named[(named >= sb.first_data_block) & (named < sb.blocks)])
    nodes = [run for inode in fast.inodes for run in _named_by_inode(sb, inode)]
    ranges = np.concatenate((fast.ranges, np.array(nodes, np.int64).reshape(-1, 2)))
    ends = ranges.sum(axis=1)
    if (ranges[:, 0] < sb.first_data_block).any() or (ends > sb.blocks).any():
        raise LayoutError("a fast commit in its journal names a block that is not there")
    rows = np.concatenate(
        (np.column_stack((named, np.ones_like(named))), ranges, replayed.file.runs[:, 1:])
    )
    first = (rows[:, 0] - sb.first_data_block) // sb.ratio
    last = -(-(rows.sum(axis=1) - sb.first_data_block) // sb.ratio)
    free.set_used_runs(np.column_stack((first, last - first)).astype(np.uint64))


def _named_by_inode(sb: Superblock, inode: bytes) -> BlockRanges:
    """Blocks that an inode in a fast commit names itself; what is below them is on the disk, or
    named by tags of its own.
    """
    if len(inode) < struct.calcsize(layout.INODE):
        return []
    _, flags, blocks = struct.unpack_from(layout.INODE, inode)
    return named_by_node(blocks) if flags & layout.EXTENTS_FL else []
