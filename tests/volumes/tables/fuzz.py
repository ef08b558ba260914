"""A fuzz target for partition tables: reading, and rewriting what was read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from aipimage.errors import RequestError
from aipimage.volumes.tables.model import PartitionTable
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.tables.writing import boot_area, relocated, usable_range
from tests.support.sources import SparseSource
from tests.volumes.tables.made import gpt_pieces, mbr_sector

SIZE = 128 * 512
_LOGICAL, _LINK = 0x83, 0x05


def chain_disk() -> bytes:
    """An MBR with two primary partitions and a chain of three logical ones."""
    rows = {
        0: [(0x80, 7, 2, 10), (0, 0x83, 12, 8), (0, 0x0F, 20, 100)],
        20: [(0, _LOGICAL, 2, 20), (0, _LINK, 30, 30)],
        50: [(0, _LOGICAL, 1, 25), (0, _LINK, 62, 38)],
        82: [(0, _LOGICAL, 3, 30)],
    }
    return flat({at * 512: mbr_sector(entries) for at, entries in rows.items()})


def gpt_disk(sector: int = 512, hybrid: bool = False) -> bytes:
    """A GPT with few entries, so that mutations hit them."""
    size = SIZE * sector // 512
    rows = [(0, 0xEE, 1, 127), (0, 0x83, 30, 11)] if hybrid else None
    return flat(gpt_pieces(size, {1: (6, 20), 2: (30, 40), 4: (21, 29)}, sector, 4, rows), size)


def flat(pieces: dict[int, bytes], size: int = SIZE) -> bytes:
    """The bytes of a sparse disk."""
    data = bytearray(size)
    for at, piece in pieces.items():
        data[at : at + len(piece)] = piece
    return bytes(data)


def seeds() -> list[bytes]:
    """Small disks of every kind; the ones of 4,096 bytes are 512 KiB long."""
    return [chain_disk(), gpt_disk(), gpt_disk(hybrid=True), gpt_disk(512)[:-512]]


def repaired(data: bytes) -> bytes:
    """Make the checksums of all GPT headers right, for both sector sizes."""
    fixed = bytearray(data)
    for sector in (512, 4096):
        for at in (sector, len(data) // sector * sector - sector):
            if not 0 <= at <= len(data) - 92 or fixed[at : at + 8] != b"EFI PART":
                continue
            place, count, size = struct.unpack_from("<QII", fixed, at + 72)
            if place * sector + count * size <= len(data):
                array = bytes(fixed[place * sector : place * sector + count * size])
                struct.pack_into("<I", fixed, at + 88, zlib.crc32(array))
            length = int.from_bytes(fixed[at + 12 : at + 16], "little")
            struct.pack_into("<I", fixed, at + 16, 0)
            struct.pack_into("<I", fixed, at + 16, zlib.crc32(fixed[at : at + min(length, sector)]))
    return bytes(fixed)


def fuzz_tables(data: bytes) -> None:
    """Read a disk as it is and with right checksums; rewrite it for other sizes."""
    for attempt in {data, repaired(data)}:
        source = SparseSource(len(attempt), {0: attempt})
        for source.sector_size in (512, 4096):
            table = read_table(source)
            check(table, source)


def check(table: PartitionTable, source: SparseSource) -> None:
    """Whatever was read keeps to the rules, and what is rewritten reads as told."""
    assert table.size == source.size
    trusted = sorted((p.start, p.end) for p in table.partitions if p.doubt is None)
    for part in table.partitions:
        assert 0 <= part.start < part.end <= table.size
    before = 0
    for start, end in trusted:
        assert start >= max(before, table.sector_size), "trusted partitions share bytes"
        before = end
    assert len({part.number for part in table.partitions}) == len(table.partitions)
    if table.doubt is not None:
        assert not table.partitions
        assert not table.may_be_volume
    for write in (grown, shrunk, shifted, with_boot_code):
        _try(lambda write=write: write(table, source))  # type: ignore[misc]


def _try(action: Callable[[], None]) -> None:
    try:
        action()
    except RequestError:
        return


def grown(table: PartitionTable, source: SparseSource) -> None:
    """A larger disk: the same partitions, all of them as good as they were."""
    rewrite = relocated(table, source, table.size + 77 * 4096)
    again = reread(table, source, table.size + 77 * 4096, rewrite.patches, rewrite.clear)
    if again.sector_size == table.sector_size:
        good = {(part.number, part.start, part.end) for part in table.partitions if not part.doubt}
        assert good <= {(part.number, part.start, part.end) for part in again.partitions}


def shrunk(table: PartitionTable, source: SparseSource) -> None:
    """A smaller disk, if it is big enough."""
    size = table.size - 4 * 4096
    if size > 0:
        rewrite = relocated(table, source, size)
        again = reread(table, source, size, rewrite.patches, rewrite.clear)
        assert not [part for part in again.partitions if part.end > size]


def shifted(table: PartitionTable, source: SparseSource) -> None:
    """The last partition one sector further, and all ids new."""
    low, _ = usable_range(table, table.size * 2)
    last = max(table.partitions, key=lambda part: part.end, default=None)
    if last is None:
        return
    place = max(low, last.start + table.sector_size), table.sector_size
    rewrite = relocated(table, source, table.size * 2, {last.number: place}, True)
    again = reread(table, source, table.size * 2, rewrite.patches, rewrite.clear)
    moved = again.partition(last.number)
    assert moved is not None
    assert (moved.start, moved.size) == place


def with_boot_code(table: PartitionTable, source: SparseSource) -> None:
    """Its own boot code and signature change nothing."""
    for offset, data in boot_area(source, source, code=True, signature=True):
        assert source.content(offset, len(data)) == data


def reread(
    table: PartitionTable,
    source: SparseSource,
    size: int,
    patches: list[tuple[int, bytes]],
    clear: list[tuple[int, int]],
) -> PartitionTable:
    """The table of a restored disk, whose sectors are those of the table."""
    disk = bytearray(source.content(0, min(source.size, size)).ljust(size, b"\0"))
    for start, length in clear:
        disk[start : start + length] = bytes(length)
    for offset, data in patches:
        assert offset + len(data) <= size
        disk[offset : offset + len(data)] = data
    target = SparseSource(size, {0: bytes(disk)})
    target.sector_size = table.sector_size
    return read_table(target)
