"""Extents with tables of 32-bit entries: what is the same for hosted extents and COWD.

Source: the note, "Grain Directory" and "Grain Tables".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from aipimage.vmdk.layout import SECTOR, ZEROED
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.header import Shape
from aipimage.vmdk.linting.space import check_metadata, check_overlaps, over_metadata
from aipimage.vmdk.linting.tables import (
    I64,
    U32,
    Batch,
    Mask,
    merged,
    read_batches,
    read_directory,
    read_tables,
    usable,
)

_GAPS_MAX = 4 << 20
"""Bytes between metadata that are looked at."""


@dataclass
class Tables:
    """The directories of an extent, and which of their tables can be read.

    Attributes:
        pieces: (start, end) in sectors of all metadata beside tables.
    """

    directory: U32
    use: Mask
    at: int
    redundant: U32 | None = None
    redundant_use: Mask | None = None
    pieces: list[tuple[int, int]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Tables that can be read."""
        return int(np.count_nonzero(self.use))


@dataclass
class Seen:
    """What a pass over the tables counted.

    Attributes:
        stored: grains. end: the sector after the last one.
    """

    stored: int = 0
    end: int = 0


def load_tables(
    checked: CheckedFile, shape: Shape, gd: int, rgd: int, pieces: list[tuple[int, int]]
) -> Tables | None:
    """Read the directories at sectors ``gd`` and, unless 0, ``rgd``, and compare them."""
    directory = read_directory(checked, shape, gd, "primary")
    if directory is None:
        return None
    _check_rest(checked, shape, gd)
    tables = Tables(directory, usable(checked, shape, directory, gd, "primary"), gd)
    tables.pieces = [*pieces, (gd, gd + shape.directory_sectors)]
    if rgd:
        redundant = read_directory(checked, shape, rgd, "redundant")
        if redundant is not None:
            _check_rest(checked, shape, rgd)
            tables.pieces.append((rgd, rgd + shape.directory_sectors))
            _compare_directories(checked, tables, redundant, rgd)
            tables.redundant = redundant
            tables.redundant_use = usable(checked, shape, redundant, rgd, "redundant")
    return tables


def _check_rest(checked: CheckedFile, shape: Shape, sector: int) -> None:
    """Find what is not zero in the last sector of a directory, after its entries."""
    at = sector * SECTOR + shape.tables * 4
    if checked.read(at, -at % SECTOR).strip(b"\0"):
        checked.add("padding-nonzero", "bytes after a grain directory are not zero", at)


def _compare_directories(checked: CheckedFile, tables: Tables, redundant: U32, rgd: int) -> None:
    differ = np.flatnonzero((tables.directory == 0) != (redundant == 0))
    if len(differ):
        first = int(differ[0])
        checked.add(
            "gd-rgd-differ",
            f"table {first} is in only one of the two grain directories",
            rgd * SECTOR + 4 * first,
            len(differ),
        )
    same = np.flatnonzero((tables.directory == redundant) & (redundant != 0))
    if len(same):
        checked.add(
            "redundant-shared",
            f"both directories lead to one table {int(same[0])}",
            rgd * SECTOR + 4 * int(same[0]),
            len(same),
        )


def intervals_of(shape: Shape, tables: Tables) -> I64:
    """Return (start, end) in sectors of all metadata, sorted by start."""
    starts = [tables.directory[tables.use]]
    if tables.redundant is not None and tables.redundant_use is not None:
        own = tables.redundant_use & (tables.redundant != tables.directory)
        starts.append(tables.redundant[own])
    return merged(tables.pieces, starts, shape.table_sectors)


def check_tables(checked: CheckedFile, shape: Shape, tables: Tables) -> Seen:
    """Check every entry of every table, the redundant ones too."""
    intervals = intervals_of(shape, tables)
    check_metadata(checked, intervals)
    seen = Seen()
    for batch in read_batches(checked, shape, tables.directory, tables.use):
        if tables.redundant is not None:
            _compare_tables(checked, shape, tables, batch)
        _check_zeroed(checked, shape, tables, batch)
        _check_past_end(checked, shape, tables, batch)
        starts, numbers = _stored(shape, batch)
        seen.stored += len(starts)
        if len(starts):
            _check_places(checked, shape, intervals, starts, numbers, seen)
    return seen


def _compare_tables(checked: CheckedFile, shape: Shape, tables: Tables, batch: Batch) -> None:
    assert tables.redundant is not None
    assert tables.redundant_use is not None
    both = tables.redundant_use[batch.numbers]
    numbers = batch.numbers[both]
    others = read_tables(checked, shape, tables.redundant[numbers])
    rows, columns = np.nonzero(others != batch.entries[both])
    if len(rows):
        number, entry = int(numbers[rows[0]]), int(columns[0])
        values = f"{batch.entries[both][rows[0], entry]}, the redundant {others[rows[0], entry]}"
        checked.add(
            "gt-rgt-differ",
            f"entry {entry} of grain table {number} is {values}",
            _place(tables, number, entry),
            len(rows),
        )


