"""The map of XFS volumes as mkfs.xfs makes them, of all its options, against its tools."""

from __future__ import annotations

import csv
import lzma
import random
import re
import struct
import time
from pathlib import Path

import pytest

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.xfs import PARSER
from aipimage.volumes.model import FileSystem
from aipimage.volumes.view import VolumeView
from tests.support import SAMPLES
from tests.support.soon import SOON
from tests.support.tools import require_programs, run
from tests.volumes.xfs.judge import MIB, agree, free_runs, look, make, reason

GIB, TIB = 1 << 30, 1 << 40

LEGAL = [
    (16 * MIB, ""),
    (16 * MIB + 8192, "-m rmapbt=1"),
    (30 * MIB + 512 * 3, "-L twelve-bytes"),
    (64 * MIB, "-d agcount=3 -m rmapbt=1"),
    (160 * MIB, "-d agcount=8 -m finobt=0"),
    (40 * MIB, "-b size=1k -i size=512 -m inobtcount=0"),
    (64 * MIB, "-i nrext64=1,size=2048"),
    (64 * MIB, "-m bigtime=0,uuid=f00dfeed-0000-4000-8000-0000deadbeef"),
    (64 * MIB, "-l agnum=2"),
    (64 * MIB, "-b size=8k -d agcount=2"),
    (300 * MIB, "-b size=32k -s size=32k"),
    (300 * MIB, "-b size=64k -s size=32k -n size=64k"),
    (300 * MIB, "-l su=256k"),
    (64 * MIB, "-l sunit=64 -d sunit=128,swidth=512"),
    (300 * MIB + 12_288, "-d agcount=7"),
    (64 * MIB, "-m crc=0"),
    (64 * MIB, "-m crc=0 -b size=512"),
    (64 * MIB, "-m crc=0 -b size=512 -i size=256,attr=1 -n ftype=1"),
    (64 * MIB, "-m crc=0 -l version=1"),
    (64 * MIB, "-m crc=0 -l version=1,lazy-count=0"),
    (64 * MIB, "-m crc=0 -l lazy-count=0,su=16k -i projid32bit=0"),
    (64 * MIB, "-m crc=0 -s size=4096 -d agcount=3"),
    (300 * MIB, "-m crc=0 -b size=64k"),
    (24 * MIB, "-m crc=0 -n version=ci"),
]


def _tree(at: Path, count: int, most: int) -> Path:
    """A prototype for mkfs.xfs: a folder of files of up to ``most`` bytes."""
    chance = random.Random(count)
    (at / "content").mkdir(exist_ok=True)
    lines = ["/dev/null", "0 0", "d--755 0 0"]
    for number in range(count):
        file = at / "content" / str(number)
        file.write_bytes(bytes(chance.randint(1, most)))
        lines.append(f"file{number} ---644 0 0 {file}")
    path = at / "prototype"
    path.write_text("\n".join([*lines, "$", ""]))
    return path


@pytest.mark.parametrize(("size", "options"), LEGAL, ids=str)
def test_class_48_all_that_mkfs_makes(tmp_path: Path, size: int, options: str) -> None:
    """Empty, and with files in it."""
    volume = make(tmp_path / "volume", size, *options.split())
    _, empty = agree(volume)
    make(volume, size, *options.split(), "-p", _tree(tmp_path, 40, 90_000))
    _, allocation = agree(volume)
    assert allocation.free.total < empty.free.total - 40 * 4096


@pytest.mark.parametrize(
    "options", ["-m crc=0", "-m crc=0 -l lazy-count=0", "-m crc=0 -b size=512 -l version=1"]
)
def test_class_48_version_4_in_pieces(tmp_path: Path, options: str) -> None:
    """Kernels no longer mount version 4, so that xfs_repair makes its free space: it finds the
    inodes of every second file destroyed, and frees their blocks.
    """
    prototype = _tree(tmp_path, 900, 500)
    volume = make(
        tmp_path / "volume", 24 * MIB, *options.split(), "-d", "agcount=1", "-p", prototype
    )
    _, before = agree(volume)
    data = volume.read_bytes()
    (inode_size,) = struct.unpack_from(">H", data, 104)
    places = [found.start() for found in re.finditer(rb"IN\x81\xa4", data)]
    files = [place for place in places if place % inode_size == 0]
    assert len(files) == 900
    with open(volume, "r+b") as file:
        for place in files[::2]:
            file.seek(place)
            file.write(bytes(inode_size))
    run(["xfs_repair", "-f", "-o", "force_geometry", volume])
    filesystem, allocation = agree(volume)
    assert allocation.free.total > before.free.total
    assert len(free_runs(allocation, filesystem)) > 300


