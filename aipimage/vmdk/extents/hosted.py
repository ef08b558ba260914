"""Hosted sparse extents: KDMV files with plain grains, or with compressed ones after markers.

Source: the note, "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents". What is
where comes from the grain directory and the tables, never from a walk along the markers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.io.system.cache import FrameCache
from aipimage.io.system.storage import File
from aipimage.vmdk.extents.compressed import CompressedGrains
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.extents.header import read_hosted
from aipimage.vmdk.extents.tables import WINDOW_TABLES, Entries, GrainTables
from aipimage.vmdk.layout import SECTOR, TABLE_ENTRIES, ZEROED, SparseFlags, SparseHeader
from aipimage.vmdk.pieces import PieceArray, State, clipped, pieces_of, runs_between


@dataclass(frozen=True, slots=True)
class Caches:
    """What the extents of a disk keep in memory together: parts of grain tables (8 MiB), and
    decoded grains for reads that are not whole grains (8 MiB).
    """

    tables: FrameCache = field(default_factory=lambda: FrameCache(8 << 20))
    grains: FrameCache = field(default_factory=lambda: FrameCache(8 << 20))


def open_hosted(file: File, sectors: int | None, caches: Caches | None = None) -> HostedExtent:
    """Return the extent that a file holds; the file is the extent's from then on.

    Args:
        sectors: what the descriptor says of its size, ``None`` to go by the header. The header of a
            split disk's extent may be rounded up to whole grains and nothing else: the extents
            after it would not be where they belong.

    Raises:
        FormatError: not such a file, or damaged; its subclasses as in ``header.read_hosted`` and
            ``tables.GrainTables``. SourceError: it cannot be read.
    """
    inner = ExtentFile(file)
    found = read_hosted(inner)
    header = found.header
    size = header.capacity if sectors is None else sectors
    if sectors is not None and not sectors <= header.capacity < sectors + header.grain_size:
        raise FormatError(
            f"{file.name}: has {header.capacity} sectors by its header and {sectors} by the "
            "descriptor: one of them belongs to another disk"
        )
    return HostedExtent(inner, header, size * SECTOR, caches or Caches(), found.warnings)


class HostedExtent:
    """See :class:`aipimage.vmdk.model.ExtentReader`.

    Attributes:
        file, header: what it is read from and by. warnings: see ``header.Hosted``.
    """

    def __init__(
        self,
        file: ExtentFile,
        header: SparseHeader,
        size: int,
        caches: Caches,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Load the grain directory; errors as ``tables.GrainTables``."""
        self.name, self.size, self.header, self.warnings = file.name, size, header, warnings
        self.file = file
        self._grain = header.grain_size * SECTOR
        self._zeroed = bool(header.flags & SparseFlags.ZEROED_GRAINS)
        self._tables = GrainTables(file, header, caches.tables)
        self._compressed = (
            CompressedGrains(file, header, size, caches.grains) if header.compressed else None
        )

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what the tables say; errors as ``GrainTables.entries``."""
        end = min(end, self.size)
        if start >= end:
            return
        first, last = start // self._grain, -(-end // self._grain)
        if last - first <= TABLE_ENTRIES:
            yield clipped(self._rows(self._tables.entries(first, last), first), start, end)
            return
        for rows in self._walk(first // TABLE_ENTRIES, -(-last // TABLE_ENTRIES)):
            rows = clipped(rows, start, end)
            if len(rows):
                yield rows

    def _walk(self, table: int, stop: int) -> Iterator[PieceArray]:
        """Yield rows for the tables [table, stop), window by window."""
        while table < stop:
            named = min(self._tables.skip(table), stop)
            if named > table:
                yield self._absent(table, named)
            table = named
            upto = min(table + WINDOW_TABLES, stop)
            if table < upto:
                entries = self._tables.window(table, upto)
                assert entries is not None
                yield self._rows(entries, table * TABLE_ENTRIES)
            table = upto

    def _absent(self, table: int, stop: int) -> PieceArray:
        span = TABLE_ENTRIES * self._grain
        return np.array([(table * span, (stop - table) * span, State.ABSENT)], np.int64)

    def _rows(self, entries: Entries, first: int) -> PieceArray:
        states: npt.NDArray[np.uint8] = (entries != 0).view(np.uint8) * np.uint8(State.DATA)
        if self._zeroed:
            states[entries == ZEROED] = State.ZERO
        return pieces_of(states, first * self._grain, self._grain)

    def read_data(self, view: memoryview, offset: int) -> None:
        """See ``ExtentReader.read_data``."""
        first, last = offset // self._grain, -(-(offset + view.nbytes) // self._grain)
        # In steps, so that a long read needs no array of all its entries.
        step = 8 * TABLE_ENTRIES
        for low in range(first, last, step):
            high = min(low + step, last)
            begin = max(offset, low * self._grain)
            stop = min(offset + view.nbytes, high * self._grain)
            part = view[begin - offset : stop - offset]
            entries = self._tables.entries(low, high)
            if self._compressed is not None:
                self._compressed.read(part, begin, entries)
            else:
                self._read_plain(part, begin, entries)

    def _read_plain(self, view: memoryview, offset: int, entries: Entries) -> None:
        """Read grains that follow each other in the file with one read."""
        places = entries.astype(np.int64)
        first = offset // self._grain
        for low, high in runs_between(np.diff(places) != self._grain // SECTOR):
            begin = max(offset, (first + low) * self._grain)
            stop = min(offset + view.nbytes, (first + high) * self._grain)
            place = int(places[low]) * SECTOR + begin - (first + low) * self._grain
            self.file.read_into(view[begin - offset : stop - offset], place, "a grain")

    def close(self) -> None:
        """Close the file."""
        self.file.close()
