"""What a chain of disks has where: each disk laid over its parent, in numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from aipimage.vmdk.pieces import PieceArray, State, joined


class Layer(Protocol):
    """A disk of the chain, as far as it matters here."""

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]: ...


def overlaid(
    layers: Sequence[Layer], start: int, end: int, number: int = 0
) -> Iterator[PieceArray]:
    """Yield what is where in [start, end), seen from ``layers[number]`` downwards.

    The third column is ``State.ABSENT`` or ``State.ZERO``, or ``State.DATA`` + n for data of
    ``layers[n]``. Arrays are as bounded as those of the layers are.
    """
    for rows in layers[number].pieces(start, end):
        if number:
            rows[rows[:, 2] == State.DATA, 2] += number
        absent = np.flatnonzero(rows[:, 2] == State.ABSENT)
        if not len(absent) or number + 1 == len(layers):
            yield rows
            continue
        low, high = int(absent[0]), int(absent[-1]) + 1
        if low:
            yield rows[:low]
        yield from _filled(rows[low:high], layers, number + 1)
        if high < len(rows):
            yield rows[high:]


def _filled(rows: PieceArray, layers: Sequence[Layer], number: int) -> Iterator[PieceArray]:
    """Yield rows that begin and end absent, with what the layers below have there."""
    starts, end = rows[:, 0], int(rows[-1, 0] + rows[-1, 1])
    for below in overlaid(layers, int(starts[0]), end, number):
        first, stop = int(below[0, 0]), int(below[-1, 0] + below[-1, 1])
        low = int(np.searchsorted(starts, first, "right")) - 1
        high = int(np.searchsorted(starts, stop, "left"))
        yield _merged(rows[low:high], below, stop)


def _merged(above: PieceArray, below: PieceArray, end: int) -> PieceArray:
    """Lay ``above`` over ``below``, whose range it covers."""
    first = int(below[0, 0])
    offsets = np.union1d(np.maximum(above[:, 0], first), below[:, 0])
    upper = above[np.searchsorted(above[:, 0], offsets, "right") - 1, 2]
    lower = below[np.searchsorted(below[:, 0], offsets, "right") - 1, 2]
    states = np.where(upper == State.ABSENT, lower, upper)
    return joined(np.column_stack((offsets, np.diff(offsets, append=end), states)))
