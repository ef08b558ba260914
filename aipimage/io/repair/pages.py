"""Whole index records that a walk found, by digest and, map pages, by what they describe."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import NamedTuple

import numpy as np

from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.mappage import MapPage, decode_map_page, page_sectors
from aipimage.format.record import Reference
from aipimage.io.records.records import OpenedRecord
from aipimage.io.repair.scan import FoundRecord, RecordScanner

_PREFIX = 8


class PageIndex:
    """Where index records lie, 16 bytes each, found by the first bytes of their digests."""

    def __init__(self) -> None:
        self._prefixes, self._places = array("Q"), array("Q")

    def add(self, found: FoundRecord) -> None:
        """Note a whole record."""
        self._prefixes.append(int.from_bytes(found.digest[:_PREFIX], "little"))
        self._places.append(found.place)

    def settle(self) -> None:
        """Sort, after the last one was added."""
        prefixes = np.frombuffer(self._prefixes.tobytes(), np.uint64)
        order = np.argsort(prefixes, kind="stable")
        self._prefixes = array("Q", prefixes[order].tobytes())
        places = np.frombuffer(self._places.tobytes(), np.uint64)
        self._places = array("Q", places[order].tobytes())

    def find(self, scanner: RecordScanner, ref: Reference, kind: int) -> FoundRecord | None:
        """The record that a reference means, wherever it lies now."""
        prefix = int.from_bytes(ref.digest[:_PREFIX], "little")
        row = bisect_left(self._prefixes, prefix)
        while row < len(self._prefixes) and self._prefixes[row] == prefix:
            found = scanner.record_at(self._places[row])
            if found is not None and found.digest == ref.digest and _is_meant(found, ref, kind):
                return found
            row += 1
        return None


def _is_meant(found: FoundRecord, ref: Reference, kind: int) -> bool:
    header: tuple[object, ...] = (
        found.header.type,
        found.header.origin,
        found.length,
        found.header.plain_length,
    )
    return header == (kind, ref.origin, ref.record_length, ref.plain_length)


class Described(NamedTuple):
    """A map page as its first bytes describe it."""

    device: int
    first: int
    sectors: int
    level: int
    place: int


class LooseMaps:
    """Map pages by the range that they state; of two for one range the later one counts."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._pages: dict[tuple[int, int, int, int], Described] = {}
        self._firsts: dict[int, list[int]] = {}

    def add(self, found: FoundRecord) -> None:
        """Note a whole map page."""
        page = self.decoded(found.opened)
        if page is not None:
            key = page.device, page.first, page.sectors, page.level
            self._pages[key] = Described(*key, found.place)

    def decoded(self, opened: OpenedRecord) -> MapPage | None:
        """The page, if its record holds one."""
        if opened.header.type != RecordType.MAP:
            return None
        try:
            return decode_map_page(
                opened.plain, self._header.stripe_shift, self._header.fanout_shift
            )
        except AipImageError:
            return None

    def settle(self) -> None:
        """Sort, after the last one was added."""
        firsts: dict[int, set[int]] = {}
        for device, first, _, _ in self._pages:
            firsts.setdefault(device, set()).add(first)
        self._firsts = {device: sorted(found) for device, found in firsts.items()}

    def devices(self) -> dict[int, int]:
        """Device number to the sectors that pages of it reach."""
        reach: dict[int, int] = {}
        for device, first, sectors, _ in self._pages:
            reach[device] = max(reach.get(device, 0), first + sectors)
        return reach

    def widest_at(
        self, device: int, first: int, end: int, device_end: int, above: int
    ) -> Described | None:
        """The page of the highest level below ``above`` that begins at ``first`` and ends at
        ``end`` or before.
        """
        for level in range(above - 1, -1, -1):
            span = page_sectors(level, self._header.stripe_shift, self._header.fanout_shift)
            sectors = min(span, device_end - first)
            if first % span == 0 and first + sectors <= end:
                page = self._pages.get((device, first, sectors, level))
                if page is not None:
                    return page
        return None

    def next_first(self, device: int, sector: int, end: int) -> int:
        """Where the next page begins after ``sector``, or ``end``."""
        firsts = self._firsts.get(device, [])
        index = bisect_left(firsts, sector + 1)
        return min(end, firsts[index]) if index < len(firsts) else end
