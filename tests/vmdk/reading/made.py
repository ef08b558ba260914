"""Raw disks, and reading a virtual disk in all the ways that it may be read."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np

from aipimage.vmdk.pieces import State
from aipimage.vmdk.source import VmdkSource
from tests.support.tools import run

UNIT = 1 << 16
PATTERNS = ("empty", "full", "alternating", "mixed", "random")
"""``full`` compresses well, ``random`` not at all."""


def raw_disk(path: Path, size: int, pattern: str, seed: int = 1) -> bytes:
    """Write a sparse raw disk of ``size`` bytes; return its content."""
    chance = random.Random(f"{seed} {size} {pattern}")
    with path.open("wb") as file:
        file.truncate(size)
        for number, at in enumerate(range(0, size, UNIT)):
            if data := _unit(pattern, number, chance):
                file.seek(at)
                file.write(data[: size - at])
    return path.read_bytes()


def _unit(pattern: str, number: int, chance: random.Random) -> bytes:
    texts = b"%d green bottles " % number * (UNIT // 16)
    if pattern == "mixed":
        pattern = chance.choice(("empty", "full", "random"))
    if pattern == "empty" or (pattern == "alternating" and number % 2):
        return b""
    return chance.randbytes(UNIT) if pattern == "random" else texts[:UNIT]


def by_qemu(raw: Path, target: Path, subformat: str) -> Path:
    """Let qemu-img write a virtual disk."""
    options = f"subformat={subformat}"
    run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options, raw, target], timeout=60)
    return target


def read_whole(source: VmdkSource) -> bytes:
    """Read with one call."""
    buffer = bytearray(source.size)
    source.read_into(buffer, 0)
    return bytes(buffer)


def check_reading(source: VmdkSource, expected: bytes, seed: int = 0, reads: int = 60) -> None:
    """Compare whole, in random pieces, and what ``pieces`` and ``data_ranges`` say."""
    assert source.size == len(expected)
    assert read_whole(source) == expected
    chance = random.Random(seed)
    for _ in range(reads):
        offset = chance.randrange(source.size)
        length = min(chance.choice((1, 511, 512, 4096, 65536, 300_000)), source.size - offset)
        buffer = bytearray(b"\xee") * length
        source.read_into(buffer, offset)
        assert buffer == expected[offset : offset + length]
        check_pieces(source, expected, offset, offset + length)
    check_pieces(source, expected, 0, source.size)


def check_pieces(source: VmdkSource, expected: bytes, start: int, end: int) -> None:
    """Pieces cover the range, ascending and without gaps; outside of data there are zeros."""
    rows = np.concatenate(list(source.pieces(start, end)))
    assert rows[0, 0] == start
    assert (rows[:, 1] > 0).all()
    assert (rows[1:, 0] == rows[:-1, 0] + rows[:-1, 1]).all()
    assert rows[-1, 0] + rows[-1, 1] == end
    for offset, length, state in rows.tolist():
        assert state == State.DATA or not any(expected[offset : offset + length])
    data = [(low, count) for low, count, state in rows.tolist() if state == State.DATA]
    ranges = list(source.data_ranges(start, end))
    assert sum(length for _, length in ranges) == sum(length for _, length in data)
    assert all(low + count < after for (low, count), (after, _) in itertools.pairwise(ranges))
