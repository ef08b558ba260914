"""vmfsSparse (COWD) and seSparse extents, built from their layouts, read by us and by qemu."""

from __future__ import annotations

import random
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.converting.sources import open_disk
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    LimitError,
    RequestError,
    SourceError,
    UnsupportedError,
)
from aipimage.io.system.cache import FrameCache
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.vmdk.cowdlayout import CowdHeader, decode_cowd_header, encode_cowd_header
from aipimage.vmdk.extents.cowd import open_cowd
from aipimage.vmdk.extents.esx import EsxExtent
from aipimage.vmdk.extents.sesparse import grain_places, open_sesparse
from aipimage.vmdk.model import ExtentReader
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.pieces import State
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.tools import require_programs, run
from tests.support.virtual.esx import Grains, disk, random_grains, write_cowd, write_sesparse

SECTOR = 512
KINDS: dict[str, tuple[Any, Any]] = {
    "cowd": (write_cowd, open_cowd),
    "sesparse": (write_sesparse, open_sesparse),
}


def opened(
    path: Path, kind: str, sectors: int | None = None, storage: Storage = DEFAULT
) -> EsxExtent:
    file = storage.open_read(path)
    try:
        extent: EsxExtent = KINDS[kind][1](file, sectors)
        return extent
    except BaseException:
        file.close()
        raise


def content(extent: ExtentReader, step: int = 1 << 20) -> tuple[bytes, set[int]]:
    """All that reads as data or zeros, and which states were seen; the pieces have no gap."""
    disk, at, seen = bytearray(extent.size), 0, set()
    for rows in extent.pieces(0, extent.size):
        for start, length, state in rows.tolist():
            assert (start, length > 0) == (at, True)
            seen.add(state)
            at += length
            for low in range(start, start + length if state == State.DATA else start, step):
                part = min(step, start + length - low)
                extent.read_data(memoryview(disk)[low : low + part], low)
    assert at == extent.size
    return bytes(disk), seen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(tmp_path: Path, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    sectors = chance.choice([1, 7, 8, 9, 4097, 32768, 70_001, 100_000])
    grain = 8 if kind == "sesparse" else chance.choice([1, 2, 8, 128])
    grains = random_grains(
        chance, sectors * SECTOR, grain * SECTOR, zeros=6 if kind == "sesparse" else 0
    )
    KINDS[kind][0](tmp_path / "x", sectors, grains)
    expected = bytes(grains.onto(bytearray(sectors * SECTOR)))
    extent = opened(tmp_path / "x", kind, sectors)
    assert content(extent, chance.choice([512, 1000, 4096, 1 << 20]))[0] == expected
    for _ in range(20):
        start, end = sorted(chance.sample(range(sectors * SECTOR + 1), 2))
        pieces = np.concatenate([np.empty((0, 3), np.int64), *extent.pieces(start, end)])
        assert (pieces[0, 0], pieces[:, 1].sum()) == (start, end - start)
        for low, length, state in pieces.tolist():
            view = bytearray(length)
            if state == State.DATA:
                extent.read_data(memoryview(view), low)
            assert view == expected[low : low + length]
    extent.close()
    extent.close()


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_told_apart(tmp_path: Path, kind: str) -> None:
    size = 4096
    grains = Grains(size, {1: b"a" * size, 2: b"b" * size})
    if kind == "sesparse":
        grains.zeros, grains.unmapped = {4}, {5}
    KINDS[kind][0](tmp_path / "x", 8 * 10_000, grains)
    with_zeros = [[4 * size, 2 * size, State.ZERO], [6 * size, 9994 * size, State.ABSENT]]
    rest = with_zeros if kind == "sesparse" else [[3 * size, 9997 * size, State.ABSENT]]
    gap = [[3 * size, size, State.ABSENT]] if kind == "sesparse" else []
    expected = [[0, size, State.ABSENT], [size, 2 * size, State.DATA], *gap, *rest]
    rows = [
        row for part in opened(tmp_path / "x", kind).pieces(0, 1 << 40) for row in part.tolist()
    ]
    joined: list[list[int]] = []
    for row in rows:
        if joined and joined[-1][2] == row[2]:
            joined[-1][1] += row[1]
        else:
            joined.append(row)
    assert joined == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sectors", [8, 2048, 32_769, 200_000])
def test_qemu_reads_the_same(tmp_path: Path, kind: str, sectors: int) -> None:
    require_programs("qemu-img")
    grain = 4096 if kind == "sesparse" else 512
    grains = random_grains(
        random.Random(sectors), sectors * SECTOR, grain, zeros=5 if kind == "sesparse" else 0
    )
    path = disk(tmp_path / "d.vmdk", kind, sectors, grains, 0x1234)
    raw = tmp_path / "raw"
    run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw])
    extent = opened(tmp_path / "d-delta.vmdk", kind, sectors)
    assert content(extent)[0] == raw.read_bytes()


