"""Cylinders, heads and sectors as ``ddb.geometry.*`` has them; pure arithmetic."""

from __future__ import annotations

from typing import NamedTuple

CYLINDERS_MAX = 65_535


class Geometry(NamedTuple):
    """A geometry of a virtual disk."""

    cylinders: int
    heads: int
    sectors: int


def geometry_of(sectors: int, adapter: str) -> Geometry:
    """Return the geometry of a disk of so many sectors: IDE disks have 16 heads and 63
    sectors a track, SCSI disks 255 and 63 (the note, "The Disk Database").
    """
    heads = 16 if adapter == "ide" else 255
    return Geometry(max(1, min(sectors // (heads * 63), CYLINDERS_MAX)), heads, 63)
