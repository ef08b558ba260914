"""Images of what is in use: the content and the map against plain arrays of free sectors."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aipimage
from aipimage.errors import RequestError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.io.blocks.freespace import MappedFree, RangesFree
from aipimage.io.blocks.sources import BinaryFileSource, BlockSource, UnreadableRangeError
from aipimage.io.blocks.usedsource import UsedSource
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.increment.plan import SAMPLES, freed_pieces, sample_offsets
from aipimage.ranges import no_ranges
from aipimage.volumes.image import open_image

QUIET = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class State:
    """A disk at one time: its bytes, and which of its sectors are free."""

    def __init__(self, content: bytes, free: np.ndarray) -> None:
        self.content, self.free = content, free
        # A sector that is cut short cannot be told to be free.
        self.free[len(content) // SECTOR :] = False

    @property
    def seen(self) -> bytes:
        """What an image of it must read as."""
        mask = np.repeat(self.free, SECTOR)[: len(self.content)]
        data = np.frombuffer(self.content, np.uint8).copy()
        data[: len(mask)][mask] = 0
        return data.tobytes()

    def ranges(self) -> np.ndarray:
        edges = np.flatnonzero(np.diff(np.concatenate(([0], self.free.view(np.int8), [0]))))
        pairs = edges.reshape(-1, 2) * SECTOR
        return np.column_stack((pairs[:, 0], pairs[:, 1] - pairs[:, 0])).astype(np.uint64)

    def prepare(self, number: int, source: BlockSource) -> BlockSource:
        return UsedSource(source, RangesFree(self.ranges()))


class Failing(BinaryFileSource):
    """A disk that goes away while it is read."""

    def __init__(self, content: bytes, fails_at: int) -> None:
        super().__init__(io.BytesIO(content), name="disk")
        self.fails_at = fails_at

    def read_into(self, buffer: Any, offset: int) -> None:
        if offset >= self.fails_at:
            raise aipimage.SourceError("gone")
        super().read_into(buffer, offset)


def some_content(chance: random.Random, size: int) -> bytes:
    parts: list[bytes] = []
    while sum(map(len, parts)) < size:
        length = chance.choice((512, 4096, 30_000, 200_000))
        parts.append(chance.choice((bytes(length), b"\x01" * length, chance.randbytes(length))))
    return b"".join(parts)[:size]


def some_free(chance: random.Random, sectors: int, unit: int) -> np.ndarray:
    free = np.zeros(sectors, np.bool_)
    for _ in range(chance.randrange(12)):
        length = unit * chance.choice((1, 1, 3, 20, 200, 5000))
        start = chance.randrange(max(1, sectors)) // unit * unit
        free[start : start + length] = chance.random() < 0.7
    return free


def later(chance: random.Random, state: State, unit: int) -> tuple[State, list[tuple[int, int]]]:
    """A later state, and what a tracker that sees every write knows of it."""
    size = len(state.content)
    if chance.random() < 0.2:
        size = max(1, size + chance.choice((-70_000, 513, 300_000, 5 << 20)))
    content = bytearray(state.content[:size].ljust(size, b"\0"))
    written = []
    for _ in range(chance.randrange(5)):
        length = min(size, chance.choice((512, 4096, 70_000)))
        start = chance.randrange(size - length + 1)
        content[start : start + length] = some_content(chance, length)
        written.append((start, length))
    sectors = -(-size // SECTOR)
    free = np.zeros(sectors, np.bool_)
    free[: len(state.free)] = state.free[:sectors]
    for _ in range(chance.randrange(4)):
        length = unit * chance.choice((1, 2, 30, 4000))
        start = chance.randrange(sectors) // unit * unit
        free[start : start + length] = chance.random() < 0.5
    return State(bytes(content), free), written


def check(path: Path, state: State) -> None:
    """The image reads as the used part of the disk, and its map says what was free."""
    with open_image(path) as image:
        assert image.verify(chain=True).ok
        device = image.devices[0]
        found = bytearray(device.size)
        device.read_into(found, 0)
        assert bytes(found) == state.seen
        unused = np.zeros(len(state.free), np.bool_)
        for extent in device.extents(Kind.UNUSED):
            unused[extent.start // SECTOR : -(-(extent.start + extent.length) // SECTOR)] = True
        assert (unused == state.free).all()


@QUIET
@given(
    st.integers(0, 1 << 40),
    st.sampled_from([1, 2, 8, 64]),
    st.sampled_from(["tracked", "auto", "data"]),
    st.booleans(),
)
def test_a_chain_of_used_clusters_is_what_its_twin_is(
    tmp_path: Path, seed: int, unit: int, method: str, digests: bool
) -> None:
    chance = random.Random(seed)
    size = chance.choice((1, 511, 70_000, 3 << 20, (9 << 20) + 700))
    state = State(some_content(chance, size), some_free(chance, -(-size // SECTOR), unit))
    written: list[tuple[int, int]] = []
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    for number in range(4):
        path = folder / f"{number}.aiv"
        source = BinaryFileSource(io.BytesIO(state.content), name="disk")
        more: dict[str, Any] = {}
        if number:
            more["parent"] = folder / f"{number - 1}.aiv"
            more["compare"] = "data" if method == "data" else "auto"
            if method == "tracked":
                more["changed"] = written
        options = CreateOptions(prepare=state.prepare, block_digests=digests, **more)
        result = create_image(path, [source], options)
        if number and method == "tracked":
            assert result.changes[0].method == "tracked", result.warnings
        check(path, state)
        state, written = later(chance, state, unit)


def test_freed_clusters_cost_nothing_and_what_became_used_is_taken(tmp_path: Path) -> None:
    size = 64 << 20
    content = random.Random(7).randbytes(size)
    first = State(content, np.zeros(size // SECTOR, np.bool_))
    first.free[:20_000] = True
    second = State(content, np.zeros(size // SECTOR, np.bool_))
    second.free[10_000:110_000] = True
    source = BinaryFileSource(io.BytesIO(content), name="disk")
    a, b = tmp_path / "a.aiv", tmp_path / "b.aiv"
    create_image(a, [source], CreateOptions(prepare=first.prepare))
    changed: list[tuple[int, int]] = []
    result = create_image(
        b, [source], CreateOptions(prepare=second.prepare, parent=a, changed=changed)
    )
    assert result.changes[0].method == "tracked"
    assert result.stored < 10_000 * SECTOR * 1.05
    check(b, second)


def test_an_image_that_was_begun_with_other_free_space_is_not_continued(tmp_path: Path) -> None:
    size = 12 << 20
    content = random.Random(8).randbytes(size)
    path = tmp_path / "a.aiv"
    first = State(content, np.zeros(size // SECTOR, np.bool_))
    source = Failing(content, 8 << 20)
    small = {"checkpoint_bytes": 1 << 20, "checkpoint_seconds": 0.0}
    with pytest.raises(aipimage.SourceError, match="gone"):
        create_image(path, [source], CreateOptions(prepare=first.prepare, **small))
    source.fails_at = size
    second = State(content, first.free.copy())
    second.free[:100] = True
    with pytest.raises(RequestError, match="not as it was"):
        create_image(path, [source], CreateOptions(prepare=second.prepare, resume=True, **small))
    result = create_image(path, [source], CreateOptions(prepare=first.prepare, resume=True))
    assert result.resumed
    check(path, first)


def test_a_resumed_image_is_what_an_uninterrupted_one_is(tmp_path: Path) -> None:
    chance = random.Random(9)
    size = 24 << 20
    state = State(some_content(chance, size), some_free(chance, size // SECTOR, 1))
    state.free[9000:30_000] = True
    path = tmp_path / "a.aiv"
    source = Failing(state.content, 16 << 20)
    small = {"checkpoint_bytes": 1 << 20, "checkpoint_seconds": 0.0}
    with pytest.raises(aipimage.SourceError, match="gone"):
        create_image(path, [source], CreateOptions(prepare=state.prepare, **small))
    source.fails_at = size
    again = CreateOptions(prepare=state.prepare, resume=True)
    assert create_image(path, [source], again).resumed
    check(path, state)


def test_parts_of_free_space_are_found_where_they_lie() -> None:
    inner = RangesFree(np.array([(0, 10), (20, 5), (90, 10)], np.uint64))
    mapped = MappedFree([(1000, inner, 5, 90), (5000, inner, 0, 100)])
    found = [tuple(row) for rows in mapped.ranges(1003, 5095) for row in rows.tolist()]
    assert found == [(1003, 2), (1015, 5), (1085, 5), (5000, 10), (5020, 5), (5090, 5)]
    assert mapped.total == 5 + 5 + 5 + 25


def test_checkpoints_stand_where_free_space_lies_across_the_ends_of_all_stripes(
    tmp_path: Path,
) -> None:
    stripe, count = 4 << 20, 24
    size = stripe * count
    first = State(bytes(size), np.zeros(size // SECTOR, np.bool_))
    second = State(bytes(size), first.free.copy())
    for end in range(stripe, size, stripe):
        second.free[(end - (1 << 20)) // SECTOR : (end + (1 << 20)) // SECTOR] = True
        second.free[(end + (1 << 20)) // SECTOR : (end + (2 << 20)) // SECTOR : 2] = True
    source = Failing(first.content, size)
    a, b = tmp_path / "a.aiv", tmp_path / "b.aiv"
    create_image(a, [source], CreateOptions(prepare=first.prepare))
    source.fails_at = size - stripe
    more: dict[str, Any] = {"parent": a, "checkpoint_seconds": 0.0, "threads": 1}
    with pytest.raises(aipimage.SourceError, match="gone"):
        create_image(b, [source], CreateOptions(prepare=second.prepare, **more))
    source.fails_at = size
    again = CreateOptions(prepare=second.prepare, resume=True, **more)
    assert create_image(b, [source], again).resumed
    check(b, second)


@given(st.integers(0, 1 << 30), st.integers(16, 1 << 17), st.integers(20, 30))
def test_a_piece_of_free_space_begins_where_a_stripe_ends(
    start: int, count: int, shift: int
) -> None:
    ranges = np.array([(start * c.BLOCK, count * c.BLOCK)], np.uint64)
    pieces = [piece.segments[0].tolist() for piece in freed_pieces(0, ranges)]
    ends = [sum(piece) for piece in pieces]
    assert [piece[0] for piece in pieces] == [start * c.BLOCK, *ends[:-1]]
    assert ends[-1] == (start + count) * c.BLOCK
    assert all(0 < length <= 1 << 30 for _, length in pieces)
    if start * c.BLOCK >> shift < ends[-1] - 1 >> shift:
        assert any(piece[0] % (1 << shift) == 0 for piece in pieces[1:])


class Particular(BinaryFileSource):
    """A disk with sectors of 4,096 bytes that is read by those only; some are bad."""

    sector_size = 4096

    def __init__(self, content: bytes, bad: tuple[int, ...]) -> None:
        super().__init__(io.BytesIO(content), name="disk")
        self.bad = bad

    def read_into(self, buffer: Any, offset: int) -> None:
        length = memoryview(buffer).nbytes
        if offset % 4096 or length % 4096:
            raise aipimage.SourceError("not at sectors")
        if any(offset <= at < offset + length for at in self.bad):
            raise UnreadableRangeError("bad", offset, length)
        super().read_into(buffer, offset)


def test_bad_sectors_in_free_space_are_not_told_and_reads_are_of_whole_sectors(
    tmp_path: Path,
) -> None:
    size = 2 << 20
    state = State(random.Random(5).randbytes(size), np.zeros(size // SECTOR, np.bool_))
    state.free[3:203] = True
    state.free[2048:2056] = True
    source = Particular(state.content, (64 << 10, 1 << 20))
    path = tmp_path / "a.aiv"
    result = create_image(path, [source], CreateOptions(prepare=state.prepare))
    assert result.unreadable_ranges == ()
    check(path, state)


def test_samples_are_of_what_is_in_use() -> None:
    size = 64 << 20
    used = size // 5
    free = RangesFree(np.array([(used, size - used)], np.uint64))
    source = UsedSource(BinaryFileSource(io.BytesIO(bytes(size)), name="disk"), free)
    found = sample_offsets(no_ranges(), c.BLOCK, size, source)
    assert len(found) == SAMPLES
    assert max(found) < used


def test_a_volume_whose_place_is_in_doubt_is_not_left_out(tmp_path: Path) -> None:
    disk = bytearray(random.Random(6).randbytes(4 << 20))
    disk[440:512] = bytes(72)
    for number, (start, sectors) in enumerate(((2048, 2048), (0, 4096), (5000, 1000))):
        at = 446 + 16 * number
        disk[at + 4] = 0x83
        disk[at + 8 : at + 16] = start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    disk[510:512] = b"\x55\xaa"
    path = tmp_path / "a.aiv"
    result = aipimage.create(path, io.BytesIO(bytes(disk)), volumes=[1])
    assert any("volume 2 was not left out: it overlaps" in text for text in result.warnings)
    with aipimage.open(path) as image:
        assert [volume.kept for volume in image.volumes] == [True, True, False]
        found = bytearray(len(disk))
        image.devices[0].read_into(found, 0)
    disk[5000 * SECTOR : 6000 * SECTOR] = bytes(1000 * SECTOR)
    assert found == disk
