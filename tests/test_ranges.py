"""``aipimage.ranges``: sets of byte ranges compared with sets of bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.ranges import (
    ByteRanges,
    aligned,
    are_disjoint,
    clipped,
    cut,
    difference,
    intersection,
    joined,
)

ROWS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1500)), max_size=12)
PLACES = st.integers(0, 7000)
TOP = 1 << 64


def array_of(rows: list[tuple[int, int]]) -> ByteRanges:
    return np.array(rows, np.uint64).reshape(-1, 2)


def pairs(ranges: ByteRanges) -> list[tuple[int, int]]:
    """The rows of a set, after checking that it is one."""
    assert ranges.dtype == np.uint64
    assert ranges.shape == (len(ranges), 2)
    rows = [tuple(row) for row in ranges.tolist()]
    assert all(length for _, length in rows)
    assert all(a + n < b for (a, n), (b, _) in pairwise(rows))
    return rows


def bytes_in(rows: list[tuple[int, int]]) -> set[int]:
    return {byte for start, length in rows for byte in range(start, start + length)}


@given(ROWS)
def test_joined_is_the_union(rows: list[tuple[int, int]]) -> None:
    assert bytes_in(pairs(joined(array_of(rows)))) == bytes_in(rows)


@given(ROWS)
def test_rows_are_disjoint_where_no_byte_is_in_two(rows: list[tuple[int, int]]) -> None:
    assert are_disjoint(array_of(rows)) == (len(bytes_in(rows)) == sum(n for _, n in rows))


@given(ROWS, PLACES, PLACES)
def test_clipped_is_what_lies_inside(rows: list[tuple[int, int]], start: int, end: int) -> None:
    whole = joined(array_of(rows))
    before = whole.copy()
    found = clipped(whole, start, end)
    assert bytes_in(pairs(found)) == bytes_in(rows) & set(range(start, end))
    found[:] = 0
    assert np.array_equal(whole, before)


def test_clipped_keeps_rows_that_touch_apart() -> None:
    touching = array_of([(0, 10), (10, 10), (20, 10)])
    assert clipped(touching, 5, 25).tolist() == [[5, 5], [10, 10], [20, 5]]


@given(ROWS, ROWS)
def test_difference_and_intersection(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    first, second = joined(array_of(a)), joined(array_of(b))
    assert bytes_in(pairs(difference(first, second))) == bytes_in(a) - bytes_in(b)
    assert bytes_in(pairs(intersection(first, second))) == bytes_in(a) & bytes_in(b)


@given(ROWS, PLACES)
def test_cut_takes_rows_in_any_order(rows: list[tuple[int, int]], size: int) -> None:
    found = [tuple(row) for row in cut(array_of(rows), size).tolist()]
    assert bytes_in(found) == bytes_in(rows) & set(range(size))


def test_cut_makes_no_sum_that_wraps() -> None:
    assert cut(array_of([(512, TOP - 1), (TOP - 1, 512)]), 4096).tolist() == [[512, 3584]]


@given(ROWS, st.sampled_from([512, 1024, 4096]), st.integers(1, 7000))
def test_aligned_is_the_granules_touched(
    rows: list[tuple[int, int]], grain: int, size: int
) -> None:
    touched = {byte // grain for byte in bytes_in(rows) if byte < size}
    expected = {byte for byte in range(size) if byte // grain in touched}
    assert bytes_in(pairs(aligned(joined(array_of(rows)), grain, size))) == expected


@pytest.mark.parametrize("grain", [0, 1, 256, 513, 1536])
def test_a_grain_that_is_not_a_power_of_two_is_our_mistake(grain: int) -> None:
    with pytest.raises(RuntimeError, match="internal error"):
        aligned(np.empty((0, 2), np.uint64), grain, 512)
