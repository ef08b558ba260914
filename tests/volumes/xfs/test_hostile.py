"""XFS structures that lie: each ends in the whole volume with the reason, and in nothing else."""

from __future__ import annotations

import copy
import io
import random
import struct
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.io.blocks.sources import open_source
from aipimage.volumes import crc32c
from aipimage.volumes.filesystems.xfs import PARSER
from aipimage.volumes.view import VolumeView
from tests.volumes.xfs import built as xfs_builder
from tests.volumes.xfs.built import NULL, UUID, Volume
from tests.volumes.xfs.fuzz import fuzz_xfs, seeds
from tests.volumes.xfs.judge import free_runs, joined, look, reason

Change = tuple[str, int, str, int | bytes]


@cache
def _plain(version: int) -> Volume:
    return Volume(version)


def changed(*changes: Change, version: int = 5) -> str | None:
    """Why a volume is taken whole after changes whose checksums are made right."""
    volume = copy.deepcopy(_plain(version))
    for name, offset, form, value in changes:
        volume.put(name, offset, form, value)
    return reason(volume.source())


def field(name: str, offset: int, form: str = ">I", version: int = 5) -> int:
    return _plain(version).get(name, offset, form)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": 4},
        {"version": 4, "lazy": False},
        {"version": 4, "blocklog": 9},
        {"blocklog": 12},
        {"fanout": 40},
        {"fanout": 4, "last": 300},
        {"head": 1},
        {"head": 2},
        {"head": 128},
        {"cycle": 1},
        {"cycle": 0xFFFFFFF0},
        {"runs": [[], [(150, 3)]]},
        {"runs": [[(140, 1), (141, 4)], []]},
    ],
    ids=str,
)
def test_what_is_right_is_read(options: dict[str, int]) -> None:
    volume = Volume(**options)  # type: ignore[arg-type]
    filesystem, allocation = look(volume.source())
    wanted = joined(np.array(volume.free, np.int64))
    assert np.array_equal(free_runs(allocation, filesystem), wanted)
    assert allocation.used_end == filesystem.size == sum(volume.lengths) * volume.block
    assert (filesystem.label, filesystem.uuid) == ("label", "01020304-0506-0708-090a-0b0c0d0e0f10")


SUPERBLOCK: list[tuple[Change, str]] = [
    (("sb 0", 4, ">I", 0), "blocksize"),
    (("sb 0", 4, ">I", 2048), "blocksize"),
    (("sb 0", 120, ">B", 63), "blocksize"),
    (("sb 0", 102, ">H", 0), "sectsize"),
    (("sb 0", 104, ">H", 0), "inodesize"),
    (("sb 0", 123, ">B", 5), "inodes do not fill"),
    (("sb 0", 100, ">H", 0xB4B3), "version 3"),
    (("sb 0", 100, ">H", 0xB4B6), "version 6"),
    (("sb 0", 126, ">B", 1), "being made"),
    (("sb 0", 179, ">B", 1), "shared"),
    (("sb 0", 8, ">Q", 0), "do not make"),
    (("sb 0", 8, ">Q", 2**63), "do not make"),
    (("sb 0", 8, ">Q", 914), "the volume 933,888"),
    (("sb 0", 8, ">Q", 1025), "do not make"),
    (("sb 0", 8, ">Q", 575), "do not make"),
    (("sb 0", 84, ">I", 0), "agblklog"),
    (("sb 0", 84, ">I", 2**32 - 1), "agblklog"),
    (("sb 0", 84, ">I", 511), "superblocks disagree"),
    (("sb 0", 88, ">I", 0), "do not make"),
    (("sb 0", 88, ">I", 2**32 - 1), "do not make"),
    (("sb 0", 124, ">B", 255), "agblklog"),
    (("sb 0", 48, ">Q", 0), "another device"),
    (("sb 0", 48, ">Q", 2**63), "no allocation group"),
    (("sb 0", 48, ">Q", 1), "no allocation group"),
    (("sb 0", 48, ">Q", 1023), "no allocation group"),
    (("sb 0", 96, ">I", 0), "no allocation group"),
    (("sb 0", 96, ">I", 2**32 - 1), "no allocation group"),
    (("sb 0", 56, ">Q", 2**64 - 1), "root directory"),
    (("sb 0", 56, ">Q", _plain(5).free[3][0] << 1), "in use count as free"),
    (("sb 0", 144, ">Q", 7), "counts 7 free"),
    (("sb 0", 216, ">I", 3 | 0x10), "repair"),
    (("sb 0", 216, ">I", 3 | 0x100), "not known"),
    (("sb 0", 212, ">I", 7 | 0x10), "not known"),
    (("sb 0", 220, ">I", 2), "not known"),
    (("sb 0", 200, ">I", 0x1000), "not known"),
    (("sb 0", 240, ">Q", 9 << 32), "newer than the log"),
    (("sb 0", 32, ">16s", bytes(16)), "another file system"),
    (("sb 1", 84, ">I", 510), "superblocks disagree"),
    (("sb 1", 0, ">4s", b"XFSC"), "superblocks disagree"),
]


