"""An exFAT volume that was not unmounted: nothing says in which order its blocks were written.

So the bitmap may lack what files and directories lie in already. Kept is the union of what the
bitmap calls used, what has an entry in the FAT, and what directories lead to: chains along the FAT,
and files in one piece by their lengths. A FAT may also have entries of files that were deleted,
which are kept needlessly. What none of them leads to, no driver finds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.ranges import joined
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.exfat.directory import SEARCH_MOST, Root
from aipimage.volumes.filesystems.exfat.layout import (
    ENTRY_BYTES,
    FAT_ENTRY_BYTES,
    FIRST_CLUSTER,
    BootSector,
)
from aipimage.volumes.view import LayoutError, VolumeView

_STEP = 1 << 20
"""Entries of the FAT that are looked at together: 4 MiB."""


def keep_named(
    view: VolumeView, boot: BootSector, root: Root, named: npt.NDArray[np.uint64], found: ClusterMap
) -> int:
    """Mark as used what the FAT and the directories name of what the bitmap calls free; return its
    bytes.

    Args:
        named: runs of the file system itself, and of all files, as (first cluster, clusters).

    Raises:
        LayoutError: not all directories were looked at, or the FAT cannot be read.
    """
    if sum(map(len, root.entries)) * ENTRY_BYTES >= SEARCH_MOST:
        raise LayoutError("it was not unmounted, and its root directory is too large to be read")
    before = found.total
    rows = joined(named)
    rows[:, 0] -= np.uint64(FIRST_CLUSTER)
    found.set_used_runs(rows)
    _keep_chained(view, boot, found)
    return before - found.total


def _keep_chained(view: VolumeView, boot: BootSector, found: ClusterMap) -> None:
    """Mark as used all clusters whose entries in the FAT are not zero (section 4.1)."""
    start = (boot.fat_offset << boot.sector_shift) + FAT_ENTRY_BYTES * FIRST_CLUSTER
    view.allow(FAT_ENTRY_BYTES * boot.clusters)
    for first in range(0, boot.clusters, _STEP):
        count = min(_STEP, boot.clusters - first)
        data = view.read_array(start + FAT_ENTRY_BYTES * first, FAT_ENTRY_BYTES * count)
        edges = np.diff(data.view("<u4") != 0, prepend=False, append=False).nonzero()[0]
        runs = edges.reshape(-1, 2).astype(np.uint64)
        runs[:, 1] -= runs[:, 0]
        runs[:, 0] += np.uint64(first)
        found.set_used_runs(runs)
