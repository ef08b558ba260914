"""Partition tables that sfdisk and sgdisk made, compared with what those and blkid read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aipimage.volumes.tables.reading import read_table
from tests.support import require_loop_devices
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run
from tests.volumes.tables.made import (
    MIB,
    compare,
    gpt_pieces,
    opened,
    random_gpt,
    random_mbr,
    sfdisk,
    sgdisk,
)

SIZE = 256 * MIB
SCRIPTS = {
    "an empty mbr": "label: dos\nlabel-id: 0xdeadbeef\n",
    "an empty gpt": "label: gpt\n",
    "one": "label: dos\n,,7,*\n",
    "from sector 1": "label: dos\nstart=1, size=99, type=83\n",
    "as old tools did": "label: dos\nstart=63, size=16002, type=c, bootable\n",
    "fourth only": "label: dos\n4: start=2048, size=4096, type=83\n",
    "not in order": "label: dos\n3: start=2048, size=2048\n1: start=9000, size=33\n2: start=5000\n",
    "types": "label: dos\n,8M,ef\n,8M,27\n,8M,fd\n,8M,8e\n",
    "extended only": "label: dos\n2: start=2048, size=8192, type=5\n",
    "a long chain": "label: dos\n1: size=1M\n4: start=5000, type=5\n"
    + "".join(f"{5 + n}: start={5001 + 300 * n}, size={290 - n}\n" for n in range(56)),
    "linux extended": "label: dos\n1: start=2048, size=60000, type=85\n,4M\n,4M,82\n,8M,7\n",
    "128 entries": "label: gpt\n" + ",256K,L\n" * 128,
    "240 entries": "label: gpt\ntable-length: 240\n" + ",200K,L\n" * 240,
    "usable part": "label: gpt\nfirst-lba: 100\nlast-lba: 100000\nstart=100, size=99901\n",
    "guids": "label: gpt\n,8M,U\n,8M,S\n,8M,R\n,8M,V\n,8M,21686148-6449-6E6F-744E-656564454649\n",
    "names": 'label: gpt\n,8M,L,\n5: size=8M, name="EFI System \U0001f4be"\n',
}


def disk(path: Path, script: str, size: int = SIZE, sector: int = 512) -> None:
    """Make it, and compare what is read."""
    sfdisk(path, size, script, sector)
    with opened(path, sector) as (name, source):
        table = read_table(source)
        compare(table, name)
        assert table.warnings == ()
        assert table.scheme == "mbr" or (table.primary_ok and table.backup_ok)
        total = sum(length for _, length in table.gaps()) + sum(p.size for p in table.partitions)
        assert total == size


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_programs("sfdisk", "sgdisk", "blkid")


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_sfdisk_makes(tmp_path: Path, name: str) -> None:
    disk(tmp_path / "d", SCRIPTS[name])


@pytest.mark.parametrize("seed", range(20))
def test_random_mbr(tmp_path: Path, seed: int) -> None:
    disk(tmp_path / "d", random_mbr(seed, SIZE // 512))


@pytest.mark.parametrize("seed", range(20))
def test_random_gpt(tmp_path: Path, seed: int) -> None:
    disk(tmp_path / "d", random_gpt(seed, SIZE // 512))


@pytest.mark.long
def test_many_random_tables(tmp_path: Path) -> None:
    for seed in range(1000, 1600):
        disk(tmp_path / "d", random_mbr(seed, SIZE // 512))
        disk(tmp_path / "d", random_gpt(seed, SIZE // 512))


@pytest.mark.parametrize("name", ["one", "an empty gpt", "types", "guids", "a long chain"])
def test_sectors_of_4096(tmp_path: Path, name: str) -> None:
    require_loop_devices()
    disk(tmp_path / "d", SCRIPTS[name], 128 * MIB, 4096)


@pytest.mark.parametrize("seed", range(5))
def test_random_tables_with_sectors_of_4096(tmp_path: Path, seed: int) -> None:
    require_loop_devices()
    disk(tmp_path / "d", random_mbr(seed, 32768), 128 * MIB, 4096)
    disk(tmp_path / "d", random_gpt(seed, 32768), 128 * MIB, 4096)


@pytest.mark.parametrize(
    "options",
    [
        ["-n", "1:2048:4095", "-n", "2:8192:0", "-t", "2:0700", "-c", "2:data", "-A", "2:set:2"],
        ["-S", "256", *(f"--new={n}:0:+200" for n in range(1, 257))],
        ["-a", "1", "-n", "7:100:100", "-n", "3:34:40", "-n", "128:101:5000"],
        ["-n", "1:0:+8M", "-t", "1:ef02", "-n", "2:0:0", "-t", "2:8300"],
        ["-j", "4096", "-n", "1:0:+4M"],
    ],
    ids=["two", "256", "odd", "bios boot", "moved table"],
)
def test_what_sgdisk_makes(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "d"
    sgdisk(path, SIZE, "--clear", *options)
    with opened(path) as (name, source):
        table = read_table(source)
        compare(table, name)
        assert table.warnings == ()


def test_a_hybrid_mbr_goes_by_the_gpt(tmp_path: Path) -> None:
    path = tmp_path / "d"
    sgdisk(path, SIZE, "-n", "1:0:+8M", "-n", "2:0:+8M", "-n", "3:0:+8M", "-t", "2:0700")
    sgdisk(path, None, "--hybrid", "2:3")
    with opened(path) as (name, source):
        table = read_table(source)
        compare(table, name)
    assert table.hybrid
    assert table.warnings == ("The MBR beside the GPT has partitions too (hybrid).",)


def test_a_file_with_sectors_of_4096(tmp_path: Path) -> None:
    """The file itself has no sector size: where the header lies tells, or where volumes begin."""
    require_loop_devices()
    require_programs("mkfs.ext4")
    for script in (SCRIPTS["guids"], SCRIPTS["one"], "label: dos\n,8M,83\n,,5\n,8M,83\n,8M,83\n"):
        path = tmp_path / "d"
        disk(path, script, 128 * MIB, 4096)
        if script == SCRIPTS["one"]:
            start = str(256 * 4096)
            run(["mkfs.ext4", "-qF", "-E", f"offset={start}", path, "4096"])
        with opened(path, 4096) as (_, device), opened(path) as (_, file):
            assert read_table(file) == read_table(device)


def test_a_grown_and_a_damaged_gpt(tmp_path: Path) -> None:
    path = tmp_path / "d"
    sgdisk(path, 8 * MIB, "-n", "1:2048:4095", "-n", "5:0:0")
    good = path.read_bytes()
    with opened(path) as (_, source):
        whole = read_table(source)
    for at, left in ((512, "primary"), (1024, "primary"), (8 * MIB - 512, "backup")):
        data = bytearray(good)
        data[at + 17] ^= 1
        path.write_bytes(data)
        with opened(path) as (name, source):
            table = read_table(source)
            compare(table, name)
        assert table.partitions == whole.partitions
        assert (table.primary_ok, table.backup_ok) == (left != "primary", left != "backup")
        assert len(table.warnings) == 1
    path.write_bytes(good + bytes(MIB))
    with opened(path) as (name, source):
        table = read_table(source)
        compare(table, name)
    assert table.backup_ok
    assert table.warnings == ("The backup GPT header is not at the end of the disk.",)


def test_a_disk_of_four_terabytes() -> None:
    """Reading costs the table, not the disk: far under 2 s of CPU and a few pieces of bytes."""
    size = 4 << 40
    entries = {n: (n << 20, (n << 20) + 5000) for n in range(1, 129)}
    source = SparseSource(size, gpt_pieces(size, entries))
    table = read_table(source)
    assert len(table.partitions) == 128
    assert all(part.doubt is None for part in table.partitions)
    assert source.bytes_read < 1 << 18


MAKERS = {
    "mkfs.fat": ["mkfs.fat", "-F", "16"],
    "mkfs.fat -F 32": ["mkfs.fat", "-F", "32"],
    "mkfs.fat -F 12": ["mkfs.fat", "-F", "12", "-s", "128", "-S", "2048"],
    "mkfs.exfat": ["mkfs.exfat"],
    "mkfs.ntfs": ["mkfs.ntfs", "-QF"],
    "mkfs.ext4": ["mkfs.ext4", "-qF"],
    "mkfs.xfs": ["mkfs.xfs", "-qf"],
    "mkfs.btrfs": ["mkfs.btrfs", "-qf"],
    "mkswap": ["mkswap"],
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_volume_without_a_table(tmp_path: Path, name: str) -> None:
    require_programs(MAKERS[name][0])
    path = tmp_path / "d"
    with open(path, "wb") as file:
        file.truncate(320 * MIB)
    made = subprocess.run([*MAKERS[name], str(path)], check=False, capture_output=True)
    assert made.returncode == 0, made.stderr
    with opened(path) as (_, source):
        table = read_table(source)
    assert (table.scheme, table.doubt, table.partitions) == ("none", None, ())
    assert table.may_be_volume
