"""The map of an increment, by path copying from its parent's (docs/format.md, sections 7 and 9.4).

Nothing of what stays is looked at before something changes after it: ``keep_to`` only moves a
mark. So a page is taken over whole however small the steps were in which it was kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.extents import DATA, ExtentArray, Kind, sectors_by_kind
from aipimage.format.record import Reference
from aipimage.format.seal import SealDevice
from aipimage.io.index.devicemap import DeviceMap
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.index.mapcursor import CursorPage, MapCursor, Renumbered

Sectors = npt.NDArray[np.uint64]
_TOGETHER = 4
"""Changes within the rows of one page from which on they are laid over them together."""


class MapUpdate:
    """The new map of a device, from the parent's map and what changed, in ascending order.

    Pages of the parent are taken over by reference where their whole range is kept and they state
    the right range: after a change of the device's size, a page that was cut at the old end is
    built anew. Memory is bounded by a page a level of the old map, and the builder's.

    Args:
        origin_numbers: returns the numbers that the new image (the builder's) has for origins of
            the parent.
        renumbered: the device had another number in the parent, which every page states: none is
            taken over.

    Attributes:
        counts: sectors of each :class:`Kind`, ``len(Kind)`` of ``uint64``: the parent's with what
            changed until now; those of the new device after :meth:`finish`.
        position: sector up to which the new map is decided.
    """

    def __init__(
        self,
        old: DeviceMap,
        old_entry: SealDevice,
        builder: MapBuilder,
        origin_numbers: Renumbered,
        renumbered: bool = False,
    ) -> None:
        self._cursor, self._builder = MapCursor(old, old_entry, origin_numbers), builder
        self._old_root, self._old_end = old_entry.map_root, old_entry.sectors
        self._resized = old_entry.sectors != builder.sectors
        self._renumbered = renumbered
        self._changed = self._resized or renumbered or old_entry.map_level != builder.root_level
        self.counts = _counts(old_entry)
        self.position = 0

    def keep_to(self, sector: int) -> None:
        """Everything from the current position to ``sector`` is as in the parent."""
        if sector == self.position:
            return
        if not self.position < sector <= min(self._old_end, self._builder.sectors):
            raise RuntimeError(f"internal error: the parent's map cannot be kept to {sector}")
        self.position = sector

    def replace(self, extents: ExtentArray) -> None:
        """The next extents (``EXTENT_DTYPE``, origins indexed as in the new image) take the place
        of what the parent had there.
        """
        if not len(extents):
            return
        end = self.position + int(extents["length"].sum())
        if end > self._builder.sectors:
            raise RuntimeError("internal error: extents lie beyond the end of the device")
        self._changed = True
        self._flush()
        self._drop(self.position, min(end, self._old_end))
        self.counts += sectors_by_kind(extents)
        self._builder.add(extents)
        self.position = end

    def overlay(self, starts: Sectors, extents: ExtentArray) -> None:
        """Replace many ranges that lie apart, each by one extent; what is between them is kept.

        Args:
            starts: first sectors of ``extents``, ascending; all lie before the ends of both the old
                and the new device.
        """
        ends = starts + extents["length"]
        low = 0
        while low < len(starts):
            self.keep_to(int(starts[low]))
            self._flush()
            page = self._cursor.leaf(self.position)
            stop = min(page.next_page(page.row_at(self.position)), self._old_end)
            high = int(np.searchsorted(ends, stop, "right"))
            if high - low < _TOGETHER:
                self.replace(extents[low : low + 1])
                low += 1
                continue
            self._changed = True
            end = int(ends[high - 1])
            old, _ = page.cut(self.position, end)
            new = overlaid(self.position, old, starts[low:high], extents[low:high])
            self.counts -= sectors_by_kind(old)
            self.counts += sectors_by_kind(new)
            self._builder.add(new)
            self.position, low = end, high

    def finish(self) -> Reference:
        """Keep the rest; return the new root, the parent's own where nothing changed."""
        self.keep_to(self._builder.sectors)
        if not self._changed:
            return self._old_root
        self._flush()
        self._drop(self.position, self._old_end)
        if self.counts.max() > self.position or int(self.counts.sum()) != self.position:
            raise FormatError("the seal of the parent counts other sectors than its map has")
        return self._builder.finish()

    def _flush(self) -> None:
        """Give the builder what is kept, pages whole where that can be."""
        at = self._builder.position
        while at < self.position:
            page = self._cursor.seek(at)
            stop = self._whole_rows(page, self.position)
            if stop > at:
                self._take_rows(page, stop)
                at = stop
            else:
                self._cursor.descend(page.row_at(at))

    def _whole_rows(self, page: CursorPage, end: int) -> int:
        """Up to where the rows of a page can be taken as they are.

        Only the last page below can be one to go down to: those before it are kept whole.
        """
        stop = min(end, page.end)
        last = page.row_at(stop - 1)
        if self._renumbered:
            return min(stop, page.next_page(page.row_at(self._builder.position)))
        if page.page_below(last) is None or self._is_reusable(page, last, stop):
            return stop
        return page.start_of(last)

    def _is_reusable(self, page: CursorPage, row: int, stop: int) -> bool:
        """Whether a page below is kept whole, and states the same range in the new map."""
        if page.end_of(row) > stop:
            return False
        if not self._resized or stop != self._old_end:
            return True
        # The device grew: the page at its old end is right only if that is where it would end.
        length, spans = stop - page.start_of(row), self._builder.spans
        return length in spans and spans.index(length) == self._cursor.below(row).page.level

    def _take_rows(self, page: CursorPage, stop: int) -> None:
        builder = self._builder
        while (at := builder.position) < stop:
            level, end = builder.reach(stop, page.level)
            extents, refs = page.cut(at, end)
            builder.add_listed(level, extents, refs)

    def _drop(self, start: int, end: int) -> None:
        """Subtract what the parent had in a range from the counts, for which it must be read."""
        while start < end:
            page = self._cursor.leaf(start)
            stop = min(end, page.next_page(page.row_at(start)))
            extents, _ = page.cut(start, stop)
            self.counts -= sectors_by_kind(extents)
            start = stop


def overlaid(first: int, old: ExtentArray, starts: Sectors, new: ExtentArray) -> ExtentArray:
    """Extents from sector ``first`` on, with ``new`` ones from ``starts`` on in their places; those
    lie within, apart from each other.
    """
    old_ends = np.cumsum(old["length"]) + np.uint64(first)
    old_starts = old_ends - old["length"]
    ends = starts + new["length"]
    cuts = np.union1d(old_starts, np.concatenate((starts, ends)))
    cuts = cuts[cuts < old_ends[-1]]
    below = np.searchsorted(old_starts, cuts, "right") - 1
    above = np.searchsorted(starts, cuts, "right") - 1
    is_new = (above >= 0) & (cuts < ends[above])
    result: ExtentArray = old[below]
    result[is_new] = new[above[is_new]]
    begun = np.where(is_new, starts[above], old_starts[below])
    result["length"] = np.diff(np.append(cuts, old_ends[-1]))
    data = result["kind"] == DATA
    result["position"][data] += (cuts - begun)[data]
    return result


def _counts(entry: SealDevice) -> npt.NDArray[np.uint64]:
    counts = np.zeros(len(Kind), np.uint64)
    counts[Kind.UNUSED], counts[Kind.ZERO] = entry.unused, entry.zero
    counts[Kind.DATA], counts[Kind.UNREADABLE] = entry.data, entry.unreadable
    counts[Kind.LOST] = entry.lost
    return counts
