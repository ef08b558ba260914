"""Packed positions that do not exist: what short frames leave out, and frames that a merge dropped.
No map may point there (docs/format.md, sections 6 and 9.5).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from aipimage.errors import IntegrityError
from aipimage.extents import SECTOR, ExtentArray, Kind
from aipimage.format.tables import FrameEntries
from aipimage.io.index.devicemap import DeviceMap

Positions = npt.NDArray[np.uint64]


class Gaps:
    """The gaps of every origin; 16 bytes for each short or dropped frame."""

    def __init__(self, frame_sectors: int) -> None:
        self._size = np.uint64(frame_sectors)
        self._starts: defaultdict[int, list[Positions]] = defaultdict(list)
        self._ends: defaultdict[int, list[Positions]] = defaultdict(list)

    def add(
        self, origin: int, first: int, entries: FrameEntries, dropped: npt.NDArray[np.bool_]
    ) -> None:
        """Note the short and the dropped frames among ``entries``, which are numbered from
        ``first`` on.
        """
        sectors = entries["plain_length"].astype(np.uint64) // np.uint64(SECTOR)
        sectors[dropped] = 0
        short = np.flatnonzero(sectors < self._size)
        starts = (short.astype(np.uint64) + np.uint64(first)) * self._size
        self._starts[origin].append(starts + sectors[short])
        self._ends[origin].append(starts + self._size)

    def of(self, origin: int) -> tuple[Positions, Positions]:
        """Where the gaps of an origin begin and end, ascending."""
        starts, ends = self._starts.get(origin, []), self._ends.get(origin, [])
        return np.concatenate([_NONE, *starts]), np.concatenate([_NONE, *ends])

    def take(self, origin: int, gaps: tuple[Positions, Positions]) -> None:
        """Take over the gaps of an origin from the verification of the file that holds it."""
        self._starts[origin].append(gaps[0])
        self._ends[origin].append(gaps[1])

    def check(self, device_map: DeviceMap) -> None:
        """Walk a map; ``IntegrityError`` where an extent of data touches a gap."""
        joined = {origin: self.of(origin) for origin in self._starts}
        for first, block in device_map.walk():
            data = block[block["kind"] == Kind.DATA]
            for origin in np.unique(data["origin"]).tolist():
                gaps = joined.get(origin, (_NONE, _NONE))
                if _touches(data[data["origin"] == origin], *gaps):
                    raise IntegrityError(
                        f"an extent at or after sector {first} points past the end of a frame, "
                        "or to one that is not kept"
                    )


_NONE: Positions = np.empty(0, np.uint64)


def _touches(extents: ExtentArray, starts: Positions, ends: Positions) -> bool:
    """Whether an extent overlaps one of the ascending gaps."""
    if not len(starts):
        return False
    low = extents["position"]
    # The first gap that ends after the extent's start is the only one that can overlap first.
    gap = np.searchsorted(ends, low, "right")
    inside = gap < len(starts)
    high = low[inside] + extents["length"][inside]
    return bool((starts[gap[inside]] < high).any())
