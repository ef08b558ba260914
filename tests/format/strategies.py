"""Hypothesis strategies for valid values of each structure."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from aipimage.extents import Kind, extent_array
from aipimage.format import constants as c
from aipimage.format.checkpoint import NOTE_DTYPE, Checkpoint
from aipimage.format.header import Header
from aipimage.format.layers import BLOCKS_MAX, DIGEST_DTYPE, Layer, LayerLeaf
from aipimage.format.mappage import MapPage, page_sectors
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, RecordHeader, Reference, record_length
from aipimage.format.seal import Seal, SealDevice
from aipimage.format.segments import Segment
from aipimage.format.trailer import Trailer
from tests.format.samples import FANOUT_SHIFT, FRAME_SIZE, STRIPE_SHIFT

Draw = st.DrawFn


def sized(length: int) -> st.SearchStrategy[bytes]:
    """Any bytes of one length."""
    return st.binary(min_size=length, max_size=length)


def ids() -> st.SearchStrategy[bytes]:
    """Ids: 16 bytes, never all zeros."""
    return sized(16).filter(any)


def counts(bits: int) -> st.SearchStrategy[int]:
    """Unsigned integers of so many bits."""
    return st.integers(0, (1 << bits) - 1)


@st.composite
def references(draw: Draw, low: int = c.CORE_MIN, high: int = c.STREAM_MAX) -> Reference:
    """A reference to a record that lies between two offsets."""
    most = min(record_length(c.BODY_MAX), high - low)
    length = draw(st.integers(record_length(1), most))
    offset = draw(st.integers(low, high - length))
    plain = draw(st.integers(1, c.PLAIN_MAX))
    return Reference(draw(sized(16)), offset, length, plain, draw(sized(32)))


@st.composite
def headers(draw: Draw) -> Header:
    """Headers with and without a suite, with any known features."""
    suite = draw(st.integers(0, 3))
    incompatible = draw(st.sampled_from(range(0, 16, 2))) | bool(suite)
    frame_shift = draw(st.integers(12, 22))
    return Header(
        draw(ids()),
        draw(ids()),
        draw(st.integers(-(1 << 63), (1 << 63) - 1)),
        suite,
        incompatible,
        draw(counts(64)),
        frame_shift,
        draw(st.integers(max(20, frame_shift + 1), 30)),
        draw(st.integers(2, 8)),
        draw(sized(32)) if suite else c.ZERO_DIGEST,
        draw(st.text()),
        draw(counts(16)),
        header_mac=draw(sized(32)) if suite else c.ZERO_DIGEST,
    )


@st.composite
def record_headers(draw: Draw) -> RecordHeader:
    """Headers of every record type, ``body_length`` without a tag."""
    kind = draw(st.sampled_from(list(c.RecordType)))
    extents = draw(counts(10)) if kind == c.RecordType.FRAME else 0
    codec = draw(st.sampled_from(list(c.Codec)))
    plain = draw(st.integers(1, c.PLAIN_MAX))
    stored = plain if codec == c.Codec.NONE else draw(st.integers(1, c.PLAIN_MAX))
    body = stored + c.FRAME_EXTENT * extents
    return RecordHeader(kind, codec, extents, body, plain, draw(sized(16)), draw(counts(64)))


@st.composite
def trailers(draw: Draw) -> Trailer:
    """Trailers whose two records lie one after the other, in either order."""
    length = draw(st.integers(c.SPARE_MIN + 2048, c.STREAM_MAX))
    spare = draw(st.integers(c.SPARE_MIN, length - c.TRAILER - 1024))
    end = length - c.TRAILER - spare
    middle = draw(st.integers(512, end - 128))
    below = draw(references(c.CORE_MIN, middle))
    above = draw(references(middle, end))
    seal, segments = draw(st.sampled_from(((above, below), (below, above), (above, NO_REFERENCE))))
    return Trailer(
        length, seal, draw(ids()), draw(ids()), draw(sized(32)), segments, draw(counts(16)), spare
    )


@st.composite
def seal_devices(draw: Draw) -> SealDevice:
    """Devices whose sectors sum to their size."""
    sectors = [draw(counts(45)) for _ in range(5)]
    size = max(1, sum(sectors) * 512 - draw(st.integers(0, 511)))
    sectors[0] += not any(sectors)
    unused, zero, data, unreadable, lost = sectors
    return SealDevice(
        size,
        512 << draw(st.integers(0, 7)),
        draw(st.integers(0, 7)),
        unused,
        zero,
        data,
        unreadable,
        lost,
        draw(references()),
        draw(references() | st.just(NO_REFERENCE)),
    )


@st.composite
def origin_entries(draw: Draw) -> OriginEntry:
    """Origins with and without frames, and with names of any length."""
    frames = draw(st.integers(0, c.FRAMES_MAX))
    return OriginEntry(
        draw(ids()),
        draw(ids()),
        frames,
        draw(references()) if frames else NO_REFERENCE,
        draw(file_names()),
    )


def file_names() -> st.SearchStrategy[bytes]:
    """Hints of any content: a reader may only ignore them."""
    return st.binary(max_size=c.NAME_MAX)


@st.composite
def seals(draw: Draw) -> Seal:
    """Seals of full images and of increments."""
    own, chain, parent = draw(st.lists(ids(), min_size=3, max_size=3, unique=True))
    others = st.lists(origin_entries(), max_size=3, unique_by=lambda item: item.origin)
    first = draw(origin_entries())._replace(origin=own, holder=own)
    origins = (first, *(each for each in draw(others) if each.origin != own))
    full = Seal(
        own,
        chain,
        c.ImageKind.FULL,
        draw(sized(32)),
        draw(counts(64)),
        draw(references()),
        draw(references()),
        tuple(draw(st.lists(seal_devices(), min_size=1, max_size=3))),
        origins,
        replaced=tuple(draw(st.lists(references(), max_size=3))),
    )
    if draw(st.booleans()):
        return full
    kind = draw(st.sampled_from(list(c.ImageKind)))
    of_full = kind == c.ImageKind.DIFFERENTIAL
    sequence = draw(st.integers(1, c.CHAIN_MAX - 1))
    last = draw(st.integers(sequence, c.CHAIN_MAX - 1)) if full.replaced else sequence
    return Seal(
        own, chain, kind, full.header_digest,
        full.record_count, full.description, full.result, full.devices, full.origins, parent,
        draw(sized(32)), last, sequence - 1,
        c.ImageKind.FULL if of_full else draw(st.sampled_from(list(c.ImageKind))), full.replaced,
    )  # fmt: skip


@st.composite
def segment_lists(draw: Draw) -> list[Segment]:
    """Segments that ascend and overlap nowhere, in any order in the stream."""
    origins = sorted(draw(st.lists(sized(16), min_size=1, max_size=3, unique=True)))
    rows: list[list[int | bytes]] = []
    for origin in origins:
        start = 0
        for _ in range(draw(st.integers(1, 3))):
            start += draw(counts(50))
            length = draw(st.integers(1, 1 << 50))
            rows.append([origin, start, length, 0])
            start += length
    place = 0
    for at in draw(st.permutations(range(len(rows)))):
        place += draw(counts(40))
        rows[at][3] = place
        place += int(rows[at][2])
    return [Segment(*row) for row in rows]  # type: ignore[arg-type]


@st.composite
def checkpoints(draw: Draw) -> Checkpoint:
    """Checkpoints with notes of any kind that may be noted."""
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        start, device = draw(counts(48)), draw(st.integers(0, c.DEVICES_MAX - 1))
        sectors = draw(st.integers(1, (1 << 48) - start))
        kind = draw(st.sampled_from((Kind.UNUSED, Kind.ZERO, Kind.UNREADABLE)))
        rows.append((device << 48 | start, sectors, kind))
    device, sector = draw(st.integers(0, c.DEVICES_MAX - 1)), draw(st.integers(0, 1 << 48))
    records = draw(st.integers(1, c.STREAM_MAX))
    running = draw(st.binary(min_size=32, max_size=32))
    return Checkpoint(device, sector, np.array(rows, NOTE_DTYPE), records, running)


@st.composite
def frame_entries(draw: Draw) -> list[tuple[int, int, int, bytes]]:
    """Frames one after the other, with gaps."""
    rows, at = [], c.CORE_MIN
    for _ in range(draw(st.integers(1, 8))):
        at += draw(counts(30))
        length = draw(st.integers(record_length(1), record_length(c.BODY_MAX)))
        plain = 512 * draw(st.integers(1, FRAME_SIZE // 512))
        rows.append((at, length, plain, draw(sized(32))))
        at += length
    return rows


@st.composite
def layers(draw: Draw) -> Layer:
    """Layers with and without entries, over others and over the base."""
    entries, depth = draw(st.integers(0, BLOCKS_MAX)), draw(st.integers(1, c.LAYERS_MAX))
    base = draw(references() if depth > 1 else references() | st.just(NO_REFERENCE))
    tree = draw(references()) if entries else NO_REFERENCE
    limit = draw(st.integers(0, BLOCKS_MAX))
    return Layer(base, tree, limit, entries, depth, draw(file_names()))


@st.composite
def layer_leaves(draw: Draw) -> LayerLeaf:
    """Leaves of a few blocks anywhere."""
    blocks = draw(st.sets(st.integers(0, BLOCKS_MAX - 1), min_size=1, max_size=16))
    digests = np.frombuffer(draw(sized(16 * len(blocks))), DIGEST_DTYPE)
    return LayerLeaf(np.array(sorted(blocks), np.uint64), digests)


@st.composite
def map_pages(draw: Draw) -> MapPage:
    """Pages of a few extents of every kind; pages below them where a page may start."""
    level = draw(st.integers(0, c.MAP_LEVELS - 1))
    span = page_sectors(level, STRIPE_SHIFT, FANOUT_SHIFT)
    first = span * draw(st.integers(0, 100))
    origins = draw(st.lists(sized(16), max_size=3, unique=True))
    rows: list[tuple[int, int, int, int]] = []
    if level:
        below = page_sectors(draw(st.integers(0, level - 1)), STRIPE_SHIFT, FANOUT_SHIFT)
        rows = [(below, 0, 0, Kind.PAGE)] * draw(st.integers(0, 3))
    left = span - sum(row[0] for row in rows)
    for _ in range(draw(st.integers(1, 6))):
        length = draw(st.integers(1, max(1, left // 7)))
        rows.append(draw(_leaf_extent(length, len(origins))))
    refs = [draw(references()) for row in rows if row[3] == Kind.PAGE]
    sectors = sum(row[0] for row in rows)
    device = draw(st.integers(0, c.DEVICES_MAX - 1))
    entries = draw(st.lists(origin_entries(), max_size=3, unique_by=lambda item: item.origin))
    return MapPage(
        device,
        level,
        first,
        sectors,
        extent_array(rows),
        tuple(origins),
        tuple(refs),
        tuple(sorted(entries, key=lambda entry: entry.origin)),
    )


def _leaf_extent(length: int, origins: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    kinds = [Kind.UNUSED, Kind.ZERO, Kind.UNREADABLE, Kind.LOST]
    plain = st.tuples(st.just(length), st.just(0), st.just(0), st.sampled_from(kinds))
    if not origins:
        return plain
    positions = st.integers(0, c.POSITION_LIMIT - length)
    return plain | st.tuples(
        st.just(length), positions, st.integers(0, origins - 1), st.just(Kind.DATA)
    )
