"""Chains of clusters in a file allocation table (fatgen103, FAT Data Structure; exFAT
specification, section 4.1).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.errors import LimitError
from aipimage.files.errors import DamagedVolumeError
from aipimage.files.model import NO_RUNS, RUNS_MAX, Runs
from aipimage.files.window import Window
from aipimage.volumes.filesystems.fat.table import entries_of

FIRST = 2
_PER_WINDOW = 4096
"""Entries that are read together; even, so that those of 12 bits begin with a whole byte."""
_WINDOWS_KEPT = 64
_BAD = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFF_FFF7}
_BAD_EXFAT = 0xFFFF_FFF7
Run = tuple[int, int]
"""First cluster, and clusters."""


class Chains:
    """The table that is in force.

    Args:
        start: byte of the volume where it begins. bits: of an entry. clusters: of the volume.
        data_start: byte of cluster 2. cluster_size: bytes. is_exfat: all 32 bits of an entry count.
    """

    def __init__(
        self, window: Window, start: int, bits: int, clusters: int, data_start: int,
        cluster_size: int, is_exfat: bool = False,
    ) -> None:  # fmt: skip
        self._window, self._start, self._bits = window, start, bits
        self._end, self.cluster_size = clusters + FIRST, cluster_size
        self.data_start, self._is_exfat = data_start, is_exfat
        self._bad = _BAD_EXFAT if is_exfat else _BAD[bits]
        self._kept: OrderedDict[int, npt.NDArray[np.uint32]] = OrderedDict()

    @property
    def clusters(self) -> int:
        """Of the volume."""
        return self._end - FIRST

    def runs(self, first: int, most: int) -> Iterator[Run]:
        """Yield the runs of the chain that begins at a cluster, up to its end or to ``most``
        clusters.

        Raises:
            DamagedVolumeError: it leaves the volume, or meets a free or bad cluster.
        """
        cluster = first
        while most > 0:
            if not FIRST <= cluster < self._end:
                raise DamagedVolumeError(f"damaged: its clusters lead to number {cluster:,}")
            entries = self._entries(cluster)[:most]
            following = np.arange(cluster + 1, cluster + 1 + len(entries), dtype=np.uint64)
            breaks = np.flatnonzero(entries != following)
            length = int(breaks[0]) + 1 if len(breaks) else len(entries)
            yield cluster, length
            most -= length
            cluster = int(entries[breaks[0]]) if len(breaks) else cluster + length
            if len(breaks) and cluster > self._bad:
                return
            if len(breaks) and cluster in (0, 1, self._bad) and most > 0:
                raise DamagedVolumeError("damaged: its clusters lead to one that is free or bad")

    def place(self, cluster: int) -> int:
        """The byte of the volume at which a cluster begins."""
        return self.data_start + (cluster - FIRST) * self.cluster_size

    def chained(self, first: int, size: int) -> Runs:
        """Where ``size`` bytes lie along the chain from a cluster on.

        Raises:
            DamagedVolumeError: it ends before. LimitError: it is in more than 4,194,304 pieces.
        """
        if not size:
            return NO_RUNS
        wanted, rows = -(-size // self.cluster_size), []
        if wanted > self.clusters:
            raise DamagedVolumeError(f"damaged: it says {size:,} bytes, more than the volume has")
        for run in self.runs(first, wanted):
            rows.append(run)
            if len(rows) > RUNS_MAX:
                raise LimitError(f"it is in more than {RUNS_MAX:,} pieces")
        found = np.array(rows, np.int64).reshape(-1, 2)
        if int(found[:, 1].sum()) < wanted:
            raise DamagedVolumeError(f"damaged: its clusters end before its {size:,} bytes")
        self._check_disjoint(found)
        return self._in_bytes(found, size)

    def contiguous(self, first: int, size: int) -> Runs:
        """Where ``size`` bytes lie that follow each other from a cluster on."""
        if not size:
            return NO_RUNS
        count = -(-size // self.cluster_size)
        if first < FIRST or first + count > self._end:
            raise DamagedVolumeError(f"damaged: its {size:,} bytes leave the volume")
        return self._in_bytes(np.array([(first, count)], np.int64), size)

    def directory(self, first: int, most: int) -> Iterator[tuple[int, int]]:
        """Yield (byte, bytes) of the clusters of a directory, up to the end of its chain.

        Raises:
            DamagedVolumeError: it has more than ``most`` bytes, or meets itself.
        """
        seen: set[int] = set()
        left = max(1, most // self.cluster_size)
        for cluster, count in self.runs(first, left + 1):
            numbers = range(cluster, cluster + count)
            if not seen.isdisjoint(numbers):
                raise DamagedVolumeError("damaged: the clusters of a directory lead in a circle")
            left -= count
            if left < 0:
                raise DamagedVolumeError(f"damaged: a directory of more than {most:,} bytes")
            seen.update(numbers)
            yield self.place(cluster), count * self.cluster_size

    def _check_disjoint(self, runs: npt.NDArray[np.int64]) -> None:
        ordered = runs[np.argsort(runs[:, 0])]
        if (ordered[1:, 0] < ordered[:-1].sum(axis=1)).any():
            raise DamagedVolumeError("damaged: its clusters lead in a circle")

    def _in_bytes(self, runs: npt.NDArray[np.int64], size: int) -> Runs:
        lengths = runs[:, 1] * self.cluster_size
        starts = np.cumsum(lengths) - lengths
        places = self.data_start + (runs[:, 0] - FIRST) * self.cluster_size
        lengths = np.minimum(lengths, size - starts)
        found: Runs = np.column_stack((starts, places, lengths))
        return found

    def _entries(self, cluster: int) -> npt.NDArray[np.uint32]:
        """The entries from that of a cluster on to the end of the window that it lies in."""
        number, inside = divmod(cluster, _PER_WINDOW)
        found = self._kept.get(number)
        if found is None:
            found = self._read(number * _PER_WINDOW)
            self._kept[number] = found
            if len(self._kept) > _WINDOWS_KEPT:
                self._kept.popitem(last=False)
        return found[inside:]

    def _read(self, first: int) -> npt.NDArray[np.uint32]:
        count = min(_PER_WINDOW, self._end - first)
        at = self._start + first * self._bits // 8
        data = self._window.structure(at, -(-count * self._bits // 8))
        if self._is_exfat:
            return np.frombuffer(data, "<u4").astype(np.uint32)
        raw = (
            np.frombuffer(data + b"\0", np.uint8)
            if self._bits == 12
            else np.frombuffer(data, np.uint8)
        )
        return entries_of(raw, self._bits, 0, count)
