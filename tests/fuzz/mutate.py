"""Deterministic mutation of valid seeds, for machines without atheris and for the smoke test."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from tests.fuzz.targets import Target

INTERESTING = [
    value % (1 << 64)
    for bit in (0, 7, 8, 12, 15, 16, 20, 22, 31, 32, 47, 48, 56, 57, 62, 63)
    for value in ((1 << bit) - 1, 1 << bit, (1 << bit) + 1, -(1 << bit))
]
LONGEST = 1 << 16


def _number(data: bytearray, rng: random.Random) -> None:
    """Write a boundary value, or move the number that stands there by a little."""
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(len(data))
    if rng.random() < 0.8:
        at -= at % width
    present = int.from_bytes(data[at : at + width], "little")
    value = rng.choice((rng.choice(INTERESTING), present + rng.randint(-600, 600), present << 1))
    data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _zero(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.choice((1, 4, 8, 16, 64))
    data[at : at + length] = bytes(len(data[at : at + length]))


def _copy(data: bytearray, rng: random.Random) -> None:
    """Put a piece over another place: doubled and reordered entries."""
    length = rng.choice((8, 12, 16, 32, 40, 48, 64, 72, 128, 192))
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[source : source + length]
    data[target : target + len(piece)] = piece


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(1, len(data) + 1) :]


def _grow(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data)), rng.choice((1, 12, 16, 19, 40, 48, 64, 72))
    data[at:at] = data[at : at + length]


STEPS = (_number, _number, _number, _number, _flip, _zero, _copy, _cut, _grow)


def mutants(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Yield mutated seeds for ever; the same ones for the same ``seed``."""
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            rng.choice(STEPS)(data, rng)
        yield bytes(data[:LONGEST])


def loop(target: Target, seeds: list[bytes], seconds: float, seed: int = 1) -> int:
    """Feed mutants to ``target`` for some seconds; return how many; a failure shows its input."""
    end = time.monotonic() + seconds
    count = 0
    for data in mutants(seeds, seed):
        try:
            target(data)
        except Exception as error:
            error.add_note(f"input {count} of seed {seed}: {data.hex()}")
            raise
        count += 1
        if time.monotonic() > end:
            break
    return count
