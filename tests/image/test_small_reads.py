"""Small reads at random places: what the interpreter does for each, and what they wait for."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

import aipimage
from aipimage.io.system.storage import Storage, SystemCalls
from tests.image.test_roundtrip import sample_disk

FRAME = 65_536
DISK = np.random.default_rng(5).bytes(24 * FRAME)
HIT_CALLS = 11
"""Functions of ours that a read from the cache calls, at most."""
MISS_CALLS = 36


class BlockedReads(SystemCalls):
    """Real calls, of which reads wait while ``may_read`` is clear; ``waiting`` is set then."""

    def __init__(self) -> None:
        super().__init__()
        self.may_read, self.waiting = threading.Event(), threading.Event()
        self.may_read.set()

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if not self.may_read.is_set():
            self.waiting.set()
            assert self.may_read.wait(60)
        return super().preadv(descriptor, buffers, offset)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("small") / "disk.aiv"
    aipimage.create(made, io.BytesIO(DISK), compress="none")
    return made


@pytest.fixture
def system() -> BlockedReads:
    return BlockedReads()


@pytest.fixture
def image(path: Path, system: BlockedReads) -> Iterator[aipimage.Image]:
    with aipimage.open(path, storage=Storage(system)) as opened:
        yield opened


def calls_of(work: Callable[[], object]) -> int:
    """How many functions written in Python some work calls."""
    count = 0

    def called(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def read_at(device: aipimage.Device, offset: int, length: int = 4096) -> bytes:
    buffer = bytearray(length)
    assert device.open().readinto_at(buffer, offset) == length
    assert buffer == DISK[offset : offset + length]
    return bytes(buffer)


def test_a_read_is_few_calls_of_the_interpreter(image: aipimage.Image) -> None:
    file, buffer = image.devices[0].open(), bytearray(4096)
    # Once before, so that page and leaf are there.
    file.readinto_at(buffer, 0)
    assert calls_of(lambda: file.readinto_at(buffer, 8192)) <= HIT_CALLS
    assert buffer == DISK[8192 : 8192 + 4096]
    assert calls_of(lambda: file.readinto_at(buffer, 9 * FRAME)) <= MISS_CALLS
    assert buffer == DISK[9 * FRAME : 9 * FRAME + 4096]
    file.seek(9 * FRAME + 100)
    assert calls_of(lambda: file.readinto(buffer)) <= HIT_CALLS
    assert buffer == DISK[9 * FRAME + 100 : 9 * FRAME + 100 + 4096]


def test_what_is_in_the_cache_waits_for_nothing(
    image: aipimage.Image, system: BlockedReads
) -> None:
    """Not for a thread that reads the file, and not for one that waits for that."""
    device = image.devices[0]
    read_at(device, 0)
    system.may_read.clear()
    others = [
        threading.Thread(target=read_at, args=(device, 5 * FRAME + at * 4096)) for at in range(3)
    ]
    for thread in others:
        thread.start()
    try:
        assert system.waiting.wait(60)
        here = threading.Thread(target=read_at, args=(device, 4096))
        here.start()
        here.join(60)
        assert not here.is_alive()
    finally:
        system.may_read.set()
        for thread in others:
            thread.join(60)


def test_frames_are_read_at_the_same_time(image: aipimage.Image, system: BlockedReads) -> None:
    """Two threads that need two frames are both in their read of the file."""
    inside = threading.Barrier(2)
    device = image.devices[0]
    read_at(device, 0)
    real = system.preadv

    def together(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        inside.wait(60)
        return real(descriptor, buffers, offset)

    system.preadv = together  # type: ignore[method-assign]
    failed: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            read_at(device, offset)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number * FRAME,)) for number in (6, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed


def test_any_place_and_length(tmp_path: Path) -> None:
    """Reads over edges of frames, extents and the device, with and without a cache."""
    disk = sample_disk(29, 3_000_100)
    made = tmp_path / "disk.aiv"
    aipimage.create(made, io.BytesIO(disk), compress="zstd:1")
    rng = np.random.default_rng(8)
    for cache in (0, 1 << 20):
        with aipimage.open(made, cache_bytes=cache) as image:
            file = image.devices[0].open()
            for _ in range(1500):
                offset = int(rng.integers(0, len(disk) + 100))
                length = int(rng.choice([0, 1, 511, 512, 4096, 65_536, 100_000]))
                buffer = bytearray(b"\xee" * length)
                done = file.readinto_at(buffer, offset)
                wanted = disk[offset : offset + length]
                assert done == len(wanted)
                assert buffer[:done] == wanted
                assert buffer[done:] == b"\xee" * (length - done)


def test_a_damaged_frame_is_refused_by_a_small_read(path: Path, tmp_path: Path) -> None:
    """With the error of a bulk read and its place, however often it is asked for."""
    data = bytearray(path.read_bytes())
    place = data.index(DISK[7 * FRAME : 7 * FRAME + 64])
    data[place + 20] ^= 1
    bad = tmp_path / "bad.aiv"
    bad.write_bytes(data)
    with aipimage.open(bad) as image:
        file = image.devices[0].open()
        for _ in range(2):
            with pytest.raises(aipimage.IntegrityError, match=f"{bad}.*{7 * FRAME + 512}") as told:
                file.readinto_at(bytearray(4096), 7 * FRAME + 512)
            assert "digest" in str(told.value)
        good = bytearray(4096)
        file.readinto_at(good, 8 * FRAME)
        assert good == DISK[8 * FRAME : 8 * FRAME + 4096]
