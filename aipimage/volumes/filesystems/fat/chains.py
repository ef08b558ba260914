"""Where the tables of a FAT volume that is in use lead from a cluster: each of them, in each width
that a driver may take it for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.fat.geometry import Geometry
from aipimage.volumes.filesystems.fat.table import Raw, entries_of
from aipimage.volumes.view import VolumeView

_WINDOW = 1024
"""Entries of a FAT32 that are read at a time."""
_WINDOWS_MAX = 256
"""Of them that are kept: 1 MiB."""
Entries = npt.NDArray[np.uint32]


class Chains:
    """All tables of a volume; those of FAT12 and FAT16 are read at once."""

    def __init__(self, view: VolumeView, geometry: Geometry) -> None:
        self._view, self._geometry = view, geometry
        self._starts = [
            geometry.fat_start + number * geometry.fat_size for number in range(geometry.fats)
        ]
        self._windows: dict[tuple[int, int], Entries] = {}
        self._whole: list[Entries] = []
        if geometry.entry_bits != (32,):
            self._whole = [entries for start in self._starts for entries in self._all(start)]

    def following(self, cluster: int) -> set[int]:
        """The numbers of the clusters that may follow a cluster, as far as they are of the volume.

        Raises:
            LayoutError: a table cannot be read.
        """
        if self._whole:
            found = {int(entries[cluster]) for entries in self._whole}
        else:
            found = {self._entry(start, cluster) for start in self._starts}
        return {number for number in found if 2 <= number < self._geometry.clusters + 2}

    def _all(self, start: int) -> list[Entries]:
        count = self._geometry.clusters + 2
        length = -(-count * self._geometry.entry_bits[-1] // 8)
        self._view.allow(length)
        raw: Raw = self._view.read_array(start, length)
        return [entries_of(raw, bits, 0, count) for bits in self._geometry.entry_bits]

    def _entry(self, start: int, cluster: int) -> int:
        first = cluster // _WINDOW * _WINDOW
        window = self._windows.get((start, first))
        if window is None:
            if len(self._windows) == _WINDOWS_MAX:
                self._windows.clear()
            count = min(_WINDOW, self._geometry.clusters + 2 - first)
            self._view.allow(4 * count)
            window = entries_of(self._view.read_array(start + 4 * first, 4 * count), 32, 0, count)
            self._windows[start, first] = window
        return int(window[cluster - first])