def test_a_number_of_a_grain_is_split_in_two() -> None:
    numbers = [0, 1, 0xFFF, 0x1000, 0x1001, 0x1234_5678, (1 << 34) - 1]
    entries = np.array([3 << 60 | (n & 0xFFF) << 48 | n >> 12 for n in numbers], np.uint64)
    assert grain_places(entries, 100, "x").tolist() == [100 + 8 * number for number in numbers]


def test_many_threads_read_one_extent(tmp_path: Path) -> None:
    sectors, chance = 400_000, random.Random(5)
    grains = random_grains(chance, sectors * SECTOR, 4096, count=200, zeros=50)
    write_sesparse(tmp_path / "x", sectors, grains)
    expected = grains.onto(bytearray(sectors * SECTOR))
    with DEFAULT.open_read(tmp_path / "x") as file:
        extent = open_sesparse(file, sectors, FrameCache(1))
        wrong: list[int] = []

        def check(numbers: list[int]) -> None:
            for number in numbers:
                view = bytearray(min(4096, len(expected) - number * 4096))
                extent.read_data(memoryview(view), number * 4096)
                if view != expected[number * 4096 : number * 4096 + len(view)]:
                    wrong.append(number)

        shuffles = [chance.sample(list(grains.data), len(grains.data)) for _ in range(4)]
        threads = [threading.Thread(target=check, args=(each,)) for each in shuffles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_sixty_four_tebibytes_open_at_once(tmp_path: Path) -> None:
    """A disk of the largest size with one grain: no table is looked at that is not there."""
    sectors = 1 << 37
    write_sesparse(tmp_path / "x", sectors, Grains(4096, {(1 << 34) - 1: b"z" * 4096}))
    extent = opened(tmp_path / "x", "sesparse", sectors)
    rows = np.concatenate(list(extent.pieces(0, extent.size)))
    assert rows[rows[:, 2] == State.DATA].tolist() == [[(1 << 46) - 4096, 4096, State.DATA]]
    view = bytearray(4096)
    extent.read_data(memoryview(view), (1 << 46) - 4096)
    assert view == b"z" * 4096


# Hostile and damaged files


def patched(path: Path, offset: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


@pytest.fixture
def cowd(tmp_path: Path) -> Path:
    write_cowd(tmp_path / "c", 20_000, random_grains(random.Random(1), 20_000 * 512, 512))
    return tmp_path / "c"


@pytest.fixture
def sesparse(tmp_path: Path) -> Path:
    grains = random_grains(random.Random(1), 70_000 * 512, 4096, zeros=3)
    write_sesparse(tmp_path / "s", 70_000, grains)
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, b"KDMV", FormatError),
        (4, 2, UnsupportedError),
        (8, 4, UnsupportedError),
        (12, 0xFFFF_FFFF, LimitError),
        (16, 0, LimitError),
        (16, 3, LimitError),
        (16, 1 << 31, LimitError),
        (20, 0, FormatError),
        (20, 3, FormatError),
        (20, 0xFFFF_FFFF, IncompleteError),
        (24, 0, LimitError),
        (24, 4, LimitError),
    ],
)
def test_class_38_cowd_numbers(
    cowd: Path, offset: int, value: int | bytes, error: type[Exception]
) -> None:
    data = value if isinstance(value, bytes) else struct.pack("<I", value)
    with pytest.raises(error, match=cowd.name):
        opened(patched(cowd, offset, data), "cowd")


def test_class_38_a_directory_larger_than_it_must_be_is_no_matter(cowd: Path) -> None:
    before = content(opened(cowd, "cowd"))
    assert content(opened(patched(cowd, 24, struct.pack("<I", 6)), "cowd")) == before


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (0, 0xCAFEBABF, FormatError), (1, 0x2_0000_0002, UnsupportedError),
        (2, 1 << 38, LimitError), (2, (1 << 64) - 1, LimitError), (2, 10_000_000, FormatError),
        (3, 16, UnsupportedError), (3, 0, UnsupportedError), (4, 0, UnsupportedError),
        (5, 1, UnsupportedError), (6, 1, UnsupportedError), (9, 1, UnsupportedError),
        (10, 1 << 60, IncompleteError), (10, 8, FormatError), (16, (1 << 64) - 1, IncompleteError),
        (17, 0, FormatError), (18, 1 << 55, IncompleteError), (24, 1 << 63, IncompleteError),
        (63, 1, UnsupportedError),
    ],
)  # fmt: skip
def test_class_38_sesparse_numbers(
    sesparse: Path, field: int, value: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=sesparse.name):
        opened(patched(sesparse, field * 8, struct.pack("<Q", value)), "sesparse")


