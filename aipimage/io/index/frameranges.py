"""Which ranges of which devices lie in which frames: what damage takes with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from aipimage.errors import AipImageError
from aipimage.extents import SECTOR, ExtentArray, Kind
from aipimage.format.header import Header
from aipimage.io.index.devicemap import DeviceMap

RANGES_MAX = 100
"""Ranges that a finding names at most."""
Range = tuple[int, int, int]
"""Device, offset and length in bytes."""


class MappedDevice(Protocol):
    """What is needed of a device: its number and its map."""

    @property
    def index(self) -> int: ...
    @property
    def map(self) -> DeviceMap: ...


class MappedImage(Protocol):
    """What is needed of an image."""

    @property
    def header(self) -> Header: ...
    @property
    def devices(self) -> Sequence[MappedDevice]: ...


def ranges_of_frames(
    image: MappedImage, frames: Mapping[int, Collection[int]]
) -> dict[tuple[int, int], list[Range]]:
    """Return the first ranges for each (origin, number) of some frames; origins are indexes."""
    ranges: dict[tuple[int, int], list[Range]] = {}
    for device, first, block in _blocks(image):
        for origin, numbers in frames.items():
            _match(device, first, block, origin, numbers, image.header.frame_sectors, ranges)
    return ranges


def all_ranges_of_frames(image: MappedImage, origin: int, numbers: Collection[int]) -> list[Range]:
    """Return every range that lies in some frames of an origin."""
    ranges: dict[tuple[int, int], list[Range]] = {}
    for device, first, block in _blocks(image):
        size = image.header.frame_sectors
        _match(device, first, block, origin, numbers, size, ranges, 1 << 40)
    return [each for found in ranges.values() for each in found]


def ranges_of_origins(
    image: MappedImage, origins: Collection[int], most: int = RANGES_MAX
) -> dict[int, list[Range]]:
    """Return the first ranges of data whose frames are of some origins."""
    ranges: dict[int, list[Range]] = {origin: [] for origin in origins}
    for device, first, block in _blocks(image):
        ends = first + np.cumsum(block["length"])
        data = block["kind"] == Kind.DATA
        for origin, found in ranges.items():
            rows = np.flatnonzero(data & (block["origin"] == origin))
            for row in rows[: most - len(found)].tolist():
                length = int(block["length"][row])
                found.append((device, (int(ends[row]) - length) * SECTOR, length * SECTOR))
    return ranges


def used_origins(image: MappedImage) -> set[int]:
    """Indexes of the origins that the image's maps name, as far as these can be read."""
    used: set[int] = set()
    for _, _, block in _blocks(image):
        used.update(np.unique(block["origin"][block["kind"] == Kind.DATA]).tolist())
    return used


def _blocks(image: MappedImage) -> Iterator[tuple[int, int, ExtentArray]]:
    """Yield (device, first sector, extents); a map ends where it cannot be read, which the
    verification reports elsewhere.
    """
    for device in image.devices:
        try:
            for first, block in device.map.walk():
                yield device.index, first, block
        except AipImageError:
            continue


def _match(
    device: int,
    first: int,
    block: ExtentArray,
    origin: int,
    numbers: Collection[int],
    size: int,
    ranges: dict[tuple[int, int], list[Range]],
    most: int = RANGES_MAX,
) -> None:
    """Add the ranges of one block of extents that lie in the frames ``numbers`` of an origin."""
    starts = first + np.cumsum(block["length"]) - block["length"]
    mine = (block["kind"] == Kind.DATA) & (block["origin"] == origin)
    rows, at = block[mine], starts[mine]
    ends = rows["position"] + rows["length"]
    for number in numbers:
        low, high = number * size, (number + 1) * size
        for row in np.flatnonzero((rows["position"] < high) & (ends > low)).tolist():
            begin = max(low, int(rows["position"][row]))
            end = min(high, int(ends[row]))
            offset = int(at[row]) + begin - int(rows["position"][row])
            found = ranges.setdefault((origin, number), [])
            if len(found) < most:
                found.append((device, offset * SECTOR, (end - begin) * SECTOR))
