"""The extents of the frames of a run (docs/format.md, section 6.1), all of them at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.tables import FRAME_EXTENT_DTYPE
from aipimage.io.records.frames import OpenedRun

U64 = npt.NDArray[np.uint64]
_SECTOR_LIMIT = 1 << 48


class RunExtents(NamedTuple):
    """Extents of all frames of a run, one after the other.

    Attributes:
        at, sectors: as in section 6.1. bounds: those of frame ``row`` are ``bounds[row]`` to
            ``bounds[row + 1]``. ends: where each frame's end in the bytes of the run.
    """

    data: memoryview
    at: U64
    sectors: U64
    bounds: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def bytes_of(self, row: int) -> memoryview:
        """The extents of one frame as they are stored."""
        end = int(self.ends[row])
        count = int(self.bounds[row + 1] - self.bounds[row])
        return self.data[end - count * c.FRAME_EXTENT : end]

    def doubtful(self, plain_lengths: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Which frames have an extent that is out of its limits, or extents that do not sum to the
        length of the frame.
        """
        sector = self.at & np.uint64(_SECTOR_LIMIT - 1)
        wrong = (self.sectors == 0) | (sector + self.sectors > _SECTOR_LIMIT)
        wrong |= self.at >> np.uint64(48) >= c.DEVICES_MAX
        sums = _sums(self.sectors, self.bounds)
        doubtful: npt.NDArray[np.bool_] = sums * np.uint64(SECTOR) != plain_lengths
        return doubtful | (_sums(wrong.astype(np.uint64), self.bounds) > 0)


def _sums(values: U64, bounds: npt.NDArray[np.int64]) -> U64:
    """The sum of the values of each frame."""
    totals = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=totals[1:])
    return totals[bounds[1:]] - totals[bounds[:-1]]


def extents_of(opened: OpenedRun, tag: int) -> RunExtents:
    """Find the extents of a run that was opened. Those of frames that failed are left out."""
    entries, data = opened.run.entries, opened.data
    offset = (entries["offset"] - entries["offset"][0]).astype(np.int64)
    ends = offset + entries["record_length"] - (c.CHECK + tag)
    raw = np.frombuffer(data, np.uint8)
    counts = raw[offset + 6].astype(np.int64) | raw[offset + 7].astype(np.int64) << 8
    counts[[failed.number - opened.run.first for failed in opened.failed]] = 0
    bounds = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    within = np.arange(bounds[-1]) - np.repeat(bounds[:-1], counts)
    starts = np.repeat(ends - counts * c.FRAME_EXTENT, counts) + within * c.FRAME_EXTENT
    rows = raw[starts[:, None] + np.arange(c.FRAME_EXTENT)].reshape(-1).view(FRAME_EXTENT_DTYPE)
    return RunExtents(data, rows["at"], rows["sectors"].astype(np.uint64), bounds, ends)
