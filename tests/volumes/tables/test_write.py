"""Rewritten partition tables: right for sgdisk and sfdisk, and the same but for what changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from aipimage.volumes.tables.model import Partition, PartitionTable
from aipimage.volumes.tables.placing import Rewrite
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.tables.writing import relocated, tail_size, usable_range
from tests.support import require_loop_devices
from tests.support.tools import require_programs, run
from tests.volumes.tables.made import MIB, compare, opened, random_gpt, random_mbr, sfdisk, sgdisk

SIZE = 16 * MIB
Places = Mapping[int, tuple[int, int]]


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_programs("sfdisk", "sgdisk", "blkid")


def applied(path: Path, new: Path, size: int, rewrite: Rewrite) -> None:
    """What a restore does: the source's bytes, zeros to clear, patches; the rest is old rubbish."""
    shutil.copyfile(path, new)
    with open(new, "r+b") as file:
        file.truncate(size)
        for start, length in rewrite.clear:
            file.seek(start)
            file.write(bytes(length))
        for offset, data in rewrite.patches:
            file.seek(offset)
            file.write(data)


def rewritten(
    path: Path, size: int, places: Places, new_ids: bool = False, sector: int = 512
) -> tuple[PartitionTable, PartitionTable, Rewrite]:
    """Rewrite a disk into a copy, let the tools verify that, and return both tables."""
    new = path.with_suffix(".new")
    with opened(path, sector) as (_, source):
        before = read_table(source)
        rewrite = relocated(before, source, size, places, new_ids)
    for offset, data in rewrite.patches:
        assert offset % sector == len(data) % sector == 0
        assert offset + len(data) <= size
    applied(path, new, size, rewrite)
    with opened(new, sector) as (name, source):
        after = read_table(source)
        compare(after, name)
        if after.scheme == "gpt":
            assert "No problems found" in run(["sgdisk", "-v", name])
        assert "No errors detected" in run(["sfdisk", "--verify", name], codes=(0, 1))
    assert after.warnings == tuple(text for text in before.warnings if "hybrid" in text)
    return before, after, rewrite


def expected(before: PartitionTable, places: Places) -> tuple[Partition, ...]:
    """The partitions, each at its place."""
    return tuple(
        replace(part, start=places[part.number][0], size=places[part.number][1])
        if part.number in places
        else part
        for part in before.partitions
    )


def check_sizes(path: Path, sector: int = 512) -> None:
    """Larger, barely larger, and as small as it can be; the same size needs nothing."""
    with opened(path, sector) as (_, source):
        table = read_table(source)
        assert relocated(table, source, table.size) == ([], [], None)
    ends = [part.end for part in (*table.partitions, *table.extended)]
    # blkid does not look at disks of a few sectors.
    least = max([*ends, table.first_usable + sector, MIB]) + tail_size(table)
    for size in (table.size * 3 + 12345, table.size + sector, least):
        before, after, _ = rewritten(path, size, {}, sector=sector)
        assert after.partitions == before.partitions
        assert after.extended == before.extended
        assert (after.disk_guid, after.signature) == (before.disk_guid, before.signature)
        if after.scheme == "gpt":
            assert (after.first_usable, after.usable_end) == usable_range(before, size)
            assert after.primary_ok
            assert after.backup_ok


def spread(rng: random.Random, low: int, high: int, count: int) -> list[tuple[int, int]]:
    """Disjoint places of sectors, each with a free sector before it."""
    edges = sorted(rng.sample(range(low + 1, high), 2 * count))
    rows = list(zip(edges[::2], edges[1::2], strict=True))
    return [(start + 1, end - start - 1) for start, end in rows if end - start > 1]


