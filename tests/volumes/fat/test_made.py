"""FAT volumes that real programs made and aged, compared with ``fsck.fat``, ``blkid``,
``partclone.fat`` and a plain decoder; then all that is free is wiped, and nothing may be lost.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.fat import PARSER
from aipimage.volumes.model import Allocation, FileSystem
from tests.support.surveyed import (
    Mask,
    blkid_says,
    digests,
    partclone_used,
    surveyed_file,
    used_of,
    wipe_free,
    write_files,
)
from tests.support.tools import require_programs, run

# Bytes of the volume, and options of mkfs.fat.
FORMATS = {
    "floppy-360k": (360 << 10, ["-F", "12"]),
    "floppy-1440k": (1440 << 10, []),
    "fat12-one-table": (4 << 20, ["-F", "12", "-f", "1"]),
    "fat12-4-tables": (4 << 20, ["-F", "12", "-f", "4", "-r", "112"]),
    "fat12-4084": ((4084 + 1 + 24 + 7) * 512, ["-a", "-F", "12", "-s", "1", "-r", "112"]),
    "fat12-64k": (64 << 20, ["-F", "12", "-s", "128"]),
    "fat12-sector-1024": (8 << 20, ["-F", "12", "-S", "1024", "-s", "8"]),
    "fat12-sector-4096": (16 << 20, ["-F", "12", "-S", "4096", "-s", "4"]),
    "fat16": (16 << 20, ["-F", "16"]),
    "fat16-512": (8 << 20, ["-F", "16", "-s", "1", "-n", "A LABEL"]),
    "fat16-largest-count": (33_000 << 10, ["-F", "16", "-s", "1", "-a"]),
    "fat16-3-tables": (12 << 20, ["-F", "16", "-f", "3", "-s", "2", "-R", "17"]),
    "fat16-root-2048": (24 << 20, ["-F", "16", "-r", "2048", "-M", "0xF0"]),
    "fat16-sector-2048": (24 << 20, ["-F", "16", "-S", "2048", "-s", "1"]),
    "fat16-sector-4096": (40 << 20, ["-F", "16", "-S", "4096", "-s", "1"]),
    "fat16-32k": (150 << 20, ["-F", "16", "-s", "64"]),
    "fat32": (40 << 20, ["-F", "32"]),
    "fat32-512": (36 << 20, ["-F", "32", "-s", "1", "-n", "MiXed"]),
    "fat32-one-table": (36 << 20, ["-F", "32", "-f", "1", "-s", "1"]),
    "fat32-backup-2": (36 << 20, ["-F", "32", "-b", "2", "-R", "4", "-s", "1"]),
    "fat32-no-backup": (36 << 20, ["-F", "32", "-b", "0", "-s", "1"]),
    "fat32-4096": (300 << 20, ["-F", "32", "-s", "8", "-R", "900"]),
    "fat32-sector-1024": (70 << 20, ["-F", "32", "-S", "1024", "-s", "1"]),
    "fat32-sector-4096": (290 << 20, ["-F", "32", "-S", "4096", "-s", "1", "-i", "00a1000b"]),
    "fat32-mbr": (36 << 20, ["-F", "32", "--mbr=y", "-s", "1"]),
    "fat32-rest": ((36 << 20) + 7 * 512, ["-F", "32", "-s", "1", "-a"]),
}


@pytest.fixture(autouse=True)
def _programs() -> None:
    require_programs("mkfs.fat", "fsck.fat", "mcopy", "mdel", "blkid", "partclone.fat")


def mtool(name: str, volume: Path, *words: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run one of mtools on a volume in a file."""
    given = ["-o", "-Q", "-s"] if name == "mcopy" else []
    return run([name, *given, "-i", volume, *words], codes=codes)


def formatted(path: Path, size: int, options: list[str]) -> Path:
    """Make a volume with ``mkfs.fat``."""
    with open(path, "wb") as file:
        file.truncate(size)
    run(["mkfs.fat", *options, path])
    return path


