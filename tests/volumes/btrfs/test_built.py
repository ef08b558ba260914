"""Btrfs: volumes made by hand, right and wrong ones, checksums, samples."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aipimage.volumes.filesystems.btrfs import PARSER
from aipimage.volumes.filesystems.btrfs.checksums import KINDS, all_match
from aipimage.volumes.view import LayoutError, VolumeView
from tests.fuzz import mutate
from tests.support import SAMPLES
from tests.volumes.btrfs import judge as truth
from tests.volumes.btrfs.built import MIB, SECTOR, SIZE, Pieces, Volume
from tests.volumes.btrfs.fuzz import fuzz_btrfs, seeds
from tests.volumes.btrfs.surveyed import survey


def expected(volume: Volume) -> truth.Bools:
    """What is in use of a volume, sector by sector, from what the builder was told."""
    used = np.zeros(SIZE // SECTOR, np.bool_)
    for start, length in ((0, MIB), (64 * MIB, 65536)):
        used[start // SECTOR : (start + length) // SECTOR] = True
    for address, length in volume.used():
        chunk = volume.chunk_of(address)
        for place in chunk.places:
            low = (place + address - chunk.start) // SECTOR
            used[low : low + length // SECTOR] = True
    return used


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_class_45_each_bit_of_a_bitmap_is_its_own_sector(groups: bool, free: bool) -> None:
    """The map of a volume made by hand, where logical and physical addresses differ everywhere, and
    where the free space tree has extents and bitmaps."""
    volume = Volume(groups, free)
    found = truth.used_by_parser(survey(volume.source()), SIZE)
    assert (found == expected(volume)).all()


def test_class_45_a_bitmap_with_its_bits_turned_around_is_no_bitmap() -> None:
    volume = Volume()
    items = volume.nodes["free"].items
    volume.nodes["free"].items = [
        (key, bytes(int(f"{byte:08b}"[::-1], 2) for byte in body) if key[1] == 200 else body)
        for key, body in items
    ]
    with pytest.raises(LayoutError, match="free space tree and its extent tree disagree"):
        survey(volume.source())


def test_probe_tells_label_uuid_and_size() -> None:
    source = Volume().source()
    found = PARSER.probe(VolumeView(source, 0, SIZE))
    assert found is not None
    assert (found.kind, found.label, found.size, found.cluster_size) == (
        "btrfs",
        "built",
        SIZE,
        SECTOR,
    )
    assert found.uuid.replace("-", "") == hashlib.md5(b"fs").hexdigest()


def test_probe_of_something_else() -> None:
    assert PARSER.probe(VolumeView(Pieces({}), 0, SIZE)) is None
    assert PARSER.probe(VolumeView(Pieces({}), 0, 65536)) is None
    nonsense = Pieces({65536: bytes(64) + b"_BHRfS_M" + b"\xff" * 4024})
    found = PARSER.probe(VolumeView(nonsense, 0, SIZE))
    assert found is not None
    assert (found.size, found.cluster_size) == (SIZE, 0)
    with pytest.raises(LayoutError, match="unknown kind of checksum"):
        survey(nonsense)


def test_class_48_old_flags_large_space_behind_and_data_without_a_free_space_tree_are_legal() -> (
    None
):
    """All known features at once; a free space tree that is not valid is not compared."""
    volume = Volume(free_space_tree=True)
    volume.superblock = {
        "incompat_flags": 0x10FFF & ~(1 << 12) & ~(1 << 10),
        "compat_ro_flags": 0b0101,
    }
    volume.nodes["free"].items = []
    source = volume.source()
    source.size = SIZE + 12_345
    assert (truth.used_by_parser(survey(source), SIZE) == expected(volume)).all()


def test_a_parser_reads_no_more_than_it_declares() -> None:
    """What is read beside the superblock needs no other allowance than the parser's own."""
    survey(Volume().source(), budget=4096)


def test_checksums_are_those_of_their_definitions() -> None:
    """CRC-32C: RFC 3720, appendix B.4; XXH64: what its reference program prints."""
    zeros = np.zeros((1, 64), np.uint8)
    assert KINDS[0](zeros).tobytes().hex() == "aa36918a"
    counted = np.arange(-32, 64).astype(np.uint8).reshape(1, -1)
    assert KINDS[1](counted).tobytes()[::-1].hex() == "f7c67301db6713f0"
    blocks = np.random.default_rng(1).integers(0, 256, (3, 4096), np.uint8)
    for row, one, other in zip(blocks, KINDS[2](blocks), KINDS[3](blocks), strict=True):
        assert one.tobytes() == hashlib.sha256(row[32:].tobytes()).digest()
        assert other.tobytes() == hashlib.blake2b(row[32:].tobytes(), digest_size=32).digest()
    for kind, digests in KINDS.items():
        found = digests(blocks)
        sealed_rows = blocks.copy()
        sealed_rows[:, : found.shape[1]] = found
        assert all_match(kind, sealed_rows)
        sealed_rows[2, 77] ^= 1
        assert not all_match(kind, sealed_rows)


def test_mutated_volumes_never_crash() -> None:
    for at, data in enumerate(mutate.mutants(seeds(), 7)):
        fuzz_btrfs(data)
        if at >= 150:
            break


def _samples() -> list[Path]:
    wanted = [line.split("\t") for line in (SAMPLES / "MANIFEST.tsv").read_text().splitlines()]
    return [SAMPLES / row[0] / row[1] for row in wanted if "btrfs" in row[0] and len(row) > 1] + [
        SAMPLES / "util-linux/tests/ts/blkid/images-fs/btrfs.img.xz"
    ]


OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


TWO, DAMAGED = "one of 2 devices", "a block group says"


WHOLE = {"btrfs-raid1-1": TWO, "btrfs-raid1-2": TWO, "no_extent": DAMAGED}


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_samples_have_the_map_that_the_tools_see(tmp_path: Path) -> None:
    """Those that are not whole for a reason; what is no volume at all is not found."""
    maps = 0
    for sample in _samples():
        opener = OPENERS.get(sample.suffix)
        if opener is None or not sample.is_file():
            continue
        volume = tmp_path / "sample"
        with opener(sample) as source, volume.open("wb") as target:
            while piece := source.read(1 << 16):
                # Volumes are mostly zeros, which need not be written.
                target.write(piece) if piece.strip(b"\0") else target.seek(len(piece), 1)
            target.truncate()
        with volume.open("rb") as file:
            file.seek(0x10040)
            if file.read(8) != b"_BHRfS_M":
                continue
        reason = WHOLE.get(sample.name.split(".")[0])
        if reason is not None:
            with pytest.raises(LayoutError, match=reason):
                truth.survey(volume)
            continue
        found, allocation = truth.survey(volume)
        maps += 1
        if shutil.which("btrfs"):
            wanted = truth.used_by_tools(volume)
            assert (truth.used_by_parser(allocation, found.size) == wanted).all(), sample
    assert maps == 6
