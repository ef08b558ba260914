"""Looking at a disk asks its source for little, and in few requests."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError, open_source
from aipimage.volumes import readahead
from aipimage.volumes.readahead import PIECE, ReadAhead
from aipimage.volumes.survey import survey
from tests.support.sources import SparseSource
from tests.volumes.restoring.made import MIB, Wanted, make_disk, make_volume, tree_of

KINDS = [
    Wanted("fat32", 40),
    Wanted("ntfs", 60),
    Wanted("ext4", 300),
    Wanted("xfs", 320),
    Wanted("btrfs", 128),
    Wanted("swap", 16),
    Wanted("unknown", 2),
]


class Recording:
    """A source that writes down what it is asked for; going back means to begin anew."""

    def __init__(self, source: BlockSource, forward: bool = False) -> None:
        self.source, self.reads_forward = source, forward
        self.name, self.size, self.sector_size = source.name, source.size, source.sector_size
        self.asked: list[tuple[int, int]] = []

    def read_into(self, buffer: bytearray, offset: int) -> None:
        self.asked.append((offset, memoryview(buffer).nbytes))
        self.source.read_into(buffer, offset)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        return self.source.data_ranges(start, end)

    def fingerprint(self) -> dict[str, int | str]:
        return self.source.fingerprint()

    def close(self) -> None:
        self.source.close()

    @property
    def rewinds(self) -> int:
        """How often a place before the end of the last request was asked for."""
        places = [0, *(offset for offset, _ in self.asked)]
        ends = [0, *(offset + length for offset, length in self.asked)]
        return sum(one > other for one, other in zip(ends, places[1:], strict=False))


def free_of(source: BlockSource) -> list[tuple[int, int]]:
    found = survey(source).free
    return [tuple(row) for rows in found.ranges(0, source.size) for row in rows.tolist()]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_disk(tmp_path_factory.mktemp("disk"), "gpt", KINDS)


def test_a_disk_is_looked_at_in_few_requests(disk: Path) -> None:
    """Seven volumes: some eight requests each, and bytes that are quickly read."""
    source = Recording(open_source(disk))
    found = survey(source)
    assert [each.filesystem.kind if each.filesystem else "unknown" for each in found.volumes] == [
        each.kind for each in KINDS
    ]
    assert not any(each.whole_because for each in found.volumes[:-1])
    assert len(source.asked) <= 65, len(source.asked)
    assert sum(length for _, length in source.asked) <= 16 * MIB


@pytest.mark.parametrize(
    ("kind", "mib", "most"),
    [
        ("fat16", 40, 7),
        ("fat32", 60, 8),
        ("ntfs", 60, 12),
        ("ext4", 300, 12),
        ("ext2", 60, 12),
        ("xfs", 320, 26),
        ("btrfs", 128, 14),
        ("swap", 16, 6),
    ],
)
def test_each_file_system_alone(tmp_path: Path, kind: str, mib: int, most: int) -> None:
    make_volume(kind, tmp_path / "v", mib * MIB, tree_of(tmp_path / "tree"))
    source = Recording(open_source(tmp_path / "v"))
    (volume,) = survey(source).volumes
    assert volume.whole_because is None
    assert len(source.asked) <= most, source.asked


def test_a_source_that_only_reads_forward_is_not_begun_anew(disk: Path) -> None:
    """What is before the place of the last read is known from when it passed by."""
    source = Recording(open_source(disk), forward=True)
    plain = open_source(disk)
    assert free_of(source) == free_of(plain)
    # The end is read for the backup of the table; what is read then passes all else again.
    assert source.rewinds <= 3, source.rewinds


def test_what_cannot_be_read_nearby_is_no_hindrance() -> None:
    data = random.Random(1).randbytes(4 * MIB)
    bad = ((70_000, 512), (2 * MIB, 512))
    source = ReadAhead(SparseSource(len(data), {0: data}, bad=bad))
    source.prefetch_ends(0, len(data))
    for offset, length in ((0, 512), (65_536, 4_000), (71_000, 9_000), (2 * MIB - 512, 512)):
        buffer = bytearray(length)
        source.read_into(buffer, offset)
        assert buffer == data[offset : offset + length]
    with pytest.raises(UnreadableRangeError):
        source.read_into(bytearray(1024), 70_000)


@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 9_000)), max_size=40),
    st.booleans(),
    st.integers(1, 3000),
)
@settings(max_examples=200, deadline=None)
def test_the_same_bytes_as_without(reads: list[tuple[int, int]], forward: bool, size: int) -> None:
    size += 46_000
    data = bytearray(random.Random(3).randbytes(size))
    data[9_000:21_000] = bytes(12_000)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (
            ("PIECE", 512),
            ("_DIRECT", 4096),
            ("_ZEROS", bytes(512)),
            ("KEPT_MAX", 8192),
            ("PASSED_MAX", 8192),
        ):
            patched.setattr(readahead, name, value)
        source = ReadAhead(Recording(SparseSource(size, {0: bytes(data)}), forward))
        source.prefetch_ends(1000, 30_000)
        for offset, length in reads:
            length = min(length, size - offset)
            buffer = bytearray(length)
            source.read_into(buffer, offset)
            assert buffer == data[offset : offset + length]


def test_what_is_kept_is_bounded() -> None:
    """Scattered reads of a large disk neither fill the memory nor read much more than is asked."""
    source = Recording(SparseSource(1 << 44, {}))
    ahead, rng = ReadAhead(source), random.Random(4)
    for _ in range(6000):
        ahead.read_into(bytearray(4096), rng.randrange(1 << 32) * 4096)
    assert len(ahead._kept) * PIECE <= readahead.KEPT_MAX
    assert sum(length for _, length in source.asked) <= 6100 * 2 * PIECE
    assert np.median([length for _, length in source.asked]) == PIECE
