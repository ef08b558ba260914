"""Packed positions that short frames leave out: no map may point there (docs/format.md, 6)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.errors import IntegrityError
from aipimage.extents import SECTOR, ExtentArray, Kind
from aipimage.format.tables import FrameEntries
from aipimage.io.devicemap import DeviceMap

Positions = npt.NDArray[np.uint64]


class Gaps:
    """The gaps of every origin; 16 bytes for each short frame."""

    def __init__(self, origins: int, frame_sectors: int) -> None:
        self._size = np.uint64(frame_sectors)
        self._starts: list[list[Positions]] = [[] for _ in range(origins)]
        self._ends: list[list[Positions]] = [[] for _ in range(origins)]

    def add(self, origin: int, first: int, entries: FrameEntries) -> None:
        """Note the short frames among ``entries``, which are numbered from ``first`` on."""
        sectors = entries["plain_length"].astype(np.uint64) // np.uint64(SECTOR)
        short = np.flatnonzero(sectors < self._size)
        starts = (short.astype(np.uint64) + np.uint64(first)) * self._size
        self._starts[origin].append(starts + sectors[short])
        self._ends[origin].append(starts + self._size)

    def check(self, device_map: DeviceMap) -> None:
        """Walk a map; ``IntegrityError`` where an extent of data touches a gap."""
        joined = [
            (np.concatenate([_NONE, *starts]), np.concatenate([_NONE, *ends]))
            for starts, ends in zip(self._starts, self._ends, strict=True)
        ]
        for first, block in device_map.walk():
            data = block[block["kind"] == Kind.DATA]
            for origin in np.unique(data["origin"]).tolist():
                if _touches(data[data["origin"] == origin], *joined[origin]):
                    raise IntegrityError(
                        f"an extent at or behind sector {first} points behind the end of a frame"
                    )


_NONE: Positions = np.empty(0, np.uint64)


def _touches(extents: ExtentArray, starts: Positions, ends: Positions) -> bool:
    """Whether an extent overlaps one of the ascending gaps."""
    if not len(starts):
        return False
    low = extents["position"]
    # The first gap that ends behind the extent's start is the only one that can overlap first.
    gap = np.searchsorted(ends, low, "right")
    inside = gap < len(starts)
    high = low[inside] + extents["length"][inside]
    return bool((starts[gap[inside]] < high).any())
