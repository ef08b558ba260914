"""The scanner and the plan against plain twins (docs/format.md, sections 8.1 and 9.4)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aipimage.extents import Extent, Kind
from aipimage.format.layers import DIGEST_DTYPE
from aipimage.io.increment import plan as planning
from aipimage.io.increment import scan
from aipimage.io.increment.plan import (
    compared_pieces,
    compared_ranges,
    must_take,
    sample_offsets,
    tracked_pieces,
)
from aipimage.io.increment.scan import Method, Scanner, ScanPiece, block_digests
from aipimage.ranges import aligned, joined
from tests.support.memorychains import Disk, _digest

BLOCK = 65_536
QUIET = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
GRAINS = st.sampled_from([512, 1024, 2048, 4096])


class Old:
    """A parent's device over plain bytes."""

    def __init__(self, data: bytes, kinds: list[Extent] | None = None) -> None:
        self.data, self.size = data, len(data)
        self._extents = kinds or [Extent(0, len(data), Kind.DATA)]

    def read_into(self, buffer: Any, offset: int) -> int:
        part = self.data[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def bytes_of(self, kind: Kind) -> int:
        return sum(each.length for each in self._extents if each.kind == kind)

    def extents(self, kind: Kind | None = None) -> Iterator[Extent]:
        return (each for each in self._extents if kind in (None, each.kind))


def read_range(device: Old, view: memoryview, offset: int, buffers: object) -> None:
    """What reads a range of a parent."""
    assert device.read_into(view, offset) == view.nbytes


@st.composite
def contents(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What a disk held and holds now: mostly alike, of sizes at the edges."""
    edges = [1, 511, 4096, 4097, BLOCK, BLOCK + 1, 3 * BLOCK - 512, 200_000]
    sizes = st.one_of(st.sampled_from(edges), st.integers(1, 300_000))
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    old = _content(chance, draw(sizes))
    size = len(old) if draw(st.booleans()) else draw(sizes)
    new = bytearray(old[:size] + bytes(max(0, size - len(old))))
    for _ in range(draw(st.integers(0, 8))):
        length = min(size, chance.choice((1, 512, 5000, 70_000)))
        start = chance.randrange(size - length + 1)
        new[start : start + length] = _content(chance, length)
    return old, bytes(new)


def _content(chance: random.Random, size: int) -> bytes:
    parts = []
    while sum(map(len, parts)) < size:
        length = chance.choice((512, 4096, 30_000))
        parts.append(chance.choice((bytes(length), b"\x01" * length, chance.randbytes(length))))
    return b"".join(parts)[:size]


def ranges_of(rows: Any) -> np.ndarray:
    return joined(np.array(rows, np.uint64).reshape(-1, 2))


@st.composite
def some_ranges(draw: st.DrawFn, size: int, grain: int) -> np.ndarray:
    """Ranges of whole clusters, the last cut at the end."""
    units = -(-size // grain)
    rows = draw(st.lists(st.tuples(st.integers(0, units - 1), st.integers(1, 20)), max_size=6))
    wide = [(first * grain, count * grain) for first, count in rows]
    return aligned(ranges_of(wide), grain, size)


def marked(ranges: Any, size: int) -> np.ndarray:
    """One element a byte."""
    found = np.zeros(size, np.bool_)
    for offset, length in np.asarray(ranges).tolist():
        assert length > 0
        assert offset + length <= size
        assert not found[offset : offset + length].any(), "looked at twice"
        found[offset : offset + length] = True
    return found


def twin(
    old: bytes, new: Disk, piece: ScanPiece, grain: int, method: Method, parent: bool
) -> dict[int, tuple[int, bytes]]:
    """For each sector that changed its kind and what is in it now."""
    size = new.size
    content = new.content()
    inside = marked(piece.segments, size)
    take = marked(piece.take, size)
    was = old[:size] + bytes(max(0, size - len(old)))
    bad = [n for start, length in new.bad for n in range(start // 512, -(-(start + length) // 512))]
    bad = [n for n in bad if inside[min(n * 512, size - 1)]]
    if method == Method.TRACKED and parent:
        # What is told to be unchanged is taken from the parent, where it can be read.
        bad = [n for n in bad if take[n * 512]]
    step = 512 if bad else grain
    found: dict[int, tuple[int, bytes]] = {}
    for start in range(0, size, step):
        stop = min(start + step, size)
        if not inside[start]:
            continue
        if method == Method.TRACKED:
            changed = bool(take[start])
        elif method == Method.DATA:
            changed = bool(take[start]) or content[start:stop] != was[start:stop]
        elif parent:
            # Whole sectors are compared: where the disk became shorter inside of one, the rest of
            # what the parent has of it is gone.
            end = -(-stop // 512) * 512
            now, then = content[start:stop], old[start:end]
            low = start - start % BLOCK
            differs = _digest(content[low : low + BLOCK]) != _digest(old[low : low + BLOCK])
            changed = differs and now.ljust(end - start, b"\0") != then.ljust(end - start, b"\0")
            changed |= bool(take[start])
        else:
            low = start - start % BLOCK
            block = slice(low, min(low + BLOCK, size))
            # Of a device that became shorter, the parent's digest is that of the whole block.
            then = old[low : low + BLOCK].ljust(BLOCK, b"\0")
            changed = bool(take[start]) or content[block].ljust(BLOCK, b"\0") != then
        changed |= any(start <= n * 512 < stop for n in bad)
        kind = Kind.DATA if any(content[start:stop]) else Kind.ZERO
        for at in range(start, stop, 512) if changed else ():
            sector = content[at : min(at + 512, size)]
            found[at // 512] = (kind, sector + bytes(512 - len(sector)))
    for number in bad:
        found[number] = (Kind.UNREADABLE, bytes(512))
    return found


def scanned_sectors(found: Any) -> dict[int, tuple[int, bytes]]:
    """What a scan says, a row a sector; runs ascend, and the payload is theirs and no more."""
    result: dict[int, tuple[int, bytes]] = {}
    payload, at, last = bytes(found.payload), 0, -1
    for start, length, kind in found.runs.tolist():
        assert start >= last
        assert length > 0
        last = start + length
        for sector in range(start, last):
            data = bytes(512)
            if kind == Kind.DATA:
                data, at = payload[at : at + 512], at + 512
            result[sector] = (kind, data)
    assert at == len(payload)
    return result


def pieces_for(
    method: Method, old: bytes, new: Disk, take: np.ndarray, grain: int, digests: bool
) -> list[ScanPiece]:
    if method == Method.TRACKED:
        wide = BLOCK if digests else grain
        return list(tracked_pieces(3, take, wide, new.size, method))
    ranges = compared_ranges(new, Old(old), take, 0)  # type: ignore[arg-type]
    view = View(old) if method == Method.DIGESTS else None
    return list(compared_pieces(3, ranges, take, method, view))  # type: ignore[arg-type]


class View:
    """Block digests of plain bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, first: int, count: int) -> np.ndarray:
        blocks = [self.data[n << 16 : (n + 1) << 16] for n in range(first, first + count)]
        return np.frombuffer(b"".join(map(_digest, blocks)), DIGEST_DTYPE)


@QUIET
@given(
    both=contents(),
    grain=GRAINS,
    data=st.data(),
    digests=st.booleans(),
    method=st.sampled_from([Method.TRACKED, Method.DIGESTS, Method.DATA]),
    parent=st.booleans(),
    bad=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 4))),
    piece=st.sampled_from([BLOCK, 2 * BLOCK, 4 << 20]),
)
def test_a_scan_is_what_its_twin_finds(
    both: tuple[bytes, bytes],
    grain: int,
    data: st.DataObject,
    digests: bool,
    method: Method,
    parent: bool,
    bad: list[tuple[int, int]],
    piece: int,
) -> None:
    old, content = both
    new = Disk(content)
    clipped = aligned(ranges_of([(512 * n, 512 * count) for n, count in bad]), 512, new.size)
    new.bad = [(start, length) for start, length in clipped.tolist()]
    take = data.draw(some_ranges(new.size, grain))
    digests = digests or method == Method.DIGESTS
    base = Old(old) if parent or method == Method.DATA else None
    scanner = Scanner(new, base, grain, digests, False)  # type: ignore[arg-type]
    with mock.patch.object(planning, "PIECE", piece):
        pieces = pieces_for(method, old, new, take, grain, digests)
    for each in pieces:
        with mock.patch.object(scan, "read_range", read_range):
            found = scanner.scan(each)
        wanted = twin(old, new, each, grain, method, base is not None)
        assert scanned_sectors(found) == wanted
        assert found.read == int(each.segments[:, 1].sum())
        touched = sorted({sector // 128 for sector in wanted})
        assert found.blocks.tolist() == (touched if digests else [])
        now = bytearray(new.content())
        if method == Method.TRACKED and base is not None:
            told = marked(each.take, new.size)
            for start, length in new.bad:
                for at in range(start, start + length):
                    now[at] = now[at] if told[at] else (*old[at : at + 1], 0)[0]
        for block, value in zip(found.blocks.tolist(), found.digests, strict=True):
            assert bytes(value) == _digest(bytes(now[block << 16 : (block + 1) << 16]))


@QUIET
@given(both=contents(), grain=GRAINS, data=st.data(), wide=st.booleans())
def test_tracked_pieces_cover_what_was_told(
    both: tuple[bytes, bytes], grain: int, data: st.DataObject, wide: bool
) -> None:
    new = Disk(both[1])
    take = data.draw(some_ranges(new.size, grain))
    unit = BLOCK if wide else grain
    with mock.patch.object(planning, "PIECE", 2 * BLOCK):
        pieces = list(tracked_pieces(0, take, unit, new.size, Method.TRACKED))
    assert_pieces(pieces, new.size, 2 * BLOCK, unit)
    looked = np.concatenate([each.segments for each in pieces]) if pieces else []
    told = np.concatenate([each.take for each in pieces]) if pieces else []
    assert (marked(told, new.size) == marked(take, new.size)).all()
    assert (marked(looked, new.size) == marked(aligned(take, unit, new.size), new.size)).all()


@QUIET
@given(both=contents(), grain=GRAINS, data=st.data(), holes=st.booleans(), start=st.integers(0, 3))
def test_compared_pieces_cover_all_that_may_differ(
    both: tuple[bytes, bytes], grain: int, data: st.DataObject, holes: bool, start: int
) -> None:
    old, content = both
    new = Disk(content, holes=holes)
    take = data.draw(some_ranges(new.size, grain))
    begin = min(start * BLOCK, new.size // BLOCK * BLOCK)
    rows = [Extent(0, len(old), Kind.DATA if any(old) else Kind.ZERO)]
    with mock.patch.object(planning, "PIECE", 2 * BLOCK):
        ranges = compared_ranges(new, Old(old, rows), take, begin)  # type: ignore[arg-type]
        pieces = list(compared_pieces(0, ranges, take, Method.DATA, None))
    assert_pieces(pieces, new.size, 2 * BLOCK, BLOCK)
    looked = np.concatenate([each.segments for each in pieces]) if pieces else []
    told = np.concatenate([each.take for each in pieces]) if pieces else []
    seen, wanted = marked(looked, new.size), marked(take, new.size)
    wanted[:begin] = False
    assert not seen[:begin].any()
    assert (marked(told, new.size) == wanted).all()
    was = np.frombuffer(old[: new.size] + bytes(max(0, new.size - len(old))), np.uint8)
    differs = np.frombuffer(content, np.uint8) != was
    assert seen[begin:][(differs | wanted)[begin:]].all()


def assert_pieces(pieces: list[ScanPiece], size: int, window: int, unit: int) -> None:
    """In order, no block in two of them, cut where windows end, and bounded."""
    last = -1
    for each in pieces:
        assert int(each.segments[:, 1].sum()) <= window
        for offset, length in each.segments.tolist():
            assert offset % unit == 0
            assert length % unit == 0 or offset + length == size
            assert offset // window == (offset + length - 1) // window
        first = int(each.segments[0, 0])
        assert first // unit > last
        last = (int(each.segments[-1].sum()) - 1) // unit


@QUIET
@given(both=contents(), grain=GRAINS, data=st.data())
def test_what_must_be_taken(both: tuple[bytes, bytes], grain: int, data: st.DataObject) -> None:
    """What the parent could not keep, all behind its end, and a cluster where a block ends."""
    old, content = both
    rows, place = [], 0
    while place < len(old):
        length = min(len(old) - place, 512 * data.draw(st.integers(1, 200)))
        kind = data.draw(st.sampled_from([Kind.DATA, Kind.ZERO, Kind.UNREADABLE, Kind.LOST]))
        rows.append(Extent(place, length, kind))
        place += length
    new = Disk(content)
    taken = marked(must_take(new, Old(old, rows), grain), new.size)  # type: ignore[arg-type]
    for each in rows:
        if each.kind in (Kind.UNREADABLE, Kind.LOST):
            assert taken[each.start : each.start + each.length].all()
    assert taken[len(old) :].all()
    end = min(len(old), new.size)
    if len(old) != new.size and end % BLOCK:
        assert taken[end - 1]
    if len(old) == new.size and all(each.kind == Kind.DATA for each in rows):
        assert not taken.any()


@QUIET
@given(data=st.data(), units=st.integers(0, 3000), wide=st.sampled_from([512, 4096, BLOCK]))
def test_samples(data: st.DataObject, units: int, wide: int) -> None:
    """Whole units that nothing touches, each once, and many where there are many."""
    end = units * wide
    size = max(1, end)
    take = data.draw(some_ranges(size, 512))
    found = sample_offsets(take, wide, end)
    touched = marked(aligned(take, wide, size), size)
    assert found == sorted(set(found))
    for offset in found:
        assert offset % wide == 0
        assert offset + wide <= end
        assert not touched[offset]
    free = units - int(touched[::wide].sum()) if units else 0
    assert len(found) >= min(free // 4, planning.SAMPLES // 2)


def test_digests_of_wanted_blocks_only() -> None:
    data = memoryview(bytes(BLOCK) + b"a" * BLOCK + b"b" * 512)
    wanted = np.array([True, False, True])
    found = [bytes(each) for each in block_digests(data, wanted)]
    assert found == [bytes(16), bytes(16), _digest(b"b" * 512)]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_pieces_of_much(count: int) -> None:
    """Far apart ranges share a piece until it has enough to read."""
    take = ranges_of([(n << 40, 4096) for n in range(count)])
    pieces = list(tracked_pieces(0, take, BLOCK, 1 << 50, Method.TRACKED))
    assert [len(each.segments) for each in pieces] == ([count] if count else [])
    many = ranges_of([(n << 30, BLOCK) for n in range(1000)])
    pieces = list(tracked_pieces(0, many, BLOCK, 1 << 50, Method.TRACKED))
    assert {len(each.segments) for each in pieces[:-1]} == {64}
