"""A shadow copy as a block source ("Reading snapshot data")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aipimage.errors import SourceError
from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.shadowcopies.descriptors import Kept
from aipimage.volumes.view import VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NOTHING = -1
Piece = tuple[int, int]
"""Byte of the volume, or -1 for zeros; and bytes."""


class ShadowCopySource:
    """A block source: the volume as it was when a shadow copy was made.

    What the file system had free then is not defined: zeros, or what is there now.

    Args:
        view: of the volume. size: bytes. kept: of this copy, and then of all newer ones, the oldest
            first. unused: blocks that the newest of all reads nothing of, if this is that one.
    """

    def __init__(
        self,
        view: VolumeView,
        size: int,
        kept: Sequence[Kept],
        unused: npt.NDArray[np.uint8] | None,
    ) -> None:
        self._source, self._base = view.source, view.offset
        self._kept, self._unused, self.size = kept, unused, size
        self.name, self.sector_size = f"{view.source.name}: shadow copy", view.source.sector_size

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        target = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(target) > self.size:
            raise SourceError(f"{self.name}: {len(target)} bytes at {offset} are not inside of it")
        done = 0
        for place, length in _together(self._pieces(offset, offset + len(target))):
            part = target[done : done + length]
            if place == _NOTHING:
                part[:] = bytes(length)
            else:
                self._source.read_into(part, self._base + place)
            done += length

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            block = start // layout.BLOCK * layout.BLOCK
            stop = min(end, block + layout.BLOCK)
            yield from self._of_block(block, start - block, stop - block)
            start = stop

    def _of_block(self, block: int, start: int, end: int) -> Iterator[Piece]:
        """Where bytes of a block lie, some of its sectors perhaps apart from the others."""
        row = self._kept[0].find(block)
        below = self._below(block)
        bits = 0 if row is None else int(self._kept[0].sectors[row])
        if row is None or not bits:
            yield _at(below, start), end - start
            return
        over = int(self._kept[0].overlays[row])
        while start < end:
            stop = min(end, (start // layout.SECTOR + 1) * layout.SECTOR)
            has_own = bits >> (start // layout.SECTOR) & 1
            yield _at(over if has_own else below, start), stop - start
            start = stop

    def _below(self, block: int) -> int:
        """Where a block lies, whatever an overlay has of it: in this copy, in the next newer one
        that keeps it, or in the volume.
        """
        first = block
        for kept in self._kept:
            row = kept.find(block)
            if row is None:
                continue
            if kept.places[row] >= 0:
                return int(kept.places[row])
            if kept.forwards[row] >= 0:
                block = int(kept.forwards[row])
        return _NOTHING if block == first and self._is_unused(block) else block

    def _is_unused(self, block: int) -> bool:
        number = block // layout.BLOCK
        if self._unused is None or block in self._kept[0].renamed:
            return False
        return bool(self._unused[number >> 3] >> (number & 7) & 1)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``: nothing is known to be a hole."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """That of what holds it."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Do nothing: the source belongs to whoever opened it."""


def _at(place: int, inside: int) -> int:
    return place if place == _NOTHING else place + inside


def _together(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces that follow on each other as one."""
    at, size = _NOTHING, 0
    for place, length in pieces:
        follows = place == _NOTHING if at == _NOTHING else place == at + size
        if size and not follows:
            yield at, size
            size = 0
        at, size = (at if size else place), size + length
    if size:
        yield at, size
