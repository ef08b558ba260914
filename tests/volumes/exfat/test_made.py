"""exFAT volumes that real programs made and aged, compared with ``dump.exfat``, ``fsck.exfat``,
``blkid``, ``partclone.exfat`` and a plain decoder; then all that is free is wiped, and nothing may
be lost.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.exfat import PARSER
from aipimage.volumes.model import Allocation, FileSystem
from tests.support import loop_device, require
from tests.support.surveyed import (
    blkid_says,
    digests,
    partclone_used,
    surveyed_file,
    used_of,
    wipe_free,
    write_files,
)
from tests.support.tools import require_programs, run

# Bytes of the volume, bytes of a sector, and options of mkfs.exfat.
FORMATS = {
    "default": (32 << 20, 512, ["-L", "A Label"]),
    "cluster-512": (12 << 20, 512, ["-c", "512"]),
    "cluster-1k": (24 << 20, 512, ["-c", "1K"]),
    "cluster-2k": (16 << 20, 512, ["-c", "2K", "-b", "64K"]),
    "cluster-8k": (64 << 20, 512, ["-c", "8K", "-L", "elevenlong1"]),
    "cluster-32k": (100 << 20, 512, ["-c", "32K", "--pack-bitmap"]),
    "cluster-128k": (260 << 20, 512, ["-c", "128K"]),
    "cluster-1m": (300 << 20, 512, ["-c", "1M", "-b", "4M"]),
    "aligned": (70 << 20, 512, ["-c", "16K", "-b", "16M"]),
    "packed": (40 << 20, 512, ["-c", "4K", "--pack-bitmap", "-b", "1M"]),
    "small": (3 << 20, 512, ["-c", "4K", "-b", "4K"]),
    "rest": ((33 << 20) + 512 * 5, 512, ["-c", "4K", "-b", "1K"]),
    "sector-4096": (64 << 20, 4096, ["-c", "4K"]),
    "sector-4096-64k": (128 << 20, 4096, ["-c", "64K", "-L", "four"]),
    "sector-1024": (32 << 20, 1024, ["-c", "2K"]),
    "sector-2048": (48 << 20, 2048, ["-c", "16K"]),
}


@pytest.fixture(autouse=True)
def _programs() -> None:
    require_programs(
        "mkfs.exfat", "dump.exfat", "fsck.exfat", "mount.exfat-fuse", "partclone.exfat", "blkid"
    )
    require(os.path.exists("/dev/fuse"), "/dev/fuse")


@contextmanager
def fuse_mounted(volume: Path, sector: int) -> Iterator[Path]:
    """Mount a volume by exfat-fuse, and unmount it afterwards."""
    at = volume.with_suffix(".mnt")
    at.mkdir(exist_ok=True)
    with loop_device(volume, "--sector-size", str(sector)) as device:
        run(["mount.exfat-fuse", device, at])
        try:
            yield at
        finally:
            run(["umount", at])


def formatted(path: Path, size: int, sector: int, options: list[str]) -> Path:
    """Make a volume with ``mkfs.exfat``."""
    with open(path, "wb") as file:
        file.truncate(size)
    with loop_device(path, "--sector-size", str(sector)) as device:
        run(["mkfs.exfat", *options, device])
    return path


def programs_say(path: Path, sector: int) -> tuple[int, int, int]:
    """Clusters, free clusters and bytes of a cluster by ``dump.exfat``, once ``fsck.exfat`` has
    compared the bitmap with all directories.
    """
    with loop_device(path, "--sector-size", str(sector)) as device:
        assert "clean" in run(["fsck.exfat", "-n", device])
        text = run(["dump.exfat", device])
    numbers = []
    for name in ("Total Clusters", "Free Clusters", "Cluster size"):
        found = re.search(rf"{name}:\s+(\d+)", text)
        assert found, text
        numbers.append(int(found[1]))
    return numbers[0], numbers[1], numbers[2]


def plain_free(path: Path, sector: int) -> int:
    """The bits of the bitmap, counted one by one; the bitmap lies at cluster 2, in one piece."""
    with open(path, "rb") as file:
        boot = file.read(512)
        file.seek(int.from_bytes(boot[88:92], "little") * sector)
        count = int.from_bytes(boot[92:96], "little")
        bits = int.from_bytes(file.read(-(-count // 8)), "little")
    return sum(not bits >> at & 1 for at in range(count)) if count < 100_000 else -1


def compare(path: Path, sector: int) -> tuple[FileSystem, Allocation]:
    """Compare a volume with what the programs say of it; counts as one volume."""
    filesystem, allocation = surveyed_file(PARSER, path)
    known = blkid_says(path)
    assert (filesystem.kind, filesystem.uuid) == ("exfat", known["UUID"])
    assert filesystem.label == known.get("LABEL", "")
    assert not allocation.notes
    free = allocation.free
    assert isinstance(free, ClusterMap)
    counts = free.count, free.free_clusters, free.cluster_size
    assert counts == programs_say(path, sector)
    assert filesystem.cluster_size == free.cluster_size
    assert (~used_of(allocation)).sum() == free.free_clusters == plain_free(path, sector)
    return filesystem, allocation


def fill(at: Path, twin: Path, rng: random.Random, rounds: int, room: int) -> None:
    """Create and delete, in a mounted volume and a twin of its content in another folder."""
    for number in range(rounds):
        name, most = f"r{number}", max(2, room // 60)
        write_files(twin / name, rng, "a", 12, most)
        write_files(twin / name / "sub", rng, "a long name of a file, über " * 3, 25, most // 4 + 1)
        shutil.copytree(twin / name, at / name, copy_function=shutil.copyfile)
        for path in (twin / name).rglob(f"*{rng.randrange(10)}.bin"):
            path.unlink()
            (at / path.relative_to(twin)).unlink()
        for path in (twin / name).glob("*0.bin"):
            with open(at / path.relative_to(twin), "ab") as file, open(path, "ab") as other:
                more = rng.randbytes(most // 2)
                file.write(more)
                other.write(more)
        if number > 1:
            for folder in (at, twin):
                shutil.rmtree(folder / f"r{number - 2}")


def aged(path: Path, sector: int, tmp_path: Path, seed: int, rounds: int) -> Allocation:
    """Compare a volume when it is new, filled, emptied and aged; then wipe what is free and look
    again.
    """
    rng = random.Random(seed)
    filesystem, new = compare(path, sector)
    content = tmp_path / "content"
    room = max(60, min(new.free.total - 150 * filesystem.cluster_size, 6 << 20))
    allocation = new
    for again in range(2):
        with fuse_mounted(path, sector) as at:
            fill(at, content, rng, 2 + again * rounds, room)
        allocation = compare(path, sector)[1]
        if not again:
            with fuse_mounted(path, sector) as at:
                for folder in [*at.iterdir(), *content.iterdir()]:
                    shutil.rmtree(folder)
            compare(path, sector)
    check_wiped(path, sector, content, allocation)
    return allocation


def check_wiped(path: Path, sector: int, content: Path, allocation: Allocation) -> None:
    """All that is free may be overwritten."""
    wipe_free(path, allocation)
    programs_say(path, sector)
    with fuse_mounted(path, sector) as at:
        assert digests(at) == digests(content)
        assert len(digests(at)) > 20


@pytest.mark.parametrize("name", FORMATS)
def test_volumes_of_mkfs_exfat(name: str, tmp_path: Path) -> None:
    size, sector, options = FORMATS[name]
    path = formatted(tmp_path / "v.img", size, sector, options)
    allocation = aged(path, sector, tmp_path, len(name), 3)
    if sector == 512:
        filesystem = surveyed_file(PARSER, path)[0]
        more = partclone_used("partclone.exfat", path) * sector
        more -= filesystem.size - allocation.free.total
        # It does not look at the last two clusters, as if the bits began with cluster 0.
        assert more in range(0, 2 * filesystem.cluster_size + 1, filesystem.cluster_size)


@pytest.mark.parametrize("cluster", ["2M", "8M", "32M"])
def test_large_clusters(cluster: str, tmp_path: Path) -> None:
    path = formatted(tmp_path / "v.img", 20 << 30, 512, ["-c", cluster, "-b", "32M"])
    before = compare(path, 512)[1]
    with fuse_mounted(path, 512) as at:
        (at / "folder").mkdir()
        (at / "file").write_bytes(b"content")
    filesystem, after = compare(path, 512)
    assert after.free.total == before.free.total - 2 * filesystem.cluster_size


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", FORMATS)
def test_long_aged_volumes(name: str, seed: int, tmp_path: Path) -> None:
    size, sector, options = FORMATS[name]
    path = formatted(tmp_path / "v.img", size, sector, options)
    aged(path, sector, tmp_path, 1000 + seed, 20)
