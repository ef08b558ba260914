"""Writing a GPT for another disk: both copies, and the MBR beside it.

UEFI Specification 2.10, section 5.3.2: the backup header lies in the last block, its entries before
it; AlternateLBA, LastUsableLBA and the checksums follow from that. Section 5.2.3: the protective
record covers the disk, or as much as 32 bits can say.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

from aipimage.errors import RequestError
from aipimage.io.system import entropy
from aipimage.volumes.patches import Patch
from aipimage.volumes.tables import gpt, mbr
from aipimage.volumes.tables.gpt import GptEntry, GptHeader
from aipimage.volumes.tables.gptreading import GptCopy, GptPair, read_pair
from aipimage.volumes.tables.mbr import MbrEntry
from aipimage.volumes.tables.model import PartitionTable
from aipimage.volumes.tables.placing import (
    NewIds,
    Rewrite,
    Span,
    cleared,
    new_signature,
    read_sector,
    refuse_outside,
    refuse_overlaps,
)
from aipimage.volumes.view import VolumeView

Sectors = Mapping[int, tuple[int, int]]


def usable_blocks(blocks: int, header: GptHeader) -> tuple[int, int]:
    """Return the first usable block, and the one past the last, of a disk of so many blocks."""
    return header.first_usable, blocks - 1 - header.array_blocks


def rewritten_gpt(
    table: PartitionTable, view: VolumeView, new_size: int, moved: Sectors, new_ids: bool
) -> Rewrite:
    """Return what makes the GPT one for a disk of ``new_size`` bytes; ``moved`` in blocks."""
    sector = table.sector_size
    pair = read_pair(view, sector)
    if pair.best is None:
        raise RequestError(f"{view.source.name}: the partition table changed; start again")
    blocks = new_size // sector
    entries = pair.best.entries
    _verify(pair, entries, moved, blocks)
    places = {number: replace_place(entry, moved.get(number)) for number, entry in entries.items()}
    ids = _new_guids(places) if new_ids else None
    array, disk_guid = _array(pair.best, places, ids), pair.best.header.disk_guid
    if ids:
        stored = gpt.random_guid(entropy.new_id())
        disk_guid, ids = stored, replace(ids, disk_guid=gpt.guid_text(stored))
    patches = _copies(pair, view, blocks, array, disk_guid)
    head, ids = _first_sector(view, _end_of(pair, view), entries, moved, blocks, ids, sector)
    patches = sorted([(0, head), *patches])
    kept = [(at, at + len(data)) for at, data in patches]
    kept += [(e.start * sector, (e.last + 1) * sector) for e in places.values()]
    return Rewrite(patches, cleared(_remains(pair), kept, new_size), ids)


def replace_place(entry: GptEntry, place: tuple[int, int] | None) -> GptEntry:
    """Return an entry at another place (first block, blocks), or as it is."""
    if place is None:
        return entry
    return entry._replace(start=place[0], last=place[0] + place[1] - 1)


def _verify(pair: GptPair, entries: dict[int, GptEntry], moved: Sectors, blocks: int) -> None:
    """Raise ``RequestError`` where not everything fits."""
    assert pair.best is not None
    sector, header = pair.sector_size, pair.best.header
    low, high = usable_blocks(blocks, header)
    first = _primary_array(pair, header)
    array = Span(first, first + header.array_blocks, "the partition table")
    if low >= high or array.end > high:
        raise RequestError(f"{blocks * sector} bytes are too few for the partition table")
    going = [Span(at, at + count, f"partition {n}") for n, (at, count) in moved.items()]
    staying = [
        Span(entry.start, entry.last + 1, f"partition {number}")
        for number, entry in entries.items()
        if number not in moved
    ]
    refuse_outside(going, low, high, sector)
    refuse_outside(staying, 0, high, sector)
    refuse_overlaps(going, [*staying, array])


def _new_guids(entries: dict[int, GptEntry]) -> NewIds:
    guids = {n: gpt.guid_text(gpt.random_guid(entropy.new_id())) for n in entries}
    return NewIds(guids=guids)


def _array(copy: GptCopy, places: dict[int, GptEntry], ids: NewIds | None) -> bytes:
    """The entries, changed where they changed; unused ones stay to the byte."""
    array = bytearray(copy.array)
    for number, entry in places.items():
        if ids:
            entry = entry._replace(guid=gpt.guid_stored(ids.guids[number]))
        gpt.with_entry(array, copy.header.entry_size, number, entry)
    return bytes(array)


def _copies(
    pair: GptPair, view: VolumeView, blocks: int, array: bytes, disk_guid: bytes
) -> list[Patch]:
    """Both headers and arrays."""
    assert pair.best is not None
    sector, base = pair.sector_size, pair.best.header
    entries_lba = _primary_array(pair, base)
    first, end = usable_blocks(blocks, base)
    primary = replace(
        base,
        my_lba=gpt.PRIMARY_LBA,
        alternate_lba=blocks - 1,
        first_usable=first,
        last_usable=end - 1,
        disk_guid=disk_guid,
        entries_lba=entries_lba,
        entries_crc=zlib.crc32(array),
    )
    backup = replace(primary, my_lba=blocks - 1, alternate_lba=gpt.PRIMARY_LBA, entries_lba=end)
    if isinstance(pair.backup, GptCopy) and isinstance(pair.primary, GptCopy):
        backup = backup.inside(pair.backup.header)
    return [
        (primary.my_lba * sector, primary.encoded()),
        (entries_lba * sector, _padded(view, array, entries_lba, sector)),
        (end * sector, array + bytes(-len(array) % sector)),
        (backup.my_lba * sector, backup.encoded()),
    ]


def _primary_array(pair: GptPair, base: GptHeader) -> int:
    """Where the first copy's entries lie; where that copy is lost, where they usually do."""
    if isinstance(pair.primary, GptCopy):
        return base.entries_lba
    if gpt.DEFAULT_ENTRIES_LBA + base.array_blocks > base.first_usable:
        raise RequestError(
            "the first copy of the partition table is lost, and there is no room for a new one "
            f"before block {base.first_usable}; repair the table first"
        )
    return gpt.DEFAULT_ENTRIES_LBA


