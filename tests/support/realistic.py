"""Disks as people have them: hundreds of stripes of text, noise, zeros, holes and free space.

Everything follows from a seed. What is never written costs no memory, so that a disk of hundreds of
MiB is made in a fraction of a second. Stripes are 1 MiB here, the least that the format allows:
make images with ``stripe_shift=20`` and small frames (:data:`SMALL`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from aipimage.io.blocks.freespace import RangesFree
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.io.blocks.usedsource import UsedSource

CLUSTER = 4096
STRIPE = 1 << 20
SMALL: dict[str, Any] = {"frame_shift": 14, "stripe_shift": 20, "checkpoint_seconds": 1e9}
"""Options of a creation that fit these disks; add ``checkpoint_bytes=1`` for a checkpoint at each
stripe that has data.
"""

Ranges = list[tuple[int, int]]


class RealisticDisk:
    """A block source in memory, which knows what was never written.

    Attributes:
        data: all bytes; zeros where nothing was written.
        present: of each cluster, whether it was ever written; all others are holes.
        bad: (offset, length) that cannot be read. free: (offset, length) that no file uses.
        mark: counts changes, as the time of a file does.
        on_read: called with the offset before each read.
    """

    sector_size = 512

    def __init__(self, size: int, name: str = "sda") -> None:
        self.name, self.mark = name, 0
        self.data: npt.NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.present: npt.NDArray[np.bool_] = np.zeros(-(-size // CLUSTER), np.bool_)
        self.bad: Ranges = []
        self.free: Ranges = []
        self.on_read: Callable[[int], None] | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def copy(self, size: int | None = None) -> RealisticDisk:
        """A disk of its own with the same content, as long as it is or as ``size`` says."""
        other = RealisticDisk(self.size if size is None else size, self.name)
        kept = min(len(self.present), len(other.present))
        other.present[:kept] = self.present[:kept]
        for start, length in self.written():
            end = min(start + length, other.size)
            if start < end:
                other.data[start:end] = self.data[start:end]
        other.bad, other.free = _within(self.bad, other.size), _within(self.free, other.size)
        other.mark = self.mark
        return other

    def write(self, offset: int, content: bytes) -> None:
        """Change bytes; what lies beyond the end is left out."""
        end = max(offset, min(offset + len(content), self.size))
        self.data[offset:end] = np.frombuffer(content, np.uint8)[: end - offset]
        self.present[offset // CLUSTER : -(-end // CLUSTER)] = True
        self.mark += 1

    def discard(self, first: int, count: int) -> None:
        """Make holes of whole clusters."""
        self.data[first * CLUSTER : (first + count) * CLUSTER] = 0
        self.present[first : first + count] = False
        self.mark += 1

    def written(self) -> Ranges:
        """(offset, length) of all that was ever written."""
        return [(start, min(end, self.size) - start) for start, end in _runs(self.present)]

    def read_into(self, buffer: Any, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        if self.on_read is not None:
            self.on_read(offset)
        view = memoryview(buffer).cast("B")
        assert 0 <= offset <= offset + view.nbytes <= self.size
        for start, length in self.bad:
            if start < offset + view.nbytes and start + length > offset:
                raise UnreadableRangeError(f"{self.name}: bad sectors", offset, view.nbytes)
        view[:] = self.data[offset : offset + view.nbytes].data

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All but the holes; see ``BlockSource.data_ranges``."""
        for at, stop in _runs(self.present[start // CLUSTER : -(-end // CLUSTER)]):
            base = start // CLUSTER * CLUSTER
            low, high = max(start, base + at), min(end, base + stop, self.size)
            if low < high:
                yield low, high - low

    def fingerprint(self) -> dict[str, int | str]:
        """Size and mark."""
        return {"kind": "realistic", "size": self.size, "mark": self.mark}

    def close(self) -> None:
        """Nothing to give up."""

    def used(self) -> UsedSource:
        """The same disk without its free space."""
        rows = np.array(self.free, np.uint64).reshape(-1, 2)
        return UsedSource(self, RangesFree(rows))

    def content(self, used: bool = False) -> npt.NDArray[np.uint8]:
        """What an image of it must read as: zeros for bad sectors, and for what is free."""
        left_out = self.bad + (self.free if used else [])
        if not left_out:
            return self.data
        found = self.copy().data
        for start, length in left_out:
            found[start : start + length] = 0
        return found

    def digest(self, used: bool = False) -> str:
        """BLAKE3 of the content."""
        return blake3(self.content(used).data).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a sparse file."""
        with open(path, "wb") as file:
            file.truncate(self.size)
            for start, length in self.written():
                file.seek(start)
                file.write(self.data[start : start + length].data)


def _runs(flags: npt.NDArray[np.bool_]) -> Ranges:
    """(start, end) in bytes of each run of clusters that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False]))))
    return [(int(low) * CLUSTER, int(high) * CLUSTER) for low, high in edges.reshape(-1, 2)]


