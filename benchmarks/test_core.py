"""The C core, function by function: its plain variant, its best one, and numpy over the same bytes.

The groups are named after the function. Where numpy has one call for the same, that call stands
beside ours as the limit that a caller without the core would have.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLUSTER, SIZE
from pytest_benchmark.fixture import BenchmarkFixture

from aipimage import _core

BITS = SIZE * 8


def _bitmap() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Sixteen runs of ones, as an allocation bitmap has them."""
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap.reshape(32, -1)[::2] = 255
    return bitmap


@pytest.mark.benchmark(group="is_zero, zeros")
def test_is_zero(benchmark: BenchmarkFixture, variant: str) -> None:
    zeros = np.full(SIZE, 0, np.uint8)
    assert benchmark(_core.is_zero, zeros)


@pytest.mark.benchmark(group="is_zero, zeros")
def test_is_zero_numpy(benchmark: BenchmarkFixture) -> None:
    zeros = np.full(SIZE // 8, 0, np.uint64)
    assert not benchmark(zeros.any)


@pytest.mark.benchmark(group="nonzero_extents, mixed")
def test_nonzero_extents(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    assert len(benchmark(_core.nonzero_extents, batch, CLUSTER))


@pytest.mark.benchmark(group="nonzero_extents, mixed")
def test_nonzero_extents_numpy(benchmark: BenchmarkFixture, batch: bytes) -> None:
    words = np.frombuffer(batch, np.uint64).reshape(-1, CLUSTER // 8)
    assert len(benchmark(lambda: np.flatnonzero(np.diff(words.any(axis=1)))))


@pytest.mark.benchmark(group="compare_blocks, equal")
def test_compare_blocks(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    other = bytearray(batch)
    assert not benchmark(_core.compare_blocks, batch, other, CLUSTER).any()


@pytest.mark.benchmark(group="compare_blocks, equal")
def test_compare_blocks_numpy(benchmark: BenchmarkFixture, batch: bytes) -> None:
    one = np.frombuffer(batch, np.uint64).reshape(-1, CLUSTER // 8)
    other = one.copy()
    assert not benchmark(lambda: (one != other).any(axis=1)).any()


@pytest.mark.benchmark(group="bitmap_and")
def test_bitmap_and(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    assert benchmark(_core.bitmap_and, batch, _bitmap(), BITS).any()


@pytest.mark.benchmark(group="bitmap_count")
def test_bitmap_count(benchmark: BenchmarkFixture, variant: str) -> None:
    assert benchmark(_core.bitmap_count, _bitmap(), BITS) == BITS // 2


@pytest.mark.benchmark(group="bitmap_count")
def test_bitmap_count_numpy(benchmark: BenchmarkFixture) -> None:
    words = _bitmap().view(np.uint64)
    assert benchmark(lambda: int(np.bitwise_count(words).sum())) == BITS // 2


@pytest.mark.benchmark(group="bitmap_to_extents, 16 runs")
def test_bitmap_to_extents(benchmark: BenchmarkFixture, variant: str) -> None:
    assert len(benchmark(_core.bitmap_to_extents, _bitmap(), BITS)) == 16


@pytest.mark.benchmark(group="extents_to_bitmap, 16 runs")
def test_extents_to_bitmap(benchmark: BenchmarkFixture, variant: str) -> None:
    runs = _core.bitmap_to_extents(_bitmap(), BITS)
    assert benchmark(_core.extents_to_bitmap, runs, BITS).any()


def _half() -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Every second cluster."""
    starts = np.arange(0, SIZE, 2 * CLUSTER, dtype=np.uint64)
    return np.stack([starts, np.full_like(starts, CLUSTER)], axis=1)


@pytest.mark.benchmark(group="pack, every second cluster")
def test_pack(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    target = np.full(SIZE, 1, np.uint8)
    benchmark(_core.pack, batch, _half(), target)


@pytest.mark.benchmark(group="pack, every second cluster")
def test_pack_numpy(benchmark: BenchmarkFixture, batch: bytes) -> None:
    rows = np.frombuffer(batch, np.uint8).reshape(-1, 2, CLUSTER)
    target = np.full((len(rows), CLUSTER), 1, np.uint8)
    benchmark(np.copyto, target, rows[:, 0])


@pytest.mark.benchmark(group="unpack, every second cluster")
def test_unpack(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    target = np.full(SIZE, 1, np.uint8)
    benchmark(_core.unpack, batch, _half(), target)


@pytest.mark.benchmark(group="a call on 512 bytes")
@pytest.mark.parametrize("function", ["is_zero", "nonzero_extents", "bitmap_to_extents", "pack"])
def test_tiny(benchmark: BenchmarkFixture, function: str) -> None:
    """What the wrapper costs, since the work is nothing."""
    data, target = bytes(512), bytearray(512)
    whole = np.array([[0, 512]], np.uint64)
    calls = {
        "is_zero": lambda: _core.is_zero(data),
        "nonzero_extents": lambda: _core.nonzero_extents(data, 512),
        "bitmap_to_extents": lambda: _core.bitmap_to_extents(data, 4096),
        "pack": lambda: _core.pack(data, whole, target),
    }
    benchmark(calls[function])