def plain_used(path: Path, allocation: Allocation, kind: str) -> Mask:
    """The first table decoded entry by entry."""
    free = allocation.free
    assert isinstance(free, ClusterMap)
    bits = int(kind.removeprefix("fat"))
    with open(path, "rb") as file:
        boot = file.read(512)
        file.seek(int.from_bytes(boot[14:16], "little") * int.from_bytes(boot[11:13], "little"))
        table = file.read((free.count + 2) * bits // 8 + 1)
    used = np.zeros(free.count, np.bool_)
    for number in range(2, free.count + 2):
        if bits == 12:
            pair = table[number * 3 // 2] + (table[number * 3 // 2 + 1] << 8)
            value = pair >> 4 if number & 1 else pair & 0xFFF
        else:
            at = number * bits // 8
            value = int.from_bytes(table[at : at + bits // 8], "little") & 0x0FFFFFFF
        used[number - 2] = value != 0
    return used


def compare(path: Path, cut: bool = False) -> tuple[FileSystem, Allocation]:
    """Compare a volume with what the programs say of it; counts as one volume.

    Args:
        cut: a program ended in the midst of a file, so that there are clusters of no file.
    """
    filesystem, allocation = surveyed_file(PARSER, path)
    known = blkid_says(path)
    used = used_of(allocation)
    # To blkid a FAT12 has at most 4,083 clusters, for fatgen103 and the drivers 4,084.
    assert filesystem.kind == ("fat12" if len(used) == 4084 else known["VERSION"].lower())
    assert filesystem.uuid == known.get("UUID", "")
    assert filesystem.label == known.get("LABEL", "")
    assert not allocation.notes
    assert (used == plain_used(path, allocation, filesystem.kind)).all()
    check_fsck(path, filesystem, allocation, used, cut)
    return filesystem, allocation


def check_fsck(
    path: Path, filesystem: FileSystem, allocation: Allocation, used: Mask, cut: bool
) -> None:
    """Compare with ``fsck.fat``, which counts the clusters of files."""
    # It ends with 1 where a volume has no backup of its boot sector, which is allowed.
    text = run(["fsck.fat", "-v", "-n", path], codes=(0, 1))
    if "only 1 or 2 FATs are supported" in text:
        return
    said = re.search(r"files, (\d+)/(\d+) clusters", text)
    start = re.search(r"Data area starts at byte (\d+)", text)
    size = re.search(r"(\d+) bytes per cluster", text)
    assert said, text
    assert start
    assert size
    assert int(said[2]) == len(used)
    assert int(said[1]) <= used.sum() if cut else int(said[1]) == used.sum()
    assert isinstance(allocation.free, ClusterMap)
    assert allocation.free.base == int(start[1])
    assert filesystem.cluster_size == allocation.free.cluster_size == int(size[1])


def fill(volume: Path, scratch: Path, rng: random.Random, rounds: int, room: int) -> None:
    """Create and delete: each round makes files of all sizes and deletes a part of them; rounds
    that are two behind go altogether. At most ``room`` bytes and 110 files are there at a time.
    """
    for number in range(rounds):
        new, most = scratch / f"r{number}", max(2, room // 60)
        write_files(new, rng, "a", 12, most)
        write_files(new / "sub", rng, "long name of a file ", 25, most // 4 + 1)
        mtool("mcopy", volume, new, "::/")
        digit = rng.randrange(10)
        mtool("mdel", volume, f"::/r{number}/*{digit}.bin")
        for path in new.glob(f"*{digit}.bin"):
            path.unlink()
        if number > 1:
            mtool("mdeltree", volume, f"::/r{number - 2}")
            shutil.rmtree(scratch / f"r{number - 2}")


def fill_up(volume: Path, scratch: Path, rng: random.Random, room: int, cluster: int) -> None:
    """Copy files until nothing more fits, large ones and then small ones."""
    for name, length in (("large", room // 20), ("small", cluster)):
        (scratch / name).mkdir(parents=True)
        for number in range(30 if name == "large" else room // 20 // cluster + 5):
            (scratch / name / f"{name}{number}").write_bytes(rng.randbytes(length))
        mtool("mcopy", volume, scratch / name, "::/", codes=(1,))


def aged(path: Path, tmp_path: Path, seed: int, rounds: int) -> Allocation:
    """Compare a volume when it is new, full, filled, and aged twice; then wipe what is free and
    look again.
    """
    rng = random.Random(seed)
    filesystem, new = compare(path)
    content = tmp_path / "content"
    if new.free.total < 5 << 20:
        full = Path(shutil.copy(path, tmp_path / "full.img"))
        fill_up(full, tmp_path / "full", rng, new.free.total, filesystem.cluster_size)
        assert compare(full, cut=True)[1].free.total < filesystem.cluster_size * 4
    room = min(new.free.total - 120 * filesystem.cluster_size, 8 << 20)
    allocation = new
    for again in range(3):
        fill(path, content, rng, 2 + again * rounds, room)
        allocation = compare(path)[1]
        if again < 2:
            shutil.rmtree(content)
            mtool("mdeltree", path, "::/*")
            compare(path)
    check_wiped(path, content, allocation)
    return allocation


def check_wiped(path: Path, content: Path, allocation: Allocation) -> None:
    """All that is free may be overwritten."""
    wipe_free(path, allocation)
    run(["fsck.fat", "-n", path], codes=(0, 1))
    back = content.with_name("back")
    back.mkdir()
    mtool("mcopy", path, "::/*", back)
    assert digests(back) == digests(content)
    assert len(digests(back)) > 20


@pytest.mark.parametrize("name", FORMATS)
def test_volumes_of_mkfs_fat(name: str, tmp_path: Path) -> None:
    size, options = FORMATS[name]
    path = formatted(tmp_path / "v.img", size, options)
    allocation = aged(path, tmp_path, len(name), 3)
    assert isinstance(allocation.free, ClusterMap)
    filesystem = surveyed_file(PARSER, path)[0]
    if name == "fat12-4084":
        assert allocation.free.count == 4084
    if filesystem.kind != "fat12":
        # Of FAT12 it reads each entry as one of 16 bits.
        with open(path, "rb") as file:
            sector = int.from_bytes(file.read(13)[11:], "little")
        used = filesystem.size - allocation.free.total
        assert partclone_used("partclone.fat", path) * sector == used


@pytest.mark.parametrize("sectors", [600, 5000, 40_000, 66_000])
@pytest.mark.parametrize("sector", [512, 4096])
def test_new_fat32_of_few_clusters(sectors: int, sector: int, tmp_path: Path) -> None:
    """What fatgen103 would call FAT16 by its count; no driver does, and mtools refuse it."""
    compare(formatted(tmp_path / "v.img", sectors * sector, ["-F32", "-S", str(sector), "-s1"]))


@pytest.mark.parametrize(
    "options",
    [
        ["-f", "1440"],
        ["-f", "2880"],
        ["-T", "20000", "-c", "4"],
        ["-T", "9000", "-c", "1", "-d", "1"],
        ["-T", "80000", "-F", "-c", "1"],
        ["-T", "40000", "-c", "2", "-r", "16", "-v", "OTHER"],
    ],
)
def test_volumes_of_mformat(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "v.img"
    run(["mformat", "-C", "-h", "2", "-s", "18", "-i", path, *options, "::"])
    aged(path, tmp_path, len(options), 2)


def test_clusters_marked_as_bad_are_kept(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("".join(f"{block}\n" for block in (7000, 7001, 9000)))
    path = formatted(tmp_path / "v.img", 16 << 20, ["-F", "16", "-s", "1", "-l", str(bad)])
    filesystem, allocation = surveyed_file(PARSER, path)
    text = run(["fsck.fat", "-v", "-n", path])
    used = used_of(allocation)
    assert used.sum() == 6
    assert re.search(r"files, 6/", text)
    assert (used == plain_used(path, allocation, filesystem.kind)).all()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", FORMATS)
def test_long_aged_volumes(name: str, seed: int, tmp_path: Path) -> None:
    size, options = FORMATS[name]
    aged(formatted(tmp_path / "v.img", size, options), tmp_path, 1000 + seed, 20)
