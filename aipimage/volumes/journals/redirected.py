"""A volume in which some blocks are read from other places: those at which a journal keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import SourceError
from aipimage.volumes.view import VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer

Numbers = npt.NDArray[np.int64]


class Moved(NamedTuple):
    """Blocks that lie elsewhere; arrays with an element each.

    Attributes:
        blocks: their numbers, ascending, each once. places: bytes of the volume at which they are.
        escaped: whether the first word, which is zero there, is ``word`` in truth.
        word: four bytes.
    """

    blocks: Numbers
    places: Numbers
    escaped: npt.NDArray[np.bool_]
    word: bytes


class RedirectedSource:
    """A block source: a view of a volume with the blocks that were moved; 17 bytes of memory each.

    Args:
        view: of the volume. block_size: bytes. moved: all blocks and places inside of the volume.
    """

    def __init__(self, view: VolumeView, block_size: int, moved: Moved) -> None:
        self._source, self._base = view.source, view.offset
        self._block_size, self._moved = block_size, moved
        self.name, self.size, self.sector_size = view.source.name, view.size, view.sector_size

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        target = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(target) > self.size:
            raise SourceError(f"{self.name}: {len(target)} bytes at {offset} are not inside of it")
        self._source.read_into(target, self._base + offset)
        size, moved = self._block_size, self._moved
        low = int(np.searchsorted(moved.blocks, offset // size, "left"))
        high = int(np.searchsorted(moved.blocks, -(-(offset + len(target)) // size), "left"))
        for index in range(low, high):
            start = int(moved.blocks[index]) * size
            first, last = max(start, offset), min(start + size, offset + len(target))
            part = target[first - offset : last - offset]
            self._source.read_into(part, self._base + int(moved.places[index]) + first - start)
            if moved.escaped[index]:
                word = moved.word[first - start : last - start]
                part[: len(word)] = word

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``: a hole may be filled by the journal."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """That of what holds it."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Do nothing: the source belongs to whoever opened it."""
