"""FAT and exFAT volumes that nobody here made, where they lie beside the checkout."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems import exfat, fat
from aipimage.volumes.model import Allocation, FileSystem, Parser, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support import SAMPLES
from tests.support.sources import SparseSource
from tests.support.surveyed import blkid_says, check_ranges
from tests.support.tools import require_programs, run

_OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
_MOST = 128 << 20
_BOOT_SIGNATURE = b"\x55\xaa"
# Those that are taken whole, by what the reason says; all others have a map.
WHOLE = {
    "exfat_br.bin": "bytes, and it has",
    "fat12_bs.bin": "bytes, and it has",
    "fat16_edge.bin": "bytes, and it has",
    "fat32_bs.bin": "bytes, and it has",
    "fat32_bs_dirty.bin": "bytes, and it has",
    "fat16_noheads.img.xz": "bytes, and it has",
    "fat64.raw.gz": "zero for sectors",
    # Its boot code is overwritten.
    "win_exfat_7.raw.gz": "checksum of its boot region",
    "bad_bitmap_size": "bitmap is 142 bytes long where its volume needs 158",
    "bad_root": "chain of clusters leads to",
}
# The programs repair the damaged ones first, or count only what files own. In unused-dentries
# dump.exfat takes the third entry of the root directory for the bitmap, and in exfat.img.xz it
# counts a bit behind the last cluster; fsck.exfat and partclone.exfat agree with the map of both.
NOT_COMPARED = {
    "fat32_loop.raw.gz",
    "bad_first_clu",
    "duplicated_name",
    "loop_chain",
    "unused-dentries",
    "exfat.img.xz",
    # They were not unmounted, and what any table or directory names is kept.
    "fat_dir.raw.gz",
    "de_bad_csum",
}


def contents() -> Iterator[tuple[str, bytes]]:
    """Name and content of every sample that is not too large."""
    if not (SAMPLES / "MANIFEST.tsv").exists():
        return
    with open(SAMPLES / "MANIFEST.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        path = SAMPLES / row["repo"] / row["path"]
        size = int(row["raw_bytes"]) if row["raw_bytes"].isdigit() else 0
        if not 0 < size <= _MOST or not path.exists():
            continue
        if ".tar" in path.name:
            with tarfile.open(path) as archive:
                files = [archive.extractfile(member) for member in archive if member.isfile()]
                yield from ((path.parent.name, file.read()) for file in files if file)
        else:
            with _OPENERS.get(path.suffix, open)(path, "rb") as file:
                yield path.name, file.read()


def volumes(data: bytes) -> Iterator[bytes]:
    """A sample, and what its partition table names."""
    yield data
    if data[510:512] != _BOOT_SIGNATURE or data[:1] in (b"\xeb", b"\xe9"):
        return
    for at in range(446, 510, 16):
        start, size = (int.from_bytes(data[at + n : at + n + 4], "little") * 512 for n in (8, 12))
        if 0 < start < len(data) and data[at + 4]:
            yield data[start : start + size]


def free_of(path: Path, kind: str) -> int:
    """Free clusters by the programs."""
    if kind == "exfat":
        found = re.search(r"Free Clusters:\s+(\d+)", run(["dump.exfat", path]))
        assert found
        return int(found[1])
    found = re.search(r"files, (\d+)/(\d+) clusters", run(["fsck.fat", "-vn", path], codes=(0, 1)))
    assert found
    return int(found[2]) - int(found[1])


def surveyed_or_whole(path: Path, parser: Parser) -> tuple[FileSystem, Allocation | str] | None:
    """What a parser makes of a file: a map, or the reason why it is taken whole."""
    assert parser.allocation is not None
    source = open_source(path)
    try:
        view = VolumeView(source, 0, source.size)
        filesystem = parser.probe(view)
        if filesystem is None:
            return None
        try:
            return filesystem, parser.allocation(view, filesystem, SurveyOptions())
        except LayoutError as error:
            return filesystem, str(error)
    finally:
        source.close()


def compare(path: Path, name: str, filesystem: FileSystem, allocation: Allocation) -> None:
    """Compare a map with what the programs say."""
    check_ranges(allocation, path.stat().st_size)
    assert filesystem.uuid == blkid_says(path).get("UUID", ""), name
    assert isinstance(allocation.free, ClusterMap)
    if name not in NOT_COMPARED:
        assert allocation.free.free_clusters == free_of(path, filesystem.kind), name


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_every_sample_has_a_map_or_a_reason(tmp_path: Path) -> None:
    require_programs("fsck.fat", "dump.exfat", "blkid")
    path, maps, whole = tmp_path / "volume", 0, set()
    for name, data in contents():
        for volume in volumes(data):
            memory = SparseSource(len(volume), {0: volume})
            view = VolumeView(memory, 0, memory.size)
            if fat.PARSER.probe(view) is None and exfat.PARSER.probe(view) is None:
                continue
            path.write_bytes(volume)
            for parser in (fat.PARSER, exfat.PARSER):
                filesystem, found = surveyed_or_whole(path, parser) or (None, "")
                if filesystem is None:
                    continue
                assert isinstance(found, str) == (name in WHOLE), (name, found)
                if isinstance(found, str):
                    assert WHOLE[name] in found
                    whole.add(name)
                else:
                    compare(path, name, filesystem, found)
                    maps += 1
    assert whole == set(WHOLE)
    assert maps >= 45
