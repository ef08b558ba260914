"""What a verification finds: one finding for each damaged place, with what it touches."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.io.checking.results import Damage
from aipimage.io.index.frameranges import RANGES_MAX, Range, ranges_of_frames
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.damage import damage_text
from aipimage.io.records.frames import FailedFrame
from aipimage.ranges import joined

DAMAGE_MAX = 1000


class Findings:
    """At most 1000 findings; what belongs together is one."""

    def __init__(self) -> None:
        self._all: list[Damage] = []
        self._seen: set[Damage] = set()
        self._leaf: tuple[int, int, str] | None = None
        self._leaves = 0

    @property
    def is_empty(self) -> bool:
        """Whether every record that was read so far is whole."""
        return not self._all

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept, or looked for in frame tables."""
        return len(self._all) >= DAMAGE_MAX or self._leaves >= DAMAGE_MAX

    def add(self, damage: Damage) -> None:
        """Add a finding, unless it is one that was added before."""
        if len(self._all) < DAMAGE_MAX and damage not in self._seen:
            self._seen.add(damage)
            self._all.append(damage)

    def add_frame(self, origin: int, failed: FailedFrame) -> None:
        """Add a damaged frame: to the finding of the frame before it, where the damage continues
        from there, because not even the beginning of the record is right.
        """
        reason = damage_text(failed.error)
        last = self._all[-1] if self._all else None
        if (
            last is not None
            and last.frame is not None
            and not failed.begins
            and (last.origin, last.frame + last.frames) == (origin, failed.number)
        ):
            count = last.frames + 1
            text = last.what.split(": ", 1)[1]
            what = f"frames {last.frame} to {failed.number}: {text}"
            self._all[-1] = last._replace(what=what, frames=count)
            return
        self.add(Damage(f"frame {failed.number}: {reason}", origin, failed.number))

    def add_leaf(self, origin: int, leaf: int, error: AipImageError) -> None:
        """Add a leaf of a frame table; leaves that follow each other and fail alike are one."""
        before, self._leaf = self._leaf, (origin, leaf, damage_text(error))
        self._leaves += 1
        if before != (origin, leaf - 1, str(error)):
            self.add(Damage(f"frame table, from frame {leaf * c.LEAF_FRAMES} on: {error}", origin))

    def add_blocks(self, device: int, start: int, length: int) -> None:
        """Add bytes whose block digests are wrong, to those that they follow on."""
        last = self._all[-1] if self._all else None
        if last is not None and last.what == _digest_text(device) and last.ranges:
            _, at, count = last.ranges[-1]
            if at + count == start:
                joined = (device, at, count + length)
                self._all[-1] = last._replace(ranges=(*last.ranges[:-1], joined))
                return
        self.add(Damage(_digest_text(device), ranges=((device, start, length),)))

    def located(self, image: ImageReader) -> list[Damage]:
        """All, with the ranges that each damaged frame takes with it."""
        return located(image, self._all)


def located(image: ImageReader, found: list[Damage]) -> list[Damage]:
    """Findings with the ranges of an image that each damaged frame takes with it."""
    wanted: dict[int, set[int]] = {}
    for damage in found:
        for origin, number in _frames_of(damage):
            wanted.setdefault(origin, set()).add(number)
    ranges = ranges_of_frames(image, wanted) if wanted else {}
    return [
        damage._replace(ranges=_joined(ranges.get(key, []) for key in _frames_of(damage)))
        if damage.frame is not None and damage.origin is not None
        else damage
        for damage in found
    ]


def _frames_of(damage: Damage) -> list[tuple[int, int]]:
    if damage.origin is None or damage.frame is None:
        return []
    return [(damage.origin, damage.frame + each) for each in range(damage.frames)]


def _joined(ranges: Iterable[list[Range]]) -> tuple[Range, ...]:
    """Ranges in order, neighbours as one, the first 100."""
    found: list[Range] = []
    for device, mine in groupby(sorted(chain.from_iterable(ranges)), key=itemgetter(0)):
        rows = np.array([each[1:] for each in mine], np.uint64)
        found += [(device, start, length) for start, length in joined(rows).tolist()]
    return tuple(found[:RANGES_MAX])


def is_about_digests(damage: Damage) -> bool:
    """Whether a finding says that block digests and content differ."""
    return damage.frame is None and any(damage.what == _digest_text(r[0]) for r in damage.ranges)


def _digest_text(device: int) -> str:
    return (
        f"device {device}: block digests are not those of the content, so that an increment would "
        "miss what changes there; make a full image next"
    )


Bits = npt.NDArray[np.bool_]


class FrameMarks:
    """Frames that were looked at: 1024 bits for each leaf of which one was."""

    def __init__(self) -> None:
        self._bits: dict[tuple[int, int], int] = {}

    def add(self, origin: int, first: int, count: int) -> None:
        """Mark frames of one leaf."""
        leaf, row = divmod(first, c.LEAF_FRAMES)
        key = origin, leaf
        self._bits[key] = self._bits.get(key, 0) | ((1 << count) - 1) << row

    def has(self, origin: int, number: int) -> bool:
        """Whether a frame is marked."""
        leaf, row = divmod(number, c.LEAF_FRAMES)
        return bool(self._bits.get((origin, leaf), 0) >> row & 1)

    def of_leaf(self, origin: int, leaf: int) -> Bits:
        """All of a leaf."""
        raw = self._bits.get((origin, leaf), 0).to_bytes(c.LEAF_FRAMES // 8, "little")
        return np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little").astype(np.bool_)


class Sample:
    """Which frames are looked at: all, or a random ``percent`` of each leaf, at least one."""

    def __init__(self, percent: float | None) -> None:
        self._percent = percent
        self._seed = 0 if percent is None else _seed()
        self._last: tuple[tuple[int, int], Bits] | None = None

    def chooses(self, origin: int, number: int) -> bool:
        """Whether a frame is looked at; safe for threads."""
        if self._percent is None:
            return True
        leaf, row = divmod(number, c.LEAF_FRAMES)
        return bool(self.of_leaf(origin, leaf)[row])

    def rows_of(self, origin: int, leaf: int, kept: Bits, done: Bits) -> npt.NDArray[np.int64]:
        """The frames of a leaf that are looked at, of those that are kept and not done yet."""
        rows = np.flatnonzero(kept & ~done & self.of_leaf(origin, leaf)[: len(kept)])
        if not len(rows) and kept.any() and not done.any():
            rows = np.flatnonzero(kept)
            rows = rows[[_seed() % len(rows)]]
        return rows

    def of_leaf(self, origin: int, leaf: int) -> Bits:
        """All of a leaf: the same each time."""
        if self._percent is None:
            return np.ones(c.LEAF_FRAMES, np.bool_)
        last = self._last
        if last is not None and last[0] == (origin, leaf):
            return last[1]
        chance = np.random.default_rng((self._seed, origin, leaf))
        bits: Bits = chance.random(c.LEAF_FRAMES) * 100 < self._percent
        self._last = (origin, leaf), bits
        return bits


def _seed() -> int:
    """A number of 63 random bits."""
    # Only a sample is random: most importers of this module never take one.
    import random

    return random.getrandbits(63)
