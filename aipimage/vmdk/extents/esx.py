"""What both sparse extents of ESX have in common: a directory of grain tables of 4096 entries.

They differ in what an entry means, which each says in two pure functions over arrays
(``EsxLayout``). No loop runs per grain; a loop per run of neighbouring grains reads data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, IncompleteError, SourceError
from aipimage.io.system.cache import FrameCache
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import ESX_TABLE_ENTRIES, SECTOR
from aipimage.vmdk.pieces import PieceArray, State, clipped, pieces_of, runs_between

Raw = npt.NDArray[np.unsignedinteger[Any]]
Places = npt.NDArray[np.int64]
"""Sectors of the file: where a table or a grain begins. 0: there is none."""
ZEROS = -1
"""A place that says: zeros, whatever a parent has."""
NOWHERE = 1 << 53
"""A place beyond the end of every file, for numbers that would not fit."""

_SLICE = 4096
"""Entries of the directory that are looked at together."""
_BATCH = 16
"""Tables that are looked at together: at most 65,536 rows of pieces."""
_FEW = 2
"""Tables up to which a range is looked up in the cache and not in the file."""
_KEPT = 8 * ESX_TABLE_ENTRIES * 8
"""Bytes of tables that an extent remembers: a chain of 256 deltas stays at 64 MiB."""


@dataclass(frozen=True, slots=True)
class EsxLayout:
    """Where the directory of an extent lies, and how its entries are read.

    Attributes:
        capacity, grain: sectors of the extent and of a grain. entry: type of an entry.
        directory: first sector of the grain directory. data_from: grains and tables begin here.
        tables: directory entries -> places of tables. grains: table entries -> places of grains.
            Both raise ``FormatError`` for an entry that means nothing.
    """

    capacity: int
    grain: int
    entry: np.dtype[Any]
    directory: int
    data_from: int
    tables: Callable[[Raw], Places]
    grains: Callable[[Raw], Places]

    @property
    def coverage(self) -> int:
        """Sectors that a grain table covers."""
        return self.grain * ESX_TABLE_ENTRIES

    @property
    def directory_entries(self) -> int:
        """Entries of the directory: one for each table."""
        return -(-self.capacity // self.coverage)


class EsxExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`."""

    warnings: tuple[str, ...] = ()

    def __init__(
        self, file: ExtentFile, layout: EsxLayout, cache: FrameCache | None = None
    ) -> None:
        """Take over ``file``; ``IncompleteError`` where its directory is not all within it.

        Args:
            cache: keeps the places of grains, 32 KiB a table; ``None`` for a small one of its own.
        """
        self.name, self.size = file.name, layout.capacity * SECTOR
        self._file, self._layout = file, layout
        self._sectors = file.size // SECTOR
        self._grain = layout.grain * SECTOR
        self._coverage = layout.coverage * SECTOR
        self._cache = FrameCache(_KEPT) if cache is None else cache
        # An object of its own: a number such as id() might come back in another extent's time.
        self._key = object()
        length = layout.directory_entries * layout.entry.itemsize
        file.verified_range(layout.directory * SECTOR, length, "the grain directory")

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """See ``ExtentReader.pieces``; a table that is not there is one row."""
        end = min(end, self.size)
        at, stop = start // self._coverage, -(-end // self._coverage)
        if start < end and stop - at <= _FEW:
            yield from (self._part(table, start, end) for table in range(at, stop))
            return
        while at < stop and start < end:
            count = min(_SLICE, stop - at)
            for rows in self._slice(at, self._directory(at, count)):
                if len(rows := clipped(rows, start, end)):
                    yield rows
            at += count

    def _part(self, table: int, start: int, end: int) -> PieceArray:
        """Pieces of [start, end) of a table, out of the cache: for a read here and there."""
        base = table * self._coverage
        low, high = max(start - base, 0), min(end - base, self._coverage)
        first, last = low // self._grain, -(-high // self._grain)
        places = self._table(table)[first:last]
        return clipped(self._rows(places, base + first * self._grain), start, end)

    def _slice(self, first: int, tables: Places) -> Iterator[PieceArray]:
        """Pieces of a slice of the directory; tables that are missing together are one row."""
        there = np.flatnonzero(tables)
        at = 0
        while at < len(tables):
            follows = np.searchsorted(there, at)
            begin = int(there[follows]) if follows < len(there) else len(tables)
            if begin > at:
                yield self._absent(first + at, begin - at)
            at = min(begin + _BATCH, len(tables))
            if begin < at:
                yield self._batch(first + begin, tables[begin:at])

    def _absent(self, first: int, count: int) -> PieceArray:
        start = first * self._coverage
        length = min(count * self._coverage, self.size - start)
        return np.array([[start, length, State.ABSENT]], np.int64)

    def _batch(self, first: int, tables: Places) -> PieceArray:
        """Pieces of a few tables, joined."""
        places = np.zeros((len(tables), ESX_TABLE_ENTRIES), np.int64)
        for row in np.flatnonzero(tables).tolist():
            places[row] = self._loaded(first + row, int(tables[row]))
        return self._rows(places.reshape(-1), first * self._coverage)

    def _rows(self, places: Places, start: int) -> PieceArray:
        """Pieces of grains from ``start`` on, joined; the last may reach past the extent's end."""
        states = np.where(places > 0, State.DATA, np.where(places < 0, State.ZERO, State.ABSENT))
        return pieces_of(states, start, self._grain)

    def read_data(self, view: memoryview, offset: int) -> None:
        """See ``ExtentReader.read_data``."""
        done = 0
        while done < view.nbytes:
            table, inside = divmod(offset + done, self._coverage)
            length = min(self._coverage - inside, view.nbytes - done)
            self._read(view[done : done + length], self._table(table), inside)
            done += length

    def _read(self, view: memoryview, places: Places, inside: int) -> None:
        """Read from one table's grains, those that follow each other with one read."""
        first = inside // self._grain
        wanted = places[first : -(-(inside + view.nbytes) // self._grain)]
        if not (wanted > 0).all():
            raise SourceError(f"{self.name}: changed while it was read; stop what writes to it")
        skip, at = inside - first * self._grain, 0
        for begin, end in runs_between(np.diff(wanted) != self._layout.grain):
            length = min((end - begin) * self._grain - skip, view.nbytes - at)
            place = int(wanted[begin]) * SECTOR + skip
            self._file.read_into(view[at : at + length], place, "a grain")
            at, skip = at + length, 0

    def close(self) -> None:
        """See ``ExtentReader.close``."""
        self._file.close()

    def _table(self, number: int) -> Places:
        """Places of a table's grains, out of the cache where they are there."""

        def load() -> memoryview:
            place = int(self._directory(number, 1)[0])
            places = self._loaded(number, place) if place else np.zeros(ESX_TABLE_ENTRIES, np.int64)
            return places.data.cast("B")

        return np.frombuffer(self._cache.get((self._key, number), load), np.int64)

    def _directory(self, first: int, count: int) -> Places:
        """Places of tables, each within the file and none of them twice."""
        tables = self._layout.tables(
            self._entries(self._layout.directory, first, count, "the grain directory")
        )
        there = tables[tables != 0]
        length = ESX_TABLE_ENTRIES * self._layout.entry.itemsize // SECTOR
        self._check("grain table", there, length)
        if len(np.unique(there)) != len(there):
            raise FormatError(f"{self.name}: two ranges of the disk share a grain table")
        return tables

    def _loaded(self, number: int, place: int) -> Places:
        """Places of a table's grains; those past the end of the extent are none."""
        places = self._layout.grains(self._entries(place, 0, ESX_TABLE_ENTRIES, "a grain table"))
        begins = np.arange(ESX_TABLE_ENTRIES, dtype=np.int64) * self._layout.grain
        left = self._layout.capacity - number * self._layout.coverage - begins
        places[left <= 0] = 0
        there = places > 0
        self._check("grain", places[there], np.minimum(left[there], self._layout.grain))
        return places

    def _check(self, what: str, places: Places, sectors: int | Places) -> None:
        """Refuse places before the data begins, or not all within the file."""
        if (places < self._layout.data_from).any():
            raise FormatError(f"{self.name}: a {what} lies within the header or the directory")
        if (places + sectors > self._sectors).any():
            raise IncompleteError(
                f"{self.name}: a {what} lies past the end of the file, which has "
                f"{self._file.size} bytes: it was cut short or is damaged; copy it again"
            )

    def _entries(self, sector: int, first: int, count: int, what: str) -> Raw:
        entry = self._layout.entry
        offset = sector * SECTOR + first * entry.itemsize
        return np.frombuffer(self._file.read(offset, count * entry.itemsize, what), entry)


def verified_sectors(name: str, found: int, expected: int | None) -> int:
    """Return the sectors of an extent; ``FormatError`` unless they are those of its descriptor."""
    if expected is not None and found != expected:
        raise FormatError(
            f"{name}: has {found} sectors, but its descriptor says {expected}; they do not belong "
            "together"
        )
    return found
