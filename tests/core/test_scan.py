"""One look at a piece: block_digests, scan_pack, compare_piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from tests.core import twins

BLOCK = 65_536
SPOTS = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 5)), max_size=12)
"""Where sectors are not zeros: (sector, sectors)."""


def piece(sectors: int, spots: list[tuple[int, int]]) -> bytearray:
    """Zeros with some spots of data."""
    data = bytearray(sectors * 512)
    for start, length in spots:
        for at in range(start, min(start + length, sectors)):
            data[at * 512 + at % 512] = 1 + at % 255
    return data


def digests_of(found: np.ndarray) -> list[bytes]:
    return [each.tobytes() for each in found]


@given(st.integers(0, 400), SPOTS, st.integers(0, 511), st.none() | st.integers(0, 15))
def test_block_digests(
    sectors: int, spots: list[tuple[int, int]], cut: int, wanted: int | None
) -> None:
    """The last block may end anywhere."""
    data = bytes(piece(sectors, spots)[: max(0, sectors * 512 - cut)])
    bits = None if wanted is None else bytes([wanted])
    expected = [
        each if wanted is None or wanted >> number & 1 else bytes(16)
        for number, each in enumerate(twins.block_digests(data))
    ]
    assert digests_of(_core.block_digests(data, bits)) == expected


def test_many_block_digests() -> None:
    """More than are made together, the last of them short."""
    data = np.random.default_rng(3).bytes(300 * BLOCK + 1000)
    assert digests_of(_core.block_digests(data)) == twins.block_digests(data)


def test_too_few_bits_are_refused() -> None:
    with pytest.raises(ValueError):
        _core.block_digests(bytes(9 * BLOCK), b"\1")


@given(
    st.integers(0, 400), SPOTS, st.sampled_from([512, 4096, 8192]), st.booleans(), st.integers(0, 9)
)
def test_scan_pack(
    sectors: int, spots: list[tuple[int, int]], cluster: int, digests: bool, more: int
) -> None:
    data = bytes(piece(sectors, spots))
    per = cluster // 512
    wanted = [
        [start * per, min(length * per, sectors - start * per)]
        for start, length in twins.runs_of(twins.nonzero(data, cluster))
    ]
    dst = bytearray(b"\xaa" * (len(data) + more))
    runs, found = _core.scan_pack(data, cluster, dst, digests)
    assert runs.tolist() == wanted
    assert digests_of(found) == (twins.block_digests(data) if digests else [])
    if len(wanted) > 1:
        kept = twins.packed(data, [(start * 512, length * 512) for start, length in wanted])
        assert dst == kept + b"\xaa" * (len(dst) - len(kept))
    else:
        assert dst == b"\xaa" * len(dst)


@pytest.mark.parametrize(("size", "cluster", "room"), [(1000, 512, 1000), (1024, 1000, 1024)])
def test_scan_pack_refuses(size: int, cluster: int, room: int) -> None:
    with pytest.raises(ValueError):
        _core.scan_pack(bytes(size), cluster, bytearray(room), True)


def test_scan_pack_without_room_writes_nothing() -> None:
    data = b"\1" * 512 + bytes(512) + b"\1" * 512
    dst = bytearray(1023)
    with pytest.raises(ValueError, match="too small"):
        _core.scan_pack(data, 512, dst, True)
    assert dst == bytes(1023)
    # One run is used where it lies.
    assert _core.scan_pack(data[:1024], 512, bytearray(), True)[0].tolist() == [[0, 1]]


@given(st.integers(0, 400), SPOTS, SPOTS, st.sampled_from([512, 4096, 8192]), st.integers(0, 511))
def test_compare_with_data(
    sectors: int,
    spots: list[tuple[int, int]],
    others: list[tuple[int, int]],
    cluster: int,
    cut: int,
) -> None:
    size = max(0, sectors * 512 - cut)
    now, was = bytes(piece(sectors, spots)[:size]), bytes(piece(sectors, others)[:size])
    nonzero, differs, digests = _core.compare_piece(now, cluster, was, None)
    assert nonzero.tolist() == twins.bitmap_of(twins.nonzero(now, cluster))
    assert differs.tolist() == twins.bitmap_of(twins.different(now, was, cluster))
    assert len(digests) == 0


@given(st.integers(0, 400), SPOTS, SPOTS, st.sampled_from([512, 4096, 8192]), st.integers(0, 511))
def test_compare_with_digests(
    sectors: int,
    spots: list[tuple[int, int]],
    others: list[tuple[int, int]],
    cluster: int,
    cut: int,
) -> None:
    size = max(0, sectors * 512 - cut)
    now, was = bytes(piece(sectors, spots)[:size]), bytes(piece(sectors, others)[:size])
    expected = twins.block_digests(was)
    nonzero, differs, digests = _core.compare_piece(now, cluster, None, b"".join(expected))
    changed = [a != b for a, b in zip(twins.block_digests(now), expected, strict=True)]
    clusters = [changed[at * cluster // BLOCK] for at in range(-(-size // cluster))]
    assert nonzero.tolist() == twins.bitmap_of(twins.nonzero(now, cluster))
    assert differs.tolist() == twins.bitmap_of(clusters)
    assert digests_of(digests) == twins.block_digests(now)


@pytest.mark.parametrize(
    ("size", "cluster", "was", "expected"),
    [
        (BLOCK, 4096, bytes(BLOCK - 1), None), (BLOCK, 4096, None, bytes(15)),
        (BLOCK, 4096, bytes(BLOCK), bytes(16)), (BLOCK, 1000, bytes(BLOCK), None),
        (BLOCK * 2, BLOCK * 2, None, bytes(32)), (BLOCK, 0, bytes(BLOCK), None),
    ],
)  # fmt: skip
def test_compare_refuses(
    size: int, cluster: int, was: bytes | None, expected: bytes | None
) -> None:
    with pytest.raises(ValueError):
        _core.compare_piece(bytes(size), cluster, was, expected)
