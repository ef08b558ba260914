"""Bitmaps: set operations, counting, and extents both ways; extents cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from tests.core import twins as twin

OPERATIONS = {
    _core.bitmap_and: lambda a, b: a & b,
    _core.bitmap_or: lambda a, b: a | b,
    _core.bitmap_andnot: lambda a, b: a & ~b & 1,
}


@st.composite
def bitmaps(draw: st.DrawFn) -> tuple[bytes, int]:
    """A bitmap made of runs, with stray bits after its end, and its number of bits."""
    lengths = draw(st.lists(st.integers(0, 300), max_size=20))
    bits = [run % 2 == 1 for run, length in enumerate(lengths) for _ in range(length)]
    stray = draw(st.lists(st.booleans(), max_size=20))
    return bytes(twin.bitmap_of(bits + stray)), len(bits)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda function: function.__name__)
@given(first=bitmaps(), second=bitmaps())
def test_set_operations(operation, first: tuple[bytes, int], second: tuple[bytes, int]) -> None:
    (a, a_bits), (b, b_bits) = first, second
    nbits = min(a_bits, b_bits)
    expected = OPERATIONS[operation](twin.bits_of(a, nbits), twin.bits_of(b, nbits))
    result = operation(a, b, nbits)
    assert result.dtype == np.uint8
    assert result.tolist() == twin.bitmap_of(expected)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("nbits", [-1, 17, 2**63, 2**64 - 1, 2**64])
def test_set_operations_refuse(operation, nbits: int) -> None:
    with pytest.raises(ValueError):
        operation(bytes(2), bytes(3), nbits)
    with pytest.raises(ValueError):
        operation(bytes(3), bytes(2), nbits)


@given(bitmaps())
def test_count(bitmap: tuple[bytes, int]) -> None:
    data, nbits = bitmap
    assert _core.bitmap_count(data, nbits) == twin.bits_of(data, nbits).sum()


@given(bitmaps())
def test_bitmap_to_extents(bitmap: tuple[bytes, int]) -> None:
    data, nbits = bitmap
    extents = _core.bitmap_to_extents(data, nbits)
    assert extents.dtype == np.uint64
    assert extents.shape == (len(extents), 2)
    assert extents.tolist() == twin.runs_of(twin.bits_of(data, nbits))
    assert _core.extents_to_bitmap(extents, nbits).tolist() == twin.bitmap_of(
        twin.bits_of(data, nbits)
    )


@given(bitmaps(), st.integers(1, 4))
def test_bitmap_to_extents_in_small_steps(bitmap: tuple[bytes, int], step: int) -> None:
    data, nbits = bitmap
    parts = list(_core.iter_bitmap_extents(data, nbits, step))
    assert all(1 <= len(part) <= step for part in parts)
    rows = [row for part in parts for row in part.tolist()]
    assert rows == _core.bitmap_to_extents(data, nbits).tolist()


def test_bitmap_to_extents_beyond_one_call() -> None:
    bitmap = bytes([0b01010101]) * 10_000
    extents = _core.bitmap_to_extents(bitmap, 80_000)
    assert np.array_equal(extents[:, 0], np.arange(0, 80_000, 2))
    assert (extents[:, 1] == 1).all()


@pytest.mark.parametrize("nbits", [-1, 17, 2**63, 2**64 - 1, 2**64])
def test_bitmaps_that_are_too_short_are_refused(nbits: int) -> None:
    with pytest.raises(ValueError):
        _core.bitmap_count(bytes(2), nbits)
    with pytest.raises(ValueError):
        _core.bitmap_to_extents(bytes(2), nbits)
    with pytest.raises(ValueError):
        list(_core.iter_bitmap_extents(bytes(2), 16, 0))


@given(st.integers(0, 500), st.data())
def test_extents_to_bitmap(nbits: int, data: st.DataObject) -> None:
    starts = st.lists(st.integers(0, nbits), max_size=8)
    rows = [(start, data.draw(st.integers(0, nbits - start))) for start in data.draw(starts)]
    bits = [any(s <= bit < s + n for s, n in rows) for bit in range(nbits)]
    assert _core.extents_to_bitmap(rows, nbits).tolist() == twin.bitmap_of(bits)


@pytest.mark.parametrize(
    "row", [(0, 101), (100, 1), (101, 0), (2**64 - 1, 2), (2**64 - 1, 2**64 - 1), (1, 2**64 - 1)]
)
def test_extents_out_of_range_are_refused(row: tuple[int, int]) -> None:
    with pytest.raises(ValueError):
        _core.extents_to_bitmap(np.array([(0, 1), row], dtype=np.uint64), 100)


@pytest.mark.parametrize(
    "rows", [[1, 2], [[1, 2, 3]], [[1.0, 2.0]], [[-1, 2]], [["1", "2"]], [[True, True]], [[[1, 2]]]]
)
def test_what_are_no_extents_is_refused(rows: list) -> None:
    with pytest.raises(ValueError):
        _core.extents_to_bitmap(rows, 100)


@pytest.mark.parametrize("dtype", ["<u8", ">u8", "<i8", "<u4", "u1"])
def test_extents_of_any_layout(dtype: str) -> None:
    rows = np.array([[1, 2], [5, 3]], dtype=dtype)
    raw = np.frombuffer(b"x" + rows.tobytes(), dtype=dtype, offset=1).reshape(2, 2)
    for layout in (rows, np.asfortranarray(rows), rows.repeat(2, axis=0)[::2], raw):
        assert _core.extents_to_bitmap(layout, 8).tolist() == [0b11100110]


def test_no_extents_at_all() -> None:
    assert _core.extents_to_bitmap([], 9).tolist() == [0, 0]
    assert _core.extents_to_bitmap([], 0).tolist() == []
    assert _core.bitmap_to_extents(b"", 0).shape == (0, 2)
    assert _core.nonzero_extents(b"", 512).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 60)), max_size=8), st.data())
def test_cut_extents(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 70) | st.integers(2**63, 2**64 - 1))
    pieces, counts = _core.cut_extents(np.array(rows, np.uint64).reshape(-1, 2), size)
    assert (pieces.dtype, counts.dtype) == (np.uint64, np.uint64)
    assert (pieces.tolist(), counts.tolist()) == twin.cut(rows, size)


@pytest.mark.parametrize("size", [0, -1, 2**64])
def test_cut_extents_refuses_a_size(size: int) -> None:
    with pytest.raises(ValueError):
        _core.cut_extents([(0, 1)], size)


@pytest.mark.parametrize("lengths", [(2**64 - 1, 1), (2**63, 2**63), (2**64 - 1, 2**64 - 1)])
def test_cut_extents_refuses_what_sums_to_too_much(lengths: tuple[int, int]) -> None:
    rows = np.array([(0, lengths[0]), (5, lengths[1])], np.uint64)
    with pytest.raises(ValueError):
        _core.cut_extents(rows, 2**62)
