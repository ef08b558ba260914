"""The limit does the same work as the library: the sizes and digests of both agree."""

from __future__ import annotations

import shutil
from pathlib import Path

import blake3
import climit
import numpy as np
import pytest
from conftest import CLUSTER, content

import aipimage

PIECE_DTYPE = np.dtype(
    [
        ("offset", "u8"), ("length", "u8"), ("runs", "u8"), ("first", "u8"), ("frames", "u8"),
        ("extents", "u8", (1024, 2)), ("digests", "V32", 64), ("has_data", "u1", 64),
    ]
)  # fmt: skip
FRAME_DTYPE = np.dtype(
    [
        ("offset", "u8"), ("stored", "u8"), ("plain", "u8"), ("piece", "u8"), ("inside", "u8"),
        ("digest", "V32"),
    ]
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/zstd.h").exists() or shutil.which("cc") is None,
    reason="needs a C compiler and the headers of libzstd",
)


@pytest.fixture(scope="module")
def disk_and_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A disk that ends inside a block, with a hole, and what the limit made of it."""
    folder = tmp_path_factory.mktemp("limit")
    path = folder / "disk.raw"
    path.write_bytes(content(3 << 20, 5) + bytes(2 << 20) + content(CLUSTER * 7, 6))
    climit.create(str(path), str(folder / "store"), threads=2)
    return path, folder / "store"


def test_sizes_are_those_of_an_image(disk_and_store: tuple[Path, Path], tmp_path: Path) -> None:
    disk, store = disk_and_store
    facts = np.fromfile(f"{store}.index", np.uint64, 5).tolist()
    aipimage.create(tmp_path / "disk.aiv", disk, compress="zstd:1")
    with aipimage.open(tmp_path / "disk.aiv") as image:
        frames = image.tables[0]
        entries = np.concatenate([frames.leaf(leaf) for leaf in range(frames.leaf_count())])
        packed = image.devices[0].entry.data * 512
    assert facts[3:] == [len(entries), packed]
    rows = np.fromfile(f"{store}.index", FRAME_DTYPE, offset=40 + facts[2] * PIECE_DTYPE.itemsize)
    assert sorted(rows["plain"].tolist()) == sorted(entries["plain_length"].tolist())
    stored = int(rows["stored"].sum())
    assert stored == store.stat().st_size
    ours = int(entries["record_length"].sum())
    # Headers, extents and checks are not in the store, and two versions of zstd may differ.
    assert 0.98 * stored < ours < 1.02 * stored + len(entries) * 56 + packed // CLUSTER * 12


def test_digests_are_those_of_blake3(disk_and_store: tuple[Path, Path]) -> None:
    disk, store = disk_and_store
    data, kept = disk.read_bytes(), store.read_bytes()
    pieces, count = np.fromfile(f"{store}.index", np.uint64, 5).tolist()[2:4]
    rows = np.fromfile(f"{store}.index", PIECE_DTYPE, pieces, offset=40)
    for piece in rows:
        part = data[int(piece["offset"]) : int(piece["offset"]) + int(piece["length"])]
        for block in range(-(-len(part) // 65536)):
            content_of = part[block * 65536 :][:65536].ljust(65536, b"\0")
            expected = blake3.blake3(content_of).digest() if any(content_of) else bytes(32)
            assert piece["digests"][block].tobytes() == expected
    start = 40 + pieces * PIECE_DTYPE.itemsize
    for frame in np.fromfile(f"{store}.index", FRAME_DTYPE, count, offset=start):
        stored = kept[int(frame["offset"]) :][: int(frame["stored"])]
        assert frame["digest"].tobytes() == blake3.blake3(stored).digest()


def test_what_is_stored_comes_back(disk_and_store: tuple[Path, Path], tmp_path: Path) -> None:
    disk, store = disk_and_store
    found = climit.run("restore", store, tmp_path / "out.raw", 2)
    assert (tmp_path / "out.raw").read_bytes() == disk.read_bytes()
    assert found["bad"] == 0


def test_changes_are_found(disk_and_store: tuple[Path, Path], tmp_path: Path) -> None:
    disk, store = disk_and_store
    for stage in ("verify", "keyless"):
        found = climit.run(stage, store, 1)
        assert (found["bad"], found["differing"]) == (0, 0)
    assert climit.run("compare", disk, store, 2)["differing"] == 0
    changed = bytearray(disk.read_bytes())
    changed[70_000] ^= 1
    changed[-1] ^= 1
    (tmp_path / "changed.raw").write_bytes(changed)
    assert climit.run("compare", tmp_path / "changed.raw", store, 2)["differing"] == 2
    kept = bytearray(store.read_bytes())
    kept[100] ^= 1
    shutil.copy(f"{store}.index", tmp_path / "store.index")
    (tmp_path / "store").write_bytes(kept)
    assert climit.run("keyless", tmp_path / "store", 1)["bad"] == 1
