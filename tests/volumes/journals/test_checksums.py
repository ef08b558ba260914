"""The checksum of long pieces, as records of a log are, against the polynomial byte by byte."""

from __future__ import annotations

import random

import pytest

from aipimage.volumes.crc32c import crc32c
from tests.volumes.xfs.built import crc32c as byte_by_byte


@pytest.mark.parametrize("size", [1, 63, 64, 8191, 8192, 8193, 12_288, 16_384, 100_001])
def test_long_pieces(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert crc32c(data) ^ 0xFFFFFFFF == byte_by_byte(data)
    half = size // 3
    assert crc32c(data[half:], crc32c(data[:half])) ^ 0xFFFFFFFF == byte_by_byte(data)
