"""Partition tables of disks that nobody here made, where they lie beside the checkout."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from aipimage.errors import RequestError
from aipimage.volumes.tables.model import PartitionTable
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.tables.writing import relocated
from tests.support import SAMPLES
from tests.support.sources import SparseSource
from tests.support.tools import require_programs
from tests.volumes.tables.made import compare, opened, told_by_blkid, told_by_sfdisk

pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
_OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
DISKS = "*/tests/_data/disk"
WHOLE = {
    "gptman/tests/fixtures/disk1.img": 2,
    "gptman/tests/fixtures/disk3.img": 2,
    "Quyzi-gpt/tests/fixtures/gpt-disk.img": 2,
    "dfir_ntfs/test_data/gpt-512-0p.raw.gz": 0,
    "dfir_ntfs/test_data/gpt-512-3p.raw.gz": 3,
    "dfir_ntfs/test_data/mbr-512-p1e2.bin.gz": 3,
    "dfir_ntfs/test_data/mbr-512-p1e2_2.bin.gz": 3,
    "dfir_ntfs/test_data/ntfs_index.raw.gz": 1,
    "dfir_ntfs/test_data/exfat_lin_part.raw.gz": 1,
    "dfir_ntfs/test_data/fat64.raw.gz": 1,
    "util-linux/tests/ts/blkid/images-pt/dos+bsd.img.xz": 2,
    "util-linux/tests/ts/blkid/images-pt/gpt.img.xz": 5,
    "dissect_hypervisor-3.20/tests/_data/disk/vhd/fixed.vhd.gz": 1,
}
"""Disks that are whole, and their partitions."""
WHOLE_4096 = {
    "gptman/tests/fixtures/disk2.img": 2,
    "gptman/tests/fixtures/disk4.img": 2,
    "dfir_ntfs/test_data/mbr-4096-p1e0.bin.gz": 1,
    "dfir_ntfs/test_data/mbr-4096-p1e1.bin.gz": 2,
}
"""The same with sectors of 4,096 bytes."""
CUT = {
    "dissect_volume-3.18/tests/_data/disk/mbr.bin": 2,
    "dfir_ntfs/test_data/mbr-512-p0.bin": 0,
    "dfir_ntfs/test_data/mbr-512-p1.bin": 1,
    "dfir_ntfs/test_data/mbr-512-p4.bin": 4,
    "mbr-partition-forensic/tests/data/dftt_mmls_1_mbr.dd": 2,
    "node-mbr/test/data/rpi.bin": 3,
    "node-mbr/test/data/rpi3.bin": 2,
    "node-mbr/test/data/rufus.bin": 1,
    "node-mbr/test/data/syslinux.bin": 1,
    "qemu-iotests/grub_mbr.raw.bz2": 2,
}
"""First sectors of disks, and the partitions of the MBR that they name."""
OTHERS = {
    "apm.bin": "Apple",
    "bsd.bin": "BSD",
    "bsd.img.xz": "BSD",
    "sgi.img.xz": "SGI",
    "sun.img.xz": "Sun",
    "dasd-cdl.img.xz": "DASD",
    "dasd-ldl.img.xz": "DASD",
}


def content(path: Path) -> bytes:
    with _OPENERS.get(path.suffix, open)(path, "rb") as file:
        data = file.read()
    assert isinstance(data, bytes)
    return data


def table_of(data: bytes, size: int | None = None) -> PartitionTable:
    return read_table(SparseSource(size or len(data), {0: data}))


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_disk(tmp_path: Path, name: str) -> None:
    require_programs("sfdisk", "blkid")
    path = tmp_path / "d"
    path.write_bytes(content(SAMPLES / name))
    with opened(path) as (tool, source):
        table = read_table(source)
        compare(table, tool)
    assert len(table.partitions) == WHOLE[name]
    assert not table.warnings


@pytest.mark.parametrize("name", WHOLE_4096)
def test_a_whole_disk_with_sectors_of_4096(tmp_path: Path, name: str) -> None:
    require_programs("sfdisk", "blkid")
    path = tmp_path / "d"
    path.write_bytes(content(SAMPLES / name))
    with opened(path, 4096) as (tool, source), opened(path) as (_, file):
        table = read_table(source)
        compare(table, tool)
        assert read_table(file) == table
    assert len(table.partitions) == WHOLE_4096[name]


@pytest.mark.parametrize("name", CUT)
def test_a_first_sector(tmp_path: Path, name: str) -> None:
    """With the rest of the disk it is compared; alone, no partition of it can be trusted."""
    require_programs("sfdisk", "blkid")
    data, path = content(SAMPLES / name), tmp_path / "d"
    alone = table_of(data)
    assert not [part for part in alone.partitions if not part.doubt]
    assert not alone.may_be_volume or not CUT[name]
    path.write_bytes(data)
    with open(path, "r+b") as file:
        file.truncate(2 << 40)
    with opened(path) as (tool, source):
        table = read_table(source)
        compare(table, tool)
    assert len(table.partitions) == CUT[name]


def test_other_tables_are_named() -> None:
    found = {}
    for path in [*SAMPLES.glob(f"{DISKS}/*.bin"), *SAMPLES.glob("util-linux/**/images-pt/*.xz")]:
        table = table_of(content(path))
        if table.doubt and "of the kind" in table.doubt:
            found[path.name] = table.doubt.rsplit(" ", 1)[1]
            assert not table.may_be_volume
    assert found == OTHERS


def test_damaged_and_cut_tables() -> None:
    """What blkid calls a protective MBR without a GPT is taken whole; a cut GPT is read, and what
    is not there is in doubt.
    """
    disks = SAMPLES / "dissect_volume-3.18/tests/_data/disk"
    lost = table_of(content(disks / "gpt_no_name_xff.bin"))
    assert lost.doubt is not None
    assert "the checksum of its entries is wrong" in lost.doubt
    boot_camp = table_of(content(SAMPLES / "node-mbr/test/data/bootcamp-hybrid.bin"))
    assert boot_camp.doubt is not None
    cut = table_of(content(disks / "gpt.bin"))
    assert cut.hybrid
    assert [part.doubt for part in cut.partitions] == ["it reaches beyond the end of the disk"]
    data = content(disks / "bsd64.bin.gz")
    assert [bool(part.doubt) for part in table_of(data).partitions] == [False, True]


def test_volumes_without_a_table_are_no_tables() -> None:
    """Boot sectors of FAT, NTFS and exFAT, and file systems that have none."""
    folders = (
        "util-linux/**/images-fs/*.xz",
        "rust-fatfs/resources/*.img",
        "ColinFinck*/**/testfs1",
    )
    paths = [path for folder in folders for path in SAMPLES.glob(folder)]
    assert len(paths) > 35
    for path in paths:
        table = table_of(content(path))
        assert table.may_be_volume, (path, table)
        assert table.scheme == "none", (path, table)


def test_every_sample_gives_a_table_or_a_doubt() -> None:
    """Whatever it is, nothing fails; what has partitions can be rewritten or is refused."""
    seen = 0
    for path in SAMPLES.rglob("*"):
        if not path.is_file() or path.stat().st_size > 8 << 20:
            continue
        opener = _OPENERS.get(path.suffix, open)
        with opener(path, "rb") as file:
            data = file.read(4 << 20)
        source = SparseSource(len(data), {0: data})
        table = read_table(source)
        seen += 1
        for part in table.partitions:
            assert 0 <= part.start < part.end <= table.size
        try:
            relocated(table, source, table.size + (1 << 20))
        except RequestError:
            assert table.doubt or table.warnings or any(part.doubt for part in table.partitions)
    assert seen > 150


def test_the_tools_agree_on_what_is_no_table(tmp_path: Path) -> None:
    require_programs("sfdisk", "blkid")
    path = tmp_path / "d"
    path.write_bytes(content(SAMPLES / "dissect_volume-3.18/tests/_data/disk/gpt_no_name_xff.bin"))
    assert told_by_blkid(str(path))["PTTYPE"] == "PMBR"
    assert told_by_sfdisk(str(path))["label"] == "dos"
