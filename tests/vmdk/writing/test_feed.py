"""What the feed reads: batches, zeros, devices of images with all kinds of extents."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import aipimage
from aipimage import IntegrityError, Kind, SourceError
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import DEFAULT
from aipimage.vmdk import feed as feeding
from aipimage.vmdk.feed import BATCH_BYTES, FeedBatch, GrainFeed, Grains
from tests.support.sources import SparseSource
from tests.vmdk.writing.made import (
    GRAIN,
    disk,
    grains_of,
    grains_of_stream,
    raw_file,
    small_batches,
    write,
)


def read_all(source: object, start: int = 0) -> tuple[dict[int, bytes], int]:
    """All grains that the feed brings, and the bytes that were unreadable."""
    feed = GrainFeed(source)  # type: ignore[arg-type]
    found: dict[int, bytes] = {}

    def work(batch: FeedBatch) -> Grains:
        return feed.load(batch, memoryview(bytearray(b"\xaa" * BATCH_BYTES)))

    bad = feed.unreadable
    with ThreadPoolExecutor(2) as pool:
        for grains in feed.run(work, pool, 3, start):
            assert all(number < grains.end for number in grains.numbers.tolist())
            for number, row in zip(grains.numbers.tolist(), grains.rows.tolist(), strict=True):
                assert number > max(found, default=-1)
                found[number] = bytes(grains.data[row * GRAIN : (row + 1) * GRAIN])
            bad += grains.unreadable
    return found, bad


def scattered(seed: int = 3) -> SparseSource:
    """Small pieces anywhere, some next to each other, some across the ends of grains."""
    chance = random.Random(seed)
    pieces: dict[int, bytes] = {}
    at = 0
    while at < 700 * GRAIN:
        data = chance.randbytes(chance.choice([512, 4096, 70_000, 512 * 300]))
        pieces[at] = data
        at += len(data) + 512 * chance.choice([0, 1, 7, 200, 3000])
    return SparseSource(-(-at // 512) * 512 + 1024, pieces)


@pytest.mark.parametrize("window", [1, 2, 64])
def test_every_grain_that_is_not_zeros(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch, window)
    source = scattered()
    assert read_all(source) == (grains_of(source), 0)


def test_zeros_that_a_source_calls_data_are_left_out() -> None:
    assert list(read_all(disk("zz.tz"))[0]) == [3]


@pytest.mark.parametrize("start", [1, 2, 63, 64, 65, 400])
def test_from_a_grain_on(start: int) -> None:
    source = scattered()
    expected = {number: data for number, data in grains_of(source).items() if number >= start}
    assert read_all(source, start)[0] == expected


def test_batches_are_bounded() -> None:
    """Whatever the source calls data, a batch fits its buffer and begins and ends where it says."""

    class Every(SparseSource):
        def data_ranges(self, start: int, end: int):  # type: ignore[no-untyped-def]
            return iter([(at, 512) for at in range(start, end, 3 * GRAIN)])

    for source in (Every(3000 * GRAIN, {}), disk("t" * 200), scattered()):
        batches = list(GrainFeed(source).batches())
        assert all(batch.total * GRAIN <= BATCH_BYTES for batch in batches)
        assert all(batch.total == sum(count for _, count in batch.spans) for batch in batches)
        spans = [span for batch in batches for span in batch.spans]
        assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(spans))
        assert all(batch.end == sum(batch.spans[-1]) for batch in batches)


def test_bad_sectors_are_zeros_and_counted() -> None:
    source = disk("tttt")
    source.bad = ((GRAIN + 512, 1024), (3 * GRAIN, 512))
    found, bad = read_all(source)
    assert bad == 1536
    assert found == grains_of(source)


def test_a_source_that_shrinks(tmp_path: Path) -> None:
    path = raw_file(disk("t" * 200), tmp_path / "s.raw")
    source = open_source(path)
    with path.open("r+b") as file:
        file.truncate(100 * GRAIN)
    with pytest.raises(SourceError, match="shrank"):
        write(tmp_path / "d.vmdk", source)
    source.close()
    assert [each.name for each in tmp_path.iterdir()] == ["s.raw"]


# Devices of images


@pytest.mark.parametrize("window", [1, 64])
def test_a_device_brings_what_its_source_did(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scattered(9)
    aipimage.create(tmp_path / "i.aiv", [source])
    small_batches(monkeypatch, window)
    with aipimage.open(tmp_path / "i.aiv") as image:
        assert read_all(image.devices[0]) == (grains_of(source), 0)
        expected = {number: data for number, data in grains_of(source).items() if number >= 131}
        assert read_all(image.devices[0], 131)[0] == expected


def test_an_increment_and_its_parent_give_the_same_stream(tmp_path: Path) -> None:
    """A member of a chain, encrypted, is read through the whole chain."""
    source = scattered(4)
    aipimage.create(tmp_path / "1.aiv", [source], encrypt="aes-128", password="secret")
    source.pieces[5 * GRAIN + 512] = b"new" * 1000
    source = SparseSource(source.size, {0: b"first" * 40_000, 300 * GRAIN: b"x" * 512})
    aipimage.create(
        tmp_path / "2.aiv",
        [source],
        password="secret",
        encrypt="aes-128",
        parent=tmp_path / "1.aiv",
    )
    with aipimage.open(tmp_path / "2.aiv", "secret") as image:
        write(tmp_path / "d.vmdk", image.devices[0], subformat="streamOptimized")
    assert grains_of_stream((tmp_path / "d.vmdk").read_bytes()) == grains_of(source)


def test_unreadable_sectors_of_an_image(tmp_path: Path) -> None:
    """They are zeros on the disk, counted, and told; hostile-inputs class 55."""
    source = disk("tttt", ".", "t")
    source.bad = ((GRAIN + 4096, 8192), (2 * GRAIN, GRAIN))
    aipimage.create(tmp_path / "i.aiv", [source])
    with aipimage.open(tmp_path / "i.aiv") as image:
        lost = image.devices[0].bytes_of(Kind.UNREADABLE)
        result = write(tmp_path / "d.vmdk", image.devices[0], subformat="streamOptimized")
    assert result.unreadable == lost == 8192 + GRAIN
    assert any("144 sectors of the source could not be read" in text for text in result.warnings)
    assert grains_of_stream((tmp_path / "d.vmdk").read_bytes()) == grains_of(source)


def lost_image(folder: Path) -> Path:
    """A repaired image of which something was lost."""
    aipimage.create(folder / "whole.aiv", [disk("r" * 100)])
    data = (folder / "whole.aiv").read_bytes()
    (folder / "cut.aiv").write_bytes(data[: len(data) // 2])
    aipimage.repair(folder / "cut.aiv", folder / "repaired.aiv")
    return folder / "repaired.aiv"


@pytest.mark.parametrize("subformat", ["streamOptimized", "monolithicFlat"])
def test_lost_data_is_never_zeros(subformat: str, tmp_path: Path) -> None:
    """An error before anything is written."""
    with aipimage.open(lost_image(tmp_path)) as image:
        assert image.devices[0].bytes_of(Kind.LOST) > 0
        before = sorted(tmp_path.iterdir())
        with pytest.raises(IntegrityError, match="were lost to damage"):
            write(tmp_path / "d.vmdk", image.devices[0], subformat=subformat)
    assert sorted(tmp_path.iterdir()) == before


def test_lost_data_that_the_seal_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even then: the map is asked too."""
    with aipimage.open(lost_image(tmp_path)) as image:
        monkeypatch.setattr(feeding, "_refuse_lost", lambda device, name: None)
        with pytest.raises(IntegrityError, match="was lost"):
            write(tmp_path / "d.vmdk", image.devices[0])
    assert not list(tmp_path.glob("d.vmdk*"))


def test_damage_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    aipimage.create(tmp_path / "i.aiv", [disk("r" * 100)])
    data = bytearray((tmp_path / "i.aiv").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "i.aiv").write_bytes(data)
    with aipimage.open(tmp_path / "i.aiv") as image, pytest.raises(IntegrityError):
        write(tmp_path / "d.vmdk", image.devices[0], storage=DEFAULT)
    assert [each.name for each in tmp_path.iterdir()] == ["i.aiv"]