def _within(ranges: Sequence[tuple[int, int]], size: int) -> Ranges:
    return [
        (at, min(length, (size - at) // 512 * 512)) for at, length in ranges if at + 512 <= size
    ]


# What clusters hold

_WORDS = b"the quick brown fox jumps over a lazy dog while backups are made of many disks ".split()


@functools.cache
def _book() -> bytes:
    """Text that compresses as text does."""
    chance = np.random.default_rng(7)
    return b" ".join(_WORDS[n] for n in chance.integers(0, len(_WORDS), 60_000))


def clusters(chance: np.random.Generator, kind: str, count: int) -> bytes:
    """The content of some clusters, each different, of one of :data:`KINDS`."""
    if kind == "random":
        return chance.bytes(count * CLUSTER)
    if kind == "zero":
        return bytes(count * CLUSTER)
    if kind == "repeated":
        return (chance.bytes(64) * 64) * count
    book, found = _book(), []
    for at in chance.integers(0, len(book) - CLUSTER, count).tolist():
        if kind == "text":
            found.append(book[at : at + CLUSTER])
        else:
            found.append(book[at : at + 3000] + chance.bytes(1096))
    return b"".join(found)


KINDS = ("text", "random", "zero", "repeated", "half")
_SHAPES = ("single", "scattered", "dense", "crossing", "hole", "half", "zeros")
_SHARES = (0.2, 0.24, 0.015, 0.07, 0.45, 0.015, 0.01)


def mixed_disk(
    stripes: int = 200,
    seed: int = 0,
    tail: int = 3 * CLUSTER + 1225,
    name: str = "sda",
    bad: int = 0,
    free: bool = False,
) -> RealisticDisk:
    """Make a disk of so many stripes and ``tail`` bytes more.

    Where there are at least seven stripes, each shape is there: one cluster alone, short runs,
    a full stripe, a run that reaches into the next stripe, a hole, only half-random clusters, and
    zeros that were written. A tenth of a large disk was ever written.

    Args:
        bad: how many places cannot be read. free: whether a part of it is free space.
    """
    disk, chance = RealisticDisk(stripes * STRIPE + tail, name), np.random.default_rng(seed)
    more = chance.choice(_SHAPES, max(0, stripes - len(_SHAPES)), p=_SHARES)
    shapes = chance.permutation([*_SHAPES, *more])[:stripes]
    for stripe, shape in enumerate(shapes.tolist()):
        _fill(disk, chance, stripe * (STRIPE // CLUSTER), shape)
    for first in range(0, 0 if stripes else tail // CLUSTER - 60, 60):
        _write_run(disk, chance, first, int(chance.integers(0, 50)), "scattered")
    if tail:
        disk.write(max(0, disk.size - min(tail, 5000)), chance.bytes(5000))
    disk.bad = _bad_places(disk, chance, bad)
    if free:
        disk.free = _free_places(disk, chance)
    disk.mark = 0
    return disk


def _fill(disk: RealisticDisk, chance: np.random.Generator, first: int, shape: str) -> None:
    """Fill one stripe, from cluster ``first`` on."""
    whole = STRIPE // CLUSTER
    if shape == "single":
        runs = [(int(chance.integers(whole)), 1)]
    elif shape == "scattered":
        begins = np.sort(chance.integers(0, whole - 12, int(chance.integers(2, 9))))
        runs = [(int(at), int(chance.integers(1, 12))) for at in begins]
    elif shape == "crossing":
        runs = [(whole - int(chance.integers(1, 20)), int(chance.integers(21, 45)))]
    elif shape == "hole":
        runs = []
    else:
        runs = [(0, whole)]
    for at, count in runs:
        _write_run(disk, chance, first + at, count, shape)


def _write_run(
    disk: RealisticDisk, chance: np.random.Generator, first: int, count: int, shape: str
) -> None:
    """Write some clusters: all of one kind where the shape says so, else of kinds in turn."""
    done = 0
    while done < count:
        kind = {"half": "half", "zeros": "zero"}.get(shape) or str(chance.choice(KINDS))
        part = min(count - done, int(chance.integers(1, 30)))
        disk.write((first + done) * CLUSTER, clusters(chance, kind, part))
        done += part


def _bad_places(disk: RealisticDisk, chance: np.random.Generator, count: int) -> Ranges:
    """Bad sectors in what was written, 1 to 24 at each place."""
    found: Ranges = []
    written = [each for each in disk.written() if each[1] >= 4 * CLUSTER]
    order = chance.permutation(len(written))[:count]
    for number in sorted(order.tolist()):
        start, length = written[number]
        sectors = int(chance.choice([1, 3, 8, 24]))
        at = start // 512 + int(chance.integers(0, length // 512 - sectors))
        found.append((at * 512, sectors * 512))
    return found


def _free_places(disk: RealisticDisk, chance: np.random.Generator) -> Ranges:
    """Free ranges over data and holes: small and large, most at clusters, some at sectors."""
    found: Ranges = []
    at = int(chance.integers(1, 64)) * CLUSTER
    while at < disk.size - STRIPE:
        sectors = int(chance.choice([8, 16, 40, 400, 3000, 9]))
        found.append((at, sectors * 512))
        at += sectors * 512 + int(chance.choice([1, 8, 64, 900, 4000])) * 512
    return _within(found, disk.size)


def changed(disk: RealisticDisk, seed: int = 1, grow: int = 0) -> tuple[RealisticDisk, Ranges]:
    """Make a later state of a disk; return it and (offset, length) of all that was changed.

    Clusters here and there, a few sectors, a run that is written anew over a stripe's end, what is
    overwritten by zeros, and what is discarded; free space becomes used and used space free.

    Args:
        grow: bytes that it is longer, or with a minus shorter. New bytes at the end hold data.
    """
    later, chance = disk.copy(disk.size + grow), np.random.default_rng((seed, 99))
    places: Ranges = []
    count = -(-later.size // CLUSTER)
    for _ in range(8):
        places.append(
            _rewrite(later, chance, int(chance.integers(count)), 1, str(chance.choice(KINDS)))
        )
    for at, length in (later.written()[:: max(1, len(later.written()) // 6)])[:6]:
        places.append(_rewrite(later, chance, at // CLUSTER, min(3, -(-length // CLUSTER)), "half"))
    sector = int(chance.integers(-(-later.size // 512))) * 512
    later.write(sector, chance.bytes(512))
    places.append((sector, 512))
    crossing = max(0, int(chance.integers(1, max(2, later.size // STRIPE))) * STRIPE // CLUSTER - 9)
    places.append(_rewrite(later, chance, crossing, 30, "text"))
    places.append(_rewrite(later, chance, int(chance.integers(count)), 20, "zero"))
    first = int(chance.integers(count))
    gone = min(300, count - first)
    later.discard(first, gone)
    places.append((first * CLUSTER, gone * CLUSTER))
    if grow > 0:
        later.write(disk.size, chance.bytes(min(grow, 70_000)))
        places.append((disk.size, grow))
    if disk.free:
        later.free = _free_later(later, chance)
    later.mark = disk.mark + 1
    return later, _merged(places, later.size)


def _rewrite(
    disk: RealisticDisk, chance: np.random.Generator, first: int, count: int, kind: str
) -> tuple[int, int]:
    disk.write(first * CLUSTER, clusters(chance, kind, count))
    return first * CLUSTER, count * CLUSTER


def _free_later(disk: RealisticDisk, chance: np.random.Generator) -> Ranges:
    """Some free ranges are used now, and some others are free."""
    kept = [each for each in disk.free if chance.random() < 0.8]
    new = [(at, length) for at, length in disk.written() if length > 2 * CLUSTER]
    new = [(at, length // 1024 * 512) for at, length in new if chance.random() < 0.2]
    return _merged([*kept, *new], disk.size // 512 * 512)


def _merged(places: Sequence[tuple[int, int]], size: int) -> Ranges:
    found: Ranges = []
    for at, length in sorted(places):
        end = min(at + length, size)
        if found and at <= sum(found[-1]):
            end = max(end, sum(found[-1]))
            at = found.pop()[0]
        if at < end:
            found.append((at, end - at))
    return found


# The corpus

CORPUS: dict[str, Callable[[], RealisticDisk]] = {
    "hundreds": lambda: mixed_disk(240, 1),
    "some": lambda: mixed_disk(24, 2),
    "used": lambda: mixed_disk(60, 3, free=True),
    "bad": lambda: mixed_disk(40, 4, bad=7),
    "used and bad": lambda: mixed_disk(30, 5, bad=5, free=True),
    "whole stripes": lambda: mixed_disk(16, 6, tail=0),
    "whole sectors": lambda: mixed_disk(17, 7, tail=5 * 512),
    "whole sectors, used and bad": lambda: mixed_disk(20, 12, 8 * 512, bad=4, free=True),
    "half-random": lambda: _half_random(6),
    "less than a stripe": lambda: mixed_disk(0, 8, tail=700_001),
    "a few bytes": lambda: mixed_disk(0, 9, tail=77),
    "zeros": lambda: RealisticDisk(30 * STRIPE + 11),
}
"""Disks by name; use :func:`corpus_disk`, which makes each one once."""


def _half_random(stripes: int) -> RealisticDisk:
    """Dense: each cluster 3,000 bytes of text and 1,096 of noise."""
    disk, chance = RealisticDisk(stripes * STRIPE + 1024), np.random.default_rng(10)
    disk.write(0, clusters(chance, "half", stripes * STRIPE // CLUSTER + 1))
    return disk


@functools.cache
def _made(name: str) -> RealisticDisk:
    return CORPUS[name]()


def corpus_disk(name: str) -> RealisticDisk:
    """A disk of the corpus, for the caller alone."""
    return _made(name).copy()
