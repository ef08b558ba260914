"""Rewriting partition tables: what stays to the byte, and what is refused."""

from __future__ import annotations

import random
import zlib

import pytest

from aipimage.errors import RequestError
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.tables.writing import boot_area, relocated, usable_range
from tests.support.sources import SparseSource
from tests.volumes.tables.made import (
    MIB,
    Row,
    fat_sector,
    gpt_header,
    gpt_pieces,
    mbr_sector,
    source_of,
)

SIZE = 64 * MIB
S = 512


def disk(sectors: dict[int, list[Row]], size: int = SIZE) -> SparseSource:
    """A disk of boot records."""
    return source_of(size, {at * S: mbr_sector(rows) for at, rows in sectors.items()})


def test_rewriting_keeps_every_other_byte() -> None:
    """Boot code, signature, reserved bytes of headers, unused entries, all attributes."""
    rng = random.Random(5)
    rows: list[Row] = [(0, 0xEE, 1, SIZE // S - 1), (0x80, 0x0C, 200, 100)]
    pieces = gpt_pieces(SIZE, {1: (100, 199), 2: (200, 299)}, mbr_rows=rows)
    end = SIZE // S - 1
    pieces[0] = rng.randbytes(440) + pieces[0][440:]
    array = bytearray(pieces[2 * S])
    array[128 * 5 + 16 : 128 * 6] = rng.randbytes(112)
    array[48:56] = rng.randbytes(8)
    for lba, other, place in ((1, end, 2), (end, 1, end - 32)):
        block = gpt_header(bytes(array), lba, other, place, 34, end - 33)
        pieces[place * S], pieces[lba * S] = bytes(array), block[:92] + rng.randbytes(420)
    source = source_of(SIZE, pieces)
    table = read_table(source)
    patches = dict(relocated(table, source, 2 * SIZE).patches)
    new_end = 2 * SIZE // S - 1
    assert sorted(patches) == [0, S, 2 * S, (new_end - 32) * S, new_end * S]
    assert patches[0][:446] == pieces[0][:446]
    assert patches[0][462:] == pieces[0][462:]
    assert mbr.entries_of(patches[0])[0].sectors == new_end
    assert patches[2 * S] == patches[(new_end - 32) * S] == bytes(array)
    for old, new in ((S, S), (end * S, new_end * S)):
        before, after = pieces[old], patches[new]
        assert before[92:] == after[92:]
        changed = {at for at in range(92) if before[at] != after[at]}
        assert changed <= {*range(16, 20), *range(24, 40), *range(48, 56), *range(72, 80)}
        zeroed = after[:16] + bytes(4) + after[20:92]
        assert int.from_bytes(after[16:20], "little") == zlib.crc32(zeroed)


@pytest.mark.parametrize(
    ("places", "size", "why"),
    [
        ({9: (MIB, MIB)}, SIZE, "not in the table"),
        ({1: (MIB + 1, MIB)}, SIZE, "whole sectors"),
        ({1: (MIB, 0)}, SIZE, "whole sectors"),
        ({1: (0, MIB)}, SIZE, "whole sectors"),
        ({1: (2 * MIB, 2 * MIB)}, SIZE, "overlap"),
        ({1: (4 * MIB, MIB), 2: (4 * MIB, MIB)}, SIZE, "overlap"),
        ({1: (8 * S, MIB)}, SIZE, "room"),
        ({1: (SIZE - MIB, MIB)}, SIZE, "room"),
        ({}, 4 * MIB, "room"),
        ({}, 17 * 1024, "too few"),
        ({1: (1 << 62, MIB)}, SIZE, "room"),
    ],
)
def test_places_that_cannot_be(places: dict[int, tuple[int, int]], size: int, why: str) -> None:
    entries = {1: (2048, 4095), 2: (6144, 8191)}
    source = source_of(SIZE, gpt_pieces(SIZE, entries))
    with pytest.raises(RequestError, match=why):
        relocated(read_table(source), source, size, places)


@pytest.mark.parametrize(
    ("places", "size", "why"),
    [
        ({2: (1000 * S, S)}, SIZE, "not in the table"),
        ({1: (950 * S, 51 * S)}, SIZE, "overlap"),
        ({5: (150 * S, 100 * S)}, SIZE, "overlap"),
        ({5: (5000 * S, 100 * S), 3: (900 * S, 500 * S)}, SIZE, "room"),
        ({3: (900 * S, 500 * S)}, SIZE, "room"),
        ({3: (150 * S, 2000 * S)}, SIZE, "overlap"),
        ({1: (1100 * S, 10 * S)}, SIZE, "overlap"),
        ({5: (1001 * S, 100 * S), 6: (1101 * S, 10 * S)}, SIZE, "boot record"),
        ({1: (1 << 42, S)}, 1 << 43, "what an MBR can say"),
        ({}, 1800 * S, "room"),
    ],
)
def test_places_that_an_mbr_cannot_have(
    places: dict[int, tuple[int, int]], size: int, why: str
) -> None:
    records: dict[int, list[Row]] = {
        0: [(0, 7, 100, 100), (0, 0, 0, 0), (0, 5, 1000, 1000)],
        1000: [(0, 0x83, 1, 100), (0, 5, 500, 500)],
        1500: [(0, 0x83, 1, 400)],
    }
    source = disk(records)
    with pytest.raises(RequestError, match=why):
        relocated(read_table(source), source, size, places)


def test_doubtful_tables_are_not_rewritten() -> None:
    source = source_of(SIZE, {0: mbr_sector([(0, 0xEE, 1, 5)])})
    with pytest.raises(RequestError, match="cannot be changed"):
        relocated(read_table(source), source, 2 * SIZE)
    source = disk({0: [(0, 7, 10, 100), (0, 7, 50, 100)]})
    with pytest.raises(RequestError, match="overlaps partition 2"):
        relocated(read_table(source), source, SIZE, {1: (500 * S, S)})
    assert relocated(read_table(source), source, 2 * SIZE).patches[0][0] == 0
    assert relocated(read_table(source_of(SIZE, {})), source_of(SIZE, {}), 5) == ([], [], None)


def test_usable_ranges() -> None:
    gpt = read_table(source_of(SIZE, gpt_pieces(SIZE, {})))
    assert usable_range(gpt, SIZE) == (34 * S, SIZE - 33 * S) == (gpt.first_usable, gpt.usable_end)
    assert usable_range(gpt, 100) == (34 * S, 0)
    plain = read_table(disk({0: []}))
    assert usable_range(plain, SIZE + 5) == (S, SIZE)
    assert usable_range(plain, 9 << 40) == (S, 0xFFFFFFFF * S)
    assert usable_range(read_table(source_of(SIZE, {})), 77) == (0, 77)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize(("code", "signature"), [(True, False), (False, True), (True, True)])
def test_boot_code_and_signature(code: bool, signature: bool, sector: int) -> None:
    rng = random.Random(2)
    heads = []
    for value in (1, 2):
        head = mbr_sector([(0, 7, 10 * value, 100)], value * 0x01010101, rng.randbytes(440))
        heads.append(head[:444] + rng.randbytes(2) + head[446:] + rng.randbytes(4096 - 512))
    source = source_of(SIZE, {0: heads[0]})
    target = source_of(SIZE, {0: heads[1]}, sector)
    [(offset, data)] = boot_area(source, target, code=code, signature=signature)
    assert (offset, len(data)) == (0, sector)
    assert data[:440] == heads[not code][:440]
    assert data[440:444] == heads[not signature][440:444]
    assert data[444:] == heads[1][444:sector]


def test_boot_code_needs_an_mbr_on_both_disks() -> None:
    good = disk({0: [(0, 7, 10, 100)]})
    for bad in (source_of(SIZE, {}), source_of(100, {}), source_of(SIZE, {0: fat_sector([])})):
        for source, target in ((good, bad), (bad, good)):
            with pytest.raises(RequestError, match="no MBR"):
                boot_area(source, target, code=True)
