"""Reading compressed grains: many with one read of the file, each decoded to where it belongs.

Source: the note, "Stream-Optimized Compressed Sparse Extents", "Grain Markers": u64 first sector of
the grain on the disk, u32 bytes of the deflate stream, which begins at byte 12.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from aipimage.errors import FormatError
from aipimage.io.system.cache import FrameCache
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.extents.tables import Entries
from aipimage.vmdk.inflate import inflate
from aipimage.vmdk.layout import GRAIN_MARKER, SECTOR, SparseHeader

_RUN = 1 << 20
"""Bytes of the file that are read at a time, where grains follow each other so far."""
_EXPECTED = 1024
"""What a grain that does not compress is longer than its content, at most, in common files."""


class CompressedGrains:
    """The grains of one extent."""

    def __init__(
        self, file: ExtentFile, header: SparseHeader, size: int, cache: FrameCache
    ) -> None:
        """``size`` is the extent's, in bytes; ``cache`` keeps grains of which only a part was
        asked for.
        """
        self._file, self._size, self._cache, self._key = file, size, cache, object()
        self._sectors = header.grain_size
        self._grain = header.grain_size * SECTOR
        # No compressor makes a stream twice as long as its content (hostile-inputs 40).
        self._longest = 2 * self._grain
        self._buffers = threading.local()

    def read(self, view: memoryview, offset: int, entries: Entries) -> None:
        """Fill ``view`` from ``offset``; ``entries`` are those of the grains that it touches.

        Raises:
            FormatError: a marker is of another grain, or a stream is damaged or not of a grain's
                length. IncompleteError: an entry leads out of the file. SourceError: see
                ``ExtentFile.read_into``.
        """
        first = offset // self._grain
        places: list[int] = entries.tolist()
        low, high = 0, len(places)
        if offset % self._grain:
            self._part(view, offset, places[0])
            low = 1
        end = offset + view.nbytes
        if low < high and end % self._grain and end != self._size:
            high -= 1
            begin = (first + high) * self._grain
            self._part(view[begin - offset :], begin, places[high])
        for head, stop in self._runs(places, low, high):
            begin = (first + head) * self._grain
            part = view[begin - offset : (first + stop) * self._grain - offset]
            self._read_run(part, first + head, places[head:stop])

    def _part(self, view: memoryview, offset: int, place: int) -> None:
        """Fill the front of ``view`` with what it wants of the grain at ``offset``."""
        number, within = divmod(offset, self._grain)

        def load() -> memoryview:
            whole = memoryview(bytearray(self._length(number)))
            self._read_run(whole, number, [place])
            return whole.toreadonly()

        grain = self._cache.get((self._key, number), load)
        count = min(view.nbytes, grain.nbytes - within)
        view[:count] = grain[within : within + count]

    def _length(self, number: int) -> int:
        """Bytes of a grain: the last may be short."""
        return min(self._grain, self._size - number * self._grain)

    def _runs(self, places: list[int], low: int, high: int) -> Iterator[tuple[int, int]]:
        """Cut [low, high) where the next grain is not close after the last one in the file."""
        stride = (self._longest + SECTOR) // SECTOR + 1
        while low < high:
            stop = low + 1
            while (
                stop < high
                and 0 < places[stop] - places[stop - 1] <= stride
                and (places[stop] - places[low]) * SECTOR < _RUN
            ):
                stop += 1
            yield low, stop
            low = stop

    def _read_run(self, view: memoryview, number: int, places: list[int]) -> None:
        """Decode neighbouring grains, the first of which has ``number``, to ``view``."""
        begin = places[0] * SECTOR
        # How long the last one is stands in its marker; one that is unusually long is read again.
        length = (places[-1] - places[0]) * SECTOR + self._grain + _EXPECTED
        self._file.verified_range(begin, GRAIN_MARKER.size, "a grain")
        data = self._buffer(min(length, self._file.size - begin))
        self._file.read_into(data, begin, "a grain")
        for index, place in enumerate(places):
            at = index * self._grain
            stream = self._stream(data, begin, place * SECTOR, number + index)
            self._decode(stream, view[at : at + self._grain], number + index)

    def _buffer(self, length: int) -> memoryview:
        """A buffer of the calling thread, which every run uses again."""
        kept: bytearray | None = getattr(self._buffers, "data", None)
        if kept is None or len(kept) < length:
            kept = self._buffers.data = bytearray(max(length, 1 << 18))
        return memoryview(kept)[:length]

    def _stream(self, data: memoryview, begin: int, place: int, number: int) -> memoryview:
        """Return the deflate stream of the grain at byte ``place``, its marker verified; ``data``
        is what was read from byte ``begin`` on.
        """
        at = place - begin
        if at + GRAIN_MARKER.size > len(data):
            self._file.verified_range(place, GRAIN_MARKER.size, "a grain")
            raise RuntimeError("internal error: a run of grains ends before its last marker")
        sector, size = GRAIN_MARKER.unpack_from(data, at)
        if sector != number * self._sectors:
            raise FormatError(
                f"{self._file.name}: the grain of sector {number * self._sectors} has a marker of "
                f"sector {sector}: its grain table or the file is damaged"
            )
        if not 0 < size <= self._longest:
            raise FormatError(
                f"{self._file.name}: the grain of sector {sector} has {size} compressed bytes; "
                f"1 to {self._longest} are possible"
            )
        at += GRAIN_MARKER.size
        if at + size <= len(data):
            return data[at : at + size]
        return memoryview(self._file.read(begin + at, size, "a grain"))

    def _decode(self, stream: memoryview, view: memoryview, number: int) -> None:
        last = (number + 1) * self._grain >= self._size
        # The last grain may end with the disk or be filled up to a whole one: both are written.
        room = memoryview(bytearray(self._grain)) if view.nbytes < self._grain else view
        try:
            length = inflate(stream, room)
        except FormatError as error:
            raise FormatError(
                f"{self._file.name}: the grain of sector {number * self._sectors}: {error}"
            ) from error.__cause__
        if length < (self._length(number) if last else self._grain):
            raise FormatError(
                f"{self._file.name}: the grain of sector {number * self._sectors} holds {length} "
                f"bytes, which is less than a grain"
            )
        if room is not view:
            view[:] = room[: view.nbytes]
