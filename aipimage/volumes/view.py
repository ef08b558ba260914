"""Bounded reading of a volume's structures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError

READ_MAX = 64 << 20
"""Bytes that a parser may ask for at a time."""


class LayoutError(Exception):
    """A structure of a disk cannot be trusted: the text says which, and becomes the reason why a
    whole volume is taken. It never leaves :mod:`aipimage.volumes`.
    """


class VolumeView:
    """A range of a block source, with a limit for what a parser may read of it.

    Args:
        source: a disk or volume. offset, size: of the range, in bytes, within the source.
        budget: bytes that may be read in all; a parser declares what it needs (``allow``).

    Attributes:
        size: bytes. sector_size: logical sector size of the source, bytes.
    """

    def __init__(self, source: BlockSource, offset: int, size: int, budget: int = 1 << 20) -> None:
        if offset < 0 or size < 0 or offset + size > source.size:
            raise RuntimeError(
                f"internal error: bytes {offset} to {offset + size} of {source.name}, which has "
                f"{source.size}"
            )
        self.source, self.offset, self.size = source, offset, size
        self.sector_size = source.sector_size
        self._left = budget

    def allow(self, budget: int) -> None:
        """Let ``budget`` more bytes be read."""
        self._left += budget

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` of the volume on.

        Raises:
            LayoutError: the range is not inside of the volume, cannot be read, or is more than was
                allowed.
            SourceError: the source failed in another way.
        """
        return self.read_array(offset, length).tobytes()

    def read_array(self, offset: int, length: int) -> npt.NDArray[np.uint8]:
        """The same as an array of ``uint8``, new and writable."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise LayoutError(
                f"bytes {offset} to {offset + length} are wanted of a volume of {self.size}"
            )
        if length > READ_MAX or length > self._left:
            raise LayoutError(f"a structure of {length} bytes is more than can be looked at")
        self._left -= length
        data = bytearray(length)
        if length:
            try:
                self.source.read_into(data, self.offset + offset)
            except UnreadableRangeError as error:
                raise LayoutError(f"{length} bytes at {offset} cannot be read") from error
        return np.frombuffer(data, np.uint8)

    def part(self, offset: int, size: int, budget: int = 1 << 20) -> VolumeView:
        """A view of a range of this one; ``LayoutError`` where it is not inside."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise LayoutError(
                f"bytes {offset} to {offset + size} are wanted of a volume of {self.size}"
            )
        return VolumeView(self.source, self.offset + offset, size, budget)
