"""Where two points in time of a device may differ, by their maps (docs/format.md, sections 7 and
9.4).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.extents import ExtentArray, Kind
from aipimage.format.seal import SealDevice
from aipimage.io.index.devicemap import DeviceMap
from aipimage.io.index.mapcursor import MapCursor
from aipimage.io.index.origins import Origins, Renumbering

Run = tuple[int, int, int]


def diff_maps(
    new: DeviceMap,
    new_entry: SealDevice,
    new_origins: Origins,
    old: DeviceMap,
    old_entry: SealDevice,
    old_origins: Origins,
) -> Iterator[Run]:
    """Yield (start sector, sectors, kind in the new map) where the new content may differ.

    Runs ascend, and neighbours of one kind are joined. Content is the same where both maps lead to
    the same packed sectors, or say the same without data; unused and zero read alike. What lies
    beyond the old device's end differs; what lies beyond the new one's is not reported.
    Pages that both maps share are not read.

    Args:
        new_origins: those that ``new`` numbers; ``old_origins`` likewise.
    """
    numbers: dict[bytes, int] = {}

    def common_number(origin: bytes) -> int:
        return numbers.setdefault(origin, len(numbers))

    after = MapCursor(new, new_entry, Renumbering(new_origins, common_number))
    before = MapCursor(old, old_entry, Renumbering(old_origins, common_number))
    common = min(new_entry.sectors, old_entry.sectors)
    yield from _joined(_differences(after, before, common, new_entry.sectors))


def _differences(new: MapCursor, old: MapCursor, common: int, end: int) -> Iterator[Run]:
    at = 0
    while at < common:
        skipped = _step_down(new, old, at)
        if skipped > at:
            at = skipped
            continue
        page, other = new.seek(at), old.seek(at)
        stop = min(page.next_page(page.row_at(at)), other.next_page(other.row_at(at)), common)
        yield from _compared(at, page.cut(at, stop)[0], other.cut(at, stop)[0])
        at = stop
    while at < end:
        page = new.leaf(at)
        stop = page.next_page(page.row_at(at))
        extents, _ = page.cut(at, stop)
        yield from _runs(at, np.cumsum(extents["length"]), extents["length"], extents["kind"])
        at = stop


def _step_down(new: MapCursor, old: MapCursor, at: int) -> int:
    """Go down in both maps to the extents at a sector, or return the end of a page that both
    share there.
    """
    while True:
        page, other = new.seek(at), old.seek(at)
        row, other_row = page.row_at(at), other.row_at(at)
        below, other_below = page.page_below(row), other.page_below(other_row)
        if below is None and other_below is None:
            return at
        end, other_end = page.end_of(row), other.end_of(other_row)
        if below == other_below and end == other_end:
            return end
        # Of two pages the wider one is gone down to first: the other may be found in it.
        if below is not None and (other_below is None or end >= other_end):
            new.descend(row)
        if other_below is not None and (below is None or other_end >= end):
            old.descend(other_row)


def _compared(at: int, new: ExtentArray, old: ExtentArray) -> Iterator[Run]:
    """Compare the extents of one range piece by piece, cut where either has a border."""
    ends, old_ends = np.cumsum(new["length"]), np.cumsum(old["length"])
    borders = np.union1d(ends, old_ends)
    sectors = np.diff(borders, prepend=np.uint64(0))
    rows, old_rows = np.searchsorted(ends, borders), np.searchsorted(old_ends, borders)
    kind = new["kind"][rows]
    content, old_content = _content(kind), _content(old["kind"][old_rows])
    # Where a piece ends in the packed stream, plus the same for both; modulo 2^64.
    place = (new["position"] + new["length"] - ends)[rows]
    old_place = (old["position"] + old["length"] - old_ends)[old_rows]
    moved = (new["origin"][rows] != old["origin"][old_rows]) | (place != old_place)
    differ = (content != old_content) | ((content == Kind.DATA) & moved)
    yield from _runs(at, borders[differ], sectors[differ], kind[differ])


def _content(kind: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.where(kind == Kind.UNUSED, np.uint8(Kind.ZERO), kind)


def _runs(
    at: int,
    ends: npt.NDArray[np.uint64],
    sectors: npt.NDArray[np.uint64],
    kinds: npt.NDArray[np.uint8],
) -> Iterator[Run]:
    starts = (ends - sectors + np.uint64(at)).tolist()
    yield from zip(starts, sectors.tolist(), kinds.tolist(), strict=True)


def _joined(runs: Iterator[Run]) -> Iterator[Run]:
    held: Run | None = None
    for start, sectors, kind in runs:
        if held is not None and held[0] + held[1] == start and held[2] == kind:
            held = (held[0], held[1] + sectors, kind)
            continue
        if held is not None:
            yield held
        held = (start, sectors, kind)
    if held is not None:
        yield held
