"""Fewer requests while a disk is looked at: pieces around what is asked for are read and kept.

A look at a disk is some hundred small reads near each other. Where each takes its time, on a
network or in a store, they are gathered here. Of a source that can only be read forward cheaply,
such as a compressed member of an archive, what passes by on the way to a later place is kept too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError, is_going_back_expensive
from aipimage.io.system.cache import BoundedCache

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE = 16 << 10
"""Bytes that are kept together."""
_HEAD, _TAIL = 272 << 10, 512 << 10
"""Bytes at the beginning and the end of a volume where nearly all signatures are."""
KEPT_MAX = 32 << 20
"""Bytes of pieces that are kept because they, or their neighbours, were asked for."""
PASSED_MAX = 64 << 20
"""Bytes that are kept because they passed by; zeros take no room."""
_FIRST, _WIDEST = 4, 64
"""Pieces that are read at once: at first, and where reading continues."""
_DIRECT = 1 << 20
"""Bytes of a request that gains nothing from being cut into pieces."""
_ZEROS = bytes(PIECE)


class ReadAhead:
    """A block source around another one; see :class:`aipimage.io.blocks.sources.BlockSource`.
    It is for one thread, and for a source whose content stays as it is.
    """

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self.name, self.size, self.sector_size = source.name, source.size, source.sector_size
        self._kept: BoundedCache[int, bytes] = BoundedCache(KEPT_MAX // PIECE)
        self._passed: dict[int, bytes] = {}
        self._room, self._width, self._position = PASSED_MAX, _FIRST, 0
        self._forward = is_going_back_expensive(source)

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        view = memoryview(buffer).cast("B")
        if not len(view):
            return
        first, end = offset // PIECE, -(-(offset + len(view)) // PIECE)
        if len(view) <= _DIRECT:
            self._fetch(first, end)
        if all(self._piece(at) is not None for at in range(first, end)):
            self._copy(view, offset)
        else:
            self._read_exactly(view, offset)

    def prefetch_ends(self, start: int, size: int) -> None:
        """Read the beginning and the end of a volume, which are about to be read in parts."""
        self._load(start // PIECE, -(-(start + min(size, _HEAD)) // PIECE))
        end = start + size
        self._load((end - min(size, _TAIL)) // PIECE, -(-end // PIECE))

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``."""
        return self._source.data_ranges(start, end)

    def fingerprint(self) -> dict[str, int | str]:
        """That of the source."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Do nothing: the source belongs to its opener."""

    def _fetch(self, first: int, end: int) -> None:
        """Have the pieces of a request, and some after them where there was one before them."""
        missing = [at for at in range(first, end) if self._piece(at) is None]
        if not missing:
            return
        continues = self._piece(missing[0] - 1) is not None
        self._width = min(2 * self._width, _WIDEST) if continues else max(self._width // 2, 1)
        self._load(missing[0], max(end, missing[0] + self._width))

    def _load(self, first: int, end: int) -> None:
        """Read pieces with one request; what cannot be read so is left out."""
        end = min(end, -(-self.size // PIECE))
        while first < end and self._piece(first) is not None:
            first += 1
        while first < end and self._piece(end - 1) is not None:
            end -= 1
        if first >= end:
            return
        data = bytearray(min(end * PIECE, self.size) - first * PIECE)
        try:
            self._read_exactly(memoryview(data), first * PIECE)
        except UnreadableRangeError:
            # A bad sector nearby does not keep others from being read.
            return
        for at in range(first, end):
            piece = bytes(data[(at - first) * PIECE : (at - first + 1) * PIECE])
            self._kept.keep(at, _ZEROS if piece == _ZEROS else piece)

    def _piece(self, at: int) -> bytes | None:
        return self._kept.find(at) or self._passed.get(at)

    def _copy(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            at, skip = divmod(offset + done, PIECE)
            part = (self._piece(at) or b"")[skip : skip + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)

    def _read_exactly(self, view: memoryview, offset: int) -> None:
        if self._forward and offset > self._position:
            self._pass_by(offset)
        self._source.read_into(view, offset)
        self._position = offset + len(view)

    def _pass_by(self, offset: int) -> None:
        """Read up to a place, and keep what passes by, as long as there is room."""
        at, data = -(-self._position // PIECE), bytearray(_DIRECT)
        while self._room > 0 and at * PIECE < offset:
            part = memoryview(data)[: min(_DIRECT, self.size - at * PIECE)]
            try:
                self._source.read_into(part, at * PIECE)
            except UnreadableRangeError:
                return
            for start in range(0, len(part), PIECE):
                piece = bytes(part[start : start + PIECE])
                if piece == _ZEROS:
                    piece = _ZEROS
                else:
                    self._room -= len(piece)
                self._passed[at + start // PIECE] = piece
            at += _DIRECT // PIECE