def random_places(rng: random.Random, table: PartitionTable, size: int, sector: int) -> Places:
    """Everything at other places, extended partitions with what is in them."""
    low, high = (edge // sector for edge in usable_range(table, size))
    inner = {n for outer in table.extended for row in outer.records for n in row.numbers}
    units = [part.number for part in table.partitions if part.number not in inner]
    units += [outer.number for outer in table.extended]
    found: dict[int, tuple[int, int]] = {}
    rows: list[tuple[int, int]] = []
    while len(rows) < len(units):
        rows = spread(rng, low, high, len(units))
    for number, row in zip(rng.sample(units, len(units)), rows, strict=True):
        found[number] = row
    for outer in table.extended:
        start, count = found[outer.number]
        numbers = [n for row in outer.records for n in row.numbers]
        rows = []
        while len(rows) < len(numbers):
            if count < 4 * len(numbers) + 4:
                return random_places(rng, table, size, sector)
            rows = spread(rng, start, start + count, len(numbers))
        found.update(zip(numbers, rows, strict=True))
    return {n: (start * sector, count * sector) for n, (start, count) in found.items()}


def check_moves(path: Path, seed: int, sector: int = 512) -> None:
    """Partitions at random other places, on disks of other sizes."""
    rng = random.Random(seed)
    with opened(path, sector) as (_, source):
        table = read_table(source)
    size = rng.choice((table.size, 2 * table.size, table.size * 3 // 4))
    places = random_places(rng, table, size, sector)
    before, after, rewrite = rewritten(path, size, places, sector=sector)
    assert after.partitions == expected(before, places)
    boxes = [(outer.number, outer.start, outer.size) for outer in after.extended]
    assert boxes == [(outer.number, *places[outer.number]) for outer in before.extended]
    kept = [(part.start, part.end) for part in after.partitions]
    kept += [(offset, offset + len(data)) for offset, data in rewrite.patches]
    for start, length in rewrite.clear:
        assert start + length <= size
        assert all(end <= start or start + length <= low for low, end in kept)


@pytest.mark.parametrize("seed", range(6))
def test_random_mbr(tmp_path: Path, seed: int) -> None:
    sfdisk(tmp_path / "d", SIZE, random_mbr(seed, SIZE // 512))
    check_sizes(tmp_path / "d")
    for move in range(3):
        check_moves(tmp_path / "d", seed * 100 + move)


@pytest.mark.parametrize("seed", range(6))
def test_random_gpt(tmp_path: Path, seed: int) -> None:
    sfdisk(tmp_path / "d", SIZE, random_gpt(seed, SIZE // 512))
    check_sizes(tmp_path / "d")
    for move in range(3):
        check_moves(tmp_path / "d", seed * 100 + move)


@pytest.mark.parametrize("maker", [random_mbr, random_gpt])
def test_sectors_of_4096(tmp_path: Path, maker: object) -> None:
    require_loop_devices()
    script = random_mbr(3, 16384) if maker is random_mbr else random_gpt(3, 16384)
    sfdisk(tmp_path / "d", 64 * MIB, script, 4096)
    check_sizes(tmp_path / "d", 4096)
    check_moves(tmp_path / "d", 1, 4096)


@pytest.mark.long
def test_many_random_tables(tmp_path: Path) -> None:
    for seed in range(2000, 2300):
        for maker in (random_mbr, random_gpt):
            sfdisk(tmp_path / "d", SIZE, maker(seed, SIZE // 512))
            check_sizes(tmp_path / "d")
            check_moves(tmp_path / "d", seed)


def test_a_hybrid_mbr_follows(tmp_path: Path) -> None:
    path = tmp_path / "d"
    sgdisk(path, SIZE, "-n", "1:2048:4095", "-n", "2:4096:8191", "-n", "3:9000:9999")
    sgdisk(path, None, "--hybrid", "2:3")
    before, after, _ = rewritten(path, 2 * SIZE, {2: (6000 * 512, 1000 * 512)})
    assert before.hybrid
    assert after.hybrid
    assert after.partitions == expected(before, {2: (6000 * 512, 1000 * 512)})


def test_a_lost_copy_is_made_anew(tmp_path: Path) -> None:
    for at in (512, SIZE - 512):
        path = tmp_path / "d"
        sgdisk(path, SIZE, "-n", "1:2048:4095", "-n", "7:0:-1M", "-c", "7:seven")
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes(512))
        for size in (SIZE, 2 * SIZE):
            before, after, _ = rewritten(path, size, {})
            assert len(before.warnings) == 1
            assert after.partitions == before.partitions
            assert after.primary_ok
            assert after.backup_ok


def test_the_old_backup_is_cleared(tmp_path: Path) -> None:
    """Of a disk that grew: but not where a partition lies now."""
    path = tmp_path / "d"
    sgdisk(path, SIZE, "-n", "1:2048:4095")
    _, _, rewrite = rewritten(path, 2 * SIZE, {})
    assert rewrite.clear == [(SIZE - 33 * 512, 33 * 512)]
    _, _, rewrite = rewritten(path, 2 * SIZE, {1: (MIB, SIZE - MIB - 512)})
    assert rewrite.clear == [(SIZE - 512, 512)]


def test_an_extended_partition_fits_itself(tmp_path: Path) -> None:
    """Only the logical partitions are placed: the container stays, or follows them."""
    path = tmp_path / "d"
    script = "label: dos\n1: start=2048, size=4096\n2: start=8192, size=20000, type=f\n"
    sfdisk(path, SIZE, script + "5: start=8255, size=1000\n6: start=12288, size=15000\n")
    sector = 512
    _, after, _ = rewritten(path, SIZE, {5: (8300 * sector, 900 * sector)})
    assert [(o.start, o.size) for o in after.extended] == [(8192 * sector, 20000 * sector)]
    assert after.extended[0].records[0].offset == 8192 * sector
    # Down into the gap before it, and onto a disk that ends earlier.
    places = {5: (6300 * sector, 1000 * sector), 6: (7400 * sector, 8000 * sector)}
    _, after, rewrite = rewritten(path, 16000 * sector, places)
    outer = after.extended[0]
    assert outer.start == (6300 - 63) * sector
    assert outer.end == 15400 * sector
    assert rewrite.clear == []
    assert [(p.start, p.size) for p in after.partitions if p.logical] == list(places.values())


def test_new_ids(tmp_path: Path) -> None:
    path = tmp_path / "d"
    sgdisk(path, SIZE, "-n", "1:2048:4095", "-n", "9:8192:9000", "-c", "9:nine")
    before, after, rewrite = rewritten(path, SIZE, {}, new_ids=True)
    ids = rewrite.new_ids
    assert ids is not None
    assert (after.disk_guid, after.signature) == (ids.disk_guid, before.signature)
    assert {part.number: part.guid for part in after.partitions} == ids.guids
    everything = {before.disk_guid, after.disk_guid, *ids.guids.values()}
    everything |= {part.guid for part in before.partitions}
    assert len(everything) == 6
    pairs = zip(after.partitions, before.partitions, strict=True)
    same = [replace(part, guid=old.guid) for part, old in pairs]
    assert tuple(same) == before.partitions
    sfdisk(path, SIZE, random_mbr(1, SIZE // 512))
    before, after, rewrite = rewritten(path, SIZE, {}, new_ids=True)
    assert rewrite.new_ids is not None
    assert rewrite.new_ids.signature == after.signature != before.signature
    assert after.partitions == before.partitions
