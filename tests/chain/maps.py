"""Maps without images: points in time of one device, and a plain model with a row a sector."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from aipimage.extents import EXTENT_DTYPE, ExtentArray, Kind, extent_array
from aipimage.format.constants import CORE_MIN
from aipimage.format.header import Header
from aipimage.format.mappage import MapPage, page_sectors
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import SealDevice
from aipimage.io.index.devicemap import DeviceMap, LoadedPage
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.index.mapupdate import MapUpdate
from aipimage.io.index.origins import NamedOrigins, Origins, Renumbering
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import RecordReader, RecordWriter
from aipimage.io.stream.outstream import PipeStream

MODEL = np.dtype([("kind", "u1"), ("run", "<u2"), ("place", "<u8")])
PLAIN = (Kind.UNUSED, Kind.ZERO, Kind.DATA, Kind.UNREADABLE, Kind.LOST)


@dataclass
class Point:
    """A point in time: its map, what a seal says of it, and how many records it wrote."""

    map: DeviceMap
    entry: SealDevice
    names: list[bytes]
    written: int


class World:
    """Runs that each write a stream of their own, and a reader of them all.

    Attributes:
        header: with the shifts. fetched: references that were followed.
    """

    def __init__(self, stripe_shift: int = 20, fanout_shift: int = 2) -> None:
        self.header = Header(bytes(16), bytes(16), 0, 0, 0, 0, 12, stripe_shift, fanout_shift)
        self.runs: list[bytes] = []
        self.fetched: list[Reference] = []
        self._streams: dict[bytes, io.BytesIO] = {}
        self._reader = RecordReader(self._read, None)
        self._reader.on_fetch = self.fetched.append

    def _read(self, origin: bytes, offset: int, length: int) -> bytearray:
        return bytearray(self._streams[origin].getbuffer()[offset : offset + length])

    def builder(self, sectors: int, inherited: Sequence[bytes] = ()) -> MapBuilder:
        """The builder of a new run; its own origin comes first, as in a seal."""
        target, numbers = io.BytesIO(), RecordNumbers()
        stream = PipeStream(target)
        stream.append([bytes(CORE_MIN)])  # No reference leads to before the end of a header.
        self.writer = RecordWriter(stream, numbers, None, None)
        self._streams[numbers.origin] = target
        self.runs.append(numbers.origin)
        self.names = [numbers.origin, *inherited]
        self.numbered = NamedOrigins(numbers.origin)
        self.numbered.inherit(told(inherited), lambda entry: "")
        shifts = self.header.stripe_shift, self.header.fanout_shift
        return MapBuilder(self.writer, 0, sectors, self.numbered, *shifts)

    def point(self, builder: MapBuilder, root: Reference, counts: Sequence[int]) -> Point:
        """What can be read once a builder is done."""
        fields = [int(counts[kind]) for kind in PLAIN]
        entry = SealDevice(builder.sectors * 512, 512, builder.root_level, *fields, root)
        return Point(self.opened(entry, self.names), entry, self.names, self.writer.count)

    def opened(
        self, entry: SealDevice, names: list[bytes], origins: Origins | None = None
    ) -> DeviceMap:
        """A device's map with nothing read yet; it numbers ``origins``."""
        known = told(names) if origins is None else origins
        return DeviceMap(self._reader, self.header, entry, 0, known)

    def full(self, sectors: int, extents: ExtentArray) -> Point:
        """A map made from nothing."""
        builder = self.builder(sectors)
        builder.add(extents)
        return self.point(builder, builder.finish(), builder.counts.tolist())

    def update(self, old: Point, sectors: int) -> MapUpdate:
        """Begin an increment on ``old``, of which nothing was read yet.

        The new list of origins is in another order than the parent's.
        """
        builder = self.builder(sectors, old.names[::-1])
        origins = told(old.names)
        numbers = Renumbering(origins, self.numbered.number)
        return MapUpdate(self.opened(old.entry, old.names, origins), old.entry, builder, numbers)

    def finished(self, update: MapUpdate) -> Point:
        """End an increment."""
        return self.point(update._builder, update.finish(), update.counts.tolist())

    def content(self, point: Point) -> np.ndarray:
        """The map as a model, a row a sector."""
        blocks = list(self.opened(point.entry, point.names).walk())
        assert [first for first, _ in blocks] == [
            0,
            *np.cumsum([int(block["length"].sum()) for _, block in blocks])[:-1].tolist(),
        ]
        runs = [self.runs.index(name) for name in point.names]
        return expanded(np.concatenate([block for _, block in blocks]), runs)

    def pages(self, point: Point) -> list[tuple[MapPage, Reference]]:
        """Every page of a map with its reference."""
        found: list[tuple[MapPage, Reference]] = []
        maps = self.opened(point.entry, point.names)

        def visit(page: LoadedPage, ref: Reference) -> None:
            found.append((page.page, ref))
            for row, below in page.refs.items():
                visit(maps.child(page, row), below)

        visit(maps.root(), point.entry.map_root)
        return found

    def check_shape(self, point: Point) -> None:
        """Every page is as section 7 wants it beyond what its decoder checks."""
        shifts = self.header.stripe_shift, self.header.fanout_shift
        for page, _ in self.pages(point):
            span = page_sectors(page.level, *shifts)
            assert page.sectors == min(span, point.entry.sectors - page.first)
            if page.level:
                starts = np.cumsum(page.extents["length"]) - page.extents["length"]
                ends = starts + page.extents["length"] - np.uint64(1)
                below = np.uint64(page_sectors(page.level - 1, *shifts))
                for block in range(-(-page.sectors // int(below))):
                    inside = (starts // below <= block) & (ends // below >= block)
                    assert np.count_nonzero(inside) <= 16


def told(names: Sequence[bytes]) -> Origins:
    """The origins of these names, each an image's only run."""
    return Origins(OriginEntry(name, name, 0, NO_REFERENCE) for name in names)


def expanded(extents: ExtentArray, runs: Sequence[int]) -> np.ndarray:
    """Extents as a model; ``runs`` tells the number of the run of each origin."""
    length = extents["length"].astype(np.int64)
    model = np.zeros(int(length.sum()), MODEL)
    model["kind"] = np.repeat(extents["kind"], length)
    inside = np.arange(len(model)) - np.repeat(np.cumsum(length) - length, length)
    data = model["kind"] == Kind.DATA
    place = np.repeat(extents["position"], length) + inside.astype(np.uint64)
    model["place"][data] = place[data]
    model["run"][data] = np.array(runs, np.uint16)[np.repeat(extents["origin"], length)[data]]
    return model


def mixed(length: int, seed: int, grain: int = 3) -> ExtentArray:
    """Short extents of every kind that fill ``length`` sectors; data of origin 0."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, grain + 1, length))
    ends = np.append(ends[ends < length], length)
    extents = np.zeros(len(ends), EXTENT_DTYPE)
    extents["length"] = np.diff(ends, prepend=0)
    extents["kind"] = np.array(PLAIN)[rng.integers(0, len(PLAIN), len(ends))]
    data = extents["kind"] == Kind.DATA
    extents["position"][data] = rng.integers(0, 1 << 30, int(data.sum()))
    return extents


def alternating(sectors: int, start: int = 0) -> ExtentArray:
    """Data and zero, a sector each."""
    extents = np.zeros(sectors, EXTENT_DTYPE)
    extents["length"], extents["kind"] = 1, Kind.ZERO
    extents["kind"][::2] = Kind.DATA
    extents["position"][::2] = np.arange(start, start + 2 * len(extents[::2]), 2)
    return extents


def run(length: int, kind: Kind, place: int = 0) -> ExtentArray:
    """One extent of origin 0."""
    return extent_array([(length, place, 0, kind)])


# Of a stripe of 2048 sectors, and of pages of level 1 and 2 with 4 or 32 stripes.
EDGES = [1, 2047, 2048, 2049, 4096, 8191, 8192, 8193, 32_768, 65_535, 65_536, 65_537, 131_072]
SIZES = st.one_of(st.sampled_from(EDGES), st.integers(1, 40_000), st.integers(1, 200_000))
STEPS = st.one_of(st.integers(0, 50), st.sampled_from([0, *EDGES]), st.integers(0, 9000))


@st.composite
def filling(draw: st.DrawFn, length: int) -> ExtentArray:
    """What ``length`` sectors may hold: one extent, or very many."""
    seed = draw(st.integers(0, 1 << 20))
    if draw(st.booleans()):
        return mixed(length, seed, draw(st.sampled_from([2, 40, 150, 900, 4000])))
    kind = draw(st.sampled_from(PLAIN))
    return run(length, kind, seed if kind == Kind.DATA else 0)


@st.composite
def whole_maps(draw: st.DrawFn) -> tuple[int, ExtentArray]:
    """A size and extents that fill it."""
    sectors = draw(SIZES)
    cut = min(draw(STEPS), sectors)
    parts = [draw(filling(length)) for length in (cut, sectors - cut) if length]
    return sectors, np.concatenate(parts)


Change = tuple[int, ExtentArray]


@st.composite
def changes(draw: st.DrawFn, old: int) -> tuple[int, list[Change]]:
    """A new size, and (start, extents) in ascending order; a new tail is among them."""
    sectors = draw(st.one_of(st.just(old), SIZES))
    found: list[Change] = []
    at = 0
    for gap, length in draw(st.lists(st.tuples(STEPS, STEPS), max_size=5)):
        start = max(at, min(at + gap, old))
        length = min(length, sectors - start)
        if length > 0:
            found.append((start, draw(filling(length))))
            at = start + length
    if max(at, old) < sectors:
        start = max(at, old)
        found.append((start, draw(filling(sectors - start))))
    return sectors, found


def applied(
    update: MapUpdate, changed: list[Change], model: np.ndarray, sectors: int, number: int
) -> np.ndarray:
    """Give changes to an update, what is kept in steps, and return the model with them."""
    result = np.zeros(sectors, MODEL)
    kept = min(sectors, len(model))
    result[:kept] = model[:kept]
    for start, extents in changed:
        update.keep_to((update.position + start) // 2)
        update.keep_to(start)
        update.replace(extents)
        rows = expanded(extents, [number])
        assert update.position == start + len(rows)
        result[start : start + len(rows)] = rows
    return result


def counted(model: np.ndarray) -> list[int]:
    """Sectors of each kind."""
    return np.bincount(model["kind"], minlength=len(Kind)).tolist()


def runs_of(flags: np.ndarray, kinds: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(start, length, kind) of the runs of one kind where ``flags`` is set."""
    keys = np.where(flags, kinds.astype(np.int16), -1)
    heads = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    for start, end in zip(heads, [*heads[1:], len(keys)], strict=True):
        if keys[start] >= 0:
            yield int(start), int(end - start), int(keys[start])
