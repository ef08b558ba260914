"""Rewriting a partition table for a restore: pure functions that give patches for the target.

A restore copies the source's bytes, and then writes the patches over them. What a patch does not
change, boot code and reserved bytes for instance, is what the source has there.
"""

from __future__ import annotations

from aipimage.errors import RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.patches import Patch
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.gptwriting import rewritten_gpt
from aipimage.volumes.tables.mbrwriting import rewritten_mbr
from aipimage.volumes.tables.model import PartitionTable
from aipimage.volumes.tables.placing import Placements, Rewrite, in_sectors, view_of
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.view import LayoutError


def relocated(
    table: PartitionTable,
    source: BlockSource,
    new_size: int,
    placements: Placements | None = None,
    new_ids: bool = False,
) -> Rewrite:
    """Return what makes a copied table one for a disk of another size, with partitions elsewhere.

    A GPT gets its backup at the new end, the last usable block, the protective record of the MBR
    and all checksums; attributes, names, reserved bytes, boot code and the records of a hybrid MBR
    stay, but for hybrid records of partitions that move. An MBR changes only where partitions move:
    their addresses, CHS for 255 heads and 63 sectors, and the chain of an extended partition. That
    one is placed like a partition, by its number, or else made to fit its logical ones. A disk
    without a table needs nothing.

    Args:
        table: of the source (``read_table``). source: read again for the records.
        new_size: of the target, bytes.
        placements: (start, size) in bytes, whole sectors, of partitions that move or change size,
            by number; the others stay. new_ids: a new disk signature, disk GUID and partition
            GUIDs. (A GPT whose MBR has the signature 0, as usual, keeps that.)

    Raises:
        RequestError: the table cannot be trusted, or the partitions do not fit the disk.
        SourceError: the source cannot be read.
    """
    if table.doubt:
        raise RequestError(f"the partition table cannot be changed: {table.doubt}")
    moved = in_sectors(table, placements or {})
    if table.scheme == "none":
        return Rewrite([], [])
    view = view_of(source)
    write = rewritten_gpt if table.scheme == "gpt" else rewritten_mbr
    result = write(table, view, new_size, moved, new_ids)
    same = table.size == new_size and all(_is_there(source, patch) for patch in result.patches)
    return Rewrite([], []) if same else result


def _is_there(source: BlockSource, patch: Patch) -> bool:
    """Whether a patch changes nothing."""
    now = bytearray(len(patch[1]))
    if patch[0] + len(now) > source.size:
        return False
    source.read_into(now, patch[0])
    return bytes(now) == patch[1]


def usable_range(table: PartitionTable, new_size: int) -> tuple[int, int]:
    """Return (start, end) in bytes: where partitions may lie on a disk of ``new_size`` bytes."""
    sector = table.sector_size
    if table.scheme == "gpt":
        return table.first_usable, max(0, new_size // sector * sector - tail_size(table))
    if table.scheme == "mbr":
        return sector, min(new_size // sector, mbr.SECTORS_MAX) * sector
    return 0, new_size


def tail_size(table: PartitionTable) -> int:
    """Return the bytes that a table needs past the last partition: a GPT's backup, or none."""
    if table.scheme != "gpt":
        return 0
    sector = table.sector_size
    return (1 + -(-table.entry_count * table.entry_size // sector)) * sector


def boot_area(
    source: BlockSource, target: BlockSource, *, code: bool = False, signature: bool = False
) -> list[Patch]:
    """Return a patch that gives the target the source's boot code (bytes 0 to 439 of the MBR), its
    disk signature (440 to 443), or both; one sector of the target, all else in it as it is.

    Raises:
        RequestError: one of them has no MBR, with or without a GPT.
        SourceError: one of them cannot be read.
    """
    theirs, ours = _mbr_of(source), _mbr_of(target)
    first = theirs[: mbr.BOOT_CODE] if code else ours[: mbr.BOOT_CODE]
    middle = theirs[mbr.SIGNATURE] if signature else ours[mbr.SIGNATURE]
    return [(0, first + middle + ours[mbr.SIGNATURE.stop :])]


def _mbr_of(source: BlockSource) -> bytes:
    """The first sector of a disk with an MBR; a volume's boot sector ends in 55 AA too."""
    table = read_table(source)
    if table.scheme == "none":
        raise RequestError(f"{source.name}: no MBR in its first sector; nothing was changed")
    size = max(mbr.SIZE, source.sector_size)
    try:
        return view_of(source).read(0, min(size, source.size))
    except LayoutError as error:
        raise RequestError(f"{source.name}: its first sector cannot be read: {error}") from error