def test_a_journal_to_replay_is_refused(tmp_path: Path) -> None:
    write_sesparse(tmp_path / "x", 100, Grains(4096), replay=True)
    with pytest.raises(UnsupportedError, match="journal"):
        opened(tmp_path / "x", "sesparse")


def test_unknown_fields_of_the_second_header_are_refused(sesparse: Path) -> None:
    with pytest.raises(UnsupportedError, match="must be zero"):
        opened(patched(sesparse, 512 + 40, b"\1"), "sesparse")


@pytest.mark.parametrize("entry", [1, 4 << 60, 0xF << 60, 1 << 59, 5 << 60])
def test_class_40_grain_entries_that_mean_nothing(sesparse: Path, entry: int) -> None:
    table = struct.unpack_from("<Q", sesparse.read_bytes(), 18 * 8)[0]
    extent = opened(patched(sesparse, table * 512, struct.pack("<Q", entry)), "sesparse")
    with pytest.raises(FormatError, match="means nothing"):
        content(extent)


@pytest.mark.parametrize("number", [(1 << 60) - 1, 1 << 59, 1 << 40, 100_000])
def test_class_38_a_grain_far_behind_the_end(sesparse: Path, number: int) -> None:
    table = struct.unpack_from("<Q", sesparse.read_bytes(), 18 * 8)[0]
    entry = struct.pack("<Q", 3 << 60 | (number & 0xFFF) << 48 | number >> 12)
    extent = opened(patched(sesparse, table * 512, entry), "sesparse")
    with pytest.raises(IncompleteError, match="past the end"):
        content(extent)


def test_class_38_tables_of_the_directory(sesparse: Path) -> None:
    at = struct.unpack_from("<Q", sesparse.read_bytes(), 16 * 8)[0] * 512
    good = sesparse.read_bytes()
    for entries, error, words in (
        ([1], FormatError, "means nothing"),
        ([2 << 60], FormatError, "means nothing"),
        ([1 << 60 | 0xFFFF_FFFF], IncompleteError, "past the end"),
        ([1 << 60, 1 << 60], FormatError, "share"),
    ):
        sesparse.write_bytes(good)
        patched(sesparse, at, struct.pack(f"<{len(entries)}Q", *entries))
        with pytest.raises(error, match=words):
            content(opened(sesparse, "sesparse"))


