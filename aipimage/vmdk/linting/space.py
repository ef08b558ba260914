"""Checks whether grains lie over metadata or over each other, by arithmetic on arrays.

Grains of a plain extent normally begin at multiples of the grain size, so that a map of a byte a
grain of the file says which places are taken. The map is kept for a window of the file; a file of
2 TiB in grains of 64 KiB is one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.tables import I64, Mask

WINDOW = 1 << 26
"""Grains of the file that are looked at in one pass."""
ODD_MAX = 1 << 20
"""Misaligned grains of which overlaps are looked for."""

Grains = Callable[[], Iterable[tuple[I64, I64]]]
"""Yields (starts in sectors, numbers of grains) each time that it is called."""


def check_metadata(checked: CheckedFile, intervals: I64) -> None:
    """Find pieces of metadata, sorted by start, that share sectors."""
    ends = np.maximum.accumulate(intervals[:, 1])
    bad = np.flatnonzero(intervals[1:, 0] < ends[:-1])
    if len(bad):
        start = int(intervals[bad[0] + 1, 0])
        checked.add(
            "metadata-overlap",
            f"metadata at sector {start} lies over other metadata",
            start * SECTOR,
            len(bad),
        )


def over_metadata(intervals: I64, starts: I64, ends: I64) -> Mask:
    """Return which of the grains share sectors with metadata, intervals sorted by start."""
    reach = np.maximum.accumulate(intervals[:, 1])
    before = np.searchsorted(intervals[:, 0], ends, side="left")
    over: Mask = (before > 0) & (reach[np.maximum(before, 1) - 1] > starts)
    return over


def check_overlaps(checked: CheckedFile, grains: Grains, grain: int, phase: int) -> None:
    """Find grains of a plain extent that share sectors; most begin at ``phase`` + n grains."""
    units = checked.size // SECTOR // grain + 1
    odd = _odd_grains(checked, grains, grain, phase)
    for low in range(0, units, WINDOW):
        seen = np.zeros(min(WINDOW, units - low) + 1, np.uint8)
        for starts, numbers in grains():
            place, rest = np.divmod(starts - phase, grain)
            keep = (rest == 0) & (place >= low) & (place < low + WINDOW)
            _mark(checked, seen, place[keep] - low, starts[keep], numbers[keep])
        place = (odd - phase) // grain - low
        place = place[(place >= -1) & (place < len(seen) - 1)]
        taken = seen[np.maximum(place, 0)] * (place >= 0) + seen[place + 1]
        if (count := int(np.count_nonzero(taken))) > 0:
            start = int(phase + (place[np.flatnonzero(taken)[0]] + low) * grain)
            _overlap(checked, start, count)


def _odd_grains(checked: CheckedFile, grains: Grains, grain: int, phase: int) -> I64:
    """The grains that begin elsewhere, sorted; those that overlap each other are found."""
    if grain == 1:
        return np.zeros(0, np.int64)
    kept: list[I64] = []
    count = 0
    for starts, _ in grains():
        where = np.flatnonzero((starts - phase) % grain)
        if not len(where):
            continue
        count += len(where)
        if count > ODD_MAX:
            text = f"over {ODD_MAX} grains lie anywhere; whether they overlap was not looked at"
            checked.add("grain-overlap", text)
            return np.zeros(0, np.int64)
        kept.append(starts[where])
    odd = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    close = np.flatnonzero(np.diff(odd) < grain)
    if len(close):
        _overlap(checked, int(odd[close[0] + 1]), len(close))
    return odd


def _mark(checked: CheckedFile, seen: np.ndarray, place: I64, starts: I64, numbers: I64) -> None:
    twice = seen[place] != 0
    if len(place) > 1 and not (np.diff(place) > 0).all():
        _, first = np.unique(place, return_index=True)
        again = np.ones(len(place), bool)
        again[first] = False
        twice |= again
    seen[place] = 1
    if (count := int(twice.sum())) > 0:
        at = int(np.flatnonzero(twice)[0])
        checked.add(
            "grain-shared",
            f"grain {numbers[at]} is at sector {starts[at]}, where another grain is",
            int(starts[at]) * SECTOR,
            count,
        )


def _overlap(checked: CheckedFile, start: int, count: int) -> None:
    checked.add(
        "grain-overlap",
        f"the grain at about sector {start} lies over another",
        start * SECTOR,
        count,
    )
