"""A source of which only what is in use is read.

Free clusters read as zeros, without being read, and are no data. So whatever takes a block source
leaves free space out by itself; what remains is to call such zeros *unused* in the map (docs/
format.md, section 7), and to notice what became used or free since a parent was made.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from aipimage.extents import EXTENT_DTYPE, SECTOR, ExtentArray, Kind, coalesce
from aipimage.format import constants as c
from aipimage.io.blocks.freespace import FreeSpace
from aipimage.io.blocks.model import BlockSource, OwnSource
from aipimage.io.blocks.sources import place_of
from aipimage.io.system.storage import flat_view
from aipimage.ranges import ByteRanges, no_ranges

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SKIP = 32_768
"""Free bytes that are not worth a read of their own: they are read along and zeroed."""
_GAP = 2 * c.BLOCK
"""Free bytes that surely hold a whole block; shorter ranges are no gap between ranges of data."""
_UNUSED, _ZERO = int(Kind.UNUSED), int(Kind.ZERO)


class UsedSource(OwnSource):
    """A block source without its free space.

    Args:
        source: what is read; this object takes it over and closes it.
        free: what is not in use; only whole sectors of it count.
        layout: what the image is to say of its partitions and volumes: members of the device in
            the description (docs/format.md, section 9.2).
        warnings: sentences for the result.
    """

    def __init__(
        self,
        source: BlockSource,
        free: FreeSpace,
        layout: Mapping[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.source, self.free = source, free
        self.name, self.size, self.sector_size = source.name, source.size, source.sector_size
        self.place = place_of(source)
        self.layout, self.warnings = dict(layout or {}), tuple(warnings)
        self._last = threading.local()

    def free_within(self, start: int, end: int) -> ByteRanges:
        """What is free in [start, end), which is short: bytes, in whole sectors."""
        # A reader of a range asks for this next: each thread has its last answer at hand.
        last: tuple[int, int, ByteRanges] | None = getattr(self._last, "answer", None)
        if last is not None and last[:2] == (start, end):
            return last[2]
        found = list(self.free_parts(start, end))
        free = found[0] if len(found) == 1 else np.concatenate([no_ranges(), *found])
        self._last.answer = start, end, free
        return free

    def free_parts(self, start: int, end: int) -> Iterator[ByteRanges]:
        """The same in arrays of bounded size, for ranges of any length."""
        for rows in self.free.ranges(start, min(end, self.size)):
            whole = _whole_sectors(rows)
            if len(whole):
                yield whole

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``; free clusters are zeros."""
        view = flat_view(buffer)
        end = offset + view.nbytes
        free = self.free_within(offset, end)
        at = offset
        for start, stop in self._not_read(free, offset, end):
            if start > at:
                self.source.read_into(view[at - offset : start - offset], at)
            at = stop
        if at < end:
            self.source.read_into(view[at - offset :], at)
        for start, length in free.tolist():
            view[start - offset : start - offset + length] = bytes(length)

    def _not_read(self, free: ByteRanges, offset: int, end: int) -> list[tuple[int, int]]:
        """(start, stop) of what a read of [offset, end) leaves out: free ranges that are long, or
        all that is asked for, so that a bad sector in free space is not called unreadable. The
        source is read at multiples of its own sectors, as if nothing were left out.
        """
        sector = self.sector_size
        found = []
        for start, length in free[free[:, 1] >= min(_SKIP, end - offset)].tolist():
            low = start if start == offset else -(-start // sector) * sector
            stop = start + length
            high = stop if stop == end else stop // sector * sector
            if low < high:
                found.append((low, high))
        return found

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``; large free ranges are none of them."""
        for offset, length in self.source.data_ranges(start, end):
            at, stop = offset, offset + length
            for rows in self.free_parts(at, stop):
                for low, free in rows[rows[:, 1] >= _GAP].tolist():
                    if low > at:
                        yield at, low - at
                    at = low + free
            if at < stop:
                yield at, stop - at

    def fingerprint(self) -> dict[str, int | str]:
        """That of the source, and a digest of its free space: an interrupted image is resumed only
        where the same clusters are left out.
        """
        hasher = blake3()
        for rows in self.free_parts(0, self.size):
            hasher.update(rows.astype("<u8").reshape(-1).view(np.uint8).data)
        return self.source.fingerprint() | {"free": hasher.hexdigest()[:32]}

    def close(self) -> None:
        """Close the source."""
        self.source.close()


def grain_of(free: ByteRanges, most: int) -> int:
    """Bytes, a power of two up to ``most``: the largest unit that no free range cuts."""
    bits = int(np.bitwise_or.reduce(free.ravel())) | most if len(free) else most
    return bits & -bits


def _whole_sectors(rows: ByteRanges) -> ByteRanges:
    low = (rows[:, 0] + np.uint64(SECTOR - 1)) // np.uint64(SECTOR) * np.uint64(SECTOR)
    high = (rows[:, 0] + rows[:, 1]) // np.uint64(SECTOR) * np.uint64(SECTOR)
    if (low == rows[:, 0]).all() and (high - low == rows[:, 1]).all():
        return rows
    some = high > low
    return np.column_stack((low[some], high[some] - low[some]))


def free_of(source: BlockSource, start: int, end: int) -> ByteRanges:
    """What of a short range of a source is known to be free, in bytes."""
    return source.free_within(start, end) if isinstance(source, UsedSource) else no_ranges()


def gap_extents(source: BlockSource | None, start: int, end: int) -> Iterator[ExtentArray]:
    """Extents of kinds zero and unused for a range of sectors that has no data, of any length."""
    at = start
    if isinstance(source, UsedSource):
        for rows in source.free_parts(start * SECTOR, end * SECTOR):
            low = rows[:, 0] // np.uint64(SECTOR)
            length = rows[:, 1] // np.uint64(SECTOR)
            extents = np.zeros(2 * len(rows), EXTENT_DTYPE)
            extents["kind"][0::2], extents["kind"][1::2] = _ZERO, _UNUSED
            extents["length"][1::2] = length
            before = np.concatenate(([np.uint64(at)], (low + length)[:-1]))
            extents["length"][0::2] = low - before
            at = int(low[-1] + length[-1])
            yield coalesce(extents[extents["length"] > 0])
    if at < end:
        yield np.array([(end - at, 0, 0, _ZERO)], EXTENT_DTYPE)


def with_unused(extents: ExtentArray, first: int, free: ByteRanges) -> ExtentArray:
    """Call what is zero and free *unused*; ``extents`` begin at sector ``first``."""
    if not len(free):
        return extents
    ends = np.cumsum(extents["length"]) + np.uint64(first)
    starts = ends - extents["length"]
    row, begins, stops, is_free = _cut(starts, ends, extents["kind"] == _ZERO, free)
    cut = extents[row]
    cut["length"] = stops - begins
    cut["position"] += np.where(cut["kind"] == Kind.DATA, begins - starts[row], np.uint64(0))
    cut["kind"][is_free] = _UNUSED
    return coalesce(cut)


def runs_with_unused(runs: npt.NDArray[np.void], free: ByteRanges) -> npt.NDArray[np.void]:
    """The same for runs (start, length, kind) in sectors, which may leave gaps."""
    if not len(free) or not len(runs):
        return runs
    starts = runs["start"].astype(np.uint64)
    ends = starts + runs["length"]
    row, begins, stops, is_free = _cut(starts, ends, runs["kind"] == _ZERO, free)
    cut = runs[row]
    cut["start"], cut["length"] = begins, stops - begins
    cut["kind"][is_free] = _UNUSED
    return cut


def _cut(
    starts: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
    is_zero: npt.NDArray[np.bool_],
    free: ByteRanges,
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.bool_]
]:
    """Cut runs of zeros where free ranges begin and end: the run of each piece, its bounds, and
    whether it is free.
    """
    low = free[:, 0] // np.uint64(SECTOR)
    high = low + free[:, 1] // np.uint64(SECTOR)
    inner = np.concatenate((low, high))
    owner = np.searchsorted(starts, inner, "right") - 1
    inside = (owner >= 0) & (inner < ends[owner]) & (inner > starts[owner]) & is_zero[owner]
    cuts = np.unique(np.concatenate((starts, inner[inside])))
    row = np.searchsorted(starts, cuts, "right") - 1
    following = np.append(cuts[1:], np.uint64(1 << 63))
    stops = np.minimum(ends[row], following)
    index = np.searchsorted(low, cuts, "right") - 1
    is_free = is_zero[row] & (index >= 0) & (cuts < high[index])
    return row, cuts, stops, is_free
