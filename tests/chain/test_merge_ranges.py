"""Byte ranges, frame sets and placed segments against plain sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import LimitError
from aipimage.format import constants as c
from aipimage.format.segments import Segment, decode_segments, encode_segments
from aipimage.io.merge import ranges as mergeranges
from aipimage.io.merge.assemble import PlacedRecords
from aipimage.io.merge.ranges import CopyRanges, FrameSet, bridge_to

ORIGIN = bytes(15) + b"o"
BOUNDS = st.sets(st.integers(1, 199), max_size=5).map(lambda found: [0, *sorted(found), 200])


def cut(picked: set[int], bounds: list[int]) -> list[tuple[int, int]]:
    """Runs of the bytes ``picked``, cut at the bounds."""
    runs: list[tuple[int, int]] = []
    for each in sorted(picked):
        if runs and runs[-1][1] == each and each not in bounds:
            runs[-1] = runs[-1][0], each + 1
        else:
            runs.append((each, each + 1))
    return runs


@given(BOUNDS, st.lists(st.tuples(st.integers(0, 199), st.integers(1, 30))), st.data())
def test_ranges(bounds: list[int], rows: list[tuple[int, int]], data: st.DataObject) -> None:
    """Added in any order, one at a time or many at once, twice too, and joined at any time."""
    ranges = CopyRanges([Segment(ORIGIN, 0, b - a, a) for a, b in pairwise(bounds)])
    picked: set[int] = set()
    for start, length in rows:
        end = min(start + length, next(b for b in bounds if b > start))
        picked.update(range(start, end))
        if data.draw(st.booleans()):
            ranges.add(start, end)
        else:
            middle = (start + end) // 2
            both = [(start, middle), (middle, end)] if middle > start else [(start, end)]
            ranges.add_many(*(np.array(each, np.uint64) for each in zip(*both, strict=True)))
        if data.draw(st.booleans()):
            len(ranges)
    assert list(ranges) == cut(picked, bounds)
    assert ranges.length == len(picked)
    most = data.draw(st.integers(1, 20))
    gaps = sorted(ranges.gaps().tolist())
    before = len(ranges)
    assert bridge_to([ranges], most) == (before > most and bool(gaps))
    after = list(ranges)
    fewest = before - len(gaps)
    assert len(after) <= max(most, fewest)
    covered = {each for start, end in after for each in range(start, end)}
    assert picked <= covered
    assert after == cut(covered, bounds)
    if before > most and gaps:
        # No greater gap than needed was bridged.
        longest = gaps[min(before - most, len(gaps)) - 1]
        assert len(covered) - len(picked) == sum(gap for gap in gaps if gap <= longest)


@given(st.lists(st.tuples(st.integers(0, 2999), st.integers(0, 400)), max_size=20))
def test_frame_sets(rows: list[tuple[int, int]]) -> None:
    frames, wanted = FrameSet(3000), set()
    ends = [(low, min(low + more, 2999)) for low, more in rows]
    for low, high in ends:
        wanted.update(range(low, high + 1))
    for part in (ends[::2], ends[1::2]):
        pairs = np.array(part, np.int64).reshape(-1, 2)
        frames.add(pairs[:, 0], pairs[:, 1])
    found = {
        first + int(row)
        for first in (0, 1024, 2048)
        for row in frames.rows(first, 1024)
        if first + int(row) < 3000
    }
    assert found == wanted
    assert set(frames.rows(2048, 952).tolist()) == {each - 2048 for each in wanted if each >= 2048}


def test_a_frame_set_costs_nothing_before_it_is_used() -> None:
    frames = FrameSet(1 << 36)
    frames.add(np.array([1 << 35]), np.array([(1 << 35) + 100]))
    assert len(frames.rows(1 << 35, 1024)) == 101


def test_many_ranges_are_joined_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mergeranges, "_PENDING", 8)
    ranges = CopyRanges([Segment(ORIGIN, 0, 10_000, 0)])
    for at in range(0, 1000, 10):
        ranges.add(at, at + 10)
        assert len(ranges._pending) < 8
    assert list(ranges) == [(0, 1000)]


def test_placed_joins_what_continues_in_both() -> None:
    other = bytes(15) + b"p"
    placed = PlacedRecords()
    for row in (
        (ORIGIN, 500, 10, 1000),
        (ORIGIN, 510, 5, 1010),  # continues
        (ORIGIN, 600, 5, 1015),  # another address
        (other, 605, 5, 1020),  # another origin
        (other, 610, 5, 1030),  # another place
        (other, 615, 0, 1035),
        (other, 615, 1, 1035),  # nothing, then one more byte
    ):
        placed.add(*row)
    wanted = [
        Segment(ORIGIN, 500, 15, 1000),
        Segment(ORIGIN, 600, 5, 1015),
        Segment(other, 605, 5, 1020),
        Segment(other, 610, 6, 1030),
    ]
    assert placed.segments() == wanted
    assert decode_segments(encode_segments(wanted), 2000) == wanted


def test_placed_refuses_more_segments_than_there_can_be() -> None:
    placed = PlacedRecords()
    for each in range(c.SEGMENTS_MAX):
        placed.add(ORIGIN, 1000 + 10 * each, 5, 1000 + 5 * each)
    assert len(placed.segments()) == c.SEGMENTS_MAX
    placed.add(ORIGIN, 900, 5, 900)
    with pytest.raises(LimitError, match="65537 segments"):
        placed.segments()
