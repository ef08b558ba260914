"""Whole calls of the library on 64 MiB: batches in and out, opening, and reads of 4 KiB."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import aipimage

READ = 4096


@pytest.mark.benchmark(group="create from 64 MiB")
@pytest.mark.parametrize("compress", ["none", "zstd:1"])
def test_create(benchmark: BenchmarkFixture, disk: Path, tmp_path: Path, compress: str) -> None:
    numbers = itertools.count()
    benchmark(lambda: aipimage.create(tmp_path / f"{next(numbers)}.aiv", disk, compress=compress))


@pytest.mark.benchmark(group="restore 64 MiB")
def test_restore(
    benchmark: BenchmarkFixture, image_path: tuple[Path, str | None], tmp_path: Path
) -> None:
    numbers = itertools.count()
    with aipimage.open(*image_path) as image:
        benchmark(lambda: image.restore(tmp_path / f"{next(numbers)}.raw"))


@pytest.mark.benchmark(group="verify 64 MiB")
def test_verify(benchmark: BenchmarkFixture, image_path: tuple[Path, str | None]) -> None:
    with aipimage.open(*image_path) as image:
        assert benchmark(image.verify).ok


@pytest.mark.benchmark(group="verify 64 MiB")
def test_verify_keyless(benchmark: BenchmarkFixture, image_path: tuple[Path, str | None]) -> None:
    assert benchmark(aipimage.verify_keyless, image_path[0]).ok


@pytest.mark.benchmark(group="read 4 KiB")
@pytest.mark.parametrize("where", ["hit", "miss"])
def test_read(benchmark: BenchmarkFixture, image_path: tuple[Path, str | None], where: str) -> None:
    """A hit finds its frame in the cache; for a miss the cache is too small to keep any."""
    cache = 128 << 20 if where == "hit" else 0
    with aipimage.open(*image_path, cache_bytes=cache) as image:
        device = image.devices[0]
        places = random.Random(61).sample(range(0, device.size, READ), 1000)
        buffer, turns = bytearray(READ), itertools.cycle(places)
        for place in places:
            device.read_into(memoryview(buffer), place)
        benchmark(lambda: device.read_into(memoryview(buffer), next(turns)))


@pytest.mark.benchmark(group="read 4 KiB")
def test_read_raw(benchmark: BenchmarkFixture, disk: Path) -> None:
    """The limit: the raw file, whose content is in the page cache."""
    with disk.open("rb", buffering=0) as file:
        places = random.Random(61).sample(range(0, 64 << 20, READ), 1000)
        turns = itertools.cycle(places)

        def run() -> None:
            file.seek(next(turns))
            file.read(READ)

        benchmark(run)
