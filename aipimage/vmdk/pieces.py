"""What an extent, or a chain of disks, has where: ranges of bytes, each with a state.

Sets of ranges that all mean the same are in ``aipimage.ranges``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class State(IntEnum):
    """What an extent knows of a range."""

    ABSENT = 0
    """Nothing: a parent has it, or it reads as zeros."""
    ZERO = 1
    """Zeros, whatever a parent has."""
    DATA = 2


PieceArray = npt.NDArray[np.int64]
"""Shape (n, 3): offset, length in bytes, :class:`State`; ascending, without gaps."""


def pieces_of(states: npt.NDArray[np.integer], start: int, grain: int) -> PieceArray:
    """Return the pieces of grains, each of ``grain`` bytes, of which the first is at ``start``."""
    heads = np.concatenate(([0], np.flatnonzero(states[1:] != states[:-1]) + 1))
    rows = np.empty((len(heads), 3), np.int64)
    rows[:, 0] = heads * grain + start
    rows[:, 1] = np.diff(heads, append=len(states)) * grain
    rows[:, 2] = states[heads]
    return rows


def joined(rows: PieceArray) -> PieceArray:
    """Join neighbours of the same state."""
    if len(rows) < 2:
        return rows
    heads = np.flatnonzero(np.concatenate(([True], rows[1:, 2] != rows[:-1, 2])))
    result = rows[heads].copy()
    result[:, 1] = np.add.reduceat(rows[:, 1], heads)
    return result


def clipped(rows: PieceArray, start: int, end: int) -> PieceArray:
    """Cut pieces to [start, end), in place; none may be left."""
    low = int(np.searchsorted(rows[:, 0], start, "right")) - 1
    high = int(np.searchsorted(rows[:, 0], end, "left"))
    rows = rows[max(low, 0) : high]
    if len(rows):
        # Only the first and the last row can reach out of the range.
        before = max(start - int(rows[0, 0]), 0)
        rows[0, 0] += before
        rows[0, 1] -= before
        rows[-1, 1] -= max(int(rows[-1, 0] + rows[-1, 1]) - end, 0)
    return rows


def runs_between(breaks: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield (low, high) of the runs of ``len(breaks) + 1`` things; a break is between two."""
    cuts = np.flatnonzero(breaks) + 1
    yield from itertools.pairwise([0, *cuts.tolist(), len(breaks) + 1])
