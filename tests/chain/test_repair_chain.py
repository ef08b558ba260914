"""Repairing images of a chain: increments, their parents, and merged images."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.format.constants import RecordType
from aipimage.io.increment.create import create_image
from tests.chain.damaged import check, disk, header_of, options, parts_of, repaired

SIZE = 3 << 20


def changed(content: bytes, seed: int) -> bytes:
    """Some clusters written, some of them zeroed."""
    rng = np.random.default_rng(seed)
    found = bytearray(content)
    for cluster in rng.choice(len(content) // 4096, 40, replace=False).tolist():
        data = bytes(4096) if rng.random() < 0.4 else rng.bytes(4096)
        found[cluster * 4096 : cluster * 4096 + 4096] = data
    return bytes(found)


@pytest.fixture
def chain(tmp_path: Path) -> list[bytes]:
    """A full image and two increments in a directory; the contents of the disk."""
    contents = [disk(SIZE, 1, 0.4)]
    contents += [changed(contents[0], 2)]
    contents += [changed(contents[1], 3)]
    directory = tmp_path / "chain"
    directory.mkdir()
    for number, content in enumerate(contents):
        (tmp_path / "disk.raw").write_bytes(content)
        parent = {"parent": directory / f"{number - 1}.aiv"} if number else {}
        create_image(
            directory / f"{number}.aiv", [tmp_path / "disk.raw"], options("zstd", **parent)
        )
    return contents


def move_in(tmp_path: Path, number: int) -> None:
    """Put the repaired image in the place of the old one."""
    (tmp_path / "out.aiv").replace(tmp_path / "chain" / f"{number}.aiv")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_whole_and_in_its_place(chain: list[bytes], number: int, tmp_path: Path) -> None:
    """Children of a repaired image go on working."""
    directory = tmp_path / "chain"
    data = (directory / f"{number}.aiv").read_bytes()
    (directory / f"{number}.aiv").unlink()
    result = repaired(tmp_path, data, search=[directory])
    assert result.ok
    move_in(tmp_path, number)
    for each, content in enumerate(chain):
        with aipimage.open(directory / f"{each}.aiv") as image:
            assert image.devices[0].open().readall() == content
            assert image.verify().ok


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged(chain: list[bytes], number: int, tmp_path: Path) -> None:
    """Each structure hit, each cut: the right bytes or an error, whatever is lost."""
    directory = tmp_path / "chain"
    path = directory / f"{number}.aiv"
    data = path.read_bytes()
    path.unlink()
    chance = random.Random(number)
    parts = [part for part in parts_of(data, "zstd") if part.kind]
    for part in chance.sample(parts, min(len(parts), 25)):
        damaged = bytearray(data)
        damaged[chance.randrange(part.start, part.end)] ^= 1
        for broken in (bytes(damaged), data[: part.end], bytes(damaged[:-200])):
            if len(broken) < parts[0].end:
                continue
            result = repaired(tmp_path, broken, search=[directory])
            (tmp_path / "out.aiv").replace(path)
            check(result.__class__(**_moved(result, path)), [chain[number]])
            if part.kind != RecordType.FRAME and len(broken) == len(data):
                assert result.lost_bytes <= 1 << 20
            path.unlink()


def _moved(result: aipimage.RepairResult, path: Path) -> dict[str, object]:
    values = {name: getattr(result, name) for name in result.__slots__}
    return values | {"path": str(path)}


def test_without_the_parent(chain: list[bytes], tmp_path: Path) -> None:
    """With its seal an increment needs none; else what only the parent has is lost, and the result
    names the parent.
    """
    data = (tmp_path / "chain" / "1.aiv").read_bytes()
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    assert repaired(tmp_path, data, search=[nothing]).ok
    seal = next(part for part in parts_of(data, "zstd") if part.kind == RecordType.SEAL)
    assert repaired(tmp_path, data[: seal.start], search=[tmp_path / "chain"]).ok
    # Pages of the map tell of other files by themselves.
    assert repaired(tmp_path, data[: seal.start], search=[nothing]).ok
    page = next(part for part in parts_of(data, "zstd") if part.kind == RecordType.MAP)
    result = repaired(tmp_path, data[: page.start], search=[nothing])
    assert 0 < result.lost_bytes < SIZE
    assert any("parent" in each for each in result.warnings)
    with aipimage.open(result.path) as image:
        assert image.kind == "incremental"


def unchanged(directory: Path, tmp_path: Path, number: int) -> Path:
    """An increment of a disk that did not change: its map lies in the full image alone."""
    path = directory / f"{number}.aiv"
    path.unlink(missing_ok=True)
    (tmp_path / "disk.raw").write_bytes(disk(SIZE, 1, 0.4))
    parent = directory / f"{number - 1}.aiv"
    create_image(path, [tmp_path / "disk.raw"], options("zstd", parent=parent))
    return path


@pytest.mark.parametrize("number", [1, 2])
def test_the_image_that_is_missing_is_named(
    chain: list[bytes], number: int, tmp_path: Path
) -> None:
    """Also where it is not the parent of the damaged image, but an image below that."""
    directory = tmp_path / "chain"
    for each in range(1, number + 1):
        path = unchanged(directory, tmp_path, each)
    data = path.read_bytes()
    with aipimage.open(directory / "0.aiv") as image:
        full = image.image_id
    (directory / "0.aiv").unlink()
    path.unlink()
    result = repaired(tmp_path, data, search=[directory])
    assert result.lost_bytes == SIZE
    (warning,) = [each for each in result.warnings if "other images of its chain" in each]
    assert f"its parent, image {full} (full, number 0 of its chain), is missing" in warning
    assert "pass their directories" in warning


def test_a_page_of_another_image_is_read_from_the_file_that_has_it_whole(
    chain: list[bytes], tmp_path: Path
) -> None:
    """The full image is there twice, and one of the copies is damaged."""
    directory, other = tmp_path / "chain", tmp_path / "other"
    data = unchanged(directory, tmp_path, 1).read_bytes()
    (directory / "1.aiv").unlink()
    full = bytearray((directory / "0.aiv").read_bytes())
    other.mkdir()
    (other / "0.aiv").write_bytes(full)
    for part in parts_of(bytes(full), "zstd"):
        if part.kind == RecordType.MAP:
            full[(part.start + part.end) // 2] ^= 1
    (directory / "0.aiv").write_bytes(full)
    result = repaired(tmp_path, data, search=[directory, other])
    assert not result.lost_bytes


def test_merged(chain: list[bytes], tmp_path: Path) -> None:
    """A merged image: holes, and without its end."""
    images = [tmp_path / "chain" / f"{number}.aiv" for number in range(3)]
    aipimage.merge(tmp_path / "merged.aiv", images)
    data = (tmp_path / "merged.aiv").read_bytes()
    chance = random.Random(1)
    result = repaired(tmp_path, data)
    check(result, [chain[2]])
    assert result.ok
    low = header_of(data).records_start
    for length in (len(data), len(data) - 1, len(data) - 600):
        for _ in range(6):
            damaged = bytearray(data[:length])
            at = chance.randrange(low, len(data) - 3000)
            damaged[at : at + 1000] = bytes(1000)
            result = repaired(tmp_path, bytes(damaged))
            check(result, [chain[2]])