def test_an_external_log_cannot_be_looked_at(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        file.truncate(32 * MIB)
    volume = make(tmp_path / "volume", 64 * MIB, "-l", f"logdev={tmp_path / 'log'},size=16m")
    assert reason(volume) == "its log lies on another device"
    assert _probed(tmp_path / "log") is None


def _probed(path: Path) -> FileSystem | None:
    source = open_source(path)
    found = PARSER.probe(VolumeView(source, 0, source.size))
    source.close()
    return found


def test_a_realtime_section_lies_elsewhere(tmp_path: Path) -> None:
    with open(tmp_path / "realtime", "wb") as file:
        file.truncate(64 * MIB)
    volume = make(tmp_path / "volume", 64 * MIB, "-r", f"rtdev={tmp_path / 'realtime'}")
    _, allocation = agree(volume, checked=False)
    assert "realtime" in allocation.notes[0]


def test_a_new_uuid_leaves_the_old_one_in_the_structures(tmp_path: Path) -> None:
    volume = make(tmp_path / "volume", 64 * MIB)
    run(["xfs_db", "-x", "-c", "uuid 01234567-89ab-cdef-0123-456789abcdef", volume])
    filesystem, _ = agree(volume)
    assert filesystem.uuid == "01234567-89ab-cdef-0123-456789abcdef"


def test_partclone_counts_the_same(tmp_path: Path) -> None:
    """It takes what is on free lists for free: at most a few blocks of each group."""
    require_programs("partclone.xfs")
    volume = make(tmp_path / "volume", 64 * MIB, "-p", _tree(tmp_path, 50, 50_000))
    filesystem, allocation = agree(volume)
    text = run(
        ["partclone.xfs", "-c", "-s", volume, "-o", tmp_path / "clone", "-L", tmp_path / "log"]
    )
    used = int(re.findall(r"Space in use:.*= (\d+) Blocks", text)[-1])
    ours = (filesystem.size - allocation.free.total) // filesystem.cluster_size
    assert used <= ours <= used + 4 * 12


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (4 * TIB, ""),
        (16 * TIB - 4096, ""),
        (64 * GIB, "-d agsize=64m"),
        pytest.param(4 * TIB, "-d agsize=256m", marks=pytest.mark.long),
    ],
)
def test_large_volumes_take_little_time(tmp_path: Path, size: int, options: str) -> None:
    """A few groups of the largest size, and many small ones, as growing leaves them."""
    options += " -l size=32m"
    volume = make(tmp_path / "volume", size, *options.split())
    start = time.process_time()
    filesystem, allocation = look(volume)
    assert time.process_time() - start < SOON
    assert size - MIB < filesystem.size <= size
    assert allocation.free.total > size * 98 // 100
    volume.unlink()


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_samples(tmp_path: Path) -> None:
    """Every sample that is of this kind, and all others, which are not."""
    with open(SAMPLES / "MANIFEST.tsv", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if "xfs" in row["path"]]
    assert len(rows) >= 3
    for row in rows:
        sample = tmp_path / "sample"
        sample.write_bytes(lzma.decompress((SAMPLES / row["repo"] / row["path"]).read_bytes()))
        if "log" in row["path"]:
            assert _probed(sample) is None
        elif "v5" in row["path"]:
            agree(sample)
        else:
            # Of 2002, with inodes that today's xfs_db refuses to look at.
            filesystem, allocation = look(sample)
            assert (filesystem.label, filesystem.size) == ("test-xfs", 16 * MIB)
            assert filesystem.uuid == "8c8a0a5a-9f57-492e-9610-45a61f38f58a"
            assert allocation.free.total == 2884 * 4096
