"""NTFS volumes over their life, compared with ntfsclone after each step."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import pytest

from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.boot import decode_geometry
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.view import VolumeView
from tests.support.tools import PATH
from tests.volumes.ntfs.aged import STEPS, age
from tests.volumes.ntfs.judge import compare, partclone_used, surveyed, used_of
from tests.volumes.ntfs.made import MIB, make, require_ntfs

LIVES = {
    "4 KiB clusters": (
        (24 * MIB, "-C"),
        ["create", "many", "delete", "sparse", "compress", "fragment", "fill", "thin", "grow_mft"],
    ),
    "sectors and records of 4 KiB": (
        (20 * MIB, "-s", "4096"),
        ["many", "delete", "sparse", "fragment", "create", "fill", "thin", "grow_mft"],
    ),
    "512-byte clusters": (
        (6 * MIB, "-c", "512"),
        ["create", "fragment", "delete", "sparse", "compress", "fill", "thin", "grow_mft"],
    ),
    "64 KiB clusters": (
        (48 * MIB, "-c", "65536"),
        ["create", "many", "delete", "fragment", "fill", "thin", "grow_mft"],
    ),
    "2 MiB clusters": ((40 * MIB, "-c", str(2 * MIB)), ["many", "delete", "fill", "thin"]),
}


@pytest.mark.parametrize("name", LIVES)
def test_a_life(tmp_path: Path, name: str) -> None:
    require_ntfs()
    (size, *options), steps = LIVES[name]
    volume = make(tmp_path / "volume", size, *options)
    for number, step in enumerate(steps):
        age(volume, tmp_path / "mount", step, number)
        compare(volume, tmp_path)
    if shutil.which("partclone.ntfs", path=PATH):
        used = used_of(surveyed(volume)[1])
        assert partclone_used(volume, tmp_path) == int(used.sum())


def test_an_mft_whose_run_list_goes_on_in_other_records(tmp_path: Path) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", 12 * MIB, "-c", "1024")
    steps = ["fill", "thin", "crumble", "thin", "crumble", "thin", "crumble"]
    for number, step in enumerate(steps):
        age(volume, tmp_path / "mount", step, number)
        compare(volume, tmp_path)
    source = BinaryFileSource(io.BytesIO(volume.read_bytes()))
    mft = Mft(VolumeView(source, 0, source.size), decode_geometry(volume.read_bytes()[:512]))
    assert mft.base_record(layout.MFT).all_of(layout.ATTRIBUTE_LIST)
    assert len(mft.data.runs) > 200


@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_random_lives(tmp_path: Path, seed: int) -> None:
    require_ntfs()
    chance = random.Random(seed)
    options = chance.choice([[], ["-c", "512"], ["-c", "2048", "-C"], ["-s", "4096"]])
    volume = make(tmp_path / "volume", chance.randrange(4, 40) * MIB, *options)
    for number in range(12):
        age(volume, tmp_path / "mount", chance.choice(list(STEPS)), seed * 100 + number)
        compare(volume, tmp_path)
