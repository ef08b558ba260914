"""Block sinks: every refusal comes before the first write; targets stay thin; crashes are safe."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import AipImageError, RequestError, StorageError, TargetError
from aipimage.io.blocks.sinks import BlockSink, FileSink, open_target
from aipimage.io.system.storage import Storage, SystemCalls
from tests.io.sinkparts import MIB, allocated, fill, fresh
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import TRANSFERS, Fault, FaultySystemCalls, each_fault


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


# New files


def test_new_file(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    assert isinstance(sink, FileSink)
    assert isinstance(sink, BlockSink)
    assert sink.size == MIB
    assert sink.name == str(tmp_path / "disk")
    expected = fill(sink)
    assert names(tmp_path) == ["disk.partial"]
    sink.finish()
    sink.abort()
    assert names(tmp_path) == ["disk"]
    assert (tmp_path / "disk").read_bytes() == expected
    assert allocated(tmp_path / "disk") < MIB // 4


def test_new_file_that_grows(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", None)
    assert sink.size is None
    sink.write(b"x" * 10, 100)
    sink.zero(110, 1000)
    sink.finish()
    assert (tmp_path / "disk").read_bytes() == bytes(100) + b"x" * 10 + bytes(1000)


def test_new_file_with_nothing_written(tmp_path: Path) -> None:
    open_target(tmp_path / "disk", 1000).finish()
    assert (tmp_path / "disk").read_bytes() == bytes(1000)


def test_abort_removes_a_new_file(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    fill(sink)
    sink.abort()
    sink.abort()
    assert names(tmp_path) == []


def test_a_name_that_was_taken_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", MIB)
    (tmp_path / "disk").write_bytes(b"somebody else's")
    with pytest.raises(StorageError, match="already there"):
        sink.finish()
    sink.abort()
    assert (tmp_path / "disk").read_bytes() == b"somebody else's"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/disk")
    sink = open_target(tmp_path / "link", 4)
    sink.write(b"data", 0)
    sink.finish()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "folder") == ["disk"]
    with pytest.raises(TargetError, match="not empty"):
        open_target(tmp_path / "link", 4)


def test_hostile_60_two_restores_to_one_name(tmp_path: Path) -> None:
    first = open_target(tmp_path / "disk", MIB)
    with pytest.raises(
        TargetError, match=r"disk\.partial: already exists: a restore was interrupted"
    ):
        open_target(tmp_path / "disk", MIB)
    with pytest.raises(TargetError, match="another process is writing"):
        open_target(tmp_path / "disk", MIB, force=True)
    expected = fill(first)
    first.finish()
    assert (tmp_path / "disk").read_bytes() == expected


def test_force_removes_what_an_interrupted_restore_left(tmp_path: Path) -> None:
    (tmp_path / "disk.partial").write_bytes(b"left" * 1000)
    with pytest.raises(TargetError, match="already exists"):
        open_target(tmp_path / "disk", 4)
    sink = open_target(tmp_path / "disk", 8, force=True)
    sink.write(b"new!", 0)
    sink.finish()
    assert (tmp_path / "disk").read_bytes() == b"new!" + bytes(4)


# Existing files


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100)
    with pytest.raises(TargetError, match=r"\(force=True\)"):
        open_target(path, 100)
    assert path.read_bytes() == b"old" * 100


def test_nothing_is_lost_before_the_first_write(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100)
    open_target(path, 300, force=True).abort()
    assert path.read_bytes() == b"old" * 100


@pytest.mark.parametrize("first", ["write", "zero", "finish"])
def test_old_content_never_shines_through(tmp_path: Path, first: str) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"old" * 100_000)
    sink = open_target(path, 300_000, force=True)
    expected = bytearray(300_000)
    if first == "write":
        sink.write(b"x", 5)
        expected[5:6] = b"x"
    elif first == "zero":
        sink.zero(0, 10)
    sink.finish()
    assert path.read_bytes() == expected
    assert allocated(path) <= 65536
    assert names(tmp_path) == ["disk"]


@pytest.mark.parametrize(
    ("old", "needed", "set_size", "final"),
    [(0, 50, False, 50), (100, 50, False, 100), (100, 50, True, 50), (10, 50, True, 50)],
)
def test_sizes_of_existing_files(
    tmp_path: Path, old: int, needed: int, set_size: bool, final: int
) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"o" * old)
    sink = open_target(path, needed, force=bool(old), set_size=set_size)
    sink.write(b"n" * 50, 0)
    sink.finish()
    assert path.read_bytes() == b"n" * 50 + bytes(final - 50)


def test_too_small_names_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"o" * 10)
    with pytest.raises(TargetError, match="too small: it has 10 bytes, 50 are needed"):
        open_target(path, 50, force=True)
    assert path.read_bytes() == b"o" * 10


def test_refused_targets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null", "", "a\0b"):
        with pytest.raises(RequestError):
            open_target(path, 10, force=True)
    for path in (tmp_path / "none" / "disk", tmp_path / "file" / "disk"):
        with pytest.raises(TargetError, match="no such directory"):
            open_target(path, 10)
    assert names(tmp_path) == ["fifo", "file"]


def test_bounds(tmp_path: Path) -> None:
    sink = open_target(tmp_path / "disk", 100)
    for offset in (-1, 91):
        with pytest.raises(RuntimeError, match="internal error"):
            sink.write(b"x" * 10, offset)
        with pytest.raises(RuntimeError, match="internal error"):
            sink.zero(offset, 10)
    sink.abort()


operations = st.lists(
    st.tuples(st.booleans(), st.integers(0, 20_000), st.integers(0, 20_000)), max_size=20
)


@given(operations=operations, holes=st.booleans())
def test_any_order_of_writes_and_zeros(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[bool, int, int]], holes: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "hypothesis-target"
    fault = Fault(0, 0 if holes else errno.EOPNOTSUPP, ("punch_hole",), permanent=True)
    path.unlink(missing_ok=True)
    sink = open_target(path, 40_000, storage=Storage(FaultySystemCalls(fault)))
    expected = bytearray(40_000)
    for number, (is_zero, offset, length) in enumerate(operations):
        data = bytes(length) if is_zero else bytes([number + 1]) * length
        expected[offset : offset + length] = data
        if is_zero:
            sink.zero(offset, length)
        else:
            sink.write(data, offset)
    sink.finish()
    assert path.read_bytes() == expected


def restore(directory: Path, system: SystemCalls, *, over: bytes | None) -> Path:
    """Restore with `system`, to a new file or over one that holds `over`; return the target."""
    place = directory / str(next(fresh))
    place.mkdir()
    target = place / "disk"
    if over is not None:
        target.write_bytes(over)
    storage = Storage(system)
    sink = open_target(target, MIB, force=True, set_size=True, storage=storage)
    try:
        fill(sink)
        sink.zero(0, 4096)
        sink.finish()
    except AipImageError:
        sink.abort()
        raise
    return target


@pytest.mark.parametrize("over", [None, b"old" * 1000])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
def test_hostile_57_every_call_fails_once(tmp_path: Path, over: bytes | None, number: int) -> None:
    expected = restore(tmp_path, SystemCalls(), over=over).read_bytes()
    assert expected[:4096] == bytes(4096)

    for fault in each_fault(lambda system: restore(tmp_path, system, over=over), errnos=(number,)):
        system = FaultySystemCalls(fault)
        before = len(os.listdir("/proc/self/fd"))
        try:
            target = restore(tmp_path, system, over=over)
        except AipImageError:
            assert number != errno.EINTR, fault
            place = max(tmp_path.iterdir(), key=lambda path: int(path.name))
            # A new file is there whole or not at all, but for a lock or a look that failed.
            if over is None:
                assert names(place) in ([], ["disk"]), fault
                if names(place):
                    assert (place / "disk").read_bytes() == expected
        else:
            assert target.read_bytes() == expected
        assert len(os.listdir("/proc/self/fd")) == before, fault


@pytest.mark.parametrize("over", [None, b"old" * 1000])
def test_hostile_57_short_writes(tmp_path: Path, over: bytes | None) -> None:
    system = FaultySystemCalls(Fault(0, 0, TRANSFERS, short=True, permanent=True))
    target = restore(tmp_path, system, over=over)
    assert target.read_bytes() == restore(tmp_path, SystemCalls(), over=over).read_bytes()


def test_hostile_58_a_failed_sync_leaves_no_target(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.EIO, ("fsync",)))
    sink = open_target(tmp_path / "disk", MIB, storage=Storage(system))
    fill(sink)
    for _ in range(2):
        with pytest.raises(StorageError):
            sink.finish()
    sink.abort()
    assert names(tmp_path) == []


def test_hostile_59_a_crash_at_any_point(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    recorder = RecordingSystemCalls(live)
    sink = open_target(live / "disk", MIB, storage=Storage(recorder))
    expected = fill(sink)
    sink.finish()
    recorder.mark("restored")
    for number, state in enumerate(crash_states(recorder, shuffles=4)):
        place = state.materialise(tmp_path / f"state{number}")
        if "restored" in state.marks or (place / "disk").exists():
            assert (place / "disk").read_bytes() == expected, state.label
        shutil.rmtree(place)
