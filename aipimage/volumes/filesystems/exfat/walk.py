"""All that the files and directories of an exFAT volume claim: the bitmap must call it used.

The bitmap alone says what is free (section 7.1.5), and a driver that lost a write of it leaves
files whose clusters look free. Files say by themselves where they lie: one by one after their first
cluster, or along the FAT (section 6.3.4). A damaged file casts no doubt on the bitmap: what can
be found of it is compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.ranges import joined
from aipimage.volumes.filesystems.exfat.chain import Fat, Run
from aipimage.volumes.filesystems.exfat.layout import (
    ATTRIBUTE_DIRECTORY,
    ENTRY_BITMAP,
    ENTRY_BYTES,
    ENTRY_END,
    ENTRY_FILE,
    ENTRY_IN_USE,
    ENTRY_SECONDARY,
    ENTRY_STREAM,
    ENTRY_UPCASE,
    FIRST_CLUSTER,
    FLAG_ALLOCATION,
    FLAG_NO_FAT_CHAIN,
    BootSector,
    decode_allocated,
)
from aipimage.volumes.view import LayoutError, VolumeView

DIRECTORIES_MAX = 256 << 20
"""Bytes of directories that are looked at: some two million files."""
RUNS_MAX = 1 << 19
"""Pieces of files that are followed in all."""
_FIRST, _PIECE = 4096, 1 << 20
Entries = npt.NDArray[np.uint8]


class _Place(NamedTuple):
    """Where a file or directory lies: its runs, and bytes."""

    runs: list[Run]
    length: int


class Walk:
    """A walk through all directories; ``boot`` is verified.

    Args:
        is_torn: directories may hold anything, since not all that was written arrived. What follows
            the mark of an end is looked at too, and entries of an unknown kind may have clusters.

    Attributes:
        claimed: the runs of all files and directories.
    """

    def __init__(self, view: VolumeView, boot: BootSector, fat: Fat, is_torn: bool = False) -> None:
        self._view, self._boot, self._fat, self._is_torn = view, boot, fat, is_torn
        self._left, self._entered = DIRECTORIES_MAX, {boot.root_cluster}
        self.claimed: list[Run] = []

    def run(self, root: Iterable[Entries]) -> npt.NDArray[np.uint64]:
        """Look at the root directory, whose entries are given, and all below; return what is
        claimed, as rows of (first cluster, clusters), ascending and disjoint.

        Raises:
            LayoutError: an entry is of a kind that is not known, or there is more than can be
                looked at.
        """
        todo = self._look_at(root)
        while todo:
            todo += self._look_at(self._entries(todo.pop()))
        return joined(np.array(self.claimed, np.uint64).reshape(-1, 2))

    def _look_at(self, directory: Iterable[Entries]) -> list[_Place]:
        """Claim what a directory's entries name; return the directories among it."""
        found = []
        for attributes, entry in _claims(directory, self._is_torn):
            place = self._place_of(entry)
            if not attributes & ATTRIBUTE_DIRECTORY or not place.runs:
                continue
            first = place.runs[0][0]
            if first not in self._entered:  # else its directories lead in a circle
                self._entered.add(first)
                found.append(place)
        return found

    def _place_of(self, entry: bytes) -> _Place:
        """Follow a directory entry that may have clusters (section 6.3)."""
        _, flags, first, length = decode_allocated(entry)
        if not flags & FLAG_ALLOCATION or not length:
            return _Place([], 0)
        clusters = -(-length // self._boot.cluster_size)
        end = self._boot.clusters + FIRST_CLUSTER
        if not FIRST_CLUSTER <= first < end:
            # No driver opens such a file, and there is nothing of it that could be left out.
            return _Place([], 0)
        if flags & FLAG_NO_FAT_CHAIN:
            runs = [(first, min(clusters, end - first))]
        else:
            runs = self._followed(first, min(clusters, self._boot.clusters))
        self.claimed += runs
        if len(self.claimed) > RUNS_MAX:
            raise LayoutError("its files are in more pieces than can be compared with its bitmap")
        return _Place(runs, min(length, sum(n for _, n in runs) * self._boot.cluster_size))

    def _followed(self, first: int, clusters: int) -> list[Run]:
        """The runs of a chain, as far as it can be followed: what a damaged one leads to is kept,
        and there is no more of it.
        """
        runs: list[Run] = []
        with contextlib.suppress(LayoutError):
            for run in self._fat.runs(first, clusters):
                runs.append(run)
                if len(self.claimed) + len(runs) > RUNS_MAX:
                    break
        return runs

    def _entries(self, place: _Place) -> Iterator[Entries]:
        """Yield the entries of a directory in pieces, up to the mark of its end."""
        size, left = _FIRST, place.length
        for cluster, count in place.runs:
            at = self._boot.cluster_start(cluster)
            end = at + min(count * self._boot.cluster_size, left)
            left -= end - at
            while at < end:
                length = min(size, end - at)
                self._left -= length
                if self._left < 0:
                    raise LayoutError("its directories are larger than can be compared")
                self._view.allow(length)
                data = self._view.read_array(at, length)
                entries = data[: length // ENTRY_BYTES * ENTRY_BYTES].reshape(-1, ENTRY_BYTES)
                ends = np.flatnonzero(entries[:, 0] == ENTRY_END)
                ended = len(ends) > 0 and not self._is_torn
                yield entries[: ends[0]] if ended else entries
                if ended:
                    return
                at, size = at + length, min(2 * size, _PIECE)


def _claims(directory: Iterable[Entries], is_torn: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (attributes of the file, entry) of the entries that may have clusters."""
    attributes = 0
    for entries in directory:
        kinds = entries[:, 0]
        wanted = (kinds & ENTRY_IN_USE != 0) & ~np.isin(kinds, _WITHOUT_CLUSTERS)
        for row in entries[wanted]:
            entry = row.tobytes()
            if entry[0] == ENTRY_FILE:
                attributes = int.from_bytes(entry[4:6], "little")
            elif entry[0] == ENTRY_STREAM:
                yield attributes, entry
            elif entry[0] & ENTRY_SECONDARY:
                yield 0, entry
            elif is_torn:
                # Flags of an entry that others follow lie elsewhere (section 6.3.4).
                yield 0, entry[:1] + entry[4:5] + entry[2:]
            else:
                raise LayoutError(f"a directory has an entry of the kind {entry[0]:#04x}")


_WITHOUT_CLUSTERS = (ENTRY_BITMAP, ENTRY_UPCASE, 0x83, 0xA0, 0xA1, 0xC1)
"""Bitmap and up-case table are looked at elsewhere; label, GUID, padding of TexFAT, file name."""
