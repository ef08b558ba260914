"""Work on many frames with one call of the core: building, checking, opening, scanning, comparing;
each beside its plain variant, and beside the same a frame at a time where that was the way.
"""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLUSTER, SIZE
from pytest_benchmark.fixture import BenchmarkFixture

from aipimage import _core
from aipimage.format.digest import block_digest, digest
from aipimage.format.tables import FRAME_ENTRY_DTYPE
from aipimage.io.records import codec, zstdcalls

FRAME = 64 << 10
COUNT = SIZE // FRAME
ORIGIN = bytes(range(16))
RUNS = [(0, SIZE // 512)]


def _built(batch: bytes, level: int | None = 1) -> tuple[memoryview, np.ndarray]:
    """The records of a batch and their entries."""
    functions = _core.NO_CODEC
    if level is not None:
        functions = zstdcalls.compressor((level, False), codec._parameters(level, False))
    entries = np.zeros(COUNT, FRAME_ENTRY_DTYPE)
    out = memoryview(bytearray(2 * SIZE))
    used = _core.build_frames(
        functions, batch, FRAME, True, (RUNS, 0), (ORIGIN, 0), 0, out, entries
    )
    return out[:used], entries


@pytest.mark.benchmark(group="build 64 frames, level 1")
def test_build_frames(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    assert len(benchmark(_built, batch)[0]) < SIZE


@pytest.mark.benchmark(group="build 64 frames, stored")
def test_build_stored_frames(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    assert len(benchmark(_built, batch, None)[0]) > SIZE


@pytest.mark.benchmark(group="check 64 frames")
def test_check_frames(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    data, entries = _built(batch)
    assert not benchmark(_core.check_frames, data, entries, ORIGIN, 0, 0).any()


@pytest.mark.benchmark(group="check 64 frames")
def test_check_frames_one_by_one(benchmark: BenchmarkFixture, batch: bytes) -> None:
    data, entries = _built(batch)
    rows = entries.tolist()
    benchmark(lambda: [digest(data[at : at + size - 16]) == found for at, size, _, found in rows])


@pytest.mark.benchmark(group="check 64 records by their checks")
def test_check_records(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    data, _ = _built(batch)

    def run() -> int:
        ends, _, _ = _core.record_ends(data, 1 << 20)
        return int(_core.check_records(data, ends)[2].sum())

    assert benchmark(run) == 0


@pytest.mark.benchmark(group="open 64 frames")
def test_open_frames(benchmark: BenchmarkFixture, batch: bytes) -> None:
    data, entries = _built(batch)
    copies = np.array([(at, 0, FRAME, at * FRAME) for at in range(COUNT)], np.uint64)
    plain, scratch = bytearray(SIZE), bytearray(FRAME)
    args = (zstdcalls.decompressor(), data, entries, 0, copies, plain, scratch)
    assert benchmark(lambda: _core.open_frames(*args, np.zeros(COUNT, np.uint8))) == COUNT
    assert plain == batch


@pytest.mark.benchmark(group="digests of 64 blocks")
def test_block_digests(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    assert benchmark(_core.block_digests, batch).any()


@pytest.mark.benchmark(group="digests of 64 blocks")
def test_block_digests_one_by_one(benchmark: BenchmarkFixture, batch: bytes) -> None:
    view = memoryview(batch)
    benchmark(lambda: [block_digest(view[at : at + FRAME]) for at in range(0, SIZE, FRAME)])


@pytest.mark.benchmark(group="scan, digest and pack 4 MiB")
def test_scan_pack(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    dst = bytearray(SIZE)
    assert len(benchmark(_core.scan_pack, batch, CLUSTER, dst, True)[0])


@pytest.mark.benchmark(group="compare 4 MiB, equal")
@pytest.mark.parametrize("way", ["digests", "data"])
def test_compare_piece(benchmark: BenchmarkFixture, variant: str, batch: bytes, way: str) -> None:
    was = bytearray(batch) if way == "data" else None
    expected = _core.block_digests(batch).tobytes() if way == "digests" else None
    assert not benchmark(_core.compare_piece, batch, CLUSTER, was, expected)[1].any()


@pytest.mark.benchmark(group="a chain of 64 digests")
def test_blake3_chain(benchmark: BenchmarkFixture, batch: bytes) -> None:
    assert len(benchmark(_core.blake3_chain, bytes(32), batch[: 32 * COUNT])) == 32
