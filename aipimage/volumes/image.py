"""An image with the volumes of its disks: the class that the public surface hands out."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from aipimage.extents import SECTOR, Kind
from aipimage.io.image import Image as PlainImage
from aipimage.volumes.layout import VolumeInfo, volumes_of


class Image(PlainImage):
    """An image opened for reading: its devices, and the volumes on them.

    It is closed by ``close`` or at the end of a ``with`` block.
    """

    @cached_property
    def volumes(self) -> tuple[VolumeInfo, ...]:
        """The volumes of all devices, as they were described when the image was made.

        Raises:
            FormatError: the description is not what docs/format.md, section 9.2 says.
        """
        found: list[VolumeInfo] = []
        for device in self.devices:
            found += volumes_of(device.index, device.size, device.metadata, self.path)
        return tuple(found)

    def kept_bytes(self, volume: VolumeInfo) -> int:
        """Bytes of a volume that the image has as data (its map is read for it)."""
        first = volume.start // SECTOR
        last = -(-(volume.start + volume.size) // SECTOR)
        kept = 0
        for at, block in self.devices[volume.device].map.walk(first, last):
            ends = np.uint64(at) + np.cumsum(block["length"])
            low = np.clip(ends - block["length"], first, last)
            length = np.clip(ends, first, last) - low
            kept += int(length[block["kind"] == int(Kind.DATA)].sum())
        return kept * SECTOR
