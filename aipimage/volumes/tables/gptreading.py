"""Reading a GPT: both copies, which of them to believe, and what they say."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

from aipimage.volumes.tables import gpt, mbr
from aipimage.volumes.tables.doubts import Claim, Reserved, judged, placed
from aipimage.volumes.tables.gpt import GptEntry, GptHeader
from aipimage.volumes.tables.mbr import MbrEntry
from aipimage.volumes.tables.model import PARTITIONS_MAX, Partition, PartitionTable
from aipimage.volumes.view import LayoutError, VolumeView


class GptCopy(NamedTuple):
    """One of the two copies, both checksums right."""

    header: GptHeader
    array: bytes

    @property
    def entries(self) -> dict[int, GptEntry]:
        """Entries in use by partition number."""
        return gpt.used_entries(self.array, self.header.entry_size)


@dataclass(frozen=True, slots=True)
class GptPair:
    """What was found of both copies for one sector size.

    Attributes:
        primary, backup: a copy, or why it cannot be used.
    """

    sector_size: int
    primary: GptCopy | str
    backup: GptCopy | str

    @property
    def best(self) -> GptCopy | None:
        """The primary copy, else the backup, else ``None``."""
        for copy in (self.primary, self.backup):
            if isinstance(copy, GptCopy):
                return copy
        return None


def read_pair(view: VolumeView, sector: int) -> GptPair:
    """Look for a GPT of that sector size (bytes). The backup lies where the primary header says,
    or in the last block.
    """
    blocks = view.size // sector
    header = _header_at(view, gpt.PRIMARY_LBA, sector)
    alternate = blocks - 1 if isinstance(header, str) else header.alternate_lba
    primary = header if isinstance(header, str) else _copy_of(view, header)
    other = (
        _header_at(view, alternate, sector) if alternate > gpt.PRIMARY_LBA else "it is not there"
    )
    backup = other if isinstance(other, str) else _copy_of(view, other)
    return GptPair(sector, primary, backup)


def _header_at(view: VolumeView, lba: int, sector: int) -> GptHeader | str:
    if lba < gpt.PRIMARY_LBA or (lba + 1) * sector > view.size:
        return "it is not on the disk"
    try:
        return gpt.verified_header(view.read(lba * sector, sector), lba)
    except LayoutError:
        return "it cannot be read"


def _copy_of(view: VolumeView, header: GptHeader) -> GptCopy | str:
    """The header with its entries, whose size ``verified_header`` has checked."""
    place = header.entries_lba * len(header.sector)
    if place + header.array_size > view.size:
        return "its entries lie past the end of the disk"
    view.allow(header.array_size)
    try:
        array = view.read(place, header.array_size)
    except LayoutError:
        return "its entries cannot be read"
    if zlib.crc32(array) != header.entries_crc:
        return "the checksum of its entries is wrong"
    return GptCopy(header, array)


def read_gpt(view: VolumeView, head: bytes) -> PartitionTable:
    """Return the table of a disk whose MBR has a record of type EE."""
    own = 4096 if view.sector_size == 4096 else 512
    pairs = [read_pair(view, size) for size in (own, 512 + 4096 - own)]
    usable = [pair for pair in pairs if isinstance(pair.primary, GptCopy)]
    usable = usable or [pair for pair in pairs if pair.best]
    pair = usable[0] if usable else pairs[0]
    signature = mbr.signature_of(head)
    copy = pair.best
    if copy is None:
        doubt = (
            f"its MBR announces a GPT, and neither copy can be used (the first header: "
            f"{pair.primary}; the backup: {pair.backup})"
        )
        return PartitionTable("gpt", view.size, pair.sector_size, doubt=doubt, signature=signature)
    if len(copy.entries) > PARTITIONS_MAX:
        doubt = f"it has {len(copy.entries)} partitions"
        return PartitionTable("gpt", view.size, pair.sector_size, doubt=doubt, signature=signature)
    table = _table_of(view, pair, copy, mbr.entries_of(head))
    if len(usable) > 1:
        doubt = "it has two tables, one for sectors of 512 bytes and one for 4,096"
        parts = tuple(replace(part, doubt=part.doubt or doubt) for part in table.partitions)
        table = replace(table, partitions=parts)
    return replace(table, signature=signature)


def _table_of(
    view: VolumeView, pair: GptPair, copy: GptCopy, entries: tuple[MbrEntry, ...]
) -> PartitionTable:
    header, sector = copy.header, pair.sector_size
    usable = header.first_usable * sector, (header.last_usable + 1) * sector
    found = [_partition(number, entry, sector, *usable) for number, entry in copy.entries.items()]
    parts, missing = placed(found, view.size)
    extra, hybrid = _mbr_partitions(entries, parts, sector)
    reserved = [*_structures(pair), *_other_places(pair, copy), *extra]
    return PartitionTable(
        "gpt",
        view.size,
        sector,
        judged(parts, reserved),
        disk_guid=gpt.guid_text(header.disk_guid),
        hybrid=hybrid,
        primary_ok=isinstance(pair.primary, GptCopy),
        backup_ok=isinstance(pair.backup, GptCopy),
        first_usable=usable[0],
        usable_end=usable[1],
        entry_count=header.entry_count,
        entry_size=header.entry_size,
        warnings=(*_pair_warnings(view, pair), *_hybrid_warnings(extra, hybrid), *missing),
    )


def _partition(number: int, entry: GptEntry, sector: int, first: int, end: int) -> Claim:
    start, stop = entry.start * sector, (entry.last + 1) * sector
    outside = start < first or stop > end
    part = Partition(
        number,
        start,
        0,
        gpt.guid_text(entry.type_guid),
        gpt.name_text(entry.name),
        gpt.guid_text(entry.guid),
        active=bool(entry.attributes & gpt.LEGACY_BIOS_BOOTABLE),
        attributes=entry.attributes,
        doubt="it lies outside of what the table calls usable" if outside else None,
    )
    return Claim(part, stop)


def _structures(pair: GptPair) -> list[Reserved]:
    """The MBR, and what both copies occupy."""
    sector = pair.sector_size
    found = [Reserved(0, sector, "the protective MBR")]
    for copy in (pair.primary, pair.backup):
        if isinstance(copy, GptCopy):
            place, entries = copy.header.my_lba * sector, copy.header.entries_lba * sector
            found.append(Reserved(place, place + sector, "a header of the partition table"))
            size = copy.header.array_size
            found.append(Reserved(entries, entries + size, "the entries of the partition table"))
    return found


def _other_places(pair: GptPair, used: GptCopy) -> list[Reserved]:
    """Partitions of the backup that are not the same in the copy that is used."""
    if not isinstance(pair.primary, GptCopy) or not isinstance(pair.backup, GptCopy):
        return []
    if pair.primary.array == pair.backup.array:
        return []
    ours = {n: (e.type_guid, e.start, e.last) for n, e in used.entries.items()}
    what = "a partition of the backup table, which says otherwise"
    return [
        Reserved(entry.start * pair.sector_size, (entry.last + 1) * pair.sector_size, what)
        for number, entry in pair.backup.entries.items()
        if ours.get(number) != (entry.type_guid, entry.start, entry.last)
    ]


def _mbr_partitions(
    entries: tuple[MbrEntry, ...], parts: list[Partition], sector: int
) -> tuple[list[Reserved], bool]:
    """Records of a hybrid MBR that are not partitions of the GPT, and whether it is a hybrid one.

    Records of type 00 only satisfy a BIOS that wants an active one; no system uses them.
    """
    real = [e for e in entries if e.is_used and e.type not in (0, mbr.PROTECTIVE)]
    known = {(part.start, part.end) for part in parts}
    spans = [(entry.start * sector, entry.end * sector) for entry in real]
    what = "a partition of the MBR, which says otherwise"
    return [Reserved(*span, what) for span in spans if span not in known], bool(real)


def _hybrid_warnings(others: list[Reserved], hybrid: bool) -> list[str]:
    if not hybrid:
        return []
    more = "; not all of them are partitions of the GPT" if others else ""
    return [f"The MBR beside the GPT has partitions too (hybrid){more}."]


def _pair_warnings(view: VolumeView, pair: GptPair) -> list[str]:
    """What is wrong with one of the copies, and how they differ."""
    primary, backup = pair.primary, pair.backup
    if isinstance(primary, str):
        return [f"The first GPT header cannot be used, {primary}; the backup is used."]
    if isinstance(backup, str):
        return [f"The backup GPT header cannot be used: {backup}."]
    found = []
    if primary.array != backup.array or primary.header.disk_guid != backup.header.disk_guid:
        found.append("The two copies of the GPT differ; the first one is used.")
    if backup.header.my_lba != view.size // pair.sector_size - 1:
        found.append("The backup GPT header is not at the end of the disk.")
    return found
