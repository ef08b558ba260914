"""Map pages: docs/format.md, sections 7 and 7.1."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from aipimage.errors import FormatError
from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.gates import verified_equal, verified_length, verified_limit, verified_zero
from aipimage.format.origins import OriginEntry, decode_origins, encode_origins, verified_ascending
from aipimage.format.record import Reference, decode_reference, encode_reference

_HEADER = struct.Struct("<QQIIIHHB3s")
_COLUMNS = 8 + 8 + 2 + 1


@dataclass(frozen=True, slots=True, eq=False)
class MapPage:
    """One page; ``extents`` is an ``EXTENT_DTYPE`` array, its ``origin`` indexes ``origins``;
    ``entries`` ascend by their origins (section 7.1).
    """

    device: int
    level: int
    first: int
    sectors: int
    extents: ExtentArray
    origins: tuple[bytes, ...] = ()
    refs: tuple[Reference, ...] = ()
    entries: tuple[OriginEntry, ...] = ()


def page_sectors(level: int, stripe_shift: int, fanout_shift: int) -> int:
    """Sectors that a page of ``level`` covers where the device does not end before."""
    return 1 << (stripe_shift - 9 + level * fanout_shift)


def root_level(device_sectors: int, stripe_shift: int, fanout_shift: int) -> int:
    """The lowest level whose first page covers the whole device."""
    level = 0
    while page_sectors(level, stripe_shift, fanout_shift) < device_sectors:
        level += 1
    return level


def encode_map_page(page: MapPage) -> bytes:
    """Return the plain page."""
    extents = page.extents
    head = _HEADER.pack(
        page.first,
        page.sectors,
        page.device,
        len(extents),
        len(page.refs),
        len(page.origins),
        len(page.entries),
        page.level,
        b"",
    )
    columns = (extents["length"], _steps(extents), extents["origin"], extents["kind"])
    return b"".join(
        [head, *page.origins, *(column.tobytes() for column in columns)]
        + [encode_reference(ref) for ref in page.refs]
        + [encode_origins(page.entries)]
    )


def decode_map_page(data: bytes | memoryview, stripe_shift: int, fanout_shift: int) -> MapPage:
    """Decode a page and check all that can be checked without its device and its children."""
    if len(data) < _HEADER.size:
        raise FormatError("a map page is cut short")
    (first, sectors, device, count, refs, origins, entry_count, level, reserved) = (
        _HEADER.unpack_from(data)
    )
    verified_zero(reserved, "map page")
    verified_limit(level, c.MAP_LEVELS - 1, "level of a map page")
    verified_limit(origins, c.ORIGINS_MAX, "origins of a map page")
    verified_limit(entry_count, c.ORIGINS_MAX, "origin entries of a map page")
    names_at = _HEADER.size
    columns_at = names_at + 16 * origins
    refs_at = columns_at + count * _COLUMNS
    entries_at = refs_at + refs * c.REFERENCE
    if len(data) < entries_at:
        raise FormatError("a map page is shorter than its counts say")
    entries, end = decode_origins(data, entries_at, entry_count)
    verified_length(data, end, "map page")
    span = page_sectors(level, stripe_shift, fanout_shift)
    if first % span or not 0 < sectors <= span:
        raise FormatError("a map page covers an impossible range")
    verified_limit(device, c.DEVICES_MAX - 1, "device of a map page")
    verified_limit(first + sectors, c.DEVICE_SIZE_MAX // 512, "end of a map page")
    extents = _decode_extents(data, columns_at, count)
    page = MapPage(
        device,
        level,
        first,
        sectors,
        extents,
        tuple(bytes(data[at : at + 16]) for at in range(names_at, columns_at, 16)),
        tuple(decode_reference(data, at) for at in range(refs_at, entries_at, c.REFERENCE)),
        verified_ascending(entries),
    )
    _check_extents(page, stripe_shift, fanout_shift)
    return page


def _steps(extents: ExtentArray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Column ``steps`` from positions: what a data extent adds to the end of the data before it."""
    steps = np.zeros(len(extents), "<u8")
    rows = np.flatnonzero(extents["kind"] == Kind.DATA)
    position, length = extents["position"][rows], extents["length"][rows]
    expected = np.zeros(len(rows), "<u8")
    expected[1:] = position[:-1] + length[:-1]
    steps[rows] = position - expected
    return steps


def _decode_extents(data: bytes | memoryview, at: int, count: int) -> ExtentArray:
    extents = np.zeros(count, EXTENT_DTYPE)
    extents["length"] = length = np.frombuffer(data, "<u8", count, at)
    steps = np.frombuffer(data, "<u8", count, at + 8 * count)
    extents["origin"] = np.frombuffer(data, "<u2", count, at + 16 * count)
    extents["kind"] = kind = np.frombuffer(data, "u1", count, at + 18 * count)
    is_data = kind == Kind.DATA
    if steps[~is_data].any() or extents["origin"][~is_data].any():
        raise FormatError("a map extent without data has a position")
    rows = np.flatnonzero(is_data)
    ends = np.cumsum(steps[rows] + length[rows], dtype=np.uint64)
    extents["position"][rows] = ends - length[rows]
    return extents


def _check_extents(page: MapPage, stripe_shift: int, fanout_shift: int) -> None:
    length, kind = page.extents["length"], page.extents["kind"]
    if (length == 0).any() or (length > page.sectors).any():
        raise FormatError("a map extent has an impossible length")
    ends = np.cumsum(length, dtype=np.uint64)  # ascends as long as it does not wrap around
    if not len(ends) or ends[-1] != page.sectors or (ends[1:] <= ends[:-1]).any():
        raise FormatError("the extents of a map page do not sum to its range")
    if (kind > Kind.LOST).any():
        raise FormatError("a map extent is of an unknown kind")
    data = page.extents[kind == Kind.DATA]
    if len(set(page.origins)) != len(page.origins):
        raise FormatError("a map page lists an origin twice")
    if (data["origin"] >= len(page.origins)).any():
        raise FormatError("a map extent names an origin that its page does not list")
    limit = np.uint64(c.POSITION_LIMIT)  # no length is over it: a device has fewer sectors
    if (data["position"] >= limit).any() or (data["position"] + data["length"] > limit).any():
        raise FormatError("a map extent has an impossible position")
    _check_children(page, stripe_shift, fanout_shift)


def _check_children(page: MapPage, stripe_shift: int, fanout_shift: int) -> None:
    """An extent of kind page is the whole range of a page of a lower level (section 7)."""
    rows = np.flatnonzero(page.extents["kind"] == Kind.PAGE)
    verified_equal(len(rows), len(page.refs), "number of pages below a map page")
    if not len(rows):
        return
    starts = np.cumsum(page.extents["length"], dtype=np.uint64) - page.extents["length"]
    spans = [page_sectors(level, stripe_shift, fanout_shift) for level in range(page.level)]
    end = page.first + page.sectors
    for row, ref in zip(rows, page.refs, strict=True):
        start, length = page.first + int(starts[row]), int(page.extents["length"][row])
        if not any(start % s == 0 and length == min(s, end - start) for s in spans):
            raise FormatError("a map extent refers to a page that cannot start or end there")
        if ref.record_length == 0:
            raise FormatError("a map page has an empty reference")
