"""Grain directories and grain tables, read in batches as arrays; memory does not grow with the
disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.header import Shape
from aipimage.vmdk.pieces import runs_between

Mask = npt.NDArray[np.bool_]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]
_BATCH = 1 << 20
"""Bytes of tables read at once."""


class Batch(NamedTuple):
    """Some grain tables.

    Attributes:
        numbers: their numbers in the directory, shape (k,), ascending.
        entries: shape (k, entries of a table).
    """

    numbers: I64
    entries: U32


def read_directory(checked: CheckedFile, shape: Shape, sector: int, what: str) -> U32 | None:
    """Return a grain directory as it stands; ``None``, and a finding, where it is not in the
    file.
    """
    length = shape.tables * 4
    data = b""
    if sector > 0 and sector * SECTOR + length <= checked.size:
        data = checked.read(sector * SECTOR, length)
    if len(data) != length:
        checked.add(
            "directory-range",
            f"the {what} grain directory, {shape.tables} entries at sector "
            f"{sector}, does not lie in the file",
        )
        return None
    return np.frombuffer(data, "<u4").astype(np.uint32, copy=False)


def usable(checked: CheckedFile, shape: Shape, directory: U32, at: int, what: str) -> Mask:
    """Check the entries of a directory that stands at sector ``at``; return which lead to tables
    in the file that no other entry leads to.
    """
    starts = directory.astype(np.int64)
    present = starts != 0
    inside: Mask = present & ((starts + shape.table_sectors) * SECTOR <= checked.size)
    if (count := int((present & ~inside).sum())) > 0:
        first = int(np.flatnonzero(present & ~inside)[0])
        checked.add(
            "table-range",
            f"{what} grain table {first} is at sector {starts[first]}, and the file "
            f"ends at {checked.size // SECTOR}",
            at * SECTOR + 4 * first,
            count,
        )
    order = np.flatnonzero(inside)
    order = order[np.argsort(starts[order], kind="stable")]
    shared = order[1:][np.diff(starts[order]) < shape.table_sectors]
    if len(shared):
        checked.add(
            "table-shared",
            f"{what} grain table {shared[0]} lies at sector {starts[shared[0]]}, over another",
            at * SECTOR + 4 * int(shared[0]),
            len(shared),
        )
        inside[shared] = False
    return inside


def read_batches(checked: CheckedFile, shape: Shape, directory: U32, use: Mask) -> Iterator[Batch]:
    """Yield the tables that ``use`` marks, in the order of the directory."""
    numbers = np.flatnonzero(use).astype(np.int64)
    per_batch = max(1, _BATCH // (shape.entries * 4))
    for first in range(0, len(numbers), per_batch):
        some = numbers[first : first + per_batch]
        yield Batch(some, read_tables(checked, shape, directory[some]))


def read_tables(checked: CheckedFile, shape: Shape, sectors: U32) -> U32:
    """Return tables at given sectors, shape (k, entries); neighbours are read at once."""
    rows = np.zeros((len(sectors), shape.entries), "<u4")
    width = shape.table_sectors * SECTOR
    exact = width == shape.entries * 4
    steps = (np.diff(sectors.astype(np.int64)) != shape.table_sectors) | (not exact)
    for start, end in runs_between(steps):
        if start < len(sectors):
            checked.file.pread_into(rows[start:end].data.cast("B"), int(sectors[start]) * SECTOR)
    return rows.astype(np.uint32, copy=False)


def merged(pieces: list[tuple[int, int]], starts: list[U32], length: int) -> I64:
    """Return sorted (start, end) in sectors of metadata: single pieces, and arrays of tables."""
    rows = [np.array(pieces, np.int64).reshape(-1, 2)]
    for each in starts:
        begin = each.astype(np.int64)
        rows.append(np.stack([begin, begin + length], axis=1))
    every = np.concatenate(rows)
    return every[np.argsort(every[:, 0], kind="stable")]
