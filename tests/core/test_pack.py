"""Moving bytes: pack, unpack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from tests.core import twins as twin


@st.composite
def extents_in(draw: st.DrawFn, limit: int) -> list[tuple[int, int]]:
    """Byte extents inside [0, limit), in any order, overlapping or not."""
    starts = draw(st.lists(st.integers(0, limit), max_size=6))
    return [(start, draw(st.integers(0, limit - start))) for start in starts]


@given(st.binary(max_size=200), st.integers(0, 20), st.data())
def test_pack(src: bytes, spare: int, data: st.DataObject) -> None:
    extents = data.draw(extents_in(len(src)))
    expected = twin.packed(src, extents)
    dst = bytearray(b"\xaa" * (len(expected) + spare))
    assert _core.pack(src, extents, dst) == len(expected)
    assert dst == expected + b"\xaa" * spare


@given(st.binary(max_size=200), st.data())
def test_unpack(start: bytes, data: st.DataObject) -> None:
    extents = data.draw(extents_in(len(start)))
    total = sum(length for _, length in extents)
    src = data.draw(st.binary(min_size=total, max_size=total + 20))
    dst = bytearray(start)
    assert _core.unpack(src, extents, dst) == total
    assert dst == twin.unpacked(src, extents, start)


@given(st.binary(max_size=3000).map(lambda data: data * 3), st.sampled_from([512, 1024]))
def test_unpack_undoes_pack_of_the_nonzero_clusters(data: bytes, cluster: int) -> None:
    extents = _core.nonzero_extents(data, cluster) * np.uint64(cluster)
    if len(extents):
        extents[-1, 1] = min(extents[-1, 1], np.uint64(len(data)) - extents[-1, 0])
    stream, back = bytearray(len(data)), bytearray(len(data))
    used = _core.pack(data, extents, stream)
    assert _core.unpack(stream[:used], extents, back) == used
    assert back == data


REFUSED = [(11, 0), (10, 1), (0, 11), (5, 6), (2**64 - 1, 2), (1, 2**64 - 1), (2**63, 2**63)]


@pytest.mark.parametrize("row", REFUSED)
def test_extents_out_of_range_leave_the_target_untouched(row: tuple[int, int]) -> None:
    extents = np.array([(0, 4), row], dtype=np.uint64)
    for function, src, dst in (
        (_core.pack, bytes(10), bytearray(b"\xaa" * 64)),
        (_core.unpack, bytes(64), bytearray(b"\xaa" * 10)),
    ):
        before = bytes(dst)
        with pytest.raises(ValueError, match="outside its buffer"):
            function(src, extents, dst)
        assert dst == before


@pytest.mark.parametrize("function", [_core.pack, _core.unpack])
def test_too_little_room_leaves_the_target_untouched(function) -> None:
    extents = [(0, 6), (2, 6)]
    short, long = (bytes(8), 11) if function is _core.pack else (bytes(11), 8)
    dst = bytearray(b"\xaa" * long)
    with pytest.raises(ValueError, match="too small"):
        function(short, extents, dst)
    assert dst == b"\xaa" * long


@pytest.mark.parametrize("function", [_core.pack, _core.unpack])
def test_a_sum_that_overflows_is_refused(function) -> None:
    extents = np.array([(0, 2**63), (0, 2**63), (0, 4)], dtype=np.uint64)
    with pytest.raises(ValueError):
        function(bytes(64), extents, bytearray(64))


@pytest.mark.parametrize("function", [_core.pack, _core.unpack])
def test_overlapping_buffers_are_refused(function) -> None:
    memory = np.zeros(64, dtype=np.uint8)
    with pytest.raises(ValueError, match="overlaps"):
        function(memory[:40], [(0, 4)], memory[39:])
    assert function(memory[:40], [(0, 4)], memory[40:]) == 4
    extents = np.array([(0, 4)], dtype=np.uint64)
    with pytest.raises(ValueError, match="overlaps"):
        function(bytes(64), extents, extents)


@pytest.mark.parametrize("function", [_core.pack, _core.unpack])
def test_read_only_targets_are_refused(function) -> None:
    frozen = np.zeros(8, dtype=np.uint8)
    frozen.flags.writeable = False
    for target in (bytes(8), memoryview(bytes(8)), frozen):
        with pytest.raises(ValueError):
            function(bytes(8), [(0, 4)], target)
