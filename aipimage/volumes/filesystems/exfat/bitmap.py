"""The allocation bitmaps of an exFAT volume (exFAT specification, section 7.1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.volumes.clusters import Bits, ClusterMap
from aipimage.volumes.filesystems.exfat.chain import Fat, Run, whole_chain
from aipimage.volumes.filesystems.exfat.directory import Root
from aipimage.volumes.filesystems.exfat.layout import Allocated, BootSector
from aipimage.volumes.view import LayoutError, VolumeView

PIECE = 4 << 20
"""Bytes of a bitmap that are looked at together."""


def bitmap_length(boot: BootSector) -> int:
    """Bytes of a bitmap that stand for clusters."""
    return -(-boot.clusters // 8)


def verified_bitmaps(boot: BootSector, root: Root) -> list[Allocated]:
    """Return the entries of the bitmaps: one for each FAT (section 7.1)."""
    if sorted(entry.flags & 1 for entry in root.bitmaps) != list(range(boot.fats)):
        count = len(root.bitmaps)
        raise LayoutError(f"its root directory names {count} bitmaps where it has {boot.fats} FATs")
    needed = bitmap_length(boot)
    for entry in root.bitmaps:
        if entry.length < needed:
            raise LayoutError(
                f"the bitmap is {entry.length:,} bytes long where its volume needs {needed:,}"
            )
    return root.bitmaps


def bitmap_runs(boot: BootSector, entry: Allocated, fat: Fat) -> list[Run]:
    """Where the part of a bitmap lies that stands for clusters."""
    return whole_chain(fat, entry.first_cluster, -(-bitmap_length(boot) // boot.cluster_size))


def bitmap_pieces(view: VolumeView, boot: BootSector, runs: list[Run]) -> Iterator[Bits]:
    """Yield a bitmap in arrays of ``PIECE`` bytes, the last as long as is left of it; the runs
    are known to hold it.
    """
    left = bitmap_length(boot)
    room = np.empty(min(PIECE, left), np.uint8)
    filled = 0
    for cluster, count in runs:
        at, length = boot.cluster_start(cluster), count * boot.cluster_size
        while length and left:
            part = min(length, len(room) - filled, left)
            room[filled : filled + part] = view.read_array(at, part)
            at, length, filled, left = at + part, length - part, filled + part, left - part
            if filled == len(room) or not left:
                yield room[:filled]
                filled = 0


def fill(found: ClusterMap, bitmaps: list[Iterator[Bits]]) -> None:
    """Set free what no bitmap calls used. With two of them one is in force, and the other is of
    the last transaction that ended: what that calls used is still needed to go back to it.
    """
    for number, pieces in enumerate(zip(*bitmaps, strict=True)):
        used = np.bitwise_or.reduce(pieces)
        first = number * PIECE * 8
        found.set_used_bits(first, used, min(len(used) * 8, found.count - first))
