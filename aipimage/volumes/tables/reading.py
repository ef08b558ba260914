"""Reading a disk's partition table."""

from __future__ import annotations

from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.bootsectors import other_table, volume_sector
from aipimage.volumes.tables.gptreading import read_gpt
from aipimage.volumes.tables.mbrreading import SECTOR_SIZES, read_mbr
from aipimage.volumes.tables.model import PartitionTable
from aipimage.volumes.view import LayoutError, VolumeView

_BUDGET = 4 << 20
"""Bytes for all but a GPT's entries, for which their own size is allowed."""


def read_table(source: BlockSource) -> PartitionTable:
    """Return what a disk's partition table says; a damaged one gives doubts and warnings.

    Raises:
        SourceError: the source failed; sectors that cannot be read are not a failure.
    """
    view = VolumeView(source, 0, source.size, _BUDGET)
    if source.size < mbr.SIZE:
        return PartitionTable("none", source.size)
    try:
        head = view.read(0, mbr.SIZE)
    except LayoutError:
        return _none(view, "its first sector cannot be read")
    if not mbr.is_table(head):
        return _without_mbr(view, head)
    entries = mbr.entries_of(head)
    volume = volume_sector(view, head)
    if volume is not None:
        kind, is_there = volume
        if not _is_plausible(entries, view):
            return PartitionTable("none", view.size, _own_sector(view))
        if is_there:
            return _none(view, f"its first sector is a boot sector of {kind} and a partition table")
    if any(entry.type == mbr.PROTECTIVE for entry in entries):
        return read_gpt(view, head)
    if not any(entry.is_used for entry in entries) and other_table(view, head):
        return _without_mbr(view, head)
    return read_mbr(view, head)


def _without_mbr(view: VolumeView, head: bytes) -> PartitionTable:
    other = other_table(view, head)
    doubt = f"it looks like a disk with a partition table of the kind {other}" if other else None
    return _none(view, doubt)


def _none(view: VolumeView, doubt: str | None) -> PartitionTable:
    return PartitionTable("none", view.size, _own_sector(view), doubt=doubt)


def _own_sector(view: VolumeView) -> int:
    return view.sector_size if view.sector_size in SECTOR_SIZES else SECTOR_SIZES[0]


def _is_plausible(entries: tuple[mbr.MbrEntry, ...], view: VolumeView) -> bool:
    """Whether there are partitions, all on the disk: boot code in their place hardly looks so."""
    used = [entry for entry in entries if entry.is_used]
    sectors = view.size // mbr.SIZE
    return bool(used) and all(entry.start > 0 and entry.end <= sectors for entry in used)
