"""Changing the boot regions of an exFAT volume that was moved on its disk (exFAT specification,
section 3.1.4, PartitionOffset; section 3.4, checksum).
"""

from __future__ import annotations

from aipimage.volumes.filesystems.exfat.layout import (
    BOOT_BYTES,
    CHECKED_SECTORS,
    NAME,
    PARTITION_OFFSET,
    PARTITION_OFFSET_AT,
    REGION_SECTORS,
    boot_checksum,
    checksum_sector,
    decode_boot_sector,
)
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import VolumeView


def moved(view: VolumeView, old_start: int, start: int) -> list[Patch]:
    """Return what to write over a volume that was moved on its disk from byte ``old_start`` to
    ``start``: PartitionOffset and the checksum, in both boot regions.

    A region that is damaged, or that held another place, stays as it is.

    Raises:
        LayoutError: a boot region cannot be read.
    """
    boot = decode_boot_sector(view.read(0, BOOT_BYTES))
    if not 9 <= boot.sector_shift <= 12 or (old_start | start) % boot.sector_size:
        return []
    patches: list[Patch] = []
    for region in (0, REGION_SECTORS):
        patches += _moved_region(view, region, boot.sector_size, old_start, start)
    return patches


def _moved_region(
    view: VolumeView, first: int, sector: int, old_start: int, start: int
) -> list[Patch]:
    """``first``: sector where the region begins. ``sector``: bytes of one."""
    place, checked = first * sector, CHECKED_SECTORS * sector
    data = view.read(place, checked + sector)
    body = bytearray(data[:checked])
    boot = decode_boot_sector(bytes(body[:BOOT_BYTES]))
    whole = data[checked:] == checksum_sector(boot_checksum(body), sector)
    if not whole or boot.name != NAME or boot.partition_offset != old_start // sector:
        return []
    PARTITION_OFFSET.pack_into(body, PARTITION_OFFSET_AT, start // sector)
    return [
        (place + PARTITION_OFFSET_AT, PARTITION_OFFSET.pack(start // sector)),
        (place + checked, checksum_sector(boot_checksum(body), sector)),
    ]
