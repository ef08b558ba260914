"""Reads a source grain by grain for the writers, in batches on worker threads.

Only what may hold data is read, and grains that turn out to be zeros are left out. Grains get new
places, compressed or not, with checkpoints between batches; a copy of bytes to the same offsets of
a sink is ``io.reading.copying``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from aipimage._core import nonzero_bitmap
from aipimage.errors import IntegrityError
from aipimage.extents import DATA, SECTOR, ExtentArray, Kind
from aipimage.io.blocks.sources import BlockSource, read_with_retries
from aipimage.io.reading.bulkread import fill_together
from aipimage.io.reading.device import Device
from aipimage.io.reading.restore import LOST
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.pipeline import in_order
from aipimage.ranges import joined
from aipimage.vmdk.layout import GRAIN

GRAIN_BYTES = GRAIN * SECTOR
_WINDOW = (4 << 20) // GRAIN_BYTES
"""Grains of a batch. A batch of an image's device ends where its frames end: images are made in
pieces of 4 MiB too."""
_ENOUGH = _WINDOW // 4
"""A batch with so many grains is not filled up from the next window."""
BATCH_BYTES = (_WINDOW + _ENOUGH) * GRAIN_BYTES
"""Bytes that the buffer of a batch needs."""
_R = TypeVar("_R")
Numbers = npt.NDArray[np.int64]


class FeedBatch(NamedTuple):
    """Grains to read: ``spans`` are (first grain, grains), ``total`` their sum; what lies between
    them, and from ``end`` to the next batch, is zeros.
    """

    spans: tuple[tuple[int, int], ...]
    total: int
    end: int


class Grains(NamedTuple):
    """What a batch brought.

    Attributes:
        numbers: of the grains that are not zeros, ascending. rows: their places in ``data``.
        data: all grains of the batch, one after the other; the last of a disk is filled with zeros.
        end: the grain to continue at. unreadable: bytes that the source could not read.
    """

    numbers: Numbers
    rows: Numbers
    data: memoryview
    end: int
    unreadable: int


class GrainFeed:
    """A source as grains of 64 KiB.

    Args:
        source: a device of an image, or any other block source.

    Attributes:
        name: for messages. size: bytes.
        unreadable: bytes known before reading that the source cannot read; they are zeros.
        data_bytes: bytes at least that are not zeros; 0 where that is not known.

    Raises:
        IntegrityError: data of the image was lost to damage before it was repaired.
    """

    def __init__(self, source: BlockSource | Device) -> None:
        self._source = source
        self._buffers = Buffers()
        self.size, self.sector_size = source.size, source.sector_size
        self.unreadable = self.data_bytes = 0
        self.name = source.name
        if isinstance(source, Device):
            self.name = f"{source.image.path}, disk {source.index}"
            self.unreadable = source.bytes_of(Kind.UNREADABLE)
            self.data_bytes = source.bytes_of(Kind.DATA)
            _refuse_lost(source, self.name)

    def fingerprint(self) -> dict[str, int | str]:
        """Return what shows, before a resume, that the source is still the same as it was."""
        if isinstance(self._source, Device):
            image = self._source.image
            return {"kind": "image", "digest": image.digest, "device": self._source.index}
        return self._source.fingerprint()

    def run(
        self, work: Callable[[FeedBatch], _R], executor: Executor, in_flight: int, start: int = 0
    ) -> Iterator[_R]:
        """Yield ``work(batch)`` in the order of the disk, from grain ``start`` on; ``work`` runs in
        the workers and calls :meth:`load`.
        """
        return in_order(executor, work, self.batches(start), in_flight)

    def batches(self, start: int = 0) -> Iterator[FeedBatch]:
        """Cut what may hold data into batches of at most ``BATCH_BYTES``."""
        spans: list[tuple[int, int]] = []
        count = end = 0
        for first, stop in self._runs(start):
            while first < stop:
                if first // _WINDOW != (end - 1) // _WINDOW and count >= _ENOUGH:
                    yield FeedBatch(tuple(spans), count, end)
                    spans, count = [], 0
                end = min(stop, first - first % _WINDOW + _WINDOW)
                spans.append((first, end - first))
                count += end - first
                first = end
        if count:
            yield FeedBatch(tuple(spans), count, end)

    def load(self, batch: FeedBatch, buffer: memoryview) -> Grains:
        """Read a batch into ``buffer`` of ``BATCH_BYTES``, and find the grains that are not zeros.

        Raises:
            IntegrityError, FormatError: the image is damaged. SourceError: it cannot be read.
        """
        view = buffer[: batch.total * GRAIN_BYTES]
        if isinstance(self._source, Device):
            unreadable = 0
            fill_together(self._source, view, list(self._spans(batch, view)), self._buffers)
        else:
            unreadable = self._read_source(self._source, batch, view)
        bits = np.unpackbits(nonzero_bitmap(view, GRAIN_BYTES), bitorder="little")[: batch.total]
        rows = np.flatnonzero(bits)
        numbers = np.concatenate([np.arange(first, first + n) for first, n in batch.spans])
        return Grains(numbers[rows], rows, view, batch.end, unreadable)

    def _spans(self, batch: FeedBatch, view: memoryview) -> Iterator[tuple[int, int, int]]:
        """Yield (offset, place in ``view``, bytes) of each span; what lies past the end is
        zeroed.
        """
        at = 0
        for first, count in batch.spans:
            offset, room = first * GRAIN_BYTES, count * GRAIN_BYTES
            length = min(room, self.size - offset)
            if length < room:
                view[at + length : at + room] = bytes(room - length)
            yield offset, at, length
            at += room

    def _read_source(self, source: BlockSource, batch: FeedBatch, view: memoryview) -> int:
        bad = 0
        for offset, at, length in self._spans(batch, view):
            part = view[at : at + length]
            found = read_with_retries(source, part, offset, sector=source.sector_size)
            bad += sum(length for _, length in found)
        return bad

    def _runs(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield runs (first grain, grain after the last) that may hold data, never adjacent."""
        begin = end = start
        for low, high in self._ranges(start):
            if low > end:
                if begin < end:
                    yield begin, end
                begin = low
            end = max(end, high)
        if begin < end:
            yield begin, end

    def _ranges(self, start: int) -> Iterator[tuple[int, int]]:
        """Ascending (first grain, grain after the last); neighbours may share a grain."""
        if isinstance(self._source, Device):
            walk = self._source.map.walk(start * GRAIN)
            for first, block in walk:
                yield from _grains_of(first, block, start)
            return
        for offset, length in self._source.data_ranges(start * GRAIN_BYTES, self.size):
            if length:
                yield offset // GRAIN_BYTES, -(-(offset + length) // GRAIN_BYTES)


def _grains_of(first: int, block: ExtentArray, start: int) -> Iterator[tuple[int, int]]:
    """Grains with data in extents that begin at sector ``first``, from grain ``start`` on."""
    # What was lost is taken along: reading it is an error, leaving it out would be zeros.
    kept = (block["kind"] == DATA) | (block["kind"] == LOST)
    lengths = block["length"].astype(np.int64)
    ends = first + np.cumsum(lengths)
    low = np.maximum((ends - lengths)[kept] // GRAIN, start)
    high = -(-ends[kept] // GRAIN)
    low, high = low[high > start], high[high > start]
    for begin, count in joined(np.column_stack((low, high - low)).astype(np.uint64)).tolist():
        yield begin, begin + count


def _refuse_lost(device: Device, name: str) -> None:
    if not device.bytes_of(Kind.LOST):
        return
    first = next(device.extents(Kind.LOST), None)
    where = f"{first.length} bytes at {first.start}" if first else "some bytes"
    raise IntegrityError(
        f"{name}: {where} were lost to damage before the image was repaired; a disk made of it "
        "would have zeros there"
    )
