"""Map pages and frame tables: to bytes and back, and what looking up costs."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from aipimage.extents import EXTENT_DTYPE, Kind
from aipimage.format.mappage import MapPage, decode_map_page, encode_map_page
from aipimage.format.tables import FRAME_ENTRY_DTYPE, decode_table_leaf, encode_table_leaf

STRIPE_SHIFT, FANOUT_SHIFT, FRAME = 22, 6, 64 << 10
SECTORS = 1 << (STRIPE_SHIFT - 9)


def page(extents: int) -> MapPage:
    """A page of level 0 of so many extents, data and zeros by turns."""
    rows = np.zeros(extents, EXTENT_DTYPE)
    rows["length"] = SECTORS // extents
    rows["kind"][::2] = Kind.DATA
    rows["kind"][1::2] = Kind.ZERO
    rows["position"][::2] = np.arange(len(rows[::2])) * 3 * SECTORS // extents
    return MapPage(0, 0, 0, SECTORS, rows, (b"o" * 16,))


@pytest.mark.benchmark(group="encode a map page")
@pytest.mark.parametrize("extents", [16, 1024])
def test_encode_map_page(benchmark: BenchmarkFixture, extents: int) -> None:
    assert benchmark(encode_map_page, page(extents))


@pytest.mark.benchmark(group="decode a map page")
@pytest.mark.parametrize("extents", [16, 1024])
def test_decode_map_page(benchmark: BenchmarkFixture, extents: int) -> None:
    data = encode_map_page(page(extents))
    assert len(benchmark(decode_map_page, data, STRIPE_SHIFT, FANOUT_SHIFT).extents) == extents


@pytest.mark.benchmark(group="decode a frame table leaf")
def test_decode_table_leaf(benchmark: BenchmarkFixture) -> None:
    entries = np.zeros(1024, FRAME_ENTRY_DTYPE)
    entries["plain_length"], entries["record_length"] = FRAME, 40_000
    entries["offset"] = 4096 + 40_000 * np.arange(1024, dtype=np.uint64)
    data = encode_table_leaf(0, entries.tobytes())
    assert len(benchmark(decode_table_leaf, data, FRAME)[1]) == 1024
