"""Disks that change, for tests of increments."""

from __future__ import annotations

import random
from typing import Any

from aipimage.io.creating.results import CreateResult
from tests.support.ends import spare_length
from tests.support.images import MIB
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, change, opened, scattered

ODD = 3 * MIB + 70_001
METHODS: dict[str, dict[str, Any]] = {
    "tracked": {},
    "digests": {"compare": "digests"},
    "data": {"compare": "data"},
    "auto": {},
}


def disk(size: int = ODD, count: int = 60, seed: int = 0, **more: Any) -> Disk:
    return Disk(bytes(scattered(size, count, seed)), **more)


def altered(source: Disk, seed: int = 1, count: int = 5) -> list[tuple[int, int]]:
    """Change a disk in some places; return them."""
    chance = random.Random(seed)
    source.mark += 1
    return [change(source.data, chance) for _ in range(count)]


def given(method: str, places: list[tuple[int, int]]) -> dict[str, Any]:
    return METHODS[method] | ({"changed": places} if method == "tracked" else {})


def stored_beside_copies(system: MemorySystem, made: CreateResult) -> int:
    """Stored bytes but for the spare area: it has copies of what every image has once, and does not
    grow with what changed (docs/format.md, section 10.1).
    """
    spare = spare_length(system.files[str(made.path)])
    assert spare < 11_000
    return made.stored - spare


def made_of(system: MemorySystem, name: str) -> bytes:
    with opened(system, name) as image:
        return image.devices[0].open().readall()
