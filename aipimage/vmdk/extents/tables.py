"""The grain directory and the grain tables of a hosted sparse extent, as numpy arrays.

The note, "Grain Directory" and "Grain Table": the directory has an entry a table, the tables an
entry a grain; an entry is a sector number of 32 bits in the file, 0 where there is nothing.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, LimitError
from aipimage.io.system.cache import FrameCache
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import SECTOR, TABLE_ENTRIES, SparseFlags, SparseHeader
from aipimage.vmdk.pieces import runs_between

Entries = npt.NDArray[np.uint32]
"""Shape (n,): sector numbers in the file, an entry a grain."""

DIRECTORY_MAX = 1 << 24
"""Entries of a grain directory at most, 64 MiB in memory: 512 TiB in grains of 64 KiB."""
WINDOW_TABLES = 512
"""Tables that a walk loads at a time: 1 MiB."""
_TABLE_BYTES = TABLE_ENTRIES * 4
_TABLE_SECTORS = _TABLE_BYTES // SECTOR


class GrainTables:
    """The directory, loaded at once, and the tables, loaded when they are needed."""

    def __init__(self, file: ExtentFile, header: SparseHeader, cache: FrameCache) -> None:
        """Load the directory.

        Raises:
            IncompleteError: it does not lie in the file. FormatError: it names more tables than the
                file has room for. LimitError: it is over ``DIRECTORY_MAX`` (class 38).
        """
        # A key of its own, and not the number of an object, which a later extent may have again.
        self._file, self._cache, self._key = file, cache, object()
        self._grains = header.grains
        count = _verified_tables(header.tables, file.name)
        place = _directory_place(header, file.name) * SECTOR
        data = file.read(place, count * 4, "the grain directory")
        self._directory: Entries = np.frombuffer(data, "<u4")
        if int(np.count_nonzero(self._directory)) * _TABLE_BYTES > file.size:
            raise FormatError(
                f"{file.name}: its grain directory names more tables than the file has room for"
            )

    def entries(self, first: int, last: int) -> Entries:
        """Return the entries of the grains [first, last), out of the cache where they are there.

        Raises:
            IncompleteError: a table does not lie in the file.
        """
        step = TABLE_ENTRIES
        parts = [
            self._table(number)[max(first - number * step, 0) : last - number * step]
            for number in range(first // step, -(-last // step))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _table(self, number: int) -> Entries:
        def load() -> memoryview:
            return self._load(number, number + 1).data.cast("B")

        return np.frombuffer(self._cache.get((self._key, number), load), np.uint32)

    def window(self, first: int, last: int) -> Entries | None:
        """Return the entries of the tables [first, last) for a walk, past the cache; ``None`` where
        the directory names none of them. Errors as ``entries``.
        """
        if not self._directory[first:last].any():
            return None
        return self._load(first, last)[: self._grains - first * TABLE_ENTRIES]

    def skip(self, first: int) -> int:
        """Return the first table at or after ``first`` that the directory names, or how many tables
        there are.
        """
        while first < len(self._directory):
            part = self._directory[first : first + (1 << 16)]
            there = int((part != 0).argmax())
            if part[there]:
                return first + there
            first += len(part)
        return len(self._directory)

    def _load(self, first: int, last: int) -> Entries:
        """Read tables; those that follow each other in the file with one read."""
        result = np.zeros((last - first, TABLE_ENTRIES), np.uint32)
        places = self._directory[first:last].astype(np.int64)
        there = np.flatnonzero(places)
        if len(there):
            steps = (np.diff(there) != 1) | (np.diff(places[there]) != _TABLE_SECTORS)
            for low, high in runs_between(steps):
                begin = int(there[low])
                rows = result[begin : begin + high - low].data.cast("B")
                self._file.read_into(rows, int(places[begin]) * SECTOR, "a grain table")
        flat = result.reshape(-1)
        return flat if sys.byteorder == "little" else flat.byteswap()


def _verified_tables(count: int, name: str) -> int:
    if count > DIRECTORY_MAX:
        raise LimitError(f"{name}: a grain directory of {count} entries; at most {DIRECTORY_MAX}")
    return count


def _directory_place(header: SparseHeader, name: str) -> int:
    """Sector of the directory. The redundant one takes its place only where there is no other:
    a damaged directory is an error, and which copy is right is for a checker to say.
    """
    if header.gd_offset:
        return header.gd_offset
    if header.flags & SparseFlags.REDUNDANT_TABLE and header.rgd_offset:
        return header.rgd_offset
    raise FormatError(f"{name}: its header does not say where the grain directory is")
