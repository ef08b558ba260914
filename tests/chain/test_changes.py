"""Every form of ``changed`` becomes the same set of ranges; what is none is refused."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage import Extent, Kind
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    RequestError,
    StorageError,
    UnsupportedError,
)
from aipimage.format.digest import digest
from aipimage.io.changes.forms import ChangedBitmap, Changes, aligned, changes_from, write_changes
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.ranges import joined, ranges_of_runs
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.memory import ROOT, MemorySystem
from tests.support.soon import SOON

MIB = 1 << 20
TIB = 1 << 40
ID = "0123456789abcdef" * 2
PATH = f"{ROOT}/changed"


def pairs(ranges: np.ndarray) -> list[tuple[int, int]]:
    """The rows of a set, after checking that it is one."""
    assert ranges.dtype == np.uint64
    assert ranges.shape == (len(ranges), 2)
    rows = [tuple(row) for row in ranges.tolist()]
    assert all(length for _, length in rows)
    assert all(a + n < b for (a, n), (b, _) in pairwise(rows))
    return rows


def bytes_in(rows: list[tuple[int, int]]) -> set[int]:
    return {byte for start, length in rows for byte in range(start, start + length)}


# Sets of ranges

small_rows = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1500)), max_size=12)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 8))
def test_too_many_ranges_are_widened(bits: list[bool], limit: int) -> None:
    packed = np.packbits(np.array(bits), bitorder="little")
    size = len(bits) * 512 - 100
    found = pairs(ranges_of_runs([(0, packed, len(bits))], 512, size, limit))
    exact = pairs(ranges_of_runs([(0, packed, len(bits))], 512, size))
    assert len(found) <= limit
    assert bytes_in(found) >= bytes_in(exact)
    assert found == exact or len(exact) > limit


def test_large_disks_are_quick() -> None:
    begun = time.process_time()
    rows = np.arange(100_000, dtype=np.int64)[::-1, None] * [1 << 29, 0] + [0, 4096]
    assert len(changes_from(rows, 64 * TIB).ranges) == 100_000
    bits = np.zeros((16 * TIB) >> 16, bool)
    bits[np.random.default_rng(1).integers(0, len(bits), 100_000)] = True
    found = changes_from(ChangedBitmap(bits, 65_536, 16 * TIB), 16 * TIB)
    assert found.ranges[:, 1].sum() == int(bits.sum()) << 16
    # Ten times what it takes; a loop over the granules would take minutes.
    assert time.process_time() - begun < SOON


# What Python gives


@pytest.mark.parametrize(
    "changed",
    [
        [(4096, 512), (0, 512), (512, 100), (300, 400), (900, 0)],
        np.array([[4096, 512], [0, 700]], np.int32),
        np.array([[4096, 512], [0, 700]], np.uint64),
        [Extent(0, 700, Kind.DATA), Extent(4096, 512, Kind.ZERO)],
        ((0, 700), (4096, 512)),
        [np.array([0, 700]), np.array([4096, 512])],
    ],
    ids=["pairs", "int32", "uint64", "extents", "tuple", "arrays"],
)
def test_ranges(changed: object) -> None:
    found = changes_from(changed, 8192)
    assert pairs(found.ranges) == [(0, 700), (4096, 512)]
    assert (found.size, found.since, found.doubt) == (None, None, None)


@pytest.mark.parametrize("changed", [[], (), np.empty((0, 2), np.int64)])
def test_nothing_changed(changed: object) -> None:
    assert pairs(changes_from(changed, 8192).ranges) == []


@pytest.mark.parametrize(
    "row", [(0, 8193), (8192, 1), (8193, 5), (-1, 5), (5, -1), (2**62, 2**62), (1, 2**63 - 1)]
)
def test_ranges_that_leave_the_disk(row: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="leaves the disk of 8192 bytes"):
        changes_from([(0, 512), row], 8192)
    with pytest.raises(RequestError, match="leaves the disk of 8192 bytes"):
        changes_from(Changes(None, np.array([row], np.int64)), 8192)


@pytest.mark.parametrize("row", [(2**64 - 1, 2), (2**64 - 1, 2**64 - 1)])
def test_ranges_that_wrap(row: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="leaves the disk"):
        changes_from(np.array([row], np.uint64), 8192)


@pytest.mark.parametrize(
    "changed",
    [
        3, None, b"bytes", [1, 2], [(1, 2, 3)], [(0.0, 512.0)], [(0, "x")], [(0, 1), (2,)],
        [(True, False)], np.zeros(3, bool), np.zeros((2, 3), int), [(0, 2**64)], [(-1, 2**63)],
        {0: 512}, [None],
    ],
    ids=repr,
)  # fmt: skip
def test_other_things_are_refused(changed: object) -> None:
    with pytest.raises(RequestError, match="not usable"):
        changes_from(changed, 8192)


@pytest.mark.parametrize("size", [0, -1, 2**57 + 1])
def test_a_disk_without_a_size(size: int) -> None:
    with pytest.raises(RequestError, match="the disk is"):
        changes_from([], size)


class Own:
    """An object of an embedder."""

    def __init__(self, result: object) -> None:
        self.result = result

    def changes(self) -> object:
        return self.result


def test_objects_with_changes() -> None:
    rows = np.array([[512, 512], [0, 600]])
    found = changes_from(Own(Changes(8192, rows, ID)), 8192)
    assert pairs(found.ranges) == [(0, 1024)]
    assert (found.size, found.since) == (8192, ID)
    doubted = changes_from(Own(Changes(8192, rows, ID, "lost.")), 8192)
    assert pairs(doubted.ranges) == []
    assert doubted.doubt == "lost."


@pytest.mark.parametrize("since", ["", "0" * 32, "A" * 32, "12", 7, "g" * 32])
def test_objects_with_a_wrong_id(since: object) -> None:
    with pytest.raises(RequestError, match="image id"):
        changes_from(Changes(512, since=since), 512)  # type: ignore[arg-type]


@pytest.mark.parametrize("result", [None, [], (0, 1)])
def test_objects_that_return_something_else(result: object) -> None:
    with pytest.raises(RequestError, match="returned no Changes"):
        changes_from(Own(result), 8192)


def test_the_disk_has_grown_or_shrunk() -> None:
    changes = Changes(8192, np.array([[0, 512], [4096, 4096]]))
    grown = changes_from(changes, 10_000)
    assert (grown.size, pairs(grown.ranges)) == (8192, [(0, 512), (4096, 4096)])
    shrunk = changes_from(changes, 5000)
    assert (shrunk.size, pairs(shrunk.ranges)) == (5000, [(0, 512), (4096, 904)])


# Bitmaps


@given(
    st.lists(st.booleans(), min_size=1, max_size=100),
    st.sampled_from([512, 4096]),
    st.integers(0, 511),
)
def test_bitmaps(bits: list[bool], granularity: int, short: int) -> None:
    size = len(bits) * granularity - short
    array = np.array(bits)
    packed = np.packbits(array, bitorder="little")
    expected = {b for b in range(size) if bits[b // granularity]}
    for form in (array, packed, packed.tobytes(), bytearray(packed), memoryview(packed)):
        found = changes_from(ChangedBitmap(form, granularity, size), size)
        assert found.size == size
        assert bytes_in(pairs(found.ranges)) == expected


@pytest.mark.parametrize("length", [0, 7, 9])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8])
def test_bitmaps_of_another_disk(length: int, kind: type) -> None:
    count = 8 if kind is np.bool_ else 60
    with pytest.raises(RequestError, match=f"has {length} elements"):
        changes_from(ChangedBitmap(np.zeros(length, kind), 512, count * 512), count * 512)


@pytest.mark.parametrize("granularity", [0, -512, 256, 513, 1 << 31])
def test_bitmaps_of_no_granularity(granularity: int) -> None:
    with pytest.raises(RequestError, match="power of two"):
        changes_from(ChangedBitmap(b"\1", granularity, 512), 512)


@pytest.mark.parametrize("bits", [np.zeros((2, 4), bool), np.zeros(8, np.int64)])
def test_bitmaps_of_another_type(bits: np.ndarray) -> None:
    with pytest.raises(RequestError, match="not usable"):
        changes_from(ChangedBitmap(bits, 512, 4096), 4096)


# Changed-bitmap files

FEW = Changes(TIB + 100, np.array([[70_000, 1], [TIB, 100]], np.uint64), ID)
MANY = Changes(4 * MIB - 9, np.array([[n << 17, 512] for n in range(31)], np.uint64))


def written(changes: Changes, granularity: int = 65_536) -> bytes:
    system = MemorySystem()
    write_changes(PATH, changes, granularity, storage=Storage(system))
    assert set(system.files) == {PATH}
    return bytes(system.files[PATH])


def read(data: bytes, size: int, parent: str | None = None) -> Changes:
    return changes_from(PATH, size, Storage(MemorySystem({PATH: data})), parent=parent)


@pytest.mark.parametrize("changes", [FEW, MANY], ids=["extents", "bitmap"])
def test_files(changes: Changes) -> None:
    assert changes.size
    data = written(changes)
    found = read(data, changes.size)
    assert pairs(found.ranges) == pairs(aligned(changes.ranges, 65_536, changes.size))
    assert (found.size, found.since, found.doubt) == (changes.size, changes.since, None)
    assert data[10] == (2 if changes is FEW else 1)
    grown = read(data, changes.size + 512)
    assert (grown.size, len(grown.ranges)) == (changes.size, len(found.ranges))
    assert read(data, 512).size == 512


@given(small_rows, st.sampled_from([512, 1024]), st.integers(6500, 9000))
def test_files_give_back_what_was_written(
    rows: list[tuple[int, int]], granularity: int, size: int
) -> None:
    array = joined(np.array(rows, np.uint64).reshape(-1, 2))
    found = read(written(Changes(size, array), granularity), size)
    assert pairs(found.ranges) == pairs(aligned(array, granularity, size))


@pytest.mark.parametrize("changes", [FEW, MANY], ids=["extents", "bitmap"])
def test_every_flipped_bit_and_every_cut_is_found(changes: Changes) -> None:
    assert changes.size
    data = written(changes)
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, IntegrityError), match=PATH):
            read(bytes(broken), changes.size)
    for length in range(len(data)):
        with pytest.raises((FormatError, IntegrityError), match=PATH):
            read(data[:length], changes.size)
    with pytest.raises(IntegrityError):
        read(data + b"\0", changes.size)


def forged(changes: Changes, at: int, new: bytes) -> bytes:
    """A file with some bytes exchanged and the right digest."""
    data = bytearray(written(changes))
    data[at : at + len(new)] = new
    data[64:96] = digest(bytes(data[:64] + data[96:]))
    return bytes(data)


def u64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


@pytest.mark.parametrize(
    ("changes", "at", "new", "error"),
    [
        (FEW, 8, b"\2", UnsupportedError),  # version
        (FEW, 10, b"\0", FormatError),  # form
        (FEW, 10, b"\3", FormatError),
        (FEW, 10, b"\1", FormatError),
        (MANY, 10, b"\2", FormatError),
        (FEW, 11, b"\x08", FormatError),  # granularity
        (FEW, 11, b"\x1f", FormatError),
        (FEW, 11, b"\xff", FormatError),
        (FEW, 12, b"\1", FormatError),  # reserved
        (FEW, 48, b"\1", FormatError),
        (FEW, 16, u64(0), FormatError),  # size
        (FEW, 16, u64(2**57 + 1), FormatError),
        (FEW, 16, u64(2**64 - 1), FormatError),
        (FEW, 16, u64(65_536), FormatError),
        (FEW, 40, u64(1), FormatError),  # count
        (FEW, 40, u64(2**60), FormatError),
        (MANY, 40, u64(63), FormatError),
        (MANY, 40, u64(2**63), FormatError),
        (FEW, 96, u64(65_537), FormatError),  # extents
        (FEW, 104, u64(0), FormatError),
        (FEW, 104, u64(2**64 - 65_536), FormatError),
        (FEW, 96, u64(TIB), FormatError),
        (FEW, 96, u64(TIB - 65_536), FormatError),
        (FEW, 104, u64(TIB), FormatError),
        (FEW, 112, u64(2 * TIB), FormatError),
    ],
)
def test_forged_files(changes: Changes, at: int, new: bytes, error: type[Exception]) -> None:
    assert changes.size
    with pytest.raises(error, match=PATH):
        read(forged(changes, at, new), changes.size)


def test_stray_bits_are_refused() -> None:
    changes = Changes(65_536 * 9, np.array([[n << 17, 512] for n in range(4)], np.uint64))
    data = forged(changes, 97, b"\2")
    with pytest.raises(FormatError, match="past the end"):
        read(data, 65_536 * 9)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"incomplete.*lost\."):
        write_changes(tmp_path / "x", Changes(512, doubt="lost."), 512)
    with pytest.raises(RequestError, match="how large"):
        write_changes(tmp_path / "x", Changes(None), 512)
    with pytest.raises(RequestError, match="leaves the disk"):
        write_changes(tmp_path / "x", Changes(512, np.array([[0, 513]])), 512)
    with pytest.raises(RequestError, match="power of two"):
        write_changes(tmp_path / "x", Changes(512), 500)
    write_changes(tmp_path / "x", Changes(512), 512)
    with pytest.raises(StorageError) as caught:
        write_changes(tmp_path / "x", Changes(512), 512)
    assert caught.value.errno == errno.EEXIST
    write_changes(tmp_path / "x", Changes(1024), 512, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert changes_from(tmp_path / "x", 1024).size == 1024


@pytest.mark.parametrize("short", [False, True])
def test_every_system_call_fails(short: bool) -> None:
    old, new = written(FEW), written(MANY)
    memory = MemorySystem()

    def scenario(system: SystemCalls) -> None:
        memory.files = {PATH: bytearray(old)}
        write_changes(PATH, MANY, 65_536, overwrite=True, storage=Storage(system))

    counter = FaultySystemCalls(inner=memory)
    scenario(counter)
    assert counter.total > 8
    outcomes = set()
    for at in range(counter.total):
        system = FaultySystemCalls(Fault(at, short=short), inner=memory)
        try:
            scenario(system)
        except StorageError:
            outcomes.add("failed")
        else:
            outcomes.add("done")
            assert memory.files[PATH] == new, at
        assert memory.files[PATH] in (old, new), at
        assert set(memory.files) == {PATH}, at
        assert not memory.open_descriptors, at
    assert "failed" in outcomes


def test_a_crash_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(written(FEW))
    recorder = RecordingSystemCalls(tmp_path)
    write_changes(tmp_path / "x", MANY, 65_536, overwrite=True, storage=Storage(recorder))
    recorder.mark("done")
    seen = set()
    for state in crash_states(recorder):
        data = bytes(state.disk.data[state.disk.names[str(tmp_path / "x")]])
        assert data in (written(FEW), written(MANY)), state.label
        assert not state.marks or data == written(MANY), state.label
        seen.add(data)
    assert len(seen) == 2


# Maps of nbdinfo


def row(offset: int, length: int, kind: int, description: str) -> dict[str, object]:
    return {"offset": offset, "length": length, "type": kind, "description": description}


DIRTY = [
    row(0, 65_536, 1, "dirty"),
    row(65_536, 983_040, 0, "clean"),
    row(1_048_576, 65_536, 1, "dirty"),
    row(1_114_112, 65_536, 1, "dirty"),
    row(1_179_648, 7_208_960, 0, "clean"),
]
DIRTY_SIZE = 8 * MIB


def test_maps() -> None:
    found = read(json.dumps(DIRTY).encode(), DIRTY_SIZE)
    assert pairs(found.ranges) == [(0, 65_536), (1_048_576, 131_072)]
    assert (found.size, found.since) == (DIRTY_SIZE, None)
    shrunk = read(b" \n" + json.dumps(DIRTY).encode(), 1_050_000)
    assert pairs(shrunk.ranges) == [(0, 65_536), (1_048_576, 1424)]


def test_a_map_that_is_clean() -> None:
    data = json.dumps([row(0, 4096, 0, "clean")]).encode()
    assert pairs(read(data, 4096).ranges) == []


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([row(0, 8, 0, "data"), row(8, 8, 3, "hole,zero")], RequestError, "'data'"),
        ([row(0, 16, 3, "hole,zero")], RequestError, "says nothing about changes"),
        ([row(0, 8, 1, "local"), row(8, 8, 0, "absent")], RequestError, "dirty-bitmap"),
        ([row(0, 8, 1, "dirty"), row(8, 8, 2, "zero")], RequestError, "'zero'"),
        ([row(0, 16, 0, "dirty")], FormatError, "contradict"),
        ([row(0, 16, 1, "clean")], FormatError, "contradict"),
        ([row(0, 16, 3, "dirty")], FormatError, "contradict"),
        ([row(0, 8, 1, "dirty"), row(9, 7, 0, "clean")], FormatError, "gap or an overlap"),
        ([row(0, 8, 1, "dirty"), row(7, 9, 0, "clean")], FormatError, "gap or an overlap"),
        ([row(8, 8, 1, "dirty")], FormatError, "gap or an overlap at byte 0"),
        ([row(0, 8, 1, "dirty"), row(8, 0, 0, "clean")], FormatError, "gap or an overlap"),
        ([row(0, -8, 1, "dirty")], FormatError, "gap or an overlap"),
        ([row(0, 2**57 + 1, 1, "dirty")], FormatError, "limit"),
        ([row(0, 10**400, 1, "dirty")], FormatError, "limit"),
        ([row(0, 15, 1, "dirty")], RequestError, "covers 15 bytes and the disk has 16"),
        ([], IncompleteError, "empty"),
        ({}, FormatError, "no list"),
        ([1], FormatError, "no list"),
        ([{"offset": 0, "length": 16, "type": 1}], FormatError, "no description"),
        ([{"offset": 0, "length": 16, "description": "dirty"}], FormatError, "no type"),
        ([row(0, True, 1, "dirty")], FormatError, "no length"),  # type: ignore[arg-type]
        ([row(0, 16.0, 1, "dirty")], FormatError, "no length"),  # type: ignore[arg-type]
        ([{"size": 16, "percent": 1, "type": 1, "description": "dirty"}], FormatError, "--totals"),
    ],
)
def test_maps_that_are_refused(rows: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(json.dumps(rows).encode(), 16)
    assert str(caught.value).startswith(PATH)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(DIRTY).encode()[:-1],
        b"[" * 200_000,
        b"[" + b"9" * 5000 + b"]",
        b"[\xff]",
        b'[{"offset": 0, "length": 16, "type": 1, "description": "dirty"}] more',
    ],
    ids=["cut", "deep", "digits", "not text", "more"],
)
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(IncompleteError, match="not whole JSON"):
        read(data, 16)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 600, b"AIVCHNG2" * 20, b"\x89AIV\r\n\x1a\n", b"dirty"]
)
def test_files_of_another_kind(data: bytes) -> None:
    with pytest.raises(FormatError, match="neither a changed-bitmap file"):
        read(data, 16)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open"):
        changes_from(tmp_path / "none", 512)


@settings(max_examples=300)
@given(st.data())
def test_hostile_files(data: st.DataObject) -> None:
    """Any bytes behind any beginning: ranges within the disk, or a typed error."""
    start: Callable[[], bytes] = data.draw(
        st.sampled_from([b"", b"AIVCHNG1", b"AIVTRCK1", b"[", b"[{", written(FEW), written(MANY)])
    )
    content = start + data.draw(st.binary(max_size=600))
    size = data.draw(st.integers(1, 2**57))
    try:
        found = read(content, size)
    except AipImageError:
        return
    assert all(start + length <= size for start, length in pairs(found.ranges))


@pytest.mark.skipif(
    not all(map(shutil.which, ("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo"))),
    reason="needs qemu-img, qemu-io, qemu-nbd and nbdinfo",
)
def test_what_nbdinfo_prints_of_a_real_disk(tmp_path: Path) -> None:
    disk = str(tmp_path / "disk.qcow2")

    def run(*command: str) -> bytes:
        return subprocess.run(command, check=True, capture_output=True).stdout

    run("qemu-img", "create", "-f", "qcow2", disk, "8M")
    run("qemu-img", "bitmap", "--add", disk, "b0")
    run("qemu-io", "-c", "write 0 64k", "-c", "write 1M 128k", disk)
    for name in ("qemu:dirty-bitmap:b0", "base:allocation", "qemu:allocation-depth"):
        server = ("[", "qemu-nbd", "-r", "-A", "-f", "qcow2", "-B", "b0", disk, "]")
        out = tmp_path / "map.json"
        out.write_bytes(run("nbdinfo", "--json", f"--map={name}", "--", *server))
        if name == "qemu:dirty-bitmap:b0":
            found = changes_from(out, 8 * MIB)
            assert pairs(found.ranges) == [(0, 65_536), (MIB, 131_072)]
        else:
            with pytest.raises(RequestError, match="says nothing about changes"):
                changes_from(out, 8 * MIB)


def test_a_map_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As some editors and shells write it; UTF-16 is refused by name."""
    rows = [{"offset": 0, "length": 4096, "type": 1, "description": "dirty"}]
    text = json.dumps(rows)
    (tmp_path / "map").write_text(text, "utf-8-sig")
    assert changes_from(tmp_path / "map", 4096).ranges.tolist() == [[0, 4096]]
    (tmp_path / "map").write_text("\ufeff\r\n" + text.replace(",", ",\r\n"), "utf-8")
    assert changes_from(tmp_path / "map", 4096).ranges.tolist() == [[0, 4096]]
    (tmp_path / "map").write_text(text, "utf-16")
    with pytest.raises(FormatError, match="UTF-16 text; save the map as UTF-8"):
        changes_from(tmp_path / "map", 4096)
