"""Reading a device's map: which page describes a sector, and all extents in order (docs/format.md,
section 7).
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aipimage.errors import FormatError, naming_if
from aipimage.extents import DATA, ExtentArray, Kind
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.mappage import MapPage, decode_map_page
from aipimage.format.origins import OriginEntry
from aipimage.format.record import Reference
from aipimage.format.seal import SealDevice
from aipimage.io.index.origins import Origins
from aipimage.io.records.records import RecordReader
from aipimage.io.system.cache import BoundedCache

_PAGES_KEPT_BYTES = 16 << 20
_EXTENT = struct.Struct("<QQHB")
"""A row of an extent array, which is read one at a time several times as fast so as by numpy."""


class Piece(NamedTuple):
    """A run of sectors of one kind; ``origin`` and ``position`` (packed sector) where it is
    data.
    """

    start: int
    length: int
    kind: int
    origin: int
    position: int


class LoadedPage:
    """A page with what looking up needs: first sectors of its extents, and origins of the whole
    image.

    Args:
        image_id: the image that wrote the page. runs: entries of that image's runs, from what led
            to the page (section 7.1).
    """

    __slots__ = ("_image_id", "_runs", "extents", "nbytes", "page", "raw", "refs", "starts")

    def __init__(
        self, page: MapPage, image_id: bytes, runs: Sequence[OriginEntry], origins: Origins
    ) -> None:
        self.page, self._image_id, self._runs = page, image_id, runs
        length = page.extents["length"]
        starts = np.cumsum(length) - length + np.uint64(page.first)
        # Searched one at a time, where bisect on an array is several times as fast as numpy.
        self.starts = array("Q", starts.tobytes())
        self.extents = page.extents
        data = page.extents["kind"] == Kind.DATA
        origins.learn(page.entries)
        listed = {entry.origin for entry in (*page.entries, *runs)}
        if data.any():
            if not listed.issuperset(page.origins):
                raise FormatError("a map page names an origin, and nothing that leads to it does")
            table = np.array([origins[origin] for origin in page.origins], np.uint16)
            self.extents["origin"][data] = table[page.extents["origin"][data]]
        self.raw = self.extents.view(np.uint8).data
        below = np.flatnonzero(page.extents["kind"] == Kind.PAGE)
        self.refs = dict(zip(below.tolist(), page.refs, strict=True))
        if any(ref.origin != image_id and ref.origin not in listed for ref in page.refs):
            raise FormatError("a map page refers to one of another image that it does not list")
        self.nbytes = self.extents.nbytes + 8 * len(self.starts) + 512 + 200 * len(self.refs)
        self.nbytes += 400 * len(page.entries)

    def row(self, index: int) -> tuple[int, int, int, int]:
        """Return (length, position, origin, kind) of an extent."""
        found: tuple[int, int, int, int] = _EXTENT.unpack_from(self.raw, index * _EXTENT.size)
        return found

    def runs_below(self, ref: Reference) -> Sequence[OriginEntry]:
        """The runs of the image of a page below this one."""
        if ref.origin == self._image_id:
            return self._runs
        return [entry for entry in self.page.entries if entry.holder == ref.origin]


class DeviceMap:
    """The map of one device; safe for threads. Keeps decoded pages up to a bound in bytes.

    Args:
        name: of the image, which errors name; empty where the caller names it.
    """

    def __init__(
        self,
        records: RecordReader,
        header: Header,
        device: SealDevice,
        index: int,
        origins: Origins,
        name: str = "",
    ) -> None:
        self._named = naming_if(name)
        self._records, self._header, self._device, self._index = records, header, device, index
        self._origins = origins
        # Only the seal was read by now: what else lists these runs is not asked.
        self._runs = origins.runs_of(device.map_root.origin)
        self._pages: BoundedCache[bytes, LoadedPage] = BoundedCache(
            _PAGES_KEPT_BYTES, lambda page: page.nbytes
        )
        self._last: LoadedPage | None = None
        # Kept whatever else is dropped: every walk begins at it.
        self._top: LoadedPage | None = None

    def data_at(self, sector: int) -> tuple[int, int, int, int] | None:
        """Return (start, length, origin, position) of the extent of data that holds a sector;
        ``None`` where it is another kind, or a page is to be read to find it.
        """
        page = self._last
        if page is None or not 0 <= sector - page.page.first < page.page.sectors:
            page = self._kept_leaf(sector)
            if page is None:
                return None
        at = bisect_right(page.starts, sector) - 1
        length, position, origin, kind = _EXTENT.unpack_from(page.raw, at * _EXTENT.size)
        return (page.starts[at], length, origin, position) if kind == DATA else None

    def _kept_leaf(self, sector: int) -> LoadedPage | None:
        """The page that describes ``sector``, if all pages on the way to it are kept."""
        page = self._top
        while page is not None:
            row = bisect_right(page.starts, sector) - 1
            ref = page.refs.get(row)
            if ref is None:
                self._last = page
                return page
            child = self._pages.find(ref.digest)
            page = child if child is not None and _belongs(child, page, row) else None
        return None

    def pieces(self, sector: int, count: int) -> list[Piece]:
        """Return the pieces that cover ``count`` sectors from ``sector`` on, cut to that range."""
        result: list[Piece] = []
        end = sector + count
        while sector < end:
            page = self._leaf_at(sector)
            row = bisect_right(page.starts, sector) - 1
            rows = len(page.extents)
            while row < rows and sector < end:
                length, position, origin, kind = page.row(row)
                if kind == Kind.PAGE:
                    break
                start = page.starts[row]
                taken = min(start + length, end) - sector
                result.append(Piece(sector, taken, kind, origin, position + sector - start))
                sector += taken
                row += 1
        return result

    def _leaf_at(self, sector: int) -> LoadedPage:
        """The page that describes ``sector`` itself."""
        last = self._last
        if last is not None and 0 <= sector - last.page.first < last.page.sectors:
            page = last
        else:
            page = self.root()
        while True:
            row = bisect_right(page.starts, sector) - 1
            if row not in page.refs:
                self._last = page
                return page
            page = self.child(page, row)

    def root(self) -> LoadedPage:
        """The root, which must cover the whole device."""
        with self._named():
            self._top = root = self._checked_root()
        return root

    def _checked_root(self) -> LoadedPage:
        if not self._runs:
            raise FormatError("the seal does not list the image that the root of a map belongs to")
        root = self._load(self._device.map_root, self._runs)
        page = root.page
        if (page.first, page.sectors, page.level) != (
            0,
            self._device.sectors,
            self._device.map_level,
        ):
            raise FormatError("the root of a map does not cover its device")
        return root

    def child(self, page: LoadedPage, row: int) -> LoadedPage:
        """The page below an extent of kind page."""
        with self._named():
            return self._checked_child(page, row)

    def _checked_child(self, page: LoadedPage, row: int) -> LoadedPage:
        ref = page.refs[row]
        child = self._load(ref, page.runs_below(ref))
        if not _belongs(child, page, row):
            raise FormatError("a map page is not the one that its place needs")
        return child

    def _load(self, ref: Reference, runs: Sequence[OriginEntry]) -> LoadedPage:
        page = self._pages.find(ref.digest)
        if page is not None:
            return page
        plain = self._records.fetch(ref, RecordType.MAP).plain
        header = self._header
        decoded = decode_map_page(plain, header.stripe_shift, header.fanout_shift)
        if decoded.device != self._index:
            raise FormatError("a map page belongs to another device")
        page = LoadedPage(decoded, ref.origin, runs, self._origins)
        self._pages.keep(ref.digest, page)
        return page

    def forget(self) -> None:
        """Drop decoded pages, so that all are read again."""
        self._pages.clear()
        self._last = self._top = None

    def walk(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, ExtentArray]]:
        """Yield (first sector, extents) in device order; arrays have no extents of kind page.

        The arrays follow each other without gaps and may reach outside of the range at both ends.
        Pages are loaded as the walk comes to them; the depth is at most 8.
        """
        end = self._device.sectors if end is None else end
        stack: list[tuple[LoadedPage, int]] = [(self.root(), 0)]
        while stack:
            page, row = stack.pop()
            below = next((r for r in page.refs if r >= row), len(page.extents))
            if below > row:
                block = page.extents[row:below]
                first = page.starts[row]
                if first < end and first + int(block["length"].sum()) > start:
                    yield first, block
            if below == len(page.extents):
                continue
            first = page.starts[below]
            if first >= end:
                return
            stack.append((page, below + 1))
            if first + int(page.extents["length"][below]) > start:
                stack.append((self.child(page, below), 0))


def _belongs(child: LoadedPage, page: LoadedPage, row: int) -> bool:
    """Whether a page is one that the extent ``row`` of a page above it needs."""
    found = child.page
    wanted = (page.starts[row], page.row(row)[0])
    return (found.first, found.sectors) == wanted and found.level < page.page.level
