"""Moving forward through the map of a device, a page a level at a time (docs/format.md, section
7).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aipimage.extents import DATA, EXTENT_DTYPE, PAGE, ExtentArray
from aipimage.format.mappage import MapPage
from aipimage.format.record import Reference
from aipimage.format.seal import SealDevice
from aipimage.io.index.devicemap import DeviceMap, LoadedPage
from aipimage.io.index.origins import Origins

Renumbered = Callable[[npt.NDArray[np.uint16]], npt.NDArray[np.uint16]]
"""New numbers of origins for those of an image, such as a `Renumbering`."""


class CursorPage:
    """The rows of a loaded page, cut anywhere; rows are its extents, in order.

    Attributes:
        level: of the page. end: the sector after its range.
    """

    __slots__ = ("_below", "_extents", "_starts", "end", "level", "loaded")

    def __init__(self, loaded: LoadedPage, renumbered: Renumbered) -> None:
        page = loaded.page
        self.loaded, self.level, self.end = loaded, page.level, page.first + page.sectors
        self._starts, self._below = loaded.starts, list(loaded.refs)
        # Decoded pages are shared with every reader of the map, so that only a copy may change.
        self._extents = loaded.extents.copy()
        data = self._extents["kind"] == DATA
        self._extents["origin"][data] = renumbered(self._extents["origin"][data])

    def row_at(self, sector: int) -> int:
        """The row that describes ``sector``."""
        return bisect_right(self._starts, sector) - 1

    def start_of(self, row: int) -> int:
        """The first sector of a row."""
        start: int = self._starts[row]
        return start

    def end_of(self, row: int) -> int:
        """The sector after a row."""
        return self._starts[row + 1] if row + 1 < len(self._starts) else self.end

    def page_below(self, row: int) -> Reference | None:
        """What a row of kind page refers to; ``None`` for the other kinds."""
        return self.loaded.refs.get(row)

    def next_page(self, row: int) -> int:
        """The first sector from ``row`` on that a page below describes, or the end."""
        index = bisect_left(self._below, row)
        return self._starts[self._below[index]] if index < len(self._below) else self.end

    def cut(self, start: int, stop: int) -> tuple[ExtentArray, list[Reference]]:
        """Return a copy of the rows from sector ``start`` to ``stop``, cut to that, and their
        references; rows of kind page must lie in there whole.
        """
        first, past = self.row_at(start), bisect_left(self._starts, stop)
        rows = self._extents[first:past].copy()
        rows["length"][-1] = stop - self._starts[past - 1]
        before = start - self._starts[first]
        if before:
            rows["length"][0] -= np.uint64(before)
            if rows["kind"][0] == DATA:
                rows["position"][0] += np.uint64(before)
        low, high = bisect_left(self._below, first), bisect_left(self._below, past)
        return rows, [self.loaded.refs[row] for row in self._below[low:high]]


class MapCursor:
    """A place in a device's map that moves forward only; holds one page a level.

    It begins above the root: at a page of its own with one row, which refers to the root. So a root
    can be compared, or taken over whole, like any other page.

    Args:
        renumbered: what the rows' ``origin`` is to be instead.
    """

    def __init__(self, pages: DeviceMap, entry: SealDevice, renumbered: Renumbered) -> None:
        self._pages, self._renumbered = pages, renumbered
        row = np.array([(entry.sectors, 0, 0, PAGE)], EXTENT_DTYPE)
        top = MapPage(0, entry.map_level + 1, 0, entry.sectors, row, (), (entry.map_root,))
        loaded = LoadedPage(top, entry.map_root.origin, (), Origins())
        self._stack = [CursorPage(loaded, renumbered)]

    def seek(self, sector: int) -> CursorPage:
        """Leave pages that end before ``sector``; return the lowest of those gone down to."""
        while self._stack[-1].end <= sector:
            self._stack.pop()
        return self._stack[-1]

    def below(self, row: int) -> LoadedPage:
        """The page that a row of kind page of the current page refers to."""
        if len(self._stack) == 1:
            return self._pages.root()
        return self._pages.child(self._stack[-1].loaded, row)

    def descend(self, row: int) -> CursorPage:
        """Go down to the page that a row of kind page refers to."""
        self._stack.append(CursorPage(self.below(row), self._renumbered))
        return self._stack[-1]

    def leaf(self, sector: int) -> CursorPage:
        """Go to the page that describes ``sector`` itself."""
        page = self.seek(sector)
        while page.page_below(row := page.row_at(sector)) is not None:
            page = self.descend(row)
        return page
