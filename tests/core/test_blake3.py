"""BLAKE3 of many inputs with one call, compared with the ``blake3`` package."""

from __future__ import annotations

import random

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core

# Around blocks, chunks, lanes of a kernel, what is joined on the stack, and beyond it.
CHUNK = 1024
LENGTHS = [0, 1, 2, 63, 64, 65, 127, 128, 129, 1023, 1025, 31 * CHUNK, 31 * CHUNK + 1, 102_400]
LENGTHS += [chunks * CHUNK + more for chunks in range(1, 40) for more in (-1, 0, 1)]
LONG = [2047, 2048, 2049, 3 * 1024, 4 * 1024 + 1, 5000, 7 * 1024 - 1]
PATTERN = bytes(range(251))


def pattern(length: int) -> bytes:
    """The input of the algorithm's official test vectors: bytes 0 to 250, again and again."""
    return (PATTERN * (length // 251 + 1))[:length]


def one(data: bytes) -> bytes:
    return _core.blake3_many(data, [[0, len(data)]])[0].tobytes()


def test_published_values() -> None:
    """Of the empty input, of "abc", and of the first official vector with more than a block."""
    assert one(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert one(b"abc").hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_around_an_edge(length: int) -> None:
    data = pattern(length)
    assert one(data) == blake3(data).digest()


@pytest.mark.parametrize("chunks", LONG)
def test_inputs_longer_than_a_group(chunks: int) -> None:
    for more in (-1, 0, 1, 512):
        data = pattern(chunks * CHUNK + more)
        assert one(data) == blake3(data).digest()


@given(st.integers(0, 2**32), st.lists(st.integers(0, 70_000), min_size=1, max_size=40))
def test_many_equal_one_by_one(seed: int, lengths: list[int]) -> None:
    """Whatever lies next to each other in the lanes."""
    source = random.Random(seed)
    data = source.randbytes(70_000)
    rows = [(source.randrange(0, len(data) - length + 1), length) for length in lengths]
    rows = [
        (at, length // CHUNK * CHUNK if source.random() < 0.5 else length) for at, length in rows
    ]
    got = _core.blake3_many(data, rows)
    assert [row.tobytes() for row in got] == [
        blake3(data[at : at + length]).digest() for at, length in rows
    ]


def test_more_inputs_than_a_group_takes() -> None:
    data = random.Random(5).randbytes(64 * CHUNK)
    rows = [(i % 1000, i % 70) for i in range(2000)]
    rows += [(0, 64 * CHUNK), (7, 3)] * 60 + [(0, 0)] * 300
    got = _core.blake3_many(data, rows)
    assert [row.tobytes() for row in got] == [blake3(data[a : a + n]).digest() for a, n in rows]


def test_long_inputs_between_short_ones() -> None:
    data = pattern(3 << 20)
    rows = [(5, 100), (0, 3 << 20), (1, CHUNK), (9, (2 << 20) + 1), (3, 0)]
    got = _core.blake3_many(data, rows)
    assert [row.tobytes() for row in got] == [blake3(data[a : a + n]).digest() for a, n in rows]


@pytest.mark.parametrize("rows", [[[0, 17]], [[17, 0]], [[1, 2**64 - 1]], [[16, 1]]])
def test_a_range_outside_of_the_buffer_is_refused(rows: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="outside its buffer"):
        _core.blake3_many(bytes(16), np.array(rows, np.uint64))


def test_nothing_to_do() -> None:
    assert _core.blake3_many(b"", []).shape == (0, 32)
