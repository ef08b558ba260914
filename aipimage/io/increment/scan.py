"""The worker's side of an increment: which clusters of a piece changed, and what is in them.

read -> compare (with block digests, with the parent's data, or with nothing if tracked)
-> clusters with data are packed, clusters of zeros only named (docs/format.md, sections 8.1, 9.4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import StorageError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import DIGEST_DTYPE, Digests
from aipimage.io.blocks.sources import BlockSource, append_merged, read_with_retries
from aipimage.io.blocks.usedsource import free_of, grain_of, runs_with_unused
from aipimage.io.increment.parent import ParentUnusableError, reading_parent
from aipimage.io.reading.bulkread import read_range
from aipimage.io.system.buffers import Buffers, thread_buffer
from aipimage.ranges import ByteRanges

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device

Bits = npt.NDArray[np.uint8]
Runs = npt.NDArray[np.uint64]

RUN_DTYPE = np.dtype([("start", "<u8"), ("length", "<u8"), ("kind", "u1")])
"""A changed run of a device: ``start`` and ``length`` in sectors, what it holds now."""


class Method(StrEnum):
    """How it was found out what changed."""

    FULL = "full"
    TRACKED = "tracked"
    DIGESTS = "digests"
    DATA = "data"
    FREED = "freed"


class ScanPiece(NamedTuple):
    """What one worker looks at: some ranges of a device, no two of them in one block.

    ``segments`` are (offset, length) in bytes, ascending, each at multiples of a block or, without
    digests, of a cluster. ``take`` are the ranges that are changed whatever a comparison says.
    ``expected`` are the parent's digests of the blocks, one after the other.
    """

    device: int
    segments: ByteRanges
    take: ByteRanges
    method: Method
    expected: Digests | None


@dataclass(slots=True)
class Scanned:
    """What changed in a piece.

    Attributes:
        runs: array of :data:`RUN_DTYPE`, ascending and disjoint.
        payload: the bytes of the runs of kind data, one after the other; a buffer to give back.
        blocks, digests: what the digests of the touched blocks are now.
        unreadable: (offset, length) in bytes. read: bytes that were read from the source.
    """

    piece: ScanPiece
    runs: npt.NDArray[np.void]
    payload: memoryview
    buffer: bytearray | None
    blocks: npt.NDArray[np.uint64]
    digests: Digests
    unreadable: list[tuple[int, int]]
    read: int


@dataclass(slots=True)
class Scanner:
    """Looks at pieces of one device; safe for threads.

    Args:
        parent: the device in the parent, or ``None`` where its data cannot be read: then a changed
            block is taken whole.
        grain: bytes, the size of a cluster.
    """

    source: BlockSource
    parent: Device | None
    grain: int
    digests: bool
    stop_on_error: bool
    buffers: Buffers = field(default_factory=Buffers)
    parent_buffers: Buffers = field(default_factory=Buffers)

    def scan(self, piece: ScanPiece) -> Scanned:
        """Do the whole work of one piece."""
        if piece.method == Method.FREED:
            return self._freed(piece)
        view, unreadable = self._read(piece)
        if unreadable and piece.method == Method.TRACKED and self.parent is not None:
            unreadable = self._kept(piece, view, unreadable)
        free = self._free(piece)
        grain = SECTOR if unreadable else grain_of(free, self.grain)
        layout = _Layout(piece.segments, grain)
        nonzero, changed, now = self._compared(piece, layout, view)
        if not unreadable and not changed.any():
            return self._unchanged(piece)
        if unreadable:
            changed = _core.bitmap_or(changed, layout.bits(np.array(unreadable)), layout.count)
        data = _core.bitmap_to_extents(
            _core.bitmap_and(changed, nonzero, layout.count), layout.count
        )
        zero = _core.bitmap_to_extents(
            _core.bitmap_andnot(changed, nonzero, layout.count), layout.count
        )
        payload, buffer = self._pack(view, data, grain)
        runs = _sorted(layout.runs(data, Kind.DATA), layout.runs(zero, Kind.ZERO))
        if unreadable:
            runs = _with_unreadable(runs, unreadable)
        runs = runs_with_unused(runs, free)
        blocks, digests = self._digests(layout, view, changed, now)
        return Scanned(
            piece,
            runs,
            payload,
            buffer,
            blocks,
            digests,
            unreadable,
            int(piece.segments[:, 1].sum()),
        )

    def _free(self, piece: ScanPiece) -> ByteRanges:
        """What of a piece is free, and reads as zeros."""
        rows = piece.segments.tolist()
        found = [free_of(self.source, at, at + length) for at, length in rows]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _freed(self, piece: ScanPiece) -> Scanned:
        """Free space needs no look: all of it is unused, and its digests are those of zeros."""
        offset, length = piece.segments[0].tolist()
        runs = np.array([(offset // SECTOR, length // SECTOR, Kind.UNUSED)], RUN_DTYPE)
        blocks = np.arange(offset // c.BLOCK, (offset + length) // c.BLOCK, dtype=np.uint64)
        if not self.digests:
            blocks = blocks[:0]
        digests = np.zeros(len(blocks), DIGEST_DTYPE)
        return Scanned(piece, runs, memoryview(b""), None, blocks, digests, [], 0)

    def _unchanged(self, piece: ScanPiece) -> Scanned:
        return Scanned(
            piece,
            np.zeros(0, RUN_DTYPE),
            memoryview(b""),
            None,
            np.empty(0, np.uint64),
            np.empty(0, DIGEST_DTYPE),
            [],
            int(piece.segments[:, 1].sum()),
        )

    def _read(self, piece: ScanPiece) -> tuple[memoryview, list[tuple[int, int]]]:
        total = int(piece.segments[:, 1].sum())
        view = thread_buffer("scan", -(-total // SECTOR) * SECTOR)
        view[total:] = bytes(view.nbytes - total)
        bad: list[tuple[int, int]] = []
        at = 0
        for offset, length in piece.segments.tolist():
            part = view[at : at + length]
            if self.stop_on_error:
                self.source.read_into(part, offset)
            else:
                bad += read_with_retries(self.source, part, offset, sector=self.source.sector_size)
            at += length
        return view, bad

    def _kept(
        self, piece: ScanPiece, view: memoryview, unreadable: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Put the parent's content into sectors that cannot be read any more and did not change, so
        that the rest of a block that was touched elsewhere stays as it is kept; return the others.
        """
        layout = _Layout(piece.segments, SECTOR)
        taken = layout.bits(piece.take)
        left: list[tuple[int, int]] = []
        for offset, length in unreadable:
            for at in range(offset, offset + length, SECTOR):
                end = min(at + SECTOR, offset + length)
                place = layout.place_of(at)
                if taken[place // SECTOR // 8] >> place // SECTOR % 8 & 1:
                    append_merged(left, at, end - at)
                else:
                    self._parent_bytes(view[place : place + end - at], at)
        return left

    def _compared(
        self, piece: ScanPiece, layout: _Layout, view: memoryview
    ) -> tuple[Bits, Bits, Digests | None]:
        """Which clusters have data, which changed, and the digests of now where they were made."""
        taken = layout.bits(piece.take)
        if piece.method in (Method.TRACKED, Method.FULL):
            return _core.nonzero_bitmap(view, layout.grain), taken, None
        now: Digests | None = None
        if piece.method == Method.DATA:
            was = self._was(view, piece.segments)
            nonzero, differs, _ = _core.compare_piece(view, layout.grain, was, None)
        else:
            nonzero, differs, now = self._compare_digests(piece, layout, view)
        return nonzero, _core.bitmap_or(differs, taken, layout.count), now

    def _was(self, view: memoryview, segments: ByteRanges) -> memoryview:
        """The parent's data; what the parent does not have is zeros."""
        assert self.parent is not None
        was = thread_buffer("parent", view.nbytes)
        at = 0
        for offset, length in segments.tolist():
            self._parent_bytes(was[at : at + length], offset)
            at += length
        was[at:] = bytes(was.nbytes - at)
        return was

    def _parent_bytes(self, part: memoryview, offset: int) -> None:
        """What the parent has in a range, zeros past its end."""
        assert self.parent is not None
        length = max(0, min(part.nbytes, self.parent.size - offset))
        with reading_parent(), _parent_storage():
            read_range(self.parent, part[:length], offset, self.parent_buffers)
        part[length:] = bytes(part.nbytes - length)

    def _compare_digests(
        self, piece: ScanPiece, layout: _Layout, view: memoryview
    ) -> tuple[Bits, Bits, Digests]:
        """Compare block digests; where one differs, look in the parent for the clusters that do."""
        assert piece.expected is not None
        expected = np.ascontiguousarray(piece.expected)
        nonzero, differs, made = _core.compare_piece(view, layout.grain, None, expected)
        now = made.view(DIGEST_DTYPE).reshape(-1)
        if self.parent is not None:
            changed = now.view("<u8").reshape(-1, 2) != expected.view("<u8").reshape(-1, 2)
            rows = np.flatnonzero(changed.any(axis=1)).astype(np.uint64)
            if len(rows):
                self._refine(layout, view, rows, differs)
        return nonzero, differs, now

    def _refine(self, layout: _Layout, view: memoryview, rows: Runs, bits: Bits) -> None:
        """Leave in ``bits`` only the clusters of some blocks that differ from the parent's."""
        assert self.parent is not None
        was = thread_buffer("parent", view.nbytes)
        for low, high in layout.neighbours(rows):
            now = view[low:high]
            part = was[: high - low]
            self._parent_bytes(part, layout.offset_of(low))
            found = _core.compare_blocks(now, part, layout.grain)
            # A cluster is at most an eighth of a block, so that its bits are whole bytes.
            first = low // layout.grain // 8
            bits[first : first + len(found)] = found

    def _pack(
        self, view: memoryview, runs: Runs, grain: int
    ) -> tuple[memoryview, bytearray | None]:
        """Copy the clusters with data one after the other into a buffer of their own."""
        if not len(runs):
            return memoryview(b""), None
        ranges = runs * np.uint64(grain)
        ranges[-1, 1] = min(int(ranges[-1, 1]), view.nbytes - int(ranges[-1, 0]))
        total = int(ranges[:, 1].sum())
        buffer = self.buffers.take(total)
        payload = memoryview(buffer)[:total]
        _core.pack(view, ranges, payload)
        return payload, buffer

    def _digests(
        self, layout: _Layout, view: memoryview, changed: Bits, now: Digests | None
    ) -> tuple[npt.NDArray[np.uint64], Digests]:
        """The digests of the blocks in which something changed; ``now``: those of all blocks."""
        if not self.digests:
            return np.empty(0, np.uint64), np.empty(0, DIGEST_DTYPE)
        touched = layout.blocks(changed)
        found = block_digests(view, touched) if now is None else now
        return layout.block_numbers()[touched], found[touched]


class _Layout:
    """Where the clusters of a piece lie in its buffer and on the device."""

    def __init__(self, segments: ByteRanges, grain: int) -> None:
        self.segments, self.grain = segments, grain
        # All but the last segment are whole clusters.
        ends = np.cumsum(segments[:, 1])
        self._starts = ends - segments[:, 1]
        self._total = int(ends[-1])
        self.count = -(-self._total // grain)

    def offset_of(self, place: int) -> int:
        """Device offset of a place in the buffer, both in bytes."""
        row = int(np.searchsorted(self._starts, place, "right")) - 1
        return int(self.segments[row, 0]) + place - int(self._starts[row])

    def place_of(self, offset: int) -> int:
        """Place in the buffer of a device offset that lies in a segment, both in bytes."""
        row = int(np.searchsorted(self.segments[:, 0], offset, "right")) - 1
        return int(self._starts[row]) + offset - int(self.segments[row, 0])

    def neighbours(self, rows: Runs) -> Iterator[tuple[int, int]]:
        """(start, end) in the buffer of blocks that follow each other on the device."""
        place = rows.astype(np.int64) * c.BLOCK
        row = np.searchsorted(self._starts, rows * np.uint64(c.BLOCK), "right")
        breaks = np.flatnonzero((np.diff(place) != c.BLOCK) | (np.diff(row) != 0)) + 1
        for part in np.split(place, breaks):
            yield int(part[0]), min(int(part[-1]) + c.BLOCK, -(-self._total // SECTOR) * SECTOR)

    def bits(self, ranges: npt.NDArray[Any]) -> Bits:
        """One bit a cluster that byte ranges of the device touch; they lie within the segments."""
        if not len(ranges):
            return np.zeros(-(-self.count // 8), np.uint8)
        ranges = ranges.astype(np.uint64)
        row = np.searchsorted(self.segments[:, 0], ranges[:, 0], "right") - 1
        start = ranges[:, 0] - self.segments[row, 0] + self._starts[row]
        grain = np.uint64(self.grain)
        first = start // grain
        last = (start + ranges[:, 1] + grain - np.uint64(1)) // grain
        return _core.extents_to_bitmap(np.column_stack((first, last - first)), self.count)

    def runs(self, runs: Runs, kind: Kind) -> npt.NDArray[np.void]:
        """Runs of clusters of the buffer as runs of sectors of the device."""
        result = np.zeros(0, RUN_DTYPE)
        if not len(runs):
            return result
        grain = np.uint64(self.grain)
        start, end = runs[:, 0] * grain, (runs[:, 0] + runs[:, 1]) * grain
        cuts = np.union1d(start, self._starts)
        # A run continues past the end of its segment only in the buffer.
        owner = np.searchsorted(start, cuts, "right").astype(np.int64) - 1
        inside = (owner >= 0) & (cuts < end[owner])
        begins, owner = cuts[inside], owner[inside]
        following = np.append(cuts[1:], np.uint64(1 << 63))[inside]
        stops = np.minimum(np.minimum(end[owner], following), np.uint64(self._total))
        row = np.searchsorted(self._starts, begins, "right") - 1
        result = np.zeros(len(begins), RUN_DTYPE)
        result["start"] = (self.segments[row, 0] + begins - self._starts[row]) // np.uint64(SECTOR)
        result["length"] = (stops - begins + np.uint64(SECTOR - 1)) // np.uint64(SECTOR)
        result["kind"] = int(kind)
        return result

    def blocks(self, changed: Bits) -> npt.NDArray[np.bool_]:
        """Which blocks of the buffer have a changed cluster; segments are whole blocks."""
        bits = np.unpackbits(changed, count=self.count, bitorder="little")
        per = c.BLOCK // self.grain
        bits = np.append(bits, np.zeros(-len(bits) % per, np.uint8))
        touched = bits.reshape(-1, per).any(axis=1)
        return np.asarray(touched, np.bool_)

    def block_numbers(self) -> npt.NDArray[np.uint64]:
        """The block of the device for each block of the buffer."""
        counts = (-(-self.segments[:, 1].astype(np.int64) // c.BLOCK)).astype(np.int64)
        firsts = np.repeat(self.segments[:, 0] // np.uint64(c.BLOCK), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return firsts + within.astype(np.uint64)


@contextlib.contextmanager
def _parent_storage() -> Iterator[None]:
    """Only the parent is read here, so a failure of the storage is one of it."""
    try:
        yield
    except StorageError as error:
        raise ParentUnusableError(str(error)) from error


def block_digests(view: memoryview, wanted: npt.NDArray[np.bool_]) -> Digests:
    """The digests of some blocks of a buffer (section 8); blocks of zeros have zero digests."""
    made = _core.block_digests(view, np.packbits(wanted, bitorder="little"))
    return made.view(DIGEST_DTYPE).reshape(-1)


def _sorted(a: npt.NDArray[np.void], b: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    runs = np.concatenate((a, b))
    ordered: npt.NDArray[np.void] = runs[np.argsort(runs["start"], kind="stable")]
    return ordered


def _with_unreadable(
    runs: npt.NDArray[np.void], unreadable: list[tuple[int, int]]
) -> npt.NDArray[np.void]:
    """Unreadable sectors were filled with zeros: cut them out of the runs of zeros around them."""
    rows: list[tuple[int, int, int]] = []
    bad = [(at // SECTOR, -(-(at + length) // SECTOR)) for at, length in unreadable]
    for start, length, kind in runs.tolist():
        at, end = start, start + length
        while kind == Kind.ZERO and bad and bad[0][0] < end:
            low, high = max(bad[0][0], at), min(bad[0][1], end)
            rows += [(at, low - at, Kind.ZERO), (low, high - low, Kind.UNREADABLE)]
            at = high
            if bad[0][1] > end:
                break
            bad.pop(0)
        rows.append((at, end - at, kind))
    marked = np.array(rows, RUN_DTYPE)
    kept: npt.NDArray[np.void] = marked[marked["length"] > 0]
    return kept
