"""The storage layer: what it refuses, how it fails, and that it never half-transfers."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aipimage.errors import RequestError, StorageError, TargetError
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from tests.support import loop_device
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import KINDS, TRANSFERS, Fault, FaultySystemCalls, each_fault


@pytest.fixture
def data() -> bytes:
    return bytes(range(256)) * 64


def test_round_trip(tmp_path: Path, data: bytes) -> None:
    with DEFAULT.create(tmp_path / "a") as file:
        file.pwrite(data, 0)
        file.pwritev([b"one", b"", memoryview(b"two"), bytearray(b"three")], len(data))
        file.sync()
        assert file.size() == len(data) + 11
        assert file.pread(11, len(data)) == b"onetwothree"
    with DEFAULT.open_read(tmp_path / "a") as file:
        assert file.pread(1 << 20, 0) == data + b"onetwothree"
        assert file.pread(10, 1 << 40) == b""
        assert file.pread(10, 1 << 70) == b""
        file.advise_sequential()
    info = DEFAULT.stat(tmp_path / "a")
    assert info.is_regular
    assert not info.is_block_device
    assert info.size == len(data) + 11


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    buffers = [bytes([i % 256]) * (i % 7) for i in range(5000)]
    with DEFAULT.create(tmp_path / "a") as file:
        file.pwritev(buffers, 3)
        assert file.pread(1 << 20, 3) == b"".join(buffers)


def test_names(tmp_path: Path) -> None:
    DEFAULT.create(tmp_path / "a").close()
    DEFAULT.create(tmp_path / "b").close()
    assert DEFAULT.list_directory(tmp_path) == ["a", "b"]
    with pytest.raises(StorageError) as caught:
        DEFAULT.rename(tmp_path / "a", tmp_path / "b", replace=False)
    assert caught.value.errno == errno.EEXIST
    DEFAULT.rename(tmp_path / "a", tmp_path / "b")
    DEFAULT.sync_directory(tmp_path)
    assert not DEFAULT.exists(tmp_path / "a")
    assert not DEFAULT.exists(tmp_path / "b" / "below a file")
    DEFAULT.remove(tmp_path / "b")
    DEFAULT.remove(tmp_path / "b", missing_ok=True)
    with pytest.raises(StorageError, match="cannot remove"):
        DEFAULT.remove(tmp_path / "b")


def test_create_never_opens_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(StorageError) as caught:
        DEFAULT.create(tmp_path / "a")
    assert caught.value.errno == errno.EEXIST
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes"])
def test_paths_that_are_none(path: str) -> None:
    for call in (DEFAULT.open_read, DEFAULT.create, DEFAULT.stat, DEFAULT.resolve):
        with pytest.raises(RequestError):
            call(path)


@pytest.mark.timeout(60)
def test_other_kinds_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        kinds = {"fifo": "named pipe", "directory": "directory", "socket": "socket"}
        for name, kind in kinds.items():
            for call in (DEFAULT.open_read, DEFAULT.open_update):
                with pytest.raises(RequestError, match=kind):
                    call(tmp_path / name)
    with pytest.raises(RequestError, match="character device"):
        DEFAULT.open_read("/dev/null")


@pytest.mark.timeout(60)
def test_a_name_that_changes_into_a_pipe_while_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "plain").write_bytes(b"x")

    class Swapped(SystemCalls):
        def stat(self, path: str) -> os.stat_result:
            return super().stat(str(tmp_path / "plain"))

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RequestError, match="named pipe"):
        Storage(Swapped()).open_read(tmp_path / "fifo")
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_do_not_reach_child_processes(tmp_path: Path) -> None:
    with DEFAULT.create(tmp_path / "a"):
        script = (
            "import os\n"
            "for name in os.listdir('/proc/self/fd'):\n"
            "    print(os.path.realpath(f'/proc/self/fd/{name}'))\n"
        )
        command = [sys.executable, "-c", script]
        found = subprocess.run(command, check=True, capture_output=True, text=True, close_fds=False)
    assert str(tmp_path / "a") not in found.stdout.splitlines()


def test_holes(tmp_path: Path) -> None:
    with DEFAULT.create(tmp_path / "a") as file:
        file.truncate(1 << 20)
        file.pwrite(b"x" * 4096, 1 << 19)
        assert file.seek_data(0) in (0, 1 << 19)
        assert file.seek_hole(1 << 19) in ((1 << 19) + 4096, 1 << 20)
        assert file.seek_data(2 << 20) is None
        assert file.seek_hole(2 << 20) is None
        if file.punch_hole(1 << 19, 4096):
            assert file.pread(4096, 1 << 19) == bytes(4096)
            assert file.size() == 1 << 20
            assert file.info().allocated_bytes == 0


def test_where_holes_cannot_be_seen_everything_is_data(tmp_path: Path) -> None:
    fault = Fault(0, errno.EINVAL, ("lseek", "punch_hole"), permanent=True)
    with Storage(FaultySystemCalls(fault)).create(tmp_path / "a") as file:
        file.truncate(1000)
        assert file.seek_data(10) == 10
        assert file.seek_data(1000) is None
        assert file.seek_hole(10) == 1000
        assert file.punch_hole(0, 1000) is False


# Faults: hostile-inputs classes 57, 58, 60


def scenario(directory: Path, data: bytes, system: SystemCalls) -> None:
    """Write a file and publish it, then read it back, with every kind of call."""
    storage = Storage(system)
    partial, final = directory / "a.partial", directory / "a"
    with storage.create(partial) as file:
        file.lock()
        file.truncate(len(data))
        file.pwritev([data[:100], data[100:]], 0)
        file.punch_hole(0, 512)
        file.pwrite(data[:512], 0)
        file.sync()
        storage.rename(partial, final, replace=False)
        storage.sync_directory(directory)
    with storage.open_left(final) or storage.open_read(final):
        pass
    with storage.open_read(storage.resolve(final)) as file:
        file.advise_sequential()
        assert file.seek_data(0) == 0
        assert file.pread(file.size(), 0) == data
    assert storage.list_directory(directory) == ["a"]
    storage.remove(final)


fresh = itertools.count()


def run(tmp_path: Path, data: bytes, system: SystemCalls) -> None:
    directory = tmp_path / str(next(fresh))
    directory.mkdir()
    scenario(directory, data, system)


def test_hostile_57_every_call_fails_once(tmp_path: Path, data: bytes) -> None:
    def counted(system: SystemCalls) -> None:
        run(tmp_path, data, system)

    struck = set()
    for fault in each_fault(counted, errnos=(errno.EIO, errno.ENOSPC)):
        system = FaultySystemCalls(fault)
        try:
            run(tmp_path, data, system)
        except StorageError as error:
            assert error.errno == fault.errno  # noqa: PT017 - without an error is fine as well
        else:
            # Advice is a hint, and closing a file after a failure must not hide that failure.
            assert system.counts["advise_sequential"]
        assert system.hits == 1
        struck |= {kind for kind in KINDS if system.counts[kind]}
    assert struck == set(KINDS) - {"ioctl"}


def test_without_positional_calls(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows has no preadv: a seek and a read, under a lock."""
    monkeypatch.setattr("aipimage.io.system.calls.POSITIONAL", False)
    run(tmp_path, data, SystemCalls())
    with DEFAULT.create(tmp_path / "many") as file:
        file.pwrite(data, 0)
        wrong = []

        def read(step: int) -> None:
            for at in range(0, len(data), step):
                if file.pread(100, at) != data[at : at + 100] or file.seek_hole(at) is None:
                    wrong.append(at)

        threads = [threading.Thread(target=read, args=(step,)) for step in (17, 31, 57)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_modules_import_where_linux_calls_are_missing() -> None:
    script = (
        "import os, sys\n"
        "sys.modules['fcntl'] = None\n"
        "for name in ('preadv', 'pwritev', 'posix_fadvise', 'O_CLOEXEC', 'O_NONBLOCK',\n"
        "             'O_DIRECTORY', 'SEEK_DATA', 'SEEK_HOLE'):\n"
        "    delattr(os, name)\n"
        "import aipimage.io.blocks.sinks, aipimage.io.blocks.sources\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_hostile_57_interruptions_are_not_seen(tmp_path: Path, data: bytes) -> None:
    def counted(system: SystemCalls) -> None:
        run(tmp_path, data, system)

    for fault in each_fault(counted, errnos=(errno.EINTR,)):
        system = FaultySystemCalls(fault)
        run(tmp_path, data, system)
        assert system.hits == 1


@pytest.mark.timeout(60)
def test_hostile_57_an_endless_interruption_ends(tmp_path: Path) -> None:
    fault = Fault(0, errno.EINTR, ("pwritev",), permanent=True)
    with (
        Storage(FaultySystemCalls(fault)).create(tmp_path / "a") as file,
        pytest.raises(StorageError),
    ):
        file.pwrite(b"x", 0)


def test_hostile_57_short_transfers_are_finished(tmp_path: Path, data: bytes) -> None:
    fault = Fault(0, 0, TRANSFERS, short=True, permanent=True)
    system = FaultySystemCalls(fault)
    run(tmp_path, data, system)
    assert system.hits > 10


def test_hostile_57_a_torn_write_is_an_error(tmp_path: Path, data: bytes) -> None:
    system = FaultySystemCalls(Fault(0, errno.ENOSPC, ("pwritev",), short=True))
    with Storage(system).create(tmp_path / "a") as file:
        with pytest.raises(StorageError, match="cannot write 16384 bytes at offset 0") as caught:
            file.pwrite(data, 0)
        assert caught.value.errno == errno.ENOSPC
        assert file.pread(len(data), 0) == data[: len(data) // 2]


def test_a_write_that_takes_nothing_does_not_loop(tmp_path: Path) -> None:
    class Full(SystemCalls):
        def pwritev(self, *args: object) -> int:
            return 0

    with (
        Storage(Full()).create(tmp_path / "a") as file,
        pytest.raises(StorageError, match="took no bytes"),
    ):
        file.pwrite(b"x", 0)


def test_hostile_58_a_failed_sync_is_final(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.EIO, ("fsync",)))
    with Storage(system).create(tmp_path / "a") as file:
        file.pwrite(b"x", 0)
        for call in (
            file.sync,
            file.sync,
            lambda: file.pwrite(b"y", 0),
            lambda: file.pwritev([b"y"], 0),
            lambda: file.truncate(0),
            lambda: file.punch_hole(0, 1),
            lambda: file.zero_out(0, 1),
            lambda: file.discard(0, 1),
        ):
            with pytest.raises(StorageError, match="durable") as caught:
                call()
            assert caught.value.errno == errno.EIO
        assert system.counts["fsync"] == 1
        assert file.pread(1, 0) == b"x"


def test_hostile_58_threads_that_sync_together_all_see_it(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.EIO, ("fsync",)))
    failures = []
    with Storage(system).create(tmp_path / "a") as file:

        def sync() -> None:
            try:
                file.sync()
            except StorageError as error:
                failures.append(error)

        threads = [threading.Thread(target=sync) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(failures) == 8
    assert system.counts["fsync"] == 1


def test_hostile_60_two_writers_on_one_file(tmp_path: Path) -> None:
    with DEFAULT.create(tmp_path / "a") as first, DEFAULT.open_update(tmp_path / "a") as second:
        assert first.lock()
        with pytest.raises(TargetError, match="another process is writing"):
            second.lock()
        first.close()
        assert second.lock()


def test_hostile_60_a_lock_on_a_file_that_was_replaced(tmp_path: Path) -> None:
    with DEFAULT.create(tmp_path / "a") as first, DEFAULT.open_update(tmp_path / "a") as late:
        first.lock()
        DEFAULT.rename(tmp_path / "a", tmp_path / "finished")
        first.close()
        with pytest.raises(TargetError, match="replaced"):
            late.lock()


def test_where_there_are_no_locks(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.ENOLCK, ("flock",)))
    with Storage(system).create(tmp_path / "a") as file:
        assert file.lock() is False


def test_a_failing_close_does_not_hide_the_first_error(tmp_path: Path) -> None:
    system = FaultySystemCalls(Fault(0, errno.EIO, ("close",)))
    with pytest.raises(ZeroDivisionError), Storage(system).create(tmp_path / "a"):
        raise ZeroDivisionError
    system = FaultySystemCalls(Fault(0, errno.EIO, ("close",)))
    with pytest.raises(StorageError, match="cannot close"), Storage(system).create(tmp_path / "b"):
        pass


def test_a_closed_file_is_an_error(tmp_path: Path) -> None:
    file = DEFAULT.create(tmp_path / "a")
    file.close()
    file.close()
    for call in (lambda: file.pread(1, 0), lambda: file.pwrite(b"x", 0), file.sync, file.size):
        with pytest.raises(StorageError):
            call()


# The crash model itself


def publish(recorder: RecordingSystemCalls, directory: Path, *skip: str) -> None:
    """Replace ``a`` by a new version; without some of the steps on demand."""
    storage = Storage(recorder)
    with storage.create(directory / "a.partial") as file:
        file.pwrite(b"new" * 1000, 0)
        if "sync" not in skip:
            file.sync()
        storage.rename(directory / "a.partial", directory / "a")
        if "sync_directory" not in skip:
            storage.sync_directory(directory)
    recorder.mark("done")


def outcomes(tmp_path: Path, *skip: str) -> set[tuple[bytes, bool]]:
    """What ``a`` may hold after a crash, and whether the user had been told that it is new."""
    directory = tmp_path / "live"
    directory.mkdir()
    (directory / "a").write_bytes(b"old" * 10)
    recorder = RecordingSystemCalls(directory)
    publish(recorder, directory, *skip)
    found = set()
    for number, state in enumerate(crash_states(recorder, seed=7, shuffles=8)):
        place = state.materialise(tmp_path / f"state{number}")
        found.add(((place / "a").read_bytes(), "done" in state.marks))
    return found


def test_crash_model_accepts_the_right_order(tmp_path: Path) -> None:
    old, new = b"old" * 10, b"new" * 1000
    assert outcomes(tmp_path) == {(old, False), (new, False), (new, True)}


def test_crash_model_finds_a_missing_sync(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "sync")
    assert (b"", True) in found
    assert any(0 < len(content) < 3000 and told for content, told in found)


def test_crash_model_finds_a_missing_directory_sync(tmp_path: Path) -> None:
    assert (b"old" * 10, True) in outcomes(tmp_path, "sync_directory")


def test_crash_model_tears_writes(tmp_path: Path) -> None:
    recorder = RecordingSystemCalls(tmp_path)
    with Storage(recorder).create(tmp_path / "a") as file:
        file.pwrite(b"x" * 2048, 0)
        file.truncate(100)
        file.punch_hole(0, 50)
    labels = [state.label for state in crash_states(recorder)]
    assert [label for label in labels if "torn" in label] == [
        "torn after 512 bytes at 2",
        "torn after 1024 bytes at 2",
        "torn after 1536 bytes at 2",
    ]
    last = [state for state in crash_states(recorder) if state.label.startswith("everything")][-1]
    assert bytes(last.disk.data[0]) == (tmp_path / "a").read_bytes() == bytes(50) + b"x" * 50


# Devices


def test_block_device(tmp_path: Path, data: bytes) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * (1 << 20))
    with loop_device(disk) as device:
        assert DEFAULT.stat(device).is_block_device
        with DEFAULT.open_update(device, exclusive=True) as file:
            assert file.size() == 1 << 20
            assert file.sector_size() == 512
            assert file.seek_data(512) == 512
            assert file.seek_hole(512) == 1 << 20
            with pytest.raises(StorageError) as caught:
                DEFAULT.open_update(device, exclusive=True)
            assert caught.value.errno == errno.EBUSY
            file.pwrite(data, 4096)
            file.sync()
            assert file.zero_out(0, 4096)
            assert file.zero_out(1, 1) is False
            file.punch_hole(512 * 1024, 4096)
            file.discard(768 * 1024, 4096)
            assert file.pread(4096 + len(data), 0) == bytes(4096) + data
            with pytest.raises(StorageError):
                file.pwrite(b"x", 1 << 20)
