"""Writing a device's map page by page while its extents come in order (docs/format.md, section
7).
"""

from __future__ import annotations

import numpy as np

from aipimage.errors import RequestError
from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind, coalesce
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.mappage import MapPage, encode_map_page, page_sectors, root_level
from aipimage.format.record import Reference
from aipimage.io.records import RecordWriter


class MapBuilder:
    """Takes extents of one device in ascending order and writes pages as their ranges are complete.

    Memory is bounded by one page a level: a leaf of a stripe, and lists of at most 16 extents for
        each page of the levels above.

    Args:
        origins: ids that the extents' ``origin`` column indexes; the list may grow meanwhile.
    """

    def __init__(
        self, writer: RecordWriter, device: int, sectors: int, origins: list[bytes],
        stripe_shift: int, fanout_shift: int,
    ) -> None:  # fmt: skip
        self._writer, self._device, self._sectors, self._origins = writer, device, sectors, origins
        self.root_level = root_level(sectors, stripe_shift, fanout_shift)
        if self.root_level >= c.MAP_LEVELS:
            raise RequestError(f"a device of {sectors} sectors needs larger stripes or pages")
        self._spans = [
            page_sectors(level, stripe_shift, fanout_shift) for level in range(self.root_level + 1)
        ]
        self._lists: list[list[ExtentArray]] = [[] for _ in self._spans]
        self._refs: dict[int, Reference] = {}
        self._next_ref = 0
        self.position = 0
        self.counts = np.zeros(len(Kind), np.uint64)
        self.root: Reference | None = None

    def add(self, extents: ExtentArray) -> None:
        """Add extents (``EXTENT_DTYPE``) that follow on the ones before."""
        while len(extents):
            room = self._spans[0] - self.position % self._spans[0]
            ends = np.cumsum(extents["length"], dtype=np.uint64)
            fitting = int(np.searchsorted(ends, room, "right"))
            if fitting:
                self._take(0, extents[:fitting], int(ends[fitting - 1]))
                extents = extents[fitting:]
            else:
                extents = self._split(extents)

    def add_run(self, length: int, kind: Kind) -> None:
        """Add one extent without data, of any length."""
        if length:
            self.add(np.array([(length, 0, 0, kind)], EXTENT_DTYPE))

    def _split(self, extents: ExtentArray) -> ExtentArray:
        """Take of the first extent what fits the greatest page that can begin or go on here."""
        level = 0
        while level < self.root_level and self._fits_whole(level + 1, int(extents["length"][0])):
            level += 1
        room = self._spans[level] - self.position % self._spans[level]
        head, rest = extents[:1].copy(), extents.copy()
        taken = min(room, int(head["length"][0]))
        head["length"] = taken
        rest["length"][0] -= np.uint64(taken)
        if rest["kind"][0] == Kind.DATA:
            rest["position"][0] += np.uint64(taken)
        self._take(level, head, taken)
        return rest[1:] if rest["length"][0] == 0 else rest

    def _fits_whole(self, level: int, length: int) -> bool:
        span = self._spans[level]
        return self.position % span == 0 and (
            length >= span or self.position + length == self._sectors
        )

    def _take(self, level: int, extents: ExtentArray, sectors: int) -> None:
        self._lists[level].append(extents)
        np.add.at(self.counts, extents["kind"], extents["length"])
        self.position += sectors
        for complete in range(len(self._spans)):
            ended = self.position % self._spans[complete] == 0 or self.position == self._sectors
            if ended and self._lists[complete]:
                self._complete(complete)
            elif not ended:
                break

    def _complete(self, level: int) -> None:
        """A page's range is complete: store it, or put its few extents into the page above."""
        extents = coalesce(np.concatenate(self._lists[level]))
        self._lists[level] = []
        if level == self.root_level:
            if self.position == self._sectors:
                self.root = self._write(level, extents)
            return
        if len(extents) > c.INLINE_EXTENTS:
            length = int(extents["length"].sum())
            self._refs[self._next_ref] = self._write(level, extents)
            extents = np.array([(length, self._next_ref, 0, Kind.PAGE)], EXTENT_DTYPE)
            self._next_ref += 1
        self._lists[level + 1].append(extents)

    def _write(self, level: int, extents: ExtentArray) -> Reference:
        below = extents["kind"] == Kind.PAGE
        refs = tuple(self._refs.pop(int(key)) for key in extents["position"][below])
        stored = extents.copy()
        stored["position"][below] = 0
        data = stored["kind"] == Kind.DATA
        used, local = np.unique(stored["origin"][data], return_inverse=True)
        stored["origin"][data] = local
        length = int(stored["length"].sum())
        page = MapPage(
            self._device, level, self.position - length, length, stored,
            tuple(self._origins[int(index)] for index in used), refs,
        )  # fmt: skip
        return self._writer.write(RecordType.MAP, encode_map_page(page))

    def finish(self) -> Reference:
        """Return the root once the whole device was added."""
        if self.root is None or self.position != self._sectors:
            raise RuntimeError("internal error: the map does not cover its device")
        return self.root