@pytest.mark.parametrize(("change", "text"), SUPERBLOCK, ids=str)
def test_superblocks_that_lie(change: Change, text: str) -> None:
    assert text in (changed(change) or "")


def test_a_superblock_behind_the_end_of_the_volume() -> None:
    volume = _plain(5)
    for size in (512, 1024, len(volume.image) // 2, len(volume.image) - 1):
        cut = volume.image[:size]
        source = open_source(io.BytesIO(bytes(cut)))
        assert "the volume" in (reason(source) or "")


class Endless:
    """A source of nearly 2^62 bytes, of which the first are those of a small volume."""

    name, size, sector_size = "endless", 1 << 62, 512

    def __init__(self, image: bytes) -> None:
        self._image = image
        self.asked = 0

    def read_into(self, buffer: bytearray, offset: int) -> None:
        self.asked += len(buffer)
        part = self._image[offset : offset + len(buffer)]
        buffer[: len(part)] = part


@pytest.mark.parametrize(
    ("groups", "text"), [(1 << 23, "blocks are more"), (1 << 21, "superblocks disagree")]
)
def test_a_few_bytes_that_declare_petabytes(groups: int, text: str) -> None:
    volume = copy.deepcopy(_plain(5))
    volume.put("sb 0", 84, ">II", 1 << 20, groups).put("sb 0", 124, ">B", 20)
    volume.put("sb 0", 8, ">Q", groups << 20)
    source = Endless(bytes(volume.image))
    found = reason(source)  # type: ignore[arg-type]
    assert text in (found or "")
    assert source.asked < 16 << 20


GROUPS: list[tuple[tuple[Change, ...], str]] = [
    ((("agf 0", 0, ">4s", b"XAGI"),), "no magic"),
    ((("agf 0", 4, ">I", 2),), "not that of its group"),
    ((("agf 1", 8, ">I", 0),), "not that of its group"),
    ((("agf 1", 12, ">I", 512),), "not that of its group"),
    ((("agi 1", 12, ">I", 0),), "not that of its group"),
    ((("agi 0", 0, ">4s", bytes(4)),), "no magic"),
    ((("agfl 0", 0, ">4s", bytes(4)),), "no magic"),
    ((("agfl 1", 4, ">I", 0),), "not that of its group"),
    ((("agf 0", 64, ">16s", bytes(16)),), "another file system"),
    ((("agf 0", 208, ">Q", 3 << 32 | 21),), "newer than the log"),
    ((("agf 0", 16, ">I", 0),), "out of its allocation group"),
    ((("agf 0", 16, ">I", NULL),), "out of its allocation group"),
    ((("agf 1", 20, ">I", 400),), "out of its allocation group"),
    ((("agf 1", 24, ">I", 400), ("sb 0", 212, ">I", 7)), "root of a B+tree"),
    ((("agf 1", 88, ">I", 0),), "root of a B+tree"),
    ((("agi 1", 20, ">I", 0),), "root of a B+tree"),
    ((("agi 1", 328, ">I", 1),), "root of a B+tree"),
    ((("agf 0", 16, ">I", 3),), "not of its tree"),
    ((("agf 0", 28, ">I", 0),), "out of range"),
    ((("agf 0", 28, ">I", 2**32 - 1),), "out of range"),
    ((("agf 0", 32, ">I", 10),), "out of range"),
    ((("agf 0", 32, ">I", 1),), "not of its tree and level"),
    ((("agf 0", 28, ">I", 9),), "not of its tree and level"),
    ((("agf 0", 52, ">I", 2**32 - 1),), "out of range"),
    ((("agf 0", 52, ">I", 600),), "out of range"),
    ((("agf 0", 52, ">I", 100),), "counts other free blocks"),
    ((("agf 0", 56, ">I", 2**32 - 1),), "out of range"),
    ((("agf 0", 56, ">I", 8),), "longest"),
    ((("agf 0", 60, ">I", 2**32 - 1),), "out of range"),
    ((("agf 0", 60, ">I", 0),), "other B+tree blocks"),
    ((("agf 0", 60, ">I", 200),), "other B+tree blocks"),
    ((("agf 0", 80, ">I", 0),), "out of range"),
    ((("agf 0", 80, ">I", 2),), "other B+tree blocks"),
    ((("agf 0", 40, ">I", 119),), "free list"),
    ((("agf 0", 44, ">I", 2**32 - 1),), "free list"),
    ((("agf 0", 48, ">I", 3),), "free list"),
    ((("agf 0", 48, ">I", 2**32 - 1),), "free list"),
    ((("agfl 0", 36, ">I", NULL),), "on a free list"),
    ((("agfl 0", 40, ">I", 1),), "on a free list"),
    ((("agfl 0", 40, ">I", _plain(5).free[3][0]),), "in use count as free"),
    ((("agfl 0", 40, ">I", field("agfl 0", 36)),), "take the same block"),
    ((("agfl 0", 40, ">I", field("agf 0", 16)),), "take the same block"),
    ((("agi 0", 20, ">I", field("agf 0", 88)),), "take the same block"),
]


@pytest.mark.parametrize(("changes", "text"), GROUPS, ids=str)
def test_class_49_bad_headers_of_allocation_groups(changes: tuple[Change, ...], text: str) -> None:
    assert text in (changed(*changes) or "")


def _trees() -> list[tuple[tuple[Change, ...], str]]:
    pointers = 56 + 8 * 80
    root, leaf = "bno 0 2 0", "bno 0 0 1"
    first = field(root, pointers)
    own = field("agf 0", 16)
    second = field("bno 0 1 0", pointers)
    return [
        # A loop to itself, to the root from below, to a sibling; a child that is named twice.
        (((root, pointers, ">I", own),), "not of its tree and level"),
        ((("bno 0 1 0", pointers, ">I", own),), "not of its tree and level"),
        ((("bno 0 1 0", pointers, ">I", first),), "not of its tree and level"),
        ((("bno 0 1 0", pointers + 4, ">I", second),), "a block twice"),
        (((root, pointers + 4, ">I", first),), "a block twice"),
        ((("cnt 0 1 0", pointers, ">I", second),), "not of its tree and level"),
        (((root, pointers, ">I", 0),), "out of its allocation group"),
        (((root, pointers, ">I", NULL),), "out of its allocation group"),
        (((root, pointers, ">I", 512),), "out of its allocation group"),
        (((root, pointers, ">I", 500),), "not of its tree and level"),
        (((root, 4, ">H", 1),), "not of its tree and level"),
        (((root, 6, ">H", 0),), "impossible count"),
        (((root, 6, ">H", 81),), "impossible count"),
        (((root, 6, ">H", 0xFFFF),), "impossible count"),
        (((leaf, 6, ">H", 0),), "impossible count"),
        (((leaf, 6, ">H", 122),), "impossible count"),
        (((leaf, 6, ">H", 4),), "counts other free blocks"),
        (((leaf, 6, ">H", 6),), "outside of its allocation group"),
        (((root, 8, ">I", 12),), "do not name each other"),
        (((leaf, 8, ">I", NULL),), "do not name each other"),
        (((leaf, 12, ">I", NULL),), "do not name each other"),
        (((leaf, 16, ">Q", 0),), "belongs elsewhere"),
        (((leaf, 48, ">I", 1),), "belongs elsewhere"),
        (((leaf, 32, ">16s", UUID[::-1]),), "another file system"),
        (((leaf, 24, ">Q", 2**63),), "newer than the log"),
        (((root, 56, ">I", 139),), "not that of the block below"),
        ((("cnt 0 2 0", 60, ">I", 2),), "not that of the block below"),
        # Records: outside, empty, wrapping, overlapping, unsorted.
        (((leaf, 64, ">I", 0),), "outside of its allocation group"),
        (((leaf, 64, ">I", 2**32 - 1),), "outside of its allocation group"),
        (((leaf, 68, ">I", 0),), "outside of its allocation group"),
        (((leaf, 68, ">I", 2**32 - 1),), "outside of its allocation group"),
        (((leaf, 64, ">I", field(leaf, 56)),), "overlap"),
        (((leaf, 64, ">I", field(leaf, 64) + 200),), "overlap"),
        ((("cnt 0 0 1", 60, ">I", 9),), "not that of the block below"),
        ((("cnt 0 0 1", 68, ">I", 9),), "order of their lengths"),
        # The same sums, one block further on.
        (((leaf, 64, ">I", field(leaf, 64) + 1),), "disagree"),
    ]


@pytest.mark.parametrize(("changes", "text"), _trees(), ids=str)
def test_class_49_b_tree_loops_and_lies(changes: tuple[Change, ...], text: str) -> None:
    assert text in (changed(*changes) or "")


def test_class_49_without_counts_of_blocks() -> None:
    """Where the header does not say how many blocks a tree has, its records bound it."""
    volume = Volume(4, lazy=False)
    root, pointers = "bno 0 2 0", 16 + 8 * 84
    assert reason(volume.source()) is None
    volume.put(root, pointers, ">I", volume.get("agf 0", 16, ">I"))
    assert "not of its tree and level" in (reason(volume.source()) or "")


@pytest.mark.parametrize("name", ["sb 0", "sb 1", "agf 0", "agi 1", "agfl 0", "bno 0 0 1"])
def test_a_flipped_bit_fails_the_checksum(name: str) -> None:
    volume = copy.deepcopy(_plain(5))
    start, length, _ = volume.places[name]
    volume.image[start + length - 1] ^= 1
    assert "checksum" in (reason(volume.source()) or "")


def test_what_is_in_use_is_never_free() -> None:
    """A run of free space over the log, a root, or the block that a tree takes itself."""
    for start in (Volume().log_start + 3, Volume().headers + 2, Volume().log_start + 64):
        volume = Volume(runs=[[(start, 1), (300, 5), (310, 2)], [(200, 9)]], fanout=2)
        assert "in use count as free" in (reason(volume.source()) or "")


LOG: list[tuple[tuple[Change, ...], str]] = [
    ((("log 0", 0, ">I", 0),), "empty"),
    ((("log 127", 0, ">I", 1),), "ends with 1"),
    ((("log 127", 0, ">I", 9),), "ends with 9"),
    ((("log 5", 0, ">I", 2),), "wrong cycle"),
    ((("log 90", 0, ">I", 3),), "wrong cycle"),
    ((("log 20", 0, ">I", 3),), "no record"),
    ((("log 18", 40, ">I", 2),), "damaged"),
    ((("log 18", 12, ">I", 0),), "no record"),
    ((("log 18", 12, ">I", 11),), "damaged"),
    ((("log 18", 12, ">I", 2**32 - 1),), "no record"),
    ((("log 18", 320, ">I", 2**32 - 1),), "no record"),
    ((("log 18", 16, ">Q", 3 << 32 | 17),), "damaged"),
    ((("log 18", 4, ">I", 2),), "wrong cycle"),
    ((("log 18", 0, ">I", 3),), "no record"),
    ((("log 18", 304, ">16s", UUID[::-1]),), "another file system"),
    ((("log 18", 32, "<I", 12345),), "damaged"),
    ((("log 19", 9, ">B", 0),), "damaged"),
    ((("log 19", 9, ">B", 1),), "damaged"),
    ((("log 19", 8, ">B", 0x69),), "damaged"),
]


@pytest.mark.parametrize(("changes", "text"), LOG, ids=str)
def test_class_50_logs_that_are_not_clean(changes: tuple[Change, ...], text: str) -> None:
    found = changed(*changes)
    assert found is not None
    assert any(part in found for part in text.split("|"))


def test_class_50_a_record_behind_the_unmount_record() -> None:
    """What a mount writes first: a record that is no unmount record."""
    volume = Volume(head=22)
    for index in (18, 19):
        old, new = (volume.places[f"log {number}"][0] for number in (index + 2, index))
        volume.image[new : new + 512] = volume.image[old : old + 512]
    volume.put("log 18", 16, ">Q", 3 << 32 | 18)
    assert reason(volume.source()) is None
    volume.put("log 20", 40, ">I", 5)
    assert "of its log is damaged" in (reason(volume.source()) or "")


def test_a_log_with_a_checksum() -> None:
    for size in (328, 324):
        volume = Volume()
        start = volume.places["log 18"][0]
        covered = volume.image[start : start + size] + volume.image[start + 512 : start + 1024]
        volume.put("log 18", 32, "<I", xfs_builder.crc32c(bytes(covered)))
        assert reason(volume.source()) is None
        volume.put("log 19", 100, ">I", 1)
        assert reason(volume.source()) == "the unmount record of its log is damaged"


def test_a_log_of_another_system_has_no_uuid() -> None:
    assert changed(("log 18", 304, ">16s", bytes(16))) is None


@pytest.mark.parametrize("size", [0, 1, 511, 512, 4096])
def test_what_is_no_xfs(size: int) -> None:
    source = open_source(io.BytesIO(random.Random(size).randbytes(size)))
    assert PARSER.probe(VolumeView(source, 0, size)) is None


def test_a_superblock_of_nonsense_is_a_find() -> None:
    data = b"XFSB" + random.Random(1).randbytes(70_000)
    source = open_source(io.BytesIO(data))
    found = PARSER.probe(VolumeView(source, 0, len(data)))
    assert found is not None
    assert (found.kind, found.size, found.cluster_size) == ("xfs", 0, 0)


def test_a_name_may_fill_its_field() -> None:
    volume = Volume().put("sb 0", 108, ">12s", b"twelve bytes")
    assert look(volume.source())[0].label == "twelve bytes"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_crc32c_is_what_its_twin_is(data: bytes, seed: int, rows: int) -> None:
    assert crc32c.crc32c(data) ^ 0xFFFFFFFF == xfs_builder.crc32c(data)
    half = len(data) // 2
    assert crc32c.crc32c(data[half:], crc32c.crc32c(data[:half], seed)) == crc32c.crc32c(data, seed)
    table = np.frombuffer(data * rows, np.uint8).reshape(rows, -1)
    seeds = np.arange(rows, dtype=np.uint32) + np.uint32(seed >> 5)
    wanted = [crc32c.crc32c(data, start) for start in seeds.tolist()]
    assert crc32c.crc32c_rows(table, seeds).tolist() == wanted


def test_crc32c_of_long_rows() -> None:
    assert crc32c.crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283
    rows = np.frombuffer(random.Random(3).randbytes(40 * 4100), np.uint8).reshape(40, -1)
    wanted = [xfs_builder.crc32c(row.tobytes()) ^ 0xFFFFFFFF for row in rows]
    assert crc32c.crc32c_rows(rows).tolist() == wanted


def test_fuzz_target() -> None:
    """A short run of what a fuzzer does for longer."""
    chance = random.Random(5)
    for seed in seeds():
        fuzz_xfs(seed)
        for _ in range(60):
            data = bytearray(seed)
            for _ in range(chance.randint(1, 3)):
                struct.pack_into(
                    ">I", data, chance.randrange(len(data) - 4), chance.getrandbits(32)
                )
            fuzz_xfs(bytes(data))
