"""The allocation map against a plain list of booleans."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.volumes import clusters
from aipimage.volumes.clusters import ClusterMap

BASE, CLUSTER = 1536, 1024


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, list[tuple[str, object]]]:
    count = draw(st.integers(1, 700))
    found: list[tuple[str, object]] = []
    for _ in range(draw(st.integers(0, 8))):
        first = draw(st.integers(0, count - 1))
        if draw(st.booleans()):
            bits = draw(st.lists(st.booleans(), max_size=count - first))
            found.append((draw(st.sampled_from(["free bits", "used bits"])), (first, bits)))
        else:
            rows = draw(st.lists(st.tuples(st.integers(0, count), st.integers(0, count))))
            runs = [(low, min(length, count - low)) for low, length in rows]
            found.append((draw(st.sampled_from(["free runs", "used runs"])), runs))
    return count, found


def built(count: int, done: list[tuple[str, object]], size: int) -> tuple[ClusterMap, list[bool]]:
    there, plain = ClusterMap(CLUSTER, count, BASE, size), [False] * count
    for name, what in done:
        if name.endswith("bits"):
            first, bits = what  # type: ignore[misc]
            packed = np.packbits(np.array(bits, np.bool_), bitorder="little")
            setter = there.set_free_bits if name == "free bits" else there.set_used_bits
            setter(first, packed, len(bits))
            for at, bit in enumerate(bits, first):
                plain[at] |= bit == (name == "free bits")
        else:
            rows = np.array(what, np.uint64).reshape(-1, 2)
            (there.set_free_runs if name == "free runs" else there.set_used_runs)(rows)
            for first, length in rows.tolist():
                plain[first : first + length] = [name == "free runs"] * length
    return there, plain


@settings(max_examples=400, deadline=None)
@given(steps(), st.integers(0, 2000), st.integers(0, 800_000), st.integers(0, 800_000))
def test_a_map_is_what_its_twin_is(
    case: tuple[int, list[tuple[str, object]]], cut: int, start: int, end: int
) -> None:
    count, done = case
    size = max(BASE + 1, BASE + count * CLUSTER - cut)
    with mock.patch.multiple(clusters, CHUNK=64, _CHUNK_BYTES=8, _RUNS_MAX=3):
        there, plain = built(count, done, size)
        assert there.free_clusters == sum(plain)
        wanted = np.zeros(size, np.bool_)
        for at, free in enumerate(plain):
            wanted[BASE + at * CLUSTER : BASE + (at + 1) * CLUSTER] = free
        found = np.zeros(size, np.bool_)
        before = start
        for rows in there.ranges(start, end):
            for offset, length in rows.tolist():
                assert before <= offset
                assert length > 0
                found[offset : offset + length] = True
                before = offset + length
        assert before <= max(end, start)
        wanted[:start] = wanted[end:] = False
        assert (found == wanted).all()
        in_clusters = np.ones(size, np.bool_)
        in_clusters[BASE : BASE + count * CLUSTER] = ~np.repeat(plain, CLUSTER)[: size - BASE]
        assert there.used_end() == int(np.flatnonzero(in_clusters)[-1]) + 1 or (
            plain[-1] is False and there.used_end() == size
        )
        assert there.total == sum(int(rows[:, 1].sum()) for rows in there.ranges(0, size))


def test_four_terabytes_take_little_memory_unless_they_are_scattered() -> None:
    count = 1 << 30
    there = ClusterMap(4096, count, 0, count * 4096)
    there.set_free_runs(np.array([(1000, count - 2000)], np.uint64))
    assert there.total == (count - 2000) * 4096
    assert there.used_end() == count * 4096
    assert sum(len(rows) for rows in there.ranges(0, count * 4096)) == 1024


def test_clusters_behind_the_end_are_an_internal_error() -> None:
    there = ClusterMap(4096, 10, 0, 40_960)
    with pytest.raises(RuntimeError, match="internal error"):
        there.set_free_runs(np.array([(5, 6)], np.uint64))
    with pytest.raises(RuntimeError, match="internal error"):
        there.set_free_bits(8, b"\xff", 8)
