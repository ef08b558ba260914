"""Block sources: exact reads or an error, holes, unreadable sectors, sources that shrink."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aipimage
from aipimage.errors import RequestError, SourceError
from aipimage.io.blocks.sources import (
    BinaryFileSource,
    BlockSource,
    DeviceSource,
    FileSource,
    UnreadableRangeError,
    open_source,
    read_with_retries,
)
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.vmdk.writing.job import write_vmdk
from tests.support import loop_device
from tests.support.faults import TRANSFERS, Fault, FaultySystemCalls
from tests.support.sources import SparseSource


def pattern(length: int) -> bytes:
    return np.arange(1, length + 1, dtype=np.uint32).tobytes()[:length]


class BadSectors(SystemCalls):
    """Reads that touch one of `bad` (sector numbers) fail with EIO, `heals` times each."""

    def __init__(self, bad: Sequence[int], sector: int = 512, heals: int | None = None) -> None:
        super().__init__()
        self.bad = dict.fromkeys(bad, heals)
        self.sector = sector
        self.reads = 0

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        self.reads += 1
        length = sum(view.nbytes for view in buffers)
        for number in range(offset // self.sector, -(-(offset + length) // self.sector)):
            left = self.bad.get(number, 0)
            if left is None or left > 0:
                self.bad[number] = None if left is None else left - 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().preadv(descriptor, buffers, offset)


def read(source: BlockSource, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    source.read_into(buffer, offset)
    return bytes(buffer)


@pytest.fixture(params=["path", "stream", "no readinto"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockSource]:
    content = pattern(100_001)
    if request.param == "path":
        (tmp_path / "disk").write_bytes(content)
        opened = open_source(tmp_path / "disk")
    elif request.param == "stream":
        opened = open_source(io.BytesIO(content))
    else:
        plain = io.BytesIO(content)

        class Trickle:
            seek, tell = plain.seek, plain.tell

            def read(self, size: int = -1) -> bytes:
                return plain.read(min(size, 1000))

        opened = open_source(Trickle())  # type: ignore[arg-type]
    yield opened
    opened.close()


def test_contract(source: BlockSource) -> None:
    content = pattern(100_001)
    assert isinstance(source, BlockSource)
    assert open_source(source) is source
    assert source.size == len(content)
    assert source.sector_size == 512
    assert source.name
    for offset, length in ((0, 100_001), (513, 70_000), (100_000, 1), (100_001, 0), (0, 0)):
        assert read(source, offset, length) == content[offset : offset + length]
    array = np.zeros((10, 10), np.uint32)
    source.read_into(array, 4)
    assert array.tobytes() == content[4:404]
    for start, end in ((0, 100_001), (5, 600), (0, 1 << 40)):
        ranges = list(source.data_ranges(start, end))
        assert sum(length for _, length in ranges) == min(end, 100_001) - start
    assert list(source.data_ranges(7, 7)) == []
    assert source.fingerprint()["size"] == 100_001
    for offset, length in ((100_001, 1), (-1, 1), (0, 100_002)):
        with pytest.raises(RuntimeError, match="internal error"):
            read(source, offset, length)


def test_contract_threads(source: BlockSource) -> None:
    content, wrong = pattern(100_001), []

    def work(step: int) -> None:
        wrong.extend(
            offset
            for offset in range(0, 90_000, step)
            if read(source, offset, 999) != content[offset : offset + 999]
        )

    threads = [threading.Thread(target=work, args=(step,)) for step in (701, 1009, 1511, 2003)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_stream_that_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with (tmp_path / "text").open() as text, pytest.raises(RequestError, match="binary mode"):
        open_source(text)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="not a path"):
        open_source(17)  # type: ignore[arg-type]
    reader, writer = os.pipe()
    os.close(writer)
    with open(reader, "rb") as pipe, pytest.raises(RequestError, match="not a seekable"):
        open_source(pipe)
    closed = io.BytesIO(b"x" * 10)
    source = open_source(closed)
    closed.close()
    with pytest.raises(SourceError, match="closed"):
        read(source, 0, 1)


def test_the_stream_stays_the_callers() -> None:
    stream = io.BytesIO(b"x" * 10)
    open_source(stream).close()
    assert not stream.closed


def test_missing_and_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        open_source(tmp_path / "none")
    with pytest.raises(RequestError, match="directory"):
        open_source(tmp_path)
    with pytest.raises(RequestError):
        open_source("a\0b")


def test_data_ranges_skip_holes(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        for offset in (0, 3 << 20, (7 << 20) + 4096):
            file.seek(offset)
            file.write(b"x" * 65536)
    source = open_source(path)
    covered = np.zeros(10 << 20, bool)
    end = 0
    for offset, length in source.data_ranges(0, source.size):
        assert offset >= end
        assert length > 0
        end = offset + length
        covered[offset:end] = True
    content = np.frombuffer(path.read_bytes(), np.uint8)
    assert not content[~covered].any()
    if path.stat().st_blocks * 512 < 1 << 20:
        assert covered.sum() < 1 << 20
    assert list(source.data_ranges(1 << 20, 2 << 20)) in ([], [(1 << 20, 1 << 20)])
    assert list(source.data_ranges(100, 200)) == [(100, 100)]
    source.close()


def test_fingerprint_tells_a_change(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    with path.open("r+b") as file:
        source = open_source(path)
        before = source.fingerprint()
        assert source.fingerprint() == before
        file.write(b"y")
        file.flush()
        os.utime(path, ns=(1, 1))
        assert source.fingerprint() != before


# Class 62: a source that shrinks while it is read


def test_hostile_62_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(pattern(100_000))
    source = open_source(path)
    os.truncate(path, 50_000)
    assert read(source, 0, 50_000) == pattern(100_000)[:50_000]
    with pytest.raises(SourceError, match=r"shrank while it was read, from 100000 bytes to 50000"):
        read(source, 49_999, 2)
    with pytest.raises(SourceError, match="shrank"):
        read_with_retries(source, bytearray(1000), 60_000)
    source.close()


@pytest.mark.parametrize("left", [0, 4096, 50_000])
def test_hostile_62_the_lost_end_is_not_taken_for_a_hole(tmp_path: Path, left: int) -> None:
    path = tmp_path / "disk"
    path.write_bytes(pattern(100_000))
    source = open_source(path)
    os.truncate(path, left)
    with pytest.raises(SourceError, match="shrank"):
        list(source.data_ranges(0, source.size))
    with pytest.raises(SourceError, match="shrank"):
        list(source.data_ranges(60_000, 70_000))
    source.close()


def test_hostile_62_a_stream_that_shrinks() -> None:
    stream = io.BytesIO(b"x" * 1000)
    source = open_source(stream)
    stream.truncate(500)
    with pytest.raises(SourceError, match="shrank"):
        read(source, 400, 200)


# Faults


def test_hostile_57_short_and_interrupted_reads(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(pattern(100_000))
    short = Fault(0, 0, TRANSFERS, short=True, permanent=True)
    interrupted = Fault(3, errno.EINTR, TRANSFERS)
    source = open_source(path, Storage(FaultySystemCalls(short, interrupted)))
    assert read(source, 0, 100_000) == pattern(100_000)
    source.close()


def test_hostile_57_failures_while_opening_leave_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    for kind, at in (("stat", 0), ("open", 0), ("fstat", 0), ("fstat", 1)):
        system = FaultySystemCalls(Fault(at, errno.EIO, (kind,)))
        with pytest.raises(SourceError):
            open_source(path, Storage(system))
        assert system.counts["close"] == (kind == "fstat")


def test_other_failures_are_not_bad_sectors(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    system = FaultySystemCalls(Fault(0, errno.ENODEV, TRANSFERS, permanent=True))
    source = open_source(path, Storage(system))
    with pytest.raises(SourceError) as caught:
        read_with_retries(source, bytearray(1000), 0)
    assert not isinstance(caught.value, UnreadableRangeError)
    assert system.hits == 1
    source.close()


def test_a_stream_with_bad_sectors() -> None:
    class Bad(io.BytesIO):
        def readinto(self, buffer: object) -> int:
            if self.tell() < 1024:
                raise OSError(errno.EIO, "bad")
            return super().readinto(buffer)  # type: ignore[arg-type]

    source = BinaryFileSource(Bad(b"x" * 4096))
    buffer = bytearray(4096)
    assert read_with_retries(source, buffer, 0) == [(0, 1024)]
    assert buffer == bytes(1024) + b"x" * 3072


@pytest.fixture
def bad_source(tmp_path: Path) -> Callable[[BadSectors], BlockSource]:
    path = tmp_path / "disk"
    path.write_bytes(pattern(64 * 512))
    return lambda system: open_source(path, Storage(system))


def test_retries_heal(bad_source: Callable[[BadSectors], BlockSource]) -> None:
    source = bad_source(BadSectors([5], heals=2))
    buffer = bytearray(64 * 512)
    assert read_with_retries(source, buffer, 0, retries=2) == []
    assert buffer == pattern(64 * 512)
    source.close()


def test_unreadable_error_names_the_range(bad_source: Callable[[BadSectors], BlockSource]) -> None:
    source = bad_source(BadSectors([5]))
    with pytest.raises(UnreadableRangeError, match="disk: cannot read 1024 bytes") as caught:
        read(source, 2048, 1024)
    assert (caught.value.offset, caught.value.length) == (2048, 1024)
    source.close()


@pytest.mark.parametrize("start", [0, 3 * 512])
def test_a_wholly_dead_range_is_bounded(
    bad_source: Callable[[BadSectors], BlockSource], start: int
) -> None:
    system = BadSectors(range(64))
    source = bad_source(system)
    buffer = bytearray(b"!" * (64 * 512 - start))
    assert read_with_retries(source, buffer, start, retries=3) == [(start, len(buffer))]
    assert buffer == bytes(len(buffer))
    assert system.reads == 3 + 2 * (len(buffer) // 512) - 1
    source.close()


@given(
    bad=st.sets(st.integers(0, 63)),
    start=st.integers(0, 64 * 512),
    length=st.integers(0, 64 * 512),
    sector=st.sampled_from([512, 4096]),
)
def test_only_bad_sectors_are_lost(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], start: int, length: int, sector: int
) -> None:
    content = pattern(64 * 512)
    path = tmp_path_factory.getbasetemp() / "hypothesis-disk"
    path.write_bytes(content)
    length = min(length, len(content) - start)
    numbers = {number for number in bad if number < len(content) // sector}
    source = open_source(path, Storage(BadSectors(sorted(numbers), sector)))
    buffer = bytearray(b"!" * length)
    ranges = read_with_retries(source, buffer, start, sector=sector)
    source.close()

    lost = np.isin(np.arange(len(content)) // sector, list(numbers))
    expected = np.where(lost, 0, np.frombuffer(content, np.uint8))[start : start + length]
    assert bytes(buffer) == expected.astype(np.uint8).tobytes()
    listed = np.zeros(len(content), bool)
    end = -1
    for offset, size in ranges:
        assert offset > end
        end = offset + size
        listed[offset:end] = True
    assert (listed[start : start + length] == lost[start : start + length]).all()
    assert not listed[:start].any()
    assert not listed[start + length :].any()


# Devices


def test_block_device(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(pattern(1 << 20))
    with loop_device(disk, "--read-only", "--sector-size", "4096") as device:
        source = open_source(device)
        assert isinstance(source, DeviceSource)
        assert not isinstance(source, FileSource)
        assert source.size == 1 << 20
        assert source.sector_size == 4096
        assert read(source, 4095, 70_000) == pattern(1 << 20)[4095:74_095]
        assert list(source.data_ranges(512, 1 << 21)) == [(512, (1 << 20) - 512)]
        fingerprint = source.fingerprint()
        assert fingerprint["size"] == 1 << 20
        assert fingerprint["device_number"] == os.stat(device).st_rdev
        source.close()


@pytest.mark.parametrize("size", [500, 131_072, -512, None, 0, True, 256, "512"])
def test_an_impossible_sector_size_is_refused_at_once(size: object, tmp_path: Path) -> None:
    """Before anything is read or written."""
    source = SparseSource(1 << 20, {0: b"x" * 4096})
    source.sector_size = size  # type: ignore[assignment]
    for job in (
        lambda: aipimage.create(tmp_path / "a.aiv", [source]),
        lambda: write_vmdk(tmp_path / "a.vmdk", source),
        lambda: aipimage.survey(source),
    ):
        with pytest.raises(SourceError, match=r"sparse: .*sector_size is"):
            job()
    assert not list(tmp_path.iterdir())
    assert not source.bytes_read
