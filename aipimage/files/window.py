"""A volume as the readers of file systems see it: structures through a cache, contents directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipimage.files.errors import DamagedVolumeError
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.readahead import ReadAhead

if TYPE_CHECKING:
    from typing_extensions import Buffer

STRUCTURE_MAX = 64 << 20
"""Bytes of a structure that are read at once."""


class Window:
    """A range of a block source.

    Args:
        source: of the disk or volume; it stays open as long as the window is used. offset, size:
            of the range, bytes.
        name: of the volume, for messages.
    """

    def __init__(self, source: BlockSource, offset: int, size: int, name: str) -> None:
        self.source, self.offset, self.size, self.name = source, offset, size, name
        self._ahead = ReadAhead(source)

    def structure(self, offset: int, length: int) -> bytes:
        """Bytes of a structure, from a cache where they are near what was read; for one thread.

        Raises:
            DamagedVolumeError: they are not inside of the volume. SourceError: as reading raises.
        """
        self.check(offset, length)
        if length > STRUCTURE_MAX:
            raise DamagedVolumeError(f"damaged: a structure has {length:,} bytes")
        data = bytearray(length)
        self._ahead.read_into(data, self.offset + offset)
        return bytes(data)

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """Fill a buffer with content; for any thread."""
        self.source.read_into(buffer, self.offset + offset)

    def check(self, offset: int, length: int) -> None:
        """``DamagedVolumeError`` where a range is not inside of the volume."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DamagedVolumeError(
                f"damaged: bytes {offset:,} to {offset + length:,} are wanted of a volume of "
                f"{self.size:,}"
            )

    def over(self, source: BlockSource) -> Window:
        """The same volume, read through a source that shows all of it from byte 0 on."""
        return Window(source, 0, self.size, self.name)
