"""A FAT volume that was not unmounted: nothing says in which order its blocks were written.

So the tables may differ, and a file may have its entry in a directory before the tables have its
clusters. Kept is what any table calls used. Of a file or directory whose first cluster all of them
call free, so many clusters from there on are kept as it has bytes. What no table and no directory
leads to, no driver finds.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.ranges import joined
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.fat.chains import Chains
from aipimage.volumes.filesystems.fat.geometry import Geometry
from aipimage.volumes.filesystems.fat.layout import ENTRY_BYTES, BootSector
from aipimage.volumes.view import LayoutError, VolumeView

DIRECTORIES_MAX = 256 << 20
"""Bytes of directories that are looked at: some eight million files with short names."""
# fatgen103, FAT Directory Structure.
_ENTRY = np.dtype(
    {
        "names": ["attributes", "high", "low", "size"],
        "formats": ["u1", "<u2", "<u2", "<u4"],
        "offsets": [11, 20, 26, 28],
        "itemsize": ENTRY_BYTES,
    }
)
_END, _DELETED = 0x00, 0xE5
_LABEL, _DIRECTORY = 0x08, 0x10
_ITSELF = b".".ljust(11)
"""The name with which each directory but the root begins."""
Rows = npt.NDArray[np.uint64]
"""Shape (n, 2): first cluster, counted from 0, and clusters."""


def keep_named(view: VolumeView, boot: BootSector, geometry: Geometry, found: ClusterMap) -> int:
    """Mark as used what directories name of what the tables call free; return its bytes.

    Raises:
        LayoutError: the directories are too large, or cannot be read.
    """
    before = found.total
    rows = _Walk(view, geometry).run(boot.root_cluster)
    rows = _of_free(rows[np.argsort(rows[:, 0], kind="stable")], found)
    rows[:, 1] = np.minimum(rows[:, 1], np.uint64(geometry.clusters) - rows[:, 0])
    found.set_used_runs(joined(rows))
    return before - found.total


def _of_free(rows: Rows, found: ClusterMap) -> Rows:
    """Those of ascending rows that begin in a cluster which a map calls free."""
    free = [np.empty((0, 2), np.uint64)]
    for runs in found.free_runs(0, found.count):
        low, high = np.searchsorted(rows[:, 0], (runs[0, 0], runs[-1].sum()))
        near = rows[low:high]
        run = runs[np.searchsorted(runs[:, 0], near[:, 0], "right") - 1]
        free.append(near[near[:, 0] < run.sum(axis=1)])
    return np.concatenate(free)


class _Walk:
    """A walk through all directories."""

    def __init__(self, view: VolumeView, geometry: Geometry) -> None:
        self._view, self._geometry = view, geometry
        self._chains = Chains(view, geometry)
        self._left = DIRECTORIES_MAX
        self._seen: set[int] = set()

    def run(self, root_cluster: int) -> Rows:
        """Return what all entries claim: first cluster, and clusters by the size in the entry."""
        rows = list(self._found(root_cluster))
        return np.concatenate(rows) if rows else np.empty((0, 2), np.uint64)

    def _found(self, root_cluster: int) -> Iterator[Rows]:
        geometry = self._geometry
        todo, begin = {root_cluster}, set[int]()
        if geometry.root_size:
            rows, todo = self._claims(self._read(geometry.root_start, geometry.root_size))
            begin |= todo
            yield rows
        size = geometry.cluster_size
        while todo:
            cluster = todo.pop()
            self._seen.add(cluster)
            data = self._read(geometry.data_start + (cluster - 2) * size, size)
            if cluster in begin and data[: len(_ITSELF)].tobytes() != _ITSELF:
                # It was never written, or holds something else since then.
                continue
            rows, directories = self._claims(data)
            yield rows
            begin |= directories
            todo |= (directories | self._chains.following(cluster)) - self._seen

    def _claims(self, data: npt.NDArray[np.uint8]) -> tuple[Rows, set[int]]:
        """What the entries in a piece of a directory claim, and where directories among it begin.
        What follows the mark of an end is looked at too, since not every driver stops there.
        """
        entries, initial = data.view(_ENTRY), data[::ENTRY_BYTES]
        first = entries["low"].astype(np.uint64)
        if self._geometry.entry_bits == (32,):
            first |= entries["high"].astype(np.uint64) << np.uint64(16)
        # Long names have the bit of a label too.
        there = (initial != _END) & (initial != _DELETED) & (entries["attributes"] & _LABEL == 0)
        there &= (first >= 2) & (first < self._geometry.clusters + 2)
        first, entries = first[there], entries[there]
        sizes = entries["size"].astype(np.uint64) + np.uint64(self._geometry.cluster_size - 1)
        counts = np.maximum(sizes // np.uint64(self._geometry.cluster_size), np.uint64(1))
        is_directory = entries["attributes"] & _DIRECTORY != 0
        counts[is_directory] = 1
        rows = np.column_stack((first - np.uint64(2), counts))
        return rows, set(first[is_directory].tolist())

    def _read(self, offset: int, length: int) -> npt.NDArray[np.uint8]:
        self._left -= length
        if self._left < 0:
            raise LayoutError("its directories are larger than can be looked at")
        self._view.allow(length)
        return self._view.read_array(offset, length)
