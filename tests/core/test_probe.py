"""The probe for data that does not compress: random_bitmap."""

from __future__ import annotations

import bz2
import lzma
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core

FRAME = 65_536


def twin(data: bytes) -> bool:
    """Say the same in plain Python: even samples, and few words that were seen shortly before."""
    if len(data) < 4096:
        return False
    step = (len(data) - 64) // 15
    samples = b"".join(data[piece * step : piece * step + 64] for piece in range(16))
    if sum(samples.count(value) ** 2 for value in set(samples)) > (400 + 1024) * 4:
        return False
    seen, again, words = [0] * 1024, 0, len(data) // 16
    for at in range(0, words * 16, 16):
        word = int.from_bytes(data[at : at + 8], "little")
        place = (word * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> 54
        again += seen[place] == word
        seen[place] = word
    return again <= words // 16


def bit(data: bytes, frame: int = FRAME, index: int = 0) -> bool:
    return bool(_core.random_bitmap(data, frame)[index // 8] >> index % 8 & 1)


@given(st.integers(0, 2**32), st.integers(0, 20_000), st.integers(0, 6000), st.integers(0, 255))
def test_probe_equals_twin(seed: int, size: int, period: int, mask: int) -> None:
    source = random.Random(seed)
    data = bytes(value | mask & 1 for value in source.randbytes(size))
    if period:
        data = (data[:period] * (size // period + 1))[:size]
    assert bit(data + b"") == twin(data) if data else len(_core.random_bitmap(data, FRAME)) == 0


def test_random_and_compressed_data_are_seen() -> None:
    source = random.Random(7)
    words = [source.randbytes(source.randrange(2, 9)).hex().encode() for _ in range(5000)]
    text = b" ".join(source.choice(words) for _ in range(100_000))
    for made in (
        source.randbytes(FRAME),
        lzma.compress(text),
        bz2.compress(source.randbytes(FRAME)),
    ):
        assert bit(made[1000 : 1000 + FRAME // 2])


def test_what_compresses_is_never_taken_for_random() -> None:
    text = b"".join(b"%d: line %d of the log\n" % (i, i * i) for i in range(4000))[:FRAME]
    block = random.Random(3).randbytes(4096)
    for made in (text, bytes(FRAME), bytes(range(256)) * 256, block * 16):
        assert not bit(made)


def test_a_bit_for_each_frame() -> None:
    data = random.Random(4).randbytes(FRAME) + bytes(FRAME) + random.Random(5).randbytes(5000)
    assert [bit(data, FRAME, index) for index in range(3)] == [True, False, True]


@pytest.mark.parametrize("frame", [0, -1])
def test_bad_frame(frame: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        _core.random_bitmap(b"x" * 5000, frame)
