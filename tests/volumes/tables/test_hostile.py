"""Partition tables that are damaged, hostile, or legal and rare."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from aipimage.errors import RequestError
from aipimage.volumes.tables.model import PARTITIONS_MAX, PartitionTable
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.tables.writing import relocated, tail_size
from tests.fuzz.mutate import mutants
from tests.support import require_loop_devices
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.support.tools import require_programs
from tests.volumes.tables.fuzz import chain_disk, flat, fuzz_tables, gpt_disk, seeds
from tests.volumes.tables.made import (
    MIB,
    Row,
    compare,
    fat_sector,
    gpt_entry,
    gpt_header,
    gpt_pieces,
    mbr_sector,
    opened,
    source_of,
)

SIZE = 64 * MIB
S = 512


def disk(sectors: dict[int, list[Row]], size: int = SIZE) -> SparseSource:
    """A disk of boot records."""
    return source_of(size, {at * S: mbr_sector(rows) for at, rows in sectors.items()})


def doubts(table: PartitionTable) -> dict[int, str | None]:
    return {part.number: part.doubt for part in table.partitions}


# Class 51: loops and overlaps


@pytest.mark.parametrize("link", [0, 100, 50, 500_000, 0xFFFFFFF0])
def test_class_51_chains_that_come_back_or_leave(link: int) -> None:
    """To the first record, to itself, backwards and round, out of the extended partition."""
    records: dict[int, list[Row]] = {
        0: [(0, 5, 1000, 1000)],
        1000: [(0, 0x83, 1, 40), (0, 5, 100, 60)],
        1100: [(0, 0x83, 1, 30), (0, 5, link, 60)],
        1050: [(0, 0x83, 1, 20), (0, 5, 100, 60)],
    }
    table = read_table(disk(records))
    numbers = [5, 6, 7] if link == 50 else [5, 6]
    assert [part.number for part in table.partitions] == numbers
    assert len(table.warnings) == (link != 0)
    assert not any(doubts(table).values())
    if table.warnings:
        with pytest.raises(RequestError, match="its boot records"):
            relocated(table, disk(records), SIZE, {5: (1002 * S, 30 * S)})


def test_class_51_a_chain_of_ten_thousand_ends() -> None:
    """As does one that two extended partitions share."""
    records: dict[int, list[Row]] = {0: [(0, 5, 100, 130_000), (0, 15, 100, 130_000)]}
    for index in range(10_000):
        link = (0, 5, 4 * index + 4, 4)
        records[100 + 4 * index] = [(0, 0x83, 1, 3), link]
    data = flat({at * S: mbr_sector(rows) for at, rows in records.items()}, SIZE)
    source = SparseSource(SIZE, {0: data})
    began = time.process_time()
    table = read_table(source)
    assert time.process_time() - began < SOON
    assert len(table.partitions) == PARTITIONS_MAX - 5
    assert "too long" in table.warnings[0]
    assert "comes back" in table.warnings[1]


@pytest.mark.parametrize(
    ("rows", "bad"),
    [
        ([(0, 7, 10, 100), (0, 7, 109, 10)], {1, 2}),
        ([(0, 7, 10, 100), (0, 7, 110, 10)], set()),
        ([(0, 7, 10, 1000), (0, 7, 20, 10), (0, 7, 40, 10), (0, 7, 5000, 1)], {1, 2, 3}),
        ([(0, 7, 10, 100), (0, 7, 10, 100)], {1, 2}),
        ([(0, 7, 0, 100), (0, 7, 100, 100)], {1}),
        ([(0, 7, 10, 131_063), (0, 7, 1, 9)], {1}),
        ([(0, 7, 10, 131_062), (0, 7, 1, 9)], set()),
        ([(0, 7, 100, 0xFFFFFFFF), (0, 7, 0xFFFFFFFF, 0xFFFFFFFF)], {1}),
        ([(0, 7, 100, 50), (0, 5, 120, 500)], {1}),
    ],
)
def test_class_51_overlaps_in_an_mbr(rows: list[Row], bad: set[int]) -> None:
    """Whoever shares bytes with others, with the table, or with what is behind the disk."""
    table = read_table(disk({0: rows}))
    assert {number for number, doubt in doubts(table).items() if doubt} == bad
    assert table.partitions[0].end <= SIZE


def test_class_51_logical_partitions_over_records_and_borders() -> None:
    records: dict[int, list[Row]] = {
        0: [(0, 5, 1000, 1000), (0, 7, 3000, 100)],
        1000: [(0, 0x83, 1, 100), (0, 5, 100, 100)],  # over the next record
        1100: [(0, 0x83, 5, 895), (0, 5, 500, 100)],  # up to the end, over the next partition
        1500: [(0, 0x83, 1, 600)],  # out of the extended partition
    }
    found = doubts(read_table(disk(records)))
    assert found[2] is None
    assert "record" in (found[5] or "")
    assert "record" in (found[6] or "") or "partition 7" in (found[6] or "")
    assert "leaves" in (found[7] or "")


def test_class_51_a_primary_partition_over_a_logical_one() -> None:
    records: dict[int, list[Row]] = {
        0: [(0, 7, 1500, 2000), (0, 5, 1000, 1000)],
        1000: [(0, 0x83, 1, 900)],
    }
    assert all(doubts(read_table(disk(records))).values())


@pytest.mark.parametrize(
    ("entries", "bad"),
    [
        ({1: (100, 199), 2: (200, 300)}, set()),
        ({1: (100, 200), 2: (200, 300)}, {1, 2}),
        ({1: (100, 9000), 2: (300, 400), 3: (500, 600), 9: (9001, 9002)}, {1, 2, 3}),
        ({1: (1, 33), 2: (40, 50)}, {1}),
        ({1: (0, 0)}, {1}),
        ({1: (34, 131_038), 2: (131_039, 131_071)}, {2}),
        ({1: (34, 131_038)}, set()),
        ({1: (34, (1 << 64) - 1)}, {1}),
    ],
)
def test_class_51_overlaps_in_a_gpt(entries: dict[int, tuple[int, int]], bad: set[int]) -> None:
    table = read_table(source_of(SIZE, gpt_pieces(SIZE, entries)))
    assert {number for number, doubt in doubts(table).items() if doubt} == bad
    assert len(table.partitions) == len(entries)


def test_class_51_entries_that_are_nowhere_are_left_out() -> None:
    entries = {1: (300, 299), 2: ((1 << 63), (1 << 63) + 5), 3: (400, 500)}
    table = read_table(source_of(SIZE, gpt_pieces(SIZE, entries)))
    assert doubts(table) == {3: None}
    assert len(table.warnings) == 2


@pytest.mark.parametrize("place", [0, 1, 30, 131_071, 1 << 40, (1 << 64) - 1])
def test_class_51_entries_of_a_gpt_over_itself_or_nowhere(place: int) -> None:
    """The array over the MBR, the header, a partition, the backup, behind the disk."""
    pieces = gpt_pieces(SIZE, {1: (34, 5000)}, count=4)
    array = bytearray(512)
    array[:128] = gpt_entry(1, 34, 5000)
    block = gpt_header(bytes(array), 1, 131_071, place, 34, 131_038)
    pieces[S] = block
    if place == 30:
        del pieces[2 * S]
        pieces[30 * S] = bytes(array)
    table = read_table(source_of(SIZE, pieces))
    assert table.primary_ok == (place == 30)
    assert table.backup_ok


@pytest.mark.parametrize("many", [PARTITIONS_MAX, PARTITIONS_MAX + 1])
def test_class_51_too_many_partitions(many: int) -> None:
    entries = {n: (10_000 + n, 10_000 + n) for n in range(1, many + 1)}
    table = read_table(source_of(SIZE, gpt_pieces(SIZE, entries, count=2048)))
    assert len(table.partitions) == (many if many <= PARTITIONS_MAX else 0)
    assert (table.doubt is None) == (many <= PARTITIONS_MAX)


# Classes 45 and 48 as far as they touch tables


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, 128),
        (1 << 31, 128),
        (0xFFFFFFFF, 128),
        (128, 0),
        (128, 127),
        (128, 192),
        (4, 1 << 31),
        (32769, 128),
    ],
)
def test_class_45_counts_and_sizes_of_entries_are_checked(count: int, size: int) -> None:
    """A product of them is never read before they were; the disk is a petabyte, so it would fit."""
    huge = 1 << 50
    pieces = gpt_pieces(huge, {1: (2048, 4095)})
    array, end = pieces[2 * S], huge // S - 1
    for lba, other, place in ((1, end, 2), (end, 1, end - 32)):
        pieces[lba * S] = gpt_header(
            array, lba, other, place, 34, end - 33, count=count, entry_size=size
        )
    source = source_of(huge, pieces)
    table = read_table(source)
    assert table.doubt is not None
    assert source.bytes_read < MIB


@pytest.mark.parametrize(
    ("count", "size"), [(32768, 128), (64, 256), (8, 4096), (4, 512), (1, 128)]
)
def test_class_48_rare_arrays_are_read(count: int, size: int) -> None:
    """Other sizes of entries (128 times a power of two), very short and very long arrays."""
    blocks = SIZE // S
    array = bytearray(count * size)
    array[-size : 128 - size or None] = gpt_entry(count, 40_000, 50_000)
    room = -(-len(array) // S)
    end = blocks - 1
    pieces = {
        0: mbr_sector([(0, 0xEE, 1, end)], 0),
        S: gpt_header(bytes(array), 1, end, 2, 2 + room, end - room - 1, entry_size=size),
        2 * S: bytes(array),
        (end - room) * S: bytes(array),
        end * S: gpt_header(
            bytes(array), end, 1, end - room, 2 + room, end - room - 1, entry_size=size
        ),
    }
    source = source_of(SIZE, pieces)
    table = read_table(source)
    assert doubts(table) == {count: None}
    assert table.primary_ok
    assert table.backup_ok
    assert tail_size(table) == (1 + room) * S
    rewrite = relocated(table, source, 2 * SIZE)
    again = read_table(source_of(2 * SIZE, {**pieces, **dict(rewrite.patches)}))
    assert again.partitions == table.partitions
    assert again.backup_ok


def test_class_48_records_of_other_systems_are_read() -> None:
    """DR-DOS put the link first, OS/2 used all four entries, partitions lie in any order."""
    records: dict[int, list[Row]] = {
        0: [(0, 7, 9000, 100), (0, 7, 100, 100), (0, 0, 0, 0), (0, 0x85, 1000, 5000)],
        1000: [(0, 5, 500, 500)],
        1500: [(0, 0x83, 10, 100), (0, 0, 0, 0), (0, 0x83, 200, 50), (0, 5, 1000, 100)],
        2000: [(0, 0x83, 10, 90)],
    }
    table = read_table(disk(records))
    assert doubts(table) == dict.fromkeys((1, 2, 5, 6, 7))
    assert [part.start // S for part in table.partitions] == [9000, 100, 1510, 1700, 2010]
    assert not table.extended[0].plain
    assert relocated(table, disk(records), 2 * SIZE).patches == [(0, mbr_sector(records[0]))]


def test_class_48_a_partition_beyond_two_terabytes() -> None:
    """An MBR can name 2^32 sectors from sector 2^32 - 1 on."""
    rows = [(0, 7, 2048, 0xFFFFF000), (0, 7, 0xFFFFFFFF, 0xFFFFFFFF)]
    table = read_table(disk({0: rows}, 5 << 40))
    assert doubts(table) == {1: None, 2: None}
    assert relocated(table, disk({0: rows}, 5 << 40), 6 << 40).patches == [(0, mbr_sector(rows))]


def test_class_48_as_many_logical_partitions_as_linux_takes() -> None:
    """More than sfdisk makes or reads."""
    records: dict[int, list[Row]] = {0: [(0, 5, 100, 130_000)]}
    for index in range(250):
        link = [(0, 5, 200 * index + 200, 200)] if index < 249 else []
        records[100 + 200 * index] = [(0, 0x83, 1, 199), *link]
    source = disk(records)
    table = read_table(source)
    assert [part.number for part in table.partitions] == list(range(5, 255))
    assert not any(doubts(table).values())
    moved = {part.number: (part.start + S, part.size - S) for part in table.partitions}
    rewrite = relocated(table, source, SIZE, moved)
    again = read_table(source_of(SIZE, {**source.pieces, **dict(rewrite.patches)}))
    assert [(p.start, p.size) for p in again.partitions] == list(moved.values())


# What is a table at all


def test_a_boot_sector_of_fat_is_no_mbr_unless_the_volume_is_gone() -> None:
    row: list[Row] = [(0, 0x83, 2048, 5000)]
    fat = {512: b"\xf8\xff\xff\xff"}
    both = read_table(source_of(SIZE, {0: fat_sector(row), **fat}))
    assert both.doubt is not None
    assert not both.may_be_volume
    left = read_table(source_of(SIZE, {0: fat_sector(row)}))
    assert (left.scheme, doubts(left)) == ("mbr", {1: None})
    code: list[Row] = [(0, 0x20, 0x20202020, 0x6F6E206E)]
    for rows in ([], code, [(0x74, 0x6F, 1, 1)]):
        volume = read_table(source_of(SIZE, {0: fat_sector(rows), **fat}))
        assert (volume.scheme, volume.doubt, volume.may_be_volume) == ("none", None, True)


def test_an_mbr_needs_its_magic_and_boot_indicators() -> None:
    good = mbr_sector([(0x80, 7, 2048, 5000)])
    assert read_table(source_of(SIZE, {0: good})).scheme == "mbr"
    for at, value in ((510, 0x54), (511, 0), (446, 0x81), (462, 1)):
        data = bytearray(good)
        data[at] = value
        table = read_table(source_of(SIZE, {0: bytes(data)}))
        assert (table.scheme, table.partitions) == ("none", ())
    for size in (0, 1, 511):
        assert read_table(source_of(size, {})).may_be_volume
    unreadable = SparseSource(SIZE, {}, ((0, 512),))
    assert read_table(unreadable).doubt == "its first sector cannot be read"


def test_an_empty_mbr_may_stand_before_a_file_system() -> None:
    table = read_table(disk({0: []}))
    assert (table.scheme, table.is_empty, table.may_be_volume) == ("mbr", True, True)
    gone = read_table(disk({0: [(0, 7, 1 << 30, 5)]}))
    assert not gone.may_be_volume


def test_a_gpt_needs_a_protective_record() -> None:
    """Else it is a remnant: Linux reads the MBR, or nothing."""
    pieces = gpt_pieces(SIZE, {1: (2048, 4095)}, mbr_rows=[(0, 7, 5000, 100)])
    table = read_table(source_of(SIZE, pieces))
    assert (table.scheme, [part.start // S for part in table.partitions]) == ("mbr", [5000])
    pieces[0] = bytes(512)
    assert read_table(source_of(SIZE, pieces)).scheme == "none"


def test_copies_that_disagree_are_not_believed() -> None:
    entries = {1: (100, 199), 2: (200, 299), 3: (300, 399)}
    backup = {1: (100, 199), 2: (200, 249), 4: (390, 500)}
    table = read_table(source_of(SIZE, gpt_pieces(SIZE, entries, backup=backup)))
    assert table.warnings == ("The two copies of the GPT differ; the first one is used.",)
    assert [bool(part.doubt) for part in table.partitions] == [False, True, True]


def test_a_hybrid_mbr_that_disagrees() -> None:
    entries = {1: (100, 199), 2: (200, 299), 3: (300, 399)}
    rows: list[Row] = [(0, 0xEE, 1, 99), (0, 7, 200, 100), (0, 7, 350, 10), (0x80, 0, 1, 1)]
    source = source_of(SIZE, gpt_pieces(SIZE, entries, mbr_rows=rows))
    table = read_table(source)
    assert table.hybrid
    assert [bool(part.doubt) for part in table.partitions] == [False, False, True]
    with pytest.raises(RequestError, match="partition 3 cannot be moved"):
        relocated(table, source, SIZE, {3: (1000 * S, S)})


def test_tables_for_both_sector_sizes_are_doubted() -> None:
    pieces = gpt_pieces(SIZE, {1: (2048, 4095)}, count=4)
    other = gpt_pieces(SIZE, {1: (256, 511)}, 4096, count=4)
    del other[0]
    other[SIZE - 4096] = other[SIZE - 4096][:3584] + pieces.pop(SIZE - 512)
    table = read_table(source_of(SIZE, {**pieces, **other}))
    assert all(doubts(table).values())


def test_an_mbr_that_may_count_either_sectors() -> None:
    """Nothing at the places of 512 bytes, a volume at those of 4,096, zeros between: sure. What is
    no zero may be an unknown volume, in which the other is a remnant.
    """
    head, volume = mbr_sector([(0, 0x83, 256, 1000)]), {256 * 4096: b"XFSB"}
    table = read_table(source_of(SIZE, {0: head, **volume}))
    assert (table.sector_size, doubts(table)) == (4096, {1: None})
    table = read_table(source_of(SIZE, {0: head, 256 * 512 + 99: b"data", **volume}))
    assert doubts(table)[1] is not None
    table = read_table(source_of(SIZE, {0: head, 256 * 512: b"XFSB", **volume}))
    assert (table.sector_size, doubts(table)) == (512, {1: None})
    table = read_table(source_of(SIZE, {0: head, 256 * 512: b"XFSB"}, 4096))
    assert (table.sector_size, bool(doubts(table)[1])) == (512, True)


# Fuzzing


def test_the_fuzz_target_takes_mutants() -> None:
    for seed in seeds():
        fuzz_tables(seed)
    for count, data in enumerate(mutants(seeds(), 11)):
        fuzz_tables(data)
        if count == 400:
            break


@pytest.mark.parametrize("sector", [512, 4096])
def test_the_seeds_are_real_disks(tmp_path: Path, sector: int) -> None:
    """What the tests build byte by byte is what tools call right."""
    require_programs("sfdisk", "blkid")
    if sector != 512:
        require_loop_devices()
    small = {512: [chain_disk(), gpt_disk(), gpt_disk(hybrid=True)], 4096: [gpt_disk(4096)]}
    big = flat(gpt_pieces(MIB, {1: (50, 60), 3: (40, 45)}, sector), MIB)
    for data in (*small[sector], big):
        path = tmp_path / "d"
        path.write_bytes(data)
        with opened(path, sector) as (name, source):
            compare(read_table(source), name)
