"""Trackers, and the disks whose writes they see."""

from __future__ import annotations

from aipimage.io.changes.forms import Changes, changes_from
from aipimage.io.system.storage import Storage
from aipimage.tracking import ChangeTracker
from tests.support.memory import ROOT, MemorySystem

PATH = f"{ROOT}/t"


GRAIN = 512


IDS = [f"{n:032x}" for n in range(1, 200)]


def granules(changes: Changes, grain: int = GRAIN) -> set[int]:
    """The granules of a set without a doubt."""
    assert changes.doubt is None
    return {
        granule
        for start, length in changes.ranges.tolist()
        for granule in range(start // grain, -(-(start + length) // grain))
    }


def with_image(tracker: ChangeTracker, consumer: str, image_id: str = IDS[0]) -> None:
    tracker.begin(consumer).commit(image_id)


def peek(tracker: ChangeTracker, consumer: str) -> Changes:
    """What a consumer would get; it counts again."""
    with tracker.begin(consumer) as generation:
        return generation.changes()


def saved(marks: tuple[int, ...] = (1, 2, 70_000), *, name: str = "a") -> bytes:
    """The file of a tracker of 64 MiB with one consumer and some granules marked."""
    system = MemorySystem()
    with ChangeTracker.create(PATH, 64 << 20, GRAIN, storage=Storage(system)) as tracker:
        with_image(tracker, name)
        for mark in marks:
            tracker.mark(mark * GRAIN, 1)
    return bytes(system.files[PATH])


def read(data: bytes, parent: str | None = None, size: int = 64 << 20) -> Changes:
    return changes_from(PATH, size, Storage(MemorySystem({PATH: data})), parent=parent)


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")
