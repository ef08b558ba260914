"""Extents: runs of sectors, and what is known of each.

An :class:`Extent` is the value that the public surface hands out; inside the library many extents
travel as numpy arrays of :data:`EXTENT_DTYPE`, so that no Python loop runs per cluster.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SECTOR = 512
"""Bytes in a sector, the unit of all positions in an image (docs/format.md, section 1)."""


class Kind(IntEnum):
    """What a range of a device holds (docs/format.md, section 7)."""

    UNUSED = 0
    ZERO = 1
    DATA = 2
    UNREADABLE = 3
    PAGE = 4
    LOST = 5


DATA, PAGE = int(Kind.DATA), int(Kind.PAGE)
"""As plain numbers: numpy looks for attributes of an ``IntEnum`` each time it compares with one."""


class Extent(NamedTuple):
    """A run of bytes of a device.

    Attributes:
        start: first byte on the device.
        length: bytes.
        kind: what it holds; never :attr:`Kind.PAGE` outside the map's own pages.
    """

    start: int
    length: int
    kind: Kind


EXTENT_DTYPE = np.dtype([("length", "<u8"), ("position", "<u8"), ("origin", "<u2"), ("kind", "u1")])
"""A map extent: ``length`` and ``position`` in sectors, ``origin`` an index, ``kind`` a
:class:`Kind`.
"""

ExtentArray = npt.NDArray[np.void]


def extent_array(rows: list[tuple[int, int, int, int]]) -> ExtentArray:
    """Build an array of :data:`EXTENT_DTYPE` from (length, position, origin, kind) rows."""
    return np.array(rows, dtype=EXTENT_DTYPE)


def sectors_by_kind(extents: ExtentArray) -> npt.NDArray[np.uint64]:
    """Return the sectors of each :class:`Kind`, an array of ``len(Kind)``."""
    # Sums as floats are exact: a device has at most 2^48 sectors.
    sums = np.bincount(extents["kind"], extents["length"], len(Kind))
    return sums.astype(np.uint64)


def coalesce(extents: ExtentArray) -> ExtentArray:
    """Join neighbours that continue each other; pages are never joined.

    Data continues where the origin is the same and the packed position follows on.
    """
    if len(extents) < 2:
        return extents
    kind, length = extents["kind"], extents["length"]
    same = (kind[1:] == kind[:-1]) & (kind[1:] != PAGE)
    follows = (extents["origin"][1:] == extents["origin"][:-1]) & (
        extents["position"][1:] == extents["position"][:-1] + length[:-1]
    )
    joined = same & (follows | (kind[1:] != DATA))
    if not joined.any():
        return extents
    heads = np.flatnonzero(np.concatenate(([True], ~joined)))
    result = extents[heads].copy()
    result["length"] = np.add.reduceat(length, heads)
    return result
