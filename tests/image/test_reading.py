"""A device opens as a standard binary file, from any number of threads."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import aipimage
from tests.image.test_roundtrip import sample_disk

DISK = sample_disk(11, 6_000_300)


@pytest.fixture(scope="module")
def image_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reading") / "disk.aiv"
    aipimage.create(path, io.BytesIO(DISK), compress="zstd:1")
    return path


@pytest.fixture
def image(image_path: Path) -> Iterator[aipimage.Image]:
    with aipimage.open(image_path) as opened:
        yield opened


def test_it_behaves_like_any_binary_file(image: aipimage.Image) -> None:
    ours, theirs = image.devices[0].open(), io.BytesIO(DISK)
    rng = np.random.default_rng(3)
    assert isinstance(ours, io.RawIOBase)
    assert (ours.readable(), ours.seekable(), ours.writable()) == (True, True, False)
    for _ in range(300):
        whence = int(rng.integers(0, 3))
        offset = int(rng.integers(0, len(DISK) + 1000)) - (len(DISK) if whence else 0)
        expected = {0: 0, 1: theirs.tell(), 2: len(DISK)}[whence] + offset
        if expected < 0:
            with pytest.raises(ValueError, match="before the start"):
                ours.seek(offset, whence)
            continue
        theirs.seek(expected)
        assert ours.seek(offset, whence) == expected
        count = int(rng.integers(0, 100_000))
        assert ours.read(count) == theirs.read(count)
        assert ours.tell() == theirs.tell()


def test_sequential_reads_with_read_ahead(image: aipimage.Image) -> None:
    file = image.devices[0].open()
    parts = []
    while part := file.read(10_000):
        parts.append(part)
    assert b"".join(parts) == DISK


def test_buffered_reader_and_numpy(image: aipimage.Image) -> None:
    with io.BufferedReader(image.devices[0].open()) as reader:
        assert reader.read(100) == DISK[:100]
    whole = np.frombuffer(image.devices[0].open().readall(), np.uint8)
    assert (whole == np.frombuffer(DISK, np.uint8)).all()


def test_closed_files_say_so(image: aipimage.Image) -> None:
    file = image.devices[0].open()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_many_threads_read_one_image(image_path: Path) -> None:
    """Each with its own offsets, with a cache too small for what they read."""
    with aipimage.open(image_path, cache_bytes=200_000) as image:
        file = image.devices[0].open()

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(150):
                offset = int(rng.integers(0, len(DISK)))
                buffer = bytearray(int(rng.integers(1, 150_000)))
                count = file.readinto_at(buffer, offset)
                assert buffer[:count] == DISK[offset : offset + len(buffer)]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))


def test_the_cache_is_bounded_and_loads_a_frame_once() -> None:
    from aipimage.io.system.cache import FrameCache

    cache, loads, gate = FrameCache(1000), [], threading.Event()

    def load() -> memoryview:
        loads.append(1)
        gate.wait(5)
        return memoryview(b"x" * 600)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get, "a", load) for _ in range(4)]
        gate.set()
        assert {bytes(future.result()) for future in futures} == {b"x" * 600}
    assert len(loads) == 1
    cache.get("b", load)
    assert "a" not in cache
    assert "b" in cache


def test_a_failed_load_is_tried_again() -> None:
    from aipimage.io.system.cache import FrameCache

    cache = FrameCache(1000)
    with pytest.raises(OSError, match="once"):
        cache.get("a", lambda: (_ for _ in ()).throw(OSError("once")))
    assert bytes(cache.get("a", lambda: memoryview(b"fine"))) == b"fine"


def test_sampled_verification_and_other_executors(image: aipimage.Image) -> None:
    with ThreadPoolExecutor(3) as pool:
        full = image.verify(executor=pool)
    assert full.ok
    assert full.mode == "full"
    some = image.verify(sample=30)
    assert some.ok
    assert 0 < some.frames < full.frames
    for wrong in (0, -1, 101):
        with pytest.raises(aipimage.RequestError):
            image.verify(sample=wrong)


def test_damage_is_named_with_its_ranges(image_path: Path, tmp_path: Path) -> None:
    data = bytearray(image_path.read_bytes())
    with aipimage.open(image_path) as image:
        ref = image.tables[0].frame(3)
    data[ref.offset + 500] ^= 1
    (tmp_path / "bad.aiv").write_bytes(data)
    with aipimage.open(tmp_path / "bad.aiv") as image:
        result = image.verify()
        assert [(d.origin, d.frame) for d in result.damage] == [(0, 3)]
        ranges = result.damage[0].ranges
        assert sum(length for _, _, length in ranges) == ref.plain_length
        device, offset, _ = ranges[0]
        with pytest.raises(aipimage.IntegrityError):
            image.devices[device].read_into(bytearray(10), offset)
        with pytest.raises(aipimage.IntegrityError):
            image.restore(tmp_path / "out.raw")
    assert not (tmp_path / "out.raw").exists()
    assert len(aipimage.verify_keyless(tmp_path / "bad.aiv").damage) == 1


def test_expected_digest(image_path: Path) -> None:
    with pytest.raises(aipimage.IntegrityError, match="digest"):
        aipimage.open(image_path, expected_digest="00" * 32)


def test_passwords_are_needed_and_not_wanted(image_path: Path, tmp_path: Path) -> None:
    with pytest.raises(aipimage.PasswordError, match="not encrypted"):
        aipimage.open(image_path, "secret")
    aipimage.create(tmp_path / "e.aiv", io.BytesIO(b"x" * 5000), encrypt="aes-256", password="one")
    with pytest.raises(aipimage.PasswordError, match="is encrypted"):
        aipimage.open(tmp_path / "e.aiv")
    with pytest.raises(aipimage.PasswordError, match="wrong"):
        aipimage.open(tmp_path / "e.aiv", "two")


def test_split_and_join_keep_every_byte(image_path: Path, tmp_path: Path) -> None:
    parts = aipimage.split(image_path, tmp_path / "s.aiv", 50_000)
    assert parts.parts == len(list(tmp_path.glob("s.aiv*"))) > 3
    assert max(path.stat().st_size for path in tmp_path.glob("s.aiv*")) == 50_000
    with aipimage.open(tmp_path / "s.aiv.003") as image:
        assert image.devices[0].open().readall() == DISK
    aipimage.join(tmp_path / "s.aiv.002", tmp_path / "j.aiv")
    assert (tmp_path / "j.aiv").read_bytes() == image_path.read_bytes()
    with pytest.raises(aipimage.TargetError):
        aipimage.join(tmp_path / "s.aiv", tmp_path / "j.aiv")
    with pytest.raises(aipimage.RequestError, match="itself"):
        aipimage.join(tmp_path / "s.aiv", tmp_path / "s.aiv", overwrite=True)


def test_a_pipe(tmp_path: Path) -> None:
    """Written in one pass: the reader at the other end gets a whole image."""
    read_end, write_end = os.pipe()
    got: list[bytes] = []

    def drain() -> None:
        with open(read_end, "rb") as reader:
            got.append(reader.read())

    thread = threading.Thread(target=drain)
    thread.start()
    with open(write_end, "wb") as writer:
        aipimage.create(writer, io.BytesIO(DISK))
    thread.join()
    (tmp_path / "p.aiv").write_bytes(got[0])
    with aipimage.open(tmp_path / "p.aiv") as image:
        assert image.verify().ok
