"""The ring of basic blocks that an XFS log is, and where a mount takes its head to be.

Each block carries the number of its turn, the cycle, in its first word (a record header, after its
magic). The head lies where the cycle falls by one. Several records may have been written at a time,
so a block before it may still be of the turn before: then the head is there. And a record that does
not end at the head was never finished: then the head is its start. Linux, xlog_find_head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.view import LayoutError, VolumeView

_BB = layout.BASIC_BLOCK
_IN_FLIGHT = layout.IN_FLIGHT * layout.RECORD_MAX // _BB
"""Blocks that may be written at a time."""
_RECORD = layout.RECORD_MAX // _BB
_READ_AT_ONCE = 8 << 20


class Ring:
    """The blocks of a volume's own log.

    Args:
        view: of the volume. start: byte at which the log begins. size: bytes of it.

    Attributes:
        blocks: basic blocks of 512 bytes.
    """

    def __init__(self, view: VolumeView, start: int, size: int) -> None:
        self._view, self._start, self.blocks = view, start, size // _BB

    def read(self, index: int, count: int) -> bytes:
        """Return blocks from ``index`` on, over the end of the ring where it has to be."""
        if not 0 <= index < self.blocks or not 0 <= count <= self.blocks:
            raise LayoutError("its log leads out of itself")
        here = min(count, self.blocks - index)
        data = self._plain(index, here)
        return data if here == count else data + self._plain(0, count - here)

    def _plain(self, index: int, count: int) -> bytes:
        length = count * _BB
        self._view.allow(length)
        at, end, parts = self._start + index * _BB, self._start + index * _BB + length, []
        while at < end:
            parts.append(self._view.read(at, min(_READ_AT_ONCE, end - at)))
            at += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def cycles(self, index: int, count: int) -> npt.NDArray[np.int64]:
        """The cycles of blocks."""
        rows = np.frombuffer(self.read(index, count), np.uint8).reshape(-1, _BB)
        words = np.ascontiguousarray(rows[:, :8]).view(">u4").astype(np.int64)
        return np.where(words[:, 0] == layout.RECORD_MAGIC, words[:, 1], words[:, 0])

    def cycle(self, index: int) -> int:
        """The cycle of one block."""
        return int(self.cycles(index, 1)[0])

    def distance(self, start: int, end: int) -> int:
        """Blocks from one to another, forward."""
        return (end - start) % self.blocks


def find_head(ring: Ring) -> int:
    """Return the block at which the next record would be written; ``LayoutError`` where the cycles
    make no sense.
    """
    first, last = ring.cycle(0), ring.cycle(ring.blocks - 1)
    if first == 0:
        raise LayoutError("its log is empty, without an unmount record")
    if last not in (first, first - 1) and last != 0:
        raise LayoutError(f"its log begins with cycle {first} and ends with {last}")
    if last == first:
        head, old = ring.blocks, first - 1
    else:
        head, old = _first_of(ring, last), last
    head = _without_holes(ring, head, old)
    return _at_record(ring, head) % ring.blocks


def _first_of(ring: Ring, cycle: int) -> int:
    """The first block of a cycle, which the last block has and the first has not."""
    low, high = 0, ring.blocks - 1
    while high - low > 1:
        middle = (low + high) // 2
        if ring.cycle(middle) == cycle:
            high = middle
        else:
            low = middle
    return high


def _without_holes(ring: Ring, head: int, old: int) -> int:
    """Move the head back to the first block that is of the turn before, among those that may have
    been in flight.
    """
    count = min(_IN_FLIGHT, ring.blocks)
    if head < count and old > 0:
        start = ring.blocks - (count - head)
        holes = np.flatnonzero(ring.cycles(start, count - head) == old - 1)
        if len(holes):
            return start + int(holes[0])
    start = max(0, head - count)
    holes = np.flatnonzero(ring.cycles(start, head - start) == old)
    return start + int(holes[0]) if len(holes) else head


def _at_record(ring: Ring, head: int) -> int:
    """Move a head that lies within a record to the start of it."""
    found = last_header(ring, head, min(_RECORD, ring.blocks))
    if found is None:
        raise LayoutError("no record lies before the head of its log")
    header = ring.read(found, 1)
    length = layout.RECORD.unpack_from(header)[3]
    if ring.distance(found, head) == header_blocks(header) + -(-length // _BB):
        return head
    return found


def header_blocks(header: bytes) -> int:
    """Blocks of headers of a record: with buffers of more than 32 KiB there are several."""
    version = layout.RECORD.unpack_from(header)[2]
    size = layout.FORMAT.unpack_from(header, layout.FORMAT_AT)[2]
    return max(1, -(-size // layout.HEADER_COVERS)) if version & 2 else 1


def last_header(ring: Ring, before: int, most: int, number: int = 1) -> int | None:
    """The block of the ``number``-th record header before a block, going back at most so many; the
    furthest that is there, where there are fewer.
    """
    start = (before - most) % ring.blocks
    rows = np.frombuffer(ring.read(start, most), np.uint8).reshape(-1, _BB)
    words = np.ascontiguousarray(rows[:, :4]).view(">u4")[:, 0]
    found = np.flatnonzero(words == layout.RECORD_MAGIC)
    if not len(found):
        return None
    return (start + int(found[max(0, len(found) - number)])) % ring.blocks
