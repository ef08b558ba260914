"""What the parts of this package say to each other."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
)
"""What is written; names of ``createType``."""
ADAPTERS = ("lsilogic", "buslogic", "ide")
"""``ddb.adapterType`` that importers accept (pvscsi breaks imports)."""


class State(IntEnum):
    """What an extent knows of a range."""

    ABSENT = 0
    """Nothing: a parent has it, or it reads as zeros."""
    ZERO = 1
    """Zeros, whatever a parent has."""
    DATA = 2


PieceArray = npt.NDArray[np.int64]
"""Shape (n, 3): offset, length in bytes, :class:`State`; ascending, without gaps."""


class ExtentReader(Protocol):
    """One extent of a virtual disk: a fixed number of bytes, read anywhere by any thread.

    Attributes:
        name: its file, for messages. size: bytes.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what is where in [start, end), in arrays of bounded size, neighbours joined."""
        ...

    def read_data(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``, a range that ``pieces`` calls ``DATA``; thread-safe.

        Raises:
            FormatError: damaged. SourceError, UnreadableRangeError: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Give its file up; a second call does nothing."""
        ...


def joined(rows: PieceArray) -> PieceArray:
    """Join neighbours of the same state."""
    if len(rows) < 2:
        return rows
    heads = np.flatnonzero(np.concatenate(([True], rows[1:, 2] != rows[:-1, 2])))
    result = rows[heads].copy()
    result[:, 1] = np.add.reduceat(rows[:, 1], heads)
    return result
