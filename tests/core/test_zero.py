"""The zero scan: is_zero, nonzero_bitmap, nonzero_extents, compare_blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from tests.core import twins as twin

CLUSTERS = [512 << shift for shift in range(13)]


@st.composite
def sparse(draw: st.DrawFn, max_size: int = 20_000) -> bytes:
    """Bytes that are zero but for a few places, and not a whole number of anything."""
    size = draw(st.integers(0, max_size))
    data = bytearray(size)
    if size:
        for place in draw(st.lists(st.integers(0, size - 1), max_size=12)):
            data[place] = draw(st.integers(1, 255))
    return bytes(data)


def test_implementation_names_the_variant(scalar: bool) -> None:
    assert _core.implementation() in ({"scalar"} if scalar else {"scalar", "avx2"})


@given(sparse(), st.integers(0, 40))
def test_is_zero(data: bytes, skip: int) -> None:
    view = memoryview(data)[skip:]
    assert _core.is_zero(view) is not any(view)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 256, 257, 511, 513, 1000])
def test_is_zero_sees_every_byte(size: int) -> None:
    for place in range(size):
        data = bytearray(size)
        data[place] = 128
        assert not _core.is_zero(data)


@given(sparse(), st.sampled_from(CLUSTERS))
def test_nonzero(data: bytes, cluster: int) -> None:
    expected = twin.nonzero(data, cluster)
    bitmap = _core.nonzero_bitmap(data, cluster)
    extents = _core.nonzero_extents(data, cluster)
    assert bitmap.dtype == np.uint8
    assert bitmap.tolist() == twin.bitmap_of(expected)
    assert extents.dtype == np.uint64
    assert extents.shape == (len(extents), 2)
    assert extents.tolist() == twin.runs_of(expected)


@pytest.mark.parametrize("first", [0, 1])
def test_nonzero_extents_at_their_greatest_number(first: int) -> None:
    data = bytearray(512 * 65)
    for cluster in range(first, 65, 2):
        data[cluster * 512 + 511] = 1
    expected = [[cluster, 1] for cluster in range(first, 65, 2)]
    assert _core.nonzero_extents(data, 512).tolist() == expected


@pytest.mark.parametrize("function", [_core.nonzero_bitmap, _core.nonzero_extents])
@pytest.mark.parametrize("cluster", [-512, 0, 1, 256, 511, 513, 1536, 4 << 20, 2**64, 2**70])
def test_wrong_cluster_sizes_are_refused(function, cluster: int) -> None:
    with pytest.raises(ValueError):
        function(bytes(4096), cluster)
    with pytest.raises(TypeError):
        function(bytes(4096), 512.0)


@pytest.mark.parametrize("wrong", ["text", 5, None, [0, 0]])
def test_what_is_no_buffer_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError):
        _core.is_zero(wrong)


def test_buffers_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError):
        _core.is_zero(np.zeros(64, np.uint8)[::2])
    with pytest.raises(ValueError):
        _core.is_zero(memoryview(bytes(64))[::2])


@given(sparse(3000), st.integers(1, 700), st.data())
def test_compare_blocks(a: bytes, block: int, data: st.DataObject) -> None:
    b = bytearray(a)
    if a:
        for place in data.draw(st.lists(st.integers(0, len(a) - 1), max_size=6)):
            b[place] ^= data.draw(st.integers(0, 255))
    found = _core.compare_blocks(a, b, block)
    assert found.dtype == np.uint8
    assert found.tolist() == twin.bitmap_of(twin.different(a, bytes(b), block))


@pytest.mark.parametrize(
    ("a", "b", "block"), [(8, 7, 4), (7, 8, 4), (8, 8, 0), (8, 8, -1), (8, 8, 2**64)]
)
def test_compare_blocks_refuses(a: int, b: int, block: int) -> None:
    with pytest.raises(ValueError):
        _core.compare_blocks(bytes(a), bytes(b), block)


def test_compare_blocks_takes_a_block_larger_than_the_buffer() -> None:
    assert _core.compare_blocks(b"abc", b"abd", 2**64 - 1).tolist() == [1]
