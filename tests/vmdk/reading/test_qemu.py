"""What qemu-img writes is read byte for byte, in every sub-format that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage import vmdk
from tests.support.tools import require_programs, run
from tests.vmdk.reading.made import PATTERNS, by_qemu, check_reading, raw_disk

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)
SIZES = (512, (1 << 20) + 512, (5 << 20) + 7 * 512, 34 << 20)
"""Bytes: less than a grain, a short last grain, a short last table, more than a table."""


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_programs("qemu-img")


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", SIZES)
def test_equals_what_qemu_was_given(
    tmp_path: Path, size: int, pattern: str, subformat: str
) -> None:
    raw = tmp_path / "disk.raw"
    expected = raw_disk(raw, size, pattern)
    disk = by_qemu(raw, tmp_path / "disk.vmdk", subformat)
    with vmdk.open(disk) as source:
        assert source.subformat == subformat
        assert source.chain == (str(disk),)
        # qemu rounds the smallest disks up; what is behind the end reads as zeros.
        check_reading(source, expected.ljust(source.size, b"\0"), seed=size, reads=25)


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_reads_over_the_bounds_of_many_extents(tmp_path: Path, subformat: str) -> None:
    """Seven gigabytes in four extents, with data around every bound and nothing else."""
    raw, size = tmp_path / "disk.raw", (7 << 30) + 512
    places = [0, *((number << 31) - 70_000 for number in (1, 2, 3)), size - 150_000]
    with raw.open("wb") as file:
        file.truncate(size)
        for number, place in enumerate(places):
            file.seek(place)
            file.write(bytes([number + 1]) * 150_000)
    disk = by_qemu(raw, tmp_path / "disk.vmdk", subformat)
    with vmdk.open(disk) as source, raw.open("rb") as file:
        assert source.size == size
        assert len(source.members[0].extents) == 4
        for place in places:
            low = max(place - 100_000, 0)
            buffer = bytearray(min(400_000, size - low))
            source.read_into(buffer, low)
            file.seek(low)
            assert buffer == file.read(len(buffer))
        assert sum(length for _, length in source.data_ranges(0, size)) < 2 << 20


def test_zeroed_grains(tmp_path: Path) -> None:
    """Entry 1 with the flag: zeros, whatever was there before."""
    raw = tmp_path / "disk.raw"
    expected = bytearray(raw_disk(raw, 4 << 20, "random"))
    disk = tmp_path / "disk.vmdk"
    options = "subformat=monolithicSparse,zeroed_grain=on"
    run(["qemu-img", "convert", "-O", "vmdk", "-o", options, raw, disk], timeout=60)
    run(["qemu-io", "-c", "write -z 1M 1M", disk], timeout=60)
    expected[1 << 20 : 2 << 20] = bytes(1 << 20)
    with vmdk.open(disk) as source:
        check_reading(source, bytes(expected))
        assert sum(length for _, length in source.data_ranges(0, source.size)) == 3 << 20
