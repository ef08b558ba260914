"""A stream's markers, walked one by one, and compared with what the tables say.

Source: the note, "Stream-Optimized Compressed Sparse Extents" and "Markers".
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from aipimage.io.system.pipeline import in_order
from aipimage.vmdk.layout import MARKER, SECTOR, ZEROED, MarkerType
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.grains import Problem, Stored, StreamPiece, check_grains
from aipimage.vmdk.linting.header import AT, TABLES_MAX, Shape
from aipimage.vmdk.linting.job import LintJob
from aipimage.vmdk.linting.sparse import Tables
from aipimage.vmdk.linting.tables import I64, read_batches, read_tables

_PIECE = 2 << 20
"""Bytes of a stream that are read at once, at least."""
_REST_MAX = 1 << 20
"""Bytes at the end of a file that are looked at for being zeros."""
_NAMES = {
    MarkerType.GRAIN_TABLE: "grain table",
    MarkerType.GRAIN_DIRECTORY: "grain directory",
    MarkerType.FOOTER: "footer",
    MarkerType.EOS: "end-of-stream",
}


def record_limit(shape: Shape) -> int:
    """Bytes of a grain's data at most: deflate adds little, and a reader allocates no more."""
    return 2 * shape.grain * SECTOR + 64


@dataclass
class Walk:
    """A walk over the markers of a stream.

    Attributes:
        header: 512 bytes of the header. tables: what the directory leads to, or ``None``.
        matched: grains found of each table. table_places: sectors after table markers.
        directories, footers: likewise. finished: the walk came to the end.
    """

    checked: CheckedFile
    shape: Shape
    header: bytes
    tables: Tables | None
    last_lba: int = -1
    table_places: array[int] = field(default_factory=lambda: array("Q"))
    directories: list[int] = field(default_factory=list)
    footers: list[int] = field(default_factory=list)
    finished: bool = False
    grains: int = 0

    def __post_init__(self) -> None:
        self.matched = np.zeros(self.shape.tables, np.int64)
        self._row: tuple[int, np.ndarray] | None = None
        self._limit = record_limit(self.shape)

    # The pieces

    def pieces(self) -> Iterator[StreamPiece]:
        """Yield the stream in pieces; each begins at a marker."""
        at = self.shape.overhead
        while not self.finished:
            length = max(_PIECE, 2 * self._limit)
            data = memoryview(self.checked.read(at * SECTOR, length))
            piece = StreamPiece(data, [], self.shape)
            used = self._markers(piece, at, at * SECTOR + len(data) >= self.checked.size)
            self._compare(piece.grains)
            yield piece
            if not used:
                return
            at += used

    def _markers(self, piece: StreamPiece, at: int, last: bool) -> int:
        """Take the markers of a piece at sector ``at``; return the sectors that it was, 0 where
        the walk ends.
        """
        data, here = piece.data, 0
        while len(data) - here * SECTOR >= MARKER.size:
            value, size, kind = MARKER.unpack_from(data, here * SECTOR)
            sectors = -(-(12 + size) // SECTOR) if size else 1
            if size > self._limit:
                self._stop("marker-size", f"a grain marker of {size} bytes", at + here)
                return 0
            if not last and (here + max(sectors, self._metadata(kind))) * SECTOR > len(data):
                return here
            if size:
                if (here * SECTOR) + 12 + size > len(data):
                    self._stop("marker-size", "a grain reaches past the end of the file", at + here)
                    return 0
                self._grain(piece, Stored(value, at + here, here * SECTOR + 12, size))
                self._check_padding(data, here * SECTOR + 12 + size, (here + sectors) * SECTOR, at)
            else:
                count = self._other(data, here, at, value, kind)
                if count is None:
                    return 0
                sectors += count
            here += sectors
        if last:
            self._end_of_file()
            return 0
        return here

    def _metadata(self, kind: int) -> int:
        """Sectors that may be needed after a marker to look at it."""
        return 2 if kind == MarkerType.FOOTER else 1

    def _stop(self, code: str, message: str, sector: int) -> None:
        self.checked.add(
            code, f"{message}, at sector {sector}; what follows was not looked at", sector * SECTOR
        )

    def _end_of_file(self) -> None:
        self.finished = True
        self.checked.add(
            "eos-missing",
            "no end-of-stream marker ends the file: imports of it fail",
            self.checked.size,
        )

    def _check_padding(self, data: memoryview, start: int, end: int, at: int) -> None:
        if bytes(data[start:end]).strip(b"\0"):
            self.checked.add(
                "grain-padding", "bytes after a grain's data are not zero", at * SECTOR + start
            )

    # Grains

    def _grain(self, piece: StreamPiece, grain: Stored) -> None:
        place = grain.sector * SECTOR
        if grain.lba % self.shape.grain or grain.lba >= self.shape.capacity:
            self.checked.add(
                "marker-lba", f"a grain marker for sector {grain.lba}, where no grain begins", place
            )
            return
        if grain.lba <= self.last_lba:
            self.checked.add(
                "grain-order",
                f"the grain of sector {grain.lba} follows that of sector {self.last_lba}",
                place,
            )
        self.last_lba = grain.lba
        self.grains += 1
        piece.grains.append(grain)

    def _compare(self, grains: list[Stored]) -> None:
        """Look grains up in the tables; neighbours mostly share one."""
        if self.tables is None or not grains:
            return
        rows = np.array([(grain.lba, grain.sector) for grain in grains], np.int64)
        numbers, entries = np.divmod(rows[:, 0] // self.shape.grain, self.shape.entries)
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            stored = self._table(number)[entries[mine]]
            good = stored == rows[mine, 1]
            self.matched[number] += int(good.sum())
            if not good.all():
                first = int(np.flatnonzero(~good)[0])
                lba, sector = rows[mine][first].tolist()
                self.checked.add(
                    "grain-unreferenced",
                    f"the grain of sector {lba} is at sector {sector}, its "
                    f"table says {stored[first]}",
                    sector * SECTOR,
                    int((~good).sum()),
                )

    def _table(self, number: int) -> np.ndarray:
        if self._row is None or self._row[0] != number:
            assert self.tables is not None
            row = np.zeros(self.shape.entries, np.uint32)
            if self.tables.use[number]:
                some = self.tables.directory[number : number + 1]
                row = read_tables(self.checked, self.shape, some)[0]
            self._row = (number, row)
        return self._row[1]

    # Markers of metadata

    def _other(self, data: memoryview, here: int, at: int, value: int, kind: int) -> int | None:
        """Take a marker of metadata; return the sectors that follow it, ``None`` at the end."""
        sector = at + here
        if kind not in tuple(MarkerType):
            self._stop("marker-unknown", f"a marker of unknown type {kind}", sector)
            return None
        wanted = {
            MarkerType.EOS: 0,
            MarkerType.GRAIN_TABLE: self.shape.table_sectors,
            MarkerType.GRAIN_DIRECTORY: self.shape.directory_sectors,
            MarkerType.FOOTER: 1,
        }[MarkerType(kind)]
        name = _NAMES[MarkerType(kind)]
        if value != wanted:
            self.checked.add(
                "marker-value",
                f"the {name} marker at sector {sector} says {value} sectors, and not {wanted}",
                sector * SECTOR,
            )
        if bytes(data[here * SECTOR + 16 : (here + 1) * SECTOR]).strip(b"\0"):
            self.checked.add(
                "marker-reserved",
                f"the sector of the {name} marker is not zero after it",
                sector * SECTOR + 16,
            )
        if kind == MarkerType.EOS:
            self._eos(sector)
            return None
        if kind == MarkerType.GRAIN_TABLE and len(self.table_places) <= TABLES_MAX:
            self.table_places.append(sector + 1)
        elif kind == MarkerType.GRAIN_DIRECTORY and len(self.directories) < 8:
            self.directories.append(sector + 1)
        elif kind == MarkerType.FOOTER:
            self._footer(bytes(data[(here + 1) * SECTOR : (here + 2) * SECTOR]), sector + 1)
        return wanted

    def _footer(self, footer: bytes, sector: int) -> None:
        self.footers = [sector]
        start, end = AT["gd"], AT["gd"] + 8
        if footer[:start] + footer[end:] != self.header[:start] + self.header[end:]:
            rest = [i for i in range(len(footer)) if footer[i] != self.header[i]]
            first = next((i for i in rest if not start <= i < end), len(footer))
            self.checked.add(
                "footer-differs",
                f"the footer differs from the header at byte {first}",
                sector * SECTOR + first,
            )

    def _eos(self, sector: int) -> None:
        self.finished = True
        left = self.checked.size - (sector + 1) * SECTOR
        if left > 0 and not self.footers and self._zeros_follow(sector + 1, left):
            # So end files of qemu, which rounds them up and writes no marker.
            self._end_of_file()
        elif left > 0:
            self.checked.add(
                "eos-not-last",
                f"{left} bytes follow the end-of-stream marker",
                (sector + 1) * SECTOR,
            )

    def _zeros_follow(self, sector: int, length: int) -> bool:
        data = self.checked.read(sector * SECTOR, min(length, _REST_MAX))
        return length <= _REST_MAX and not data.strip(b"\0")


def walk_stream(job: LintJob, walk: Walk) -> None:
    """Walk the markers, and decompress the grains between them where that is wanted."""
    work = check_grains if job.deep else _nothing
    for length, problems in in_order(job.executor, work, walk.pieces(), job.in_flight):
        for problem in problems:
            walk.checked.add(problem.code, problem.message, problem.sector * SECTOR)
        job.advance(length)
    job.grains += walk.grains
    if walk.finished and walk.tables is not None:
        _check_unmatched(walk, walk.tables)
        _check_table_markers(walk, walk.tables)


def _nothing(piece: StreamPiece) -> tuple[int, list[Problem]]:
    return len(piece.data), []


def _check_unmatched(walk: Walk, tables: Tables) -> None:
    """Find entries that lead to where the walk saw no grain of theirs."""
    for batch in read_batches(walk.checked, walk.shape, tables.directory, tables.use):
        stored = (batch.entries > ZEROED).sum(axis=1)
        missing = stored - walk.matched[batch.numbers]
        for row in np.flatnonzero(missing > 0).tolist():
            number = int(batch.numbers[row])
            entry = _first_without(walk, number, batch.entries[row])
            walk.checked.add(
                "grain-without-marker",
                f"grain {number * walk.shape.entries + entry} is said to "
                f"be at sector {batch.entries[row, entry]}, where no marker of it is",
                int(tables.directory[number]) * SECTOR + 4 * entry,
                int(missing[row]),
            )


def _first_without(walk: Walk, number: int, entries: np.ndarray) -> int:
    stored = np.flatnonzero(entries > ZEROED).tolist()
    for entry in stored:
        marker = walk.checked.read(int(entries[entry]) * SECTOR, MARKER.size)
        wanted = (number * walk.shape.entries + entry) * walk.shape.grain
        if len(marker) < MARKER.size or MARKER.unpack(marker)[:2] < (wanted, 1):
            return int(entry)
        if MARKER.unpack(marker)[0] != wanted:
            return int(entry)
    return int(stored[0])


def _check_table_markers(walk: Walk, tables: Tables) -> None:
    """Tables after the first grain have a marker each, and each marker's table is used."""
    places = np.array(walk.table_places, np.int64)
    used: I64 = tables.directory[tables.use].astype(np.int64)
    late = used[used >= walk.shape.overhead]
    without = late[~np.isin(late, places)]
    if len(without):
        walk.checked.add(
            "table-without-marker",
            f"no marker before the grain table at sector {without[0]}",
            int(without[0]) * SECTOR,
            len(without),
        )
    spare = places[~np.isin(places, used)]
    if len(spare):
        walk.checked.add(
            "table-unreferenced",
            f"the directory does not lead to the grain table at sector {spare[0]}",
            int(spare[0]) * SECTOR,
            len(spare),
        )
    if tables.at >= walk.shape.overhead and tables.at not in walk.directories:
        walk.checked.add(
            "table-without-marker",
            f"no marker before the grain directory at sector {tables.at}",
            tables.at * SECTOR,
        )
