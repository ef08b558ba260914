"""A device of an image as a block source, so that it can be surveyed like a disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipimage.extents import SECTOR, Kind
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.io.reading.device import Device

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BAD = frozenset({Kind.UNREADABLE, Kind.LOST})


class ImageSource:
    """See :class:`aipimage.io.blocks.sources.BlockSource`. What could not be read when the source
    was imaged, or was lost to damage, cannot be read here either: zeros would be taken for it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.size, self.sector_size = device.size, device.sector_size
        self.name = f"{device.image.path}, disk {device.index}"

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``; damaged stored bytes are an ``IntegrityError``."""
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset + view.nbytes > self.size:
            raise RuntimeError(
                f"internal error: read of {view.nbytes} bytes at {offset} of {self.name}"
            )
        if not view.nbytes:
            return
        with self._device.image.stream.gate:
            self._fill(view, offset)

    def _fill(self, view: memoryview, offset: int) -> None:
        first, last = offset // SECTOR, (offset + view.nbytes - 1) // SECTOR
        pieces = self._device.map.pieces(first, last - first + 1)
        if any(piece.kind in _BAD for piece in pieces):
            raise UnreadableRangeError(
                f"{self.name}: bytes that could not be read when it was imaged", offset, view.nbytes
            )
        self._device.fill_from(view, offset, pieces)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what is kept in the image, or could not be read."""
        end = min(end, self.size)
        if start >= end:
            return
        for first, block in self._device.map.walk(start // SECTOR, -(-end // SECTOR)):
            self._device.image.check_open()
            at = first * SECTOR
            for length, _, _, kind in block.tolist():
                low, high = max(at, start), min(at + length * SECTOR, end)
                if low < high and kind not in (Kind.ZERO, Kind.UNUSED):
                    yield low, high - low
                at += length * SECTOR

    def fingerprint(self) -> dict[str, int | str]:
        """Return what names the device: an image does not change."""
        image = self._device.image
        return {"kind": "image", "digest": image.digest, "device": self._device.index}

    def close(self) -> None:
        """Do nothing: the image is the caller's."""