@pytest.mark.parametrize("sector", [1, 3, 4])
def test_class_38_cowd_grains_and_tables_within_the_header(cowd: Path, sector: int) -> None:
    good = cowd.read_bytes()
    with pytest.raises(FormatError, match="within the header"):
        content(opened(patched(cowd, 2048, struct.pack("<I", sector)), "cowd"))
    cowd.write_bytes(good)
    table = max(struct.unpack_from("<5I", good, 2048))
    with pytest.raises(FormatError, match="within the header"):
        content(opened(patched(cowd, table * 512, struct.pack("<I", sector)), "cowd"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncation_is_never_a_clean_end(tmp_path: Path, kind: str) -> None:
    grains = random_grains(random.Random(2), 20_000 * 512, 4096)
    KINDS[kind][0](tmp_path / "x", 20_000, grains)
    size = (tmp_path / "x").stat().st_size
    for keep in [0, 1, 511, 512, 2047, 2048, size // 2, size - 4096, size - 1]:
        KINDS[kind][0](tmp_path / "x", 20_000, grains)
        with (tmp_path / "x").open("r+b") as file:
            file.truncate(keep)
        with pytest.raises(IncompleteError):
            content(opened(tmp_path / "x", kind))


def test_a_cowd_extent_alone_is_a_disk_with_a_warning(tmp_path: Path) -> None:
    """Thin disks of old ESX: qemu opens them so, too."""
    grains = Grains(4096, {1: b"a" * 4096})
    write_cowd(tmp_path / "thin.vmdk", 100, grains)
    raw = bytearray((tmp_path / "thin.vmdk").read_bytes())
    # A root has cylinders, heads and sectors where a child has its parent's name.
    struct.pack_into("<III", raw, 32, 0x414141, 255, 63)
    (tmp_path / "thin.vmdk").write_bytes(raw)
    with open_vmdk(tmp_path / "thin.vmdk") as source:
        assert (source.size, source.subformat) == (100 * SECTOR, "vmfsSparse")
        [warning] = source.warnings
        assert "is an extent without its descriptor" in warning
        data = bytearray(4096)
        source.read_into(data, 4096)
        assert data == b"a" * 4096


@pytest.mark.parametrize("changes", [{"parent": b"vm.vmdk"}, {"parent": b"p" * 1024}, {"flags": 2}])
def test_a_cowd_extent_that_says_it_is_a_child_is_no_disk(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.vmdk"
    write_cowd(path, 100, Grains(4096), **changes)
    with pytest.raises(IncompleteError, match=r"is the extent of a delta.*open the descriptor"):
        open_vmdk(path)
    # With its descriptor it is read as before.
    opened(path, "cowd", 100).close()


def test_a_cowd_extent_called_like_a_deltas_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vm-000001-delta.vmdk"
    write_cowd(path, 100, Grains(4096))
    with pytest.raises(RequestError, match=r"is an extent of a virtual disk; use the \.vmdk file"):
        open_disk(path, by_name=True)
    with open_disk(path, by_name=False) as source:
        assert source.warnings
    base = disk(tmp_path / "x-delta.vmdk", "cowd", 100, Grains(4096), 1)
    with open_disk(base, by_name=True) as source:
        assert not source.warnings


@pytest.mark.parametrize("kind", KINDS)
def test_another_size_than_the_descriptor_says(tmp_path: Path, kind: str) -> None:
    KINDS[kind][0](tmp_path / "x", 100, Grains(4096))
    with pytest.raises(FormatError, match="100 sectors, but its descriptor says 99"):
        opened(tmp_path / "x", kind, 99)


@pytest.mark.parametrize("kind", KINDS)
def test_random_mutations_give_our_errors_only(tmp_path: Path, kind: str) -> None:
    chance = random.Random(9)
    grains = random_grains(chance, 20_000 * 512, 4096, zeros=4 if kind == "sesparse" else 0)
    KINDS[kind][0](tmp_path / "x", 20_000, grains)
    good = (tmp_path / "x").read_bytes()
    metadata = 4096 * 16
    refused = 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.choice([chance.randrange(metadata), chance.randrange(0, 216, 4), 2048])
            width = chance.choice([1, 4, 8])
            value = chance.choice([0, 1, 2, 255, 1 << 31, (1 << 64) - 1, chance.getrandbits(64)])
            data[at : at + width] = (value & ((1 << width * 8) - 1)).to_bytes(width, "little")
        (tmp_path / "x").write_bytes(data)
        try:
            extent = opened(tmp_path / "x", kind, 20_000)
            content(extent)
            extent.close()
        except AipImageError as error:
            refused += "\n" not in str(error)
    assert 50 < refused < 400


@pytest.mark.parametrize("kind", KINDS)
def test_every_failing_call_is_an_error_of_the_source(tmp_path: Path, kind: str) -> None:
    """Classes 55 and 57: no failure arrives as zeros."""
    grains = random_grains(random.Random(3), 20_000 * 512, 4096, count=3)
    KINDS[kind][0](tmp_path / "x", 20_000, grains)
    expected = bytes(grains.onto(bytearray(20_000 * 512)))

    def scenario(system: FaultySystemCalls) -> bytes:
        extent = opened(tmp_path / "x", kind, storage=Storage(system))
        try:
            return content(extent)[0]
        finally:
            extent.close()

    struck = 0
    for fault in each_fault(scenario, kinds=("preadv", "fstat")):  # type: ignore[arg-type]
        with pytest.raises(AipImageError):
            scenario(FaultySystemCalls(fault))
        struck += 1
    for fault in each_fault(scenario, errnos=(0,), kinds=("preadv",), short=True):  # type: ignore[arg-type]
        assert scenario(FaultySystemCalls(fault)) == expected
    assert struck > 5


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write_sesparse(tmp_path / "x", 100_000, Grains(4096, {0: b"a" * 4096}))
    extent = opened(tmp_path / "x", "sesparse")
    assert next(extent.pieces(0, extent.size)).tolist()[0] == [0, 4096, State.DATA]
    table = struct.unpack_from("<Q", (tmp_path / "x").read_bytes(), 18 * 8)[0]
    patched(tmp_path / "x", table * 512, bytes(8))
    with pytest.raises(SourceError, match="changed while it was read"):
        extent.read_data(memoryview(bytearray(4096)), 0)


@given(
    st.builds(
        CowdHeader,
        flags=st.just(3),
        capacity=st.integers(0, 2**32 - 1),
        grain_size=st.sampled_from([1, 2, 128, 8192]),
        gd_offset=st.integers(4, 2**32 - 1),
        gd_entries=st.just(1 << 20),
        free_sector=st.integers(0, 2**32 - 1),
        unclean=st.booleans(),
        parent=st.sampled_from([b"", b"base.vmdk", b"x" * 1024]),
    )
)
@settings(max_examples=50)
def test_a_cowd_header_round_trip(header: CowdHeader) -> None:
    assert decode_cowd_header(encode_cowd_header(header), "x") == header
