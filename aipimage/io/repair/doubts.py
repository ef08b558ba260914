"""What a verification of a repaired image found, and what is lost for it in the next attempt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.errors import IntegrityError
from aipimage.extents import EXTENT_DTYPE, SECTOR, ExtentArray, Kind
from aipimage.io.checking.findings import is_about_digests
from aipimage.io.checking.results import Damage, VerifyResult
from aipimage.io.index.frameranges import all_ranges_of_frames, ranges_of_origins
from aipimage.io.reading.image import ImageReader

_RANGES_MAX = 1 << 20


class Doubts:
    """Ranges of which parts of an image contradict each other, though each part is whole.

    Attributes:
        ranges: (device, first sector, end) of all of them. text: the first finding.
        drop_digests: whether block digests are not to be kept, because what is lost reads as zeros.
    """

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, int]] = []
        self.text = ""
        self.drop_digests = False

    def add(self, image: ImageReader, found: VerifyResult, is_zeroed: bool) -> bool:
        """Note what a verification found; return whether that is nothing.

        Args:
            is_zeroed: what is lost was made zeros, of which the old digests do not know.

        Raises:
            IntegrityError: it is not known which ranges it is about.
        """
        if found.ok:
            return True
        if not self.text:
            self.text = found.damage[0].what
        before = (len(self.ranges), self.drop_digests)
        for damage in found.damage:
            if is_about_digests(damage) and is_zeroed and not self.drop_digests:
                self.drop_digests = True
            elif not (is_about_digests(damage) and is_zeroed):
                self._add(image, damage)
        if before == (len(self.ranges), self.drop_digests) or len(self.ranges) > _RANGES_MAX:
            raise IntegrityError(
                f"{image.path}: what could be saved does not verify ({found.damage[0].what}); "
                "nothing was written; restore what can be read of the damaged image instead"
            )
        return False

    def _add(self, image: ImageReader, damage: Damage) -> None:
        if is_about_digests(damage):
            found = list(damage.ranges)
        elif damage.origin is not None and damage.frame is not None:
            numbers = range(damage.frame, damage.frame + damage.frames)
            found = all_ranges_of_frames(image, damage.origin, numbers)
        elif damage.origin is not None:
            found = ranges_of_origins(image, [damage.origin], _RANGES_MAX)[damage.origin]
        else:
            return
        for device, start, length in found:
            first = start // SECTOR
            self.ranges.append((device, first, first + -(-length // SECTOR)))

    def marked(self, device: int, blocks: Iterator[ExtentArray]) -> Iterator[ExtentArray]:
        """The extents of a device from its start on, those in the ranges as lost."""
        ranges = sorted((low, high) for number, low, high in self.ranges if number == device)
        if not ranges:
            yield from blocks
            return
        at = 0
        for rows in blocks:
            cut: list[tuple[int, int, int, int]] = []
            for length, position, origin, kind in rows.tolist():
                cut += _cut(at, (length, position, origin, kind), ranges)
                at += length
            yield np.array(cut, EXTENT_DTYPE)


def _cut(
    at: int, row: tuple[int, int, int, int], ranges: list[tuple[int, int]]
) -> Iterator[tuple[int, int, int, int]]:
    """One extent, which begins at a sector, without what lies in the ranges."""
    length, position, origin, kind = row
    start, end = at, at + length
    is_data = int(kind == Kind.DATA)
    for low, high in ranges if kind != Kind.LOST else ():
        low, high = max(low, start), min(high, end)
        if low >= high:
            continue
        if low > start:
            yield low - start, position + (start - at) * is_data, origin, kind
        yield high - low, 0, 0, int(Kind.LOST)
        start = high
    if start < end:
        yield end - start, position + (start - at) * is_data, origin, kind
