"""NTFS volumes as mkntfs makes them, over its options, and as ntfs-3g leaves them behind."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.view import LayoutError
from tests.support.tools import run
from tests.volumes.ntfs.aged import age
from tests.volumes.ntfs.judge import compare, ntfsclone_used, surveyed, used_of
from tests.volumes.ntfs.made import MIB, make, ntfs_3g, require_ntfs

CLUSTERS = [512 << power for power in range(13)]
MADE = [
    *[(24 * MIB + 4096, ["-c", str(size)]) for size in CLUSTERS],
    *[(8 * MIB, ["-c", str(size), "-C"]) for size in CLUSTERS[:5]],
    *[(20 * MIB, ["-s", str(size)]) for size in (512, 1024, 2048, 4096)],
    *[(33 * MIB, ["-s", "4096", "-c", str(size)]) for size in (4096, 65_536, 2 * MIB)],
    *[(size, []) for size in (MIB + 512, 3 * MIB + 1536, 10 * MIB + 512, 16 * MIB - 512)],
    *[(size, ["-c", "512"]) for size in (2100 * 512, 5001 * 512, 4097 * 512, 32_771 * 512)],
    (300 * MIB, ["-z", "4"]),
    (8 * MIB, ["-I", "-L", "Ärger & Co"]),
    (8 * MIB, ["-p", "2048", "-H", "16", "-S", "63"]),
    (1 << 40, ["-c", "65536"]),
]


@pytest.mark.parametrize(("size", "options"), MADE, ids=[f"{s}{''.join(o)}" for s, o in MADE])
def test_a_made_volume(tmp_path: Path, size: int, options: list[str]) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", size, *options)
    if size < 1 << 40:
        compare(volume, tmp_path)
        age(volume, tmp_path / "mount", "create")
    compare(volume, tmp_path)


@pytest.mark.parametrize("label", ["", "plain", "Новый том", "emoji \U0001f4be", "trailing  "])
def test_label_and_serial_are_those_of_blkid(tmp_path: Path, label: str) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", 4 * MIB, "-L", label)
    found, _ = surveyed(volume)
    for tag, value in (("LABEL", found.label), ("UUID", found.uuid), ("TYPE", found.kind)):
        told = run(["blkid", "-p", "-o", "value", "-s", tag, volume], codes=(0, 2))
        assert told.rstrip("\n") == value


def test_a_volume_in_a_larger_partition(tmp_path: Path) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", 8 * MIB)
    wanted = ntfsclone_used(volume, tmp_path)
    os.truncate(volume, 9 * MIB)
    found, allocation = surveyed(volume)
    assert found.size == 8 * MIB
    assert (used_of(allocation) == wanted).all()
    last = list(allocation.free.ranges(0, 9 * MIB))[-1][-1]
    assert int(last.sum()) <= found.size - found.cluster_size


def test_a_resized_volume(tmp_path: Path) -> None:
    """ntfsresize marks what it changed as dirty, for chkdsk to look at."""
    require_ntfs()
    volume = make(tmp_path / "volume", 16 * MIB)
    age(volume, tmp_path / "mount", "create")
    run(["ntfsresize", "--force", "--force", "--no-progress-bar", "-s", "12M", volume])
    run(["ntfsfix", "--clear-dirty", volume])
    found, allocation = surveyed(volume)
    assert found.size <= 12_000_000
    assert (used_of(allocation) == ntfsclone_used(volume, tmp_path)).all()


def test_a_compressed_root_and_a_sparse_hibernation_file(tmp_path: Path) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", 8 * MIB, "-C")
    with ntfs_3g(volume, tmp_path / "mount") as at:
        os.setxattr(at, "system.ntfs_attrib_be", (0x0810).to_bytes(4, "big"))
        with open(at / "hiberfil.sys", "wb") as file:
            file.truncate(MIB)
        for number in range(200):
            (at / f"a file in the root {number}").write_bytes(b"x" * 900)
    compare(volume, tmp_path)


def test_hibernation_and_paging_files_as_ntfs_3g_writes_them(tmp_path: Path) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", 16 * MIB)
    with ntfs_3g(volume, tmp_path / "mount") as at:
        (at / "PageFile.sys").write_bytes(b"p" * MIB)
        (at / "hiberfil.sys").write_bytes(b"RSTR" + b"h" * MIB)
        (at / "pagefile.sys.txt").write_bytes(b"k" * MIB)
    used = used_of(compare(volume, tmp_path))
    _, allocation = surveyed(volume, leave_out_paging=True)
    assert set(allocation.left_out) == {"pagefile.sys", "hiberfil.sys"}
    gone = np.flatnonzero(used & ~used_of(allocation))
    # The first 64 KiB of hiberfil.sys tell whether Windows is hibernated: they stay.
    assert len(gone) == 256 + 257 - 16
    data = np.frombuffer(volume.read_bytes(), np.uint8).reshape(-1, 4096)[gone]
    assert set(np.unique(data[:, 100]).tolist()) <= {*b"ph\0"}
    assert not any(row[:4].tobytes() == b"RSTR" for row in data)
    with ntfs_3g(volume, tmp_path / "mount") as at, open(at / "hiberfil.sys", "r+b") as file:
        file.write(b"hibr")
    with pytest.raises(LayoutError, match="Windows is hibernated"):
        surveyed(volume, leave_out_paging=True)
