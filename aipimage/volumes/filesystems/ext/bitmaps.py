"""Block bitmaps: read in groups of groups, compared with all that is known of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.filesystems.ext.groups import PIECE_BYTES, Groups, read_blocks
from aipimage.volumes.filesystems.ext.placement import Ranges
from aipimage.volumes.filesystems.ext.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView

Bits = npt.NDArray[np.uint8]


def read_map(
    view: VolumeView, sb: Superblock, groups: Groups, fixed: Ranges, is_counted: bool = True
) -> ClusterMap:
    """Return the free clusters of a file system whose fixed structures lie at ``fixed``. Its
    superblock counts them (``is_counted``) where it was unmounted.

    Raises:
        LayoutError: a bitmap has a wrong checksum, calls a structure free, or has another number
            of free clusters than its descriptor says, or all of them than the superblock says.
    """
    view.allow(int((~groups.is_uninit).sum()) * sb.block_size)
    found = ClusterMap(
        sb.block_size * sb.ratio,
        sb.clusters,
        sb.first_data_block * sb.block_size,
        sb.blocks * sb.block_size,
    )
    step = max(1, PIECE_BYTES // sb.block_size)
    for first in range(0, sb.groups, step):
        last = min(first + step, sb.groups)
        used = _used_bits(view, sb, groups, fixed, first, last)
        cluster = first * sb.clusters_per_group
        count = min(last * sb.clusters_per_group, sb.clusters) - cluster
        found.set_used_bits(cluster, used.reshape(-1), count)
    if is_counted:
        _check_total(sb, int(groups.free.sum()))
    return found


def _used_bits(
    view: VolumeView, sb: Superblock, groups: Groups, fixed: Ranges, first: int, last: int
) -> Bits:
    """The bitmaps of some groups, shape (groups, bytes), each agreed with its descriptor."""
    used = _fixed_bits(sb, fixed, first, last)
    is_written = ~groups.is_uninit[first:last]
    rows = np.flatnonzero(is_written)
    if len(rows):
        blocks = groups.block_bitmap[first + rows]
        bitmaps = read_blocks(view, blocks, sb.block_size)[:, : used.shape[1]]
        _check_checksums(sb, groups, bitmaps, first + rows)
        _check_fixed(used[rows], bitmaps, first + rows)
        used[rows] = bitmaps
    if last == sb.groups:
        _finish_last(sb, used[-1], bool(is_written[-1]))
    free = sb.clusters_per_group - _ones(used)
    wrong = np.flatnonzero(free != groups.free[first:last])
    if len(wrong):
        at = int(wrong[0])
        raise LayoutError(
            f"its group {first + at:,} counts {int(groups.free[first + at]):,} free clusters, and "
            f"its bitmap {int(free[at]):,}"
        )
    return used


def _fixed_bits(sb: Superblock, fixed: Ranges, first: int, last: int) -> Bits:
    """Bits for the fixed structures in some groups: all that is in use of a group whose bitmap was
    never written (ext4 Data Structures, "Block Group Descriptors", BLOCK_UNINIT).
    """
    start = sb.first_data_block + first * sb.blocks_per_group
    end = sb.first_data_block + last * sb.blocks_per_group
    low = int(np.searchsorted(fixed[:, 1], start, "right"))
    high = int(np.searchsorted(fixed[:, 0], end, "left"))
    rows = np.clip(fixed[low:high], start, end) - start
    rows[:, 0] //= sb.ratio
    rows[:, 1] = -(-rows[:, 1] // sb.ratio) - rows[:, 0]
    bits = _core.extents_to_bitmap(rows, (last - first) * sb.clusters_per_group)
    return bits.reshape(last - first, -1)


def _check_checksums(
    sb: Superblock, groups: Groups, bitmaps: Bits, numbers: npt.NDArray[np.int64]
) -> None:
    """ext4 Data Structures, "Block Group Descriptors", bg_block_bitmap_csum_lo and _hi."""
    if not sb.has_metadata_csum:
        return
    found = crc32c_rows(bitmaps, sb.seed)
    if sb.desc_size < 64:
        found &= np.uint32(0xFFFF)
    wrong = np.flatnonzero(found != groups.bitmap_csum[numbers])
    if len(wrong):
        raise LayoutError(
            f"the bitmap of its group {int(numbers[wrong[0]]):,} has a wrong checksum"
        )


def _check_fixed(fixed: Bits, bitmaps: Bits, numbers: npt.NDArray[np.int64]) -> None:
    wrong = np.flatnonzero((fixed & ~bitmaps).any(axis=1))
    if len(wrong):
        raise LayoutError(
            f"the bitmap of its group {int(numbers[wrong[0]]):,} calls structures free"
        )


def _finish_last(sb: Superblock, used: Bits, is_written: bool) -> None:
    """The bits behind the last cluster are set: what a bitmap has there, and e2fsck asks for."""
    count = sb.clusters - (sb.groups - 1) * sb.clusters_per_group
    behind = _core.extents_to_bitmap(
        [(count, sb.clusters_per_group - count)], sb.clusters_per_group
    )
    if is_written and (behind & ~used).any():
        raise LayoutError("its last bitmap calls clusters past the end free")
    used |= behind


def _ones(rows: Bits) -> npt.NDArray[np.int64]:
    words = rows.view(np.uint64) if rows.shape[1] % 8 == 0 else rows
    counts: npt.NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return counts


def _check_total(sb: Superblock, clusters: int) -> None:
    """All free clusters, in blocks, against the superblock; the last cluster may be a cut one."""
    spare = sb.clusters * sb.ratio - (sb.blocks - sb.first_data_block)
    if not clusters * sb.ratio - spare <= sb.free_blocks <= clusters * sb.ratio:
        raise LayoutError(
            f"its superblock counts {sb.free_blocks:,} free blocks, and its groups "
            f"{clusters * sb.ratio:,}"
        )
