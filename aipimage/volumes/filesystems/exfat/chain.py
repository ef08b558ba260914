"""Following the FAT of an exFAT volume (exFAT specification, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.ranges import are_disjoint
from aipimage.volumes.filesystems.exfat.layout import (
    FAT_END,
    FAT_ENTRY_BYTES,
    FIRST_CLUSTER,
    FLAG_SECOND_FAT,
    BootSector,
)
from aipimage.volumes.view import LayoutError, VolumeView

WINDOW = 1024
"""Entries that are read at a time."""
RUNS_MAX = 1 << 15
"""Pieces of a chain: more than a root directory of 16 MiB can be in."""
Run = tuple[int, int]
"""First cluster, and clusters."""


class Fat:
    """The table that is in force; ``boot`` is verified."""

    def __init__(self, view: VolumeView, boot: BootSector) -> None:
        self._view = view
        second = bool(boot.flags & FLAG_SECOND_FAT)
        sector = boot.fat_offset + second * boot.fat_length
        self._start = sector << boot.sector_shift
        self._end = boot.clusters + FIRST_CLUSTER
        self._first = 0
        self._entries: npt.NDArray[np.uint32] = np.empty(0, np.uint32)

    def runs(self, first: int, most: int) -> Iterator[Run]:
        """Yield the runs of the chain that begins at a cluster, at most ``most`` clusters in all.

        Raises:
            LayoutError: the chain leaves the volume, meets a bad cluster or is in too many pieces.
        """
        cluster = first
        for _ in range(RUNS_MAX + self._end // WINDOW):
            if not FIRST_CLUSTER <= cluster < self._end:
                raise LayoutError(f"a chain of clusters leads to number {cluster:,}")
            entries = self._window(cluster)[:most]
            following = np.arange(cluster + 1, cluster + 1 + len(entries), dtype=np.uint64)
            breaks = np.flatnonzero(entries != following)
            length = int(breaks[0]) + 1 if len(breaks) else len(entries)
            yield cluster, length
            most -= length
            cluster = int(entries[breaks[0]]) if len(breaks) else cluster + length
            if most <= 0 or (len(breaks) and cluster == FAT_END):
                return
        raise LayoutError("a chain of clusters is in too many pieces")

    def _window(self, cluster: int) -> npt.NDArray[np.uint32]:
        """The entries from that of a cluster on to the end of the window that it lies in."""
        first = cluster // WINDOW * WINDOW
        if not len(self._entries) or first != self._first:
            length = FAT_ENTRY_BYTES * min(WINDOW, self._end - first)
            self._view.allow(length)
            raw = self._view.read_array(self._start + FAT_ENTRY_BYTES * first, length)
            self._entries, self._first = raw.view("<u4"), first
        return self._entries[cluster - first :]


def whole_chain(fat: Fat, first: int, clusters: int) -> list[Run]:
    """Return the runs of a chain of exactly so many clusters, or of more, of which the first.

    Raises:
        LayoutError: it ends before, meets itself, or leaves the volume.
    """
    runs = list(fat.runs(first, clusters))
    if sum(length for _, length in runs) != clusters:
        raise LayoutError(f"a chain of clusters ends before its {clusters:,}")
    check_disjoint(runs)
    return runs


def check_disjoint(runs: list[Run]) -> None:
    """Raise ``LayoutError`` where a chain meets itself."""
    if not are_disjoint(np.array(runs, np.uint64).reshape(-1, 2)):
        raise LayoutError("a chain of clusters meets itself")