def _padded(view: VolumeView, array: bytes, lba: int, sector: int) -> bytes:
    """The array in whole blocks; what shares its last block stays."""
    rest = -len(array) % sector
    return array + (read_sector(view, lba * sector + len(array), rest) if rest else b"")


def _remains(pair: GptPair) -> list[tuple[int, int]]:
    """Where the backup was, as (start, end) in bytes."""
    if not isinstance(pair.backup, GptCopy):
        return []
    header, sector = pair.backup.header, pair.sector_size
    place, entries = header.my_lba * sector, header.entries_lba * sector
    return [(place, place + sector), (entries, entries + header.array_blocks * sector)]


def _end_of(pair: GptPair, view: VolumeView) -> int:
    """Blocks of the disk that the table was made for, which may have grown since."""
    blocks = view.size // pair.sector_size
    copy = pair.backup if isinstance(pair.backup, GptCopy) else None
    return min(blocks, copy.header.my_lba + 1) if copy else blocks


def _first_sector(
    view: VolumeView,
    was: int,
    old: dict[int, GptEntry],
    moved: Sectors,
    blocks: int,
    ids: NewIds | None,
    sector_size: int,
) -> tuple[bytes, NewIds | None]:
    """The MBR: the protective record fits the disk, which had ``was`` blocks; a hybrid one's
    records fit their partitions.
    """
    sector = read_sector(view, 0, sector_size)
    entries = [_mbr_entry(e, old, moved, was, blocks) for e in mbr.entries_of(sector)]
    sector = mbr.with_entries(sector, entries)
    if ids and any(sector[mbr.SIGNATURE]):
        sector = new_signature(sector, entropy.random_bytes(4))
        ids = replace(ids, signature=mbr.signature_of(sector))
    return sector, ids


def _mbr_entry(
    entry: MbrEntry, old: dict[int, GptEntry], moved: Sectors, was: int, blocks: int
) -> MbrEntry:
    if entry.type == mbr.PROTECTIVE:
        return _protective(entry, was, blocks)
    if not entry.is_used or entry.type == 0:
        return entry
    for number, place in moved.items():
        gone = old[number]
        if (entry.start, entry.end) == (gone.start, gone.last + 1):
            if sum(place) > mbr.SECTORS_MAX:
                raise RequestError(
                    f"partition {number} is in the MBR too, which cannot say that it lies at "
                    f"sector {place[0]}"
                )
            return mbr.placed(entry, *place)
        if entry.start <= gone.last and gone.start < entry.end:
            raise RequestError(
                f"partition {number} cannot be moved or resized: the MBR has a partition of its "
                "own there"
            )
    return entry


def _protective(entry: MbrEntry, was: int, blocks: int) -> MbrEntry:
    """The record of type EE: it grows and shrinks with the disk if it covered all of that."""
    most = mbr.SECTORS_MAX
    covers = entry.sectors == most or (entry.start == 1 and entry.end >= min(was, most))
    sectors = min(blocks - entry.start, most)
    if not covers or sectors == entry.sectors:
        return entry
    last = mbr.chs_of(entry.start + sectors - 1)
    if last == mbr.LARGEST_CHS and entry.last_chs != mbr.LARGEST_CHS:
        last = mbr.UNREPRESENTABLE_CHS
    return entry._replace(sectors=sectors, last_chs=last)