def _check_zeroed(checked: CheckedFile, shape: Shape, tables: Tables, batch: Batch) -> None:
    if shape.zeroed:
        return
    rows, columns = np.nonzero(batch.entries == ZEROED)
    if len(rows):
        number = int(batch.numbers[rows[0]])
        checked.add(
            "zeroed-unannounced",
            f"grain {number * shape.entries + int(columns[0])} is called "
            "zeroed, and the header has no such flag",
            _place(tables, number, int(columns[0])),
            len(rows),
        )


def _check_past_end(checked: CheckedFile, shape: Shape, tables: Tables, batch: Batch) -> None:
    last = shape.tables - 1
    used = shape.grains - last * shape.entries
    if len(batch.numbers) and batch.numbers[-1] == last and batch.entries[-1, used:].any():
        entry = used + int(np.flatnonzero(batch.entries[-1, used:])[0])
        checked.add(
            "entry-past-end",
            f"entry {entry} of the last grain table is for a grain past the end of the disk",
            _place(tables, last, entry),
        )
        batch.entries[-1, used:] = 0


def _place(tables: Tables, number: int, entry: int) -> int:
    return int(tables.directory[number]) * SECTOR + 4 * entry


def _stored(shape: Shape, batch: Batch) -> tuple[I64, I64]:
    """Starts in sectors and numbers of the stored grains of a batch, ascending by number."""
    rows, columns = np.nonzero(batch.entries > ZEROED)
    starts = batch.entries[rows, columns].astype(np.int64)
    return starts, batch.numbers[rows] * shape.entries + columns


def _check_places(
    checked: CheckedFile, shape: Shape, intervals: I64, starts: I64, numbers: I64, seen: Seen
) -> None:
    lengths = np.full(len(starts), 1 if shape.stream else shape.grain, np.int64)
    if not shape.stream:
        lengths[numbers == shape.grains - 1] = shape.last_sectors
    ends = starts + lengths
    # A short last grain may be stored as a whole one.
    seen.end = max(seen.end, int(starts.max()) + (1 if shape.stream else shape.grain))
    total = checked.size // SECTOR
    _tell(checked, "grain-range", ends > total, starts, numbers, f"; the file has {total} sectors")
    bad = over_metadata(intervals, starts, ends)
    _tell(checked, "grain-in-metadata", bad, starts, numbers, ", over metadata")
    if shape.aligned and not shape.stream:
        odd = starts % shape.grain != 0
        _tell(checked, "grain-misaligned", odd, starts, numbers, f", no multiple of {shape.grain}")
    # An overHead past the end of the file has been reported, and says nothing.
    early = (starts < shape.overhead) & ~bad & (shape.overhead <= total)
    _tell(
        checked, "grain-before-overhead", early, starts, numbers, f"; overHead is {shape.overhead}"
    )


def _tell(checked: CheckedFile, code: str, bad: Mask, starts: I64, numbers: I64, rest: str) -> None:
    if (count := int(np.count_nonzero(bad))) > 0:
        at = int(np.flatnonzero(bad)[0])
        text = f"grain {numbers[at]} is at sector {starts[at]}{rest}"
        checked.add(code, text, int(starts[at]) * SECTOR, count)


def check_space(checked: CheckedFile, shape: Shape, tables: Tables, seen: Seen) -> None:
    """Check a plain extent's grains against each other, and what of the file nothing leads to."""

    def grains() -> Iterator[tuple[I64, I64]]:
        total = checked.size // SECTOR
        for batch in read_batches(checked, shape, tables.directory, tables.use):
            starts, numbers = _stored(shape, batch)
            inside = (starts < total) & (numbers < shape.grains)
            yield starts[inside], numbers[inside]

    # Where writers do not align grains to the file, they lie at one distance from that.
    phase = next((int(np.bincount(s % shape.grain).argmax()) for s, _ in grains() if len(s)), 0)
    check_overlaps(checked, grains, shape.grain, phase)
    intervals = intervals_of(shape, tables)
    first = max(shape.overhead, int(intervals[:, 1].max()))
    if shape.aligned:
        first = -(-first // shape.grain) * shape.grain
    total = checked.size // SECTOR
    end = max(first, seen.end)
    if tables.count < int(np.count_nonzero(tables.directory)):
        return  # Tables that cannot be read may lead to the rest.
    if total > end and shape.aligned:
        checked.add("trailing-data", f"{total - end} sectors follow the last grain", end * SECTOR)
    elif (unused := total - first - seen.stored * shape.grain) > 0:
        # ESX lets a file grow by more than a grain at a time.
        checked.add("unused-space", f"{unused} sectors of the file belong to nothing")


def check_gaps(checked: CheckedFile, intervals: I64, end: int) -> None:
    """Find what is not zero between pieces of metadata before sector ``end``."""
    ends = np.maximum.accumulate(np.concatenate(([0], intervals[:, 1])))
    starts = np.concatenate((intervals[:, 0], [end]))
    left = _GAPS_MAX
    for row in np.flatnonzero(np.minimum(starts, end) > ends):
        begin, stop = int(ends[row]) * SECTOR, int(min(starts[row], end)) * SECTOR
        data = checked.read(begin, min(stop - begin, left))
        left -= len(data)
        if data.strip(b"\0"):
            at = begin + len(data) - len(data.lstrip(b"\0"))
            checked.add("padding-nonzero", "bytes between metadata are not zero", at)
        if left <= 0:
            return
