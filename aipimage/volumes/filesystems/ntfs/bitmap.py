"""$Bitmap: reading it, and asking it whether what is known to be in use is."""

from __future__ import annotations

import numpy as np

from aipimage import _core
from aipimage.ranges import clipped, intersection
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.view import LayoutError

PIECE = 4 << 20
"""Bytes of the bitmap that are looked at together."""


def open_bitmap(mft: Mft) -> Stream:
    """$Bitmap's content; ``LayoutError`` where it is not one bit for each cluster at least."""
    record = mft.base_record(layout.BITMAP)
    stream = mft.stream(record, layout.DATA, b"", "$Bitmap").verified_plain()
    needed = -(-mft.geometry.clusters // 8)
    if stream.size < needed or stream.initialised < needed:
        short = min(stream.size, stream.initialised)
        raise LayoutError(f"the bitmap is {short} bytes long where its volume needs {needed:,}")
    return stream


def read_bitmap(mft: Mft, stream: Stream, claimed: ClusterRuns | None = None) -> ClusterMap:
    """Return the map that a bitmap describes.

    Args:
        claimed: runs that belong to files, ascending and disjoint.

    Raises:
        LayoutError: the bitmap calls one of them free.
    """
    geometry = mft.geometry
    mft.view.allow(-(-geometry.clusters // 8))
    found = ClusterMap(geometry.cluster_size, geometry.clusters, 0, mft.view.size)
    for first in range(0, geometry.clusters, PIECE * 8):
        count = min(PIECE * 8, geometry.clusters - first)
        bits = stream.read(first // 8, -(-count // 8))
        if claimed is not None:
            _verify_claims(bits, first, count, claimed)
        found.set_used_bits(first, bits, count)
    return found


def verify_claims(free: ClusterMap, claimed: ClusterRuns) -> None:
    """Compare a map with runs that belong to files, ascending and disjoint; ``LayoutError`` where
    it calls one of them free.
    """
    for rows in free.free_runs(0, free.count):
        if len(intersection(claimed, rows)):
            raise LayoutError("neither the bitmap nor the journal has clusters of its files")


def _verify_claims(bits: bytes, first: int, count: int, claimed: ClusterRuns) -> None:
    """Compare a piece of the bitmap with the runs that lie in it."""
    rows = clipped(claimed, first, first + count)
    rows[:, 0] -= np.uint64(first)
    there = _core.extents_to_bitmap(rows, count)
    if _core.bitmap_count(_core.bitmap_andnot(there, bits, count), count):
        raise LayoutError("the bitmap calls clusters free that belong to files")
