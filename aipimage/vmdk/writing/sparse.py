"""Plain sparse extents, alone in their file: monolithicSparse, and those of twoGbMaxExtentSparse.

Source: VMware "Virtual Disk Format 5.0" technical note, "Hosted Sparse Extents". Both directories
point to tables whose places are fixed from the beginning; a table without grains is a hole in the
file. Grains follow in the order of the disk, so a table is final once a later one has begun.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aipimage.errors import RequestError
from aipimage.io.system.storage import File
from aipimage.vmdk.feed import GRAIN_BYTES, Numbers
from aipimage.vmdk.layout import (
    GRAIN,
    MAX_SECTORS_32,
    SECTOR,
    TABLE_ENTRIES,
    SparseFlags,
    SparseHeader,
    encode_sparse_header,
)
from aipimage.vmdk.pieces import runs_between
from aipimage.vmdk.writing.tables import (
    entries_text,
    no_entries,
    table_runs,
    verified_entries,
    verified_number,
    verified_table,
)

_FLAGS = SparseFlags.NEWLINE_TEST | SparseFlags.REDUNDANT_TABLE
_TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
_PENDING = 512
"""Tables that are written together, 1 MiB."""
_DIRECTORY_STEP = 1 << 18
"""Entries of a directory that are made at a time, 1 MiB."""


class SparseLayout(NamedTuple):
    """Where things lie, in sectors: redundant directory and tables, the primary ones, grains."""

    tables: int
    rgd: int
    rgt: int
    gd: int
    gt: int
    overhead: int


def sparse_layout(sectors: int, descriptor_sectors: int) -> SparseLayout:
    """Return the layout of an extent of ``sectors``."""
    tables = -(-sectors // (GRAIN * TABLE_ENTRIES))
    directory = -(-tables * 4 // SECTOR)
    rgd = 1 + descriptor_sectors
    rgt = rgd + directory
    gd = rgt + tables * _TABLE_SECTORS
    gt = gd + directory
    end = gt + tables * _TABLE_SECTORS
    return SparseLayout(tables, rgd, rgt, gd, gt, -(-end // GRAIN) * GRAIN)


class SparseExtent:
    """Writes one extent.

    Args:
        file: new, or one that is continued. sectors: of the extent, whole grains.
        descriptor: embedded after the header, whole sectors; empty where it is a file of its own.

    Attributes:
        position: bytes of the file so far.
    """

    def __init__(self, file: File, sectors: int, descriptor: bytes) -> None:
        self._file, self._sectors, self._descriptor = file, sectors, descriptor
        self._layout = sparse_layout(sectors, len(descriptor) // SECTOR)
        check_room(file.name, self._layout.overhead)
        self._entries = no_entries()
        self._table: int | None = None
        self._ended: list[tuple[int, bytes]] = []
        self.position = self._layout.overhead * SECTOR

    def begin(self) -> None:
        """Write all that is known before the first grain."""
        layout, size = self._layout, len(self._descriptor) // SECTOR
        header = SparseHeader(
            1,
            int(_FLAGS),
            self._sectors,
            GRAIN,
            1 if size else 0,
            size,
            TABLE_ENTRIES,
            layout.rgd,
            layout.gd,
            layout.overhead,
        )
        self._file.pwritev([encode_sparse_header(header), self._descriptor], 0)
        self._write_directory(layout.rgd, layout.rgt)
        self._write_directory(layout.gd, layout.gt)
        self._file.truncate(self.position)

    def add(self, numbers: Numbers, rows: Numbers, data: memoryview) -> None:
        """Write grains that follow on those before: ``numbers`` in the extent, ``rows`` in
        ``data``.
        """
        check_room(self._file.name, self.position // SECTOR + len(numbers) * GRAIN)
        starts = self.position // SECTOR + np.arange(len(numbers)) * GRAIN
        for table, low, high in table_runs(numbers):
            self._begin_table(table)
            self._entries[numbers[low:high] % TABLE_ENTRIES] = starts[low:high]
        views = [
            data[int(rows[low]) * GRAIN_BYTES : (int(rows[high - 1]) + 1) * GRAIN_BYTES]
            for low, high in _neighbours(rows)
        ]
        self._file.pwritev(views, self.position)
        self.position += len(numbers) * GRAIN_BYTES

    def finish(self) -> None:
        """Write the tables that are left."""
        self._begin_table(None)
        self._write_tables()

    def state(self) -> dict[str, Any]:
        """Write what is final, and return what :meth:`restore` needs to continue here."""
        self._write_tables()
        return {
            "position": self.position,
            "table": self._table,
            "entries": entries_text(self._entries),
        }

    def restore(self, state: dict[str, Any], next_grain: int) -> None:
        """Cut the file to where :meth:`state` was asked for, and continue; ``FormatError`` where
        that is not possible.
        """
        del next_grain  # The position is enough; flat extents have none.
        low = self._layout.overhead * SECTOR
        self.position = verified_number(state, "position", low, self._file.size())
        self._table = verified_table(state, self._layout.tables)
        self._entries = verified_entries(state, "entries", TABLE_ENTRIES)
        self._file.truncate(self.position)

    def _begin_table(self, table: int | None) -> None:
        if table == self._table:
            return
        if self._table is not None:
            self._ended.append((self._table, self._entries.tobytes()))
            self._entries[:] = 0
        self._table = table
        if len(self._ended) >= _PENDING:
            self._write_tables()

    def _write_tables(self) -> None:
        """Write the tables that are final to both places, neighbours with one call."""
        ended, self._ended = self._ended, []
        numbers = np.array([table for table, _ in ended], np.int64)
        for low, high in _neighbours(numbers):
            parts = [data for _, data in ended[low:high]]
            for base in (self._layout.rgt, self._layout.gt):
                self._file.pwritev(parts, (base + ended[low][0] * _TABLE_SECTORS) * SECTOR)

    def _write_directory(self, at: int, first: int) -> None:
        """Write a directory in steps: its tables follow each other from sector ``first`` on."""
        for low in range(0, self._layout.tables, _DIRECTORY_STEP):
            high = min(low + _DIRECTORY_STEP, self._layout.tables)
            entries = (np.arange(low, high) * _TABLE_SECTORS + first).astype("<u4")
            self._file.pwrite(entries.tobytes(), at * SECTOR + low * 4)


def _neighbours(numbers: Numbers) -> list[tuple[int, int]]:
    """Return (low, high) where ``numbers[low:high]`` follow each other."""
    return list(runs_between(np.diff(numbers) != 1)) if len(numbers) else []


def check_room(name: str, sectors: int) -> None:
    """Refuse a file that would pass what a sector number of 32 bits reaches; ``RequestError``."""
    if sectors > MAX_SECTORS_32:
        raise RequestError(
            f"{name}: a sparse file would pass 2 TiB, which its tables cannot reach; use "
            "twoGbMaxExtentSparse, or a flat disk"
        )
