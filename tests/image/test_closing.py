"""Closing an image waits for reads under way and is final; one that is dropped gives all up."""

from __future__ import annotations

import errno
import gc
import io
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import aipimage
import aipimage.io.checking.keyless
from aipimage.errors import ClosedError
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.vmdk import open as open_vmdk
from aipimage.volumes.image import open_image

SIZE = 6 << 20


def content(seed: int, size: int = SIZE) -> bytearray:
    """Compressible and random clusters in turn, and a range of zeros."""
    rng = np.random.default_rng(seed)
    clusters = [
        rng.bytes(4096) if at % 3 else bytes(rng.integers(97, 101, 4096, np.uint8))
        for at in range(size // 4096)
    ]
    data = bytearray(b"".join(clusters))
    data[1 << 20 : 2 << 20] = bytes(1 << 20)
    return data


def changed(data: bytearray) -> bytearray:
    found = bytearray(data)
    for at in range(0, len(found), 700_000):
        found[at : at + 5000] = content(at, 8192)[:5000]
    return found


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A full image and an increment, both of some frames."""
    folder = tmp_path_factory.mktemp("closing")
    full, increment = folder / "full.aiv", folder / "increment.aiv"
    aipimage.create(full, io.BytesIO(content(1)), compress="zstd:1")
    aipimage.create(increment, io.BytesIO(changed(content(1))), compress="zstd:1", parent=full)
    return full, increment


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


USES: dict[str, Callable[[aipimage.Image, Path], Any]] = {
    "metadata": lambda image, _: image.metadata,
    "chain": lambda image, _: image.chain,
    "volumes": lambda image, _: image.volumes,
    "kept_bytes": lambda image, _: image.kept_bytes(),
    "extents": lambda image, _: image.extents(),
    "device extents": lambda image, _: list(image.devices[0].extents()),
    "device name": lambda image, _: image.devices[0].name,
    "diff": lambda image, _: image.diff(image),
    "read_into": lambda image, _: image.devices[0].read_into(bytearray(512), 0),
    "open": lambda image, _: image.devices[0].open(),
    "verify": lambda image, _: image.verify(),
    "verify chain": lambda image, _: image.verify(chain=True),
    "restore": lambda image, folder: image.restore(folder / "restored.raw"),
    "restore_volume": lambda image, folder: image.restore_volume(folder / "restored.raw"),
}


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_closed_image_says_so(
    paths: tuple[Path, Path], tmp_path: Path, use: str, used: bool
) -> None:
    image = aipimage.open(paths[1])
    if used:
        image.devices[0].open().readall()
        assert image.chain.ok
        assert image.verify(chain=True).ok
        assert not list(image.diff(image))
        assert image.kept_bytes() is not None
    image.close()
    image.close()
    before = descriptors()
    with pytest.raises(ClosedError, match=f"{paths[1]}: the image is closed") as caught:
        USES[use](image, tmp_path)
    assert isinstance(caught.value, ValueError)
    assert descriptors() == before
    assert not list(tmp_path.iterdir())
    assert image.closed
    assert image.path == str(paths[1])


def test_what_was_made_before_closing_says_so_too(paths: tuple[Path, Path]) -> None:
    image = aipimage.open(paths[1])
    file, chain = image.devices[0].open(), image.chain
    extents, differences = image.extents(), image.diff(image)
    buffered = io.BufferedReader(image.devices[0].open())
    image.close()
    before = descriptors()
    uses: list[Callable[[], object]] = [
        lambda: file.read(10),
        lambda: file.readinto_at(bytearray(9), 0),
        file.tell,
        lambda: file.seek(0),
        file.readall,
        lambda: next(extents),
        lambda: list(differences),
        lambda: chain.open(chain[0].image_id),
        lambda: buffered.read(1),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert descriptors() == before


@pytest.mark.parametrize("place", [0, 1], ids=["full", "increment"])
def test_closing_while_six_threads_read(paths: tuple[Path, Path], place: int) -> None:
    """They get the right bytes or are told that it is closed, although its descriptors' numbers
    are used again at once."""
    disk = bytes(changed(content(1)) if place else content(1))
    errors: list[BaseException] = []

    def read(image: aipimage.Image, seed: int) -> None:
        rng, buffer = np.random.default_rng(seed), bytearray(70_000)
        try:
            while True:
                at = int(rng.integers(0, SIZE))
                count = image.devices[0].read_into(buffer, at)
                assert buffer[:count] == disk[at : at + 70_000]
        except ClosedError:
            pass
        except BaseException as error:
            errors.append(error)

    before = descriptors()
    for turn in range(12):
        image = aipimage.open(paths[place], cache_bytes=0)
        threads = [threading.Thread(target=read, args=(image, 6 * turn + n)) for n in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.005 * (turn % 4))
        image.close()
        others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(8)]
        for thread in threads:
            thread.join()
        for other in others:
            os.close(other)
    assert not errors
    assert descriptors() == before


class Halting(SystemCalls):
    """Calls ``at_read`` with each read's number before it is done."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.at_read: Callable[[int], None] = lambda number: None

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        self.reads += 1
        self.at_read(self.reads)
        return super().preadv(descriptor, buffers, offset)


def test_closing_waits_for_a_read_under_way(paths: tuple[Path, Path]) -> None:
    system = Halting()
    image = open_image(paths[0], storage=Storage(system))
    reached, go_on = threading.Event(), threading.Event()

    def halt(number: int) -> None:
        reached.set()
        go_on.wait(30)

    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(image.devices[0].open().read(300_000)))
    system.at_read = halt
    reader.start()
    assert reached.wait(30)
    closer = threading.Thread(target=image.close)
    closer.start()
    while not image.closed:
        time.sleep(0.001)
    with pytest.raises(ClosedError):
        image.devices[0].read_into(bytearray(1), 0)
    assert closer.is_alive()
    go_on.set()
    reader.join()
    closer.join()
    assert found == [bytes(content(1)[:300_000])]


@pytest.mark.parametrize("chain", [False, True])
def test_verifying_while_it_is_closed_is_no_damage(paths: tuple[Path, Path], chain: bool) -> None:
    verdicts: list[object] = []
    reads = 10_000
    for halt_at in (1, 2, 3, 5, 8, 13, 21, 10_000):
        system = Halting()
        image = open_image(paths[1], storage=Storage(system))
        threads: list[threading.Thread] = []

        def halt(number: int, image: Any = image, at: int = halt_at, all_: Any = threads) -> None:
            if number == at:
                all_.append(threading.Thread(target=image.close))
                all_[0].start()
                while not image.closed:
                    time.sleep(0.0005)

        system.reads, system.at_read = 0, halt
        try:
            verdicts.append(image.verify(chain=chain, threads=2).damage)
        except ClosedError:
            verdicts.append("closed")
        for thread in threads:
            thread.join()
        image.close()
        reads = system.reads
    assert verdicts[-1] == ()
    assert reads < 10_000
    assert set(verdicts[:3]) == {"closed"}
    assert set(verdicts) == {"closed", ()}


def test_closing_the_image_of_a_chain_is_final(paths: tuple[Path, Path]) -> None:
    before, running = descriptors(), threading.active_count()
    image = aipimage.open(paths[1])
    file = image.devices[0].open()
    while file.read(65_536):
        pass
    assert descriptors() > before + 1
    image.close()
    assert (descriptors(), threading.active_count()) == (before, running)
    for _ in range(3):
        with pytest.raises(ClosedError):
            file.readinto_at(bytearray(4096), 0)
        image.devices[0].read_ahead(0)
        with pytest.raises(ClosedError):
            image.devices[0].read_into(bytearray(4096), 900_000)
    assert (descriptors(), threading.active_count()) == (before, running)


def test_a_dropped_image_gives_all_up_and_says_so(paths: tuple[Path, Path]) -> None:
    gc.collect()
    before, running = descriptors(), threading.active_count()

    def use() -> None:
        image = aipimage.open(paths[1])
        file = image.devices[0].open()
        while file.read(65_536):
            pass
        assert image.chain.ok

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        use()
        # A thread that reads ahead may hold the image for as long as a frame takes.
        deadline = time.monotonic() + 20
        while not seen and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.005)
    texts = [str(each.message) for each in seen if each.category is ResourceWarning]
    assert texts == [f"unclosed image {str(paths[1])!r}"]
    while threading.active_count() > running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (descriptors(), threading.active_count()) == (before, running)


def test_a_closed_image_does_not_warn_and_a_device_keeps_its_image(
    paths: tuple[Path, Path],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = aipimage.open(paths[0])
        image.close()
        del image
        gc.collect()
        device = aipimage.open(paths[0]).devices[0]
        gc.collect()
        buffer = bytearray(100)
        assert device.read_into(buffer, 0) == 100
        assert buffer == content(1)[:100]
        device.image.close()


def test_damage_ahead_is_said_by_the_read_that_wants_it(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    """Reading ahead may meet a damaged frame first."""
    data = bytearray(paths[0].read_bytes())
    middle = len(data) * 3 // 4
    data[middle] ^= 1
    bad = tmp_path / "bad.aiv"
    bad.write_bytes(data)
    disk = bytes(content(1))
    with aipimage.open(bad) as image:
        file = image.devices[0].open()
        got = bytearray()

        def read_on() -> None:
            while part := file.read(16_384):
                got.extend(part)

        with pytest.raises(aipimage.IntegrityError):
            read_on()
        assert len(got) > SIZE // 2
        assert disk.startswith(got)


@pytest.fixture
def disk(paths: tuple[Path, Path], tmp_path: Path) -> Path:
    target = tmp_path / "disk.vmdk"
    aipimage.convert(paths[0], target)
    return target


def test_a_closed_virtual_disk_says_so(disk: Path) -> None:
    before = descriptors()
    source = open_vmdk(disk)
    buffer = bytearray(4096)
    source.read_into(buffer, 0)
    ranges = source.data_ranges(0, source.size)
    source.close()
    uses: list[Callable[[], object]] = [
        lambda: source.read_into(buffer, 0),
        lambda: list(ranges),
        source.fingerprint,
        lambda: list(source.data_ranges(0, 4096)),
    ]
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert descriptors() == before


class Failing(Halting):
    """Reads fail with an error number from the n-th on."""

    def __init__(self, number: int, at: int) -> None:
        super().__init__()
        self.number, self.at, self.least = number, at, 0

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        if self.reads + 1 >= self.at and buffers[0].nbytes >= self.least:
            raise OSError(self.number, os.strerror(self.number))
        return super().preadv(descriptor, buffers, offset)


def test_what_could_not_be_read_is_no_damage_unless_the_medium_says_so(
    paths: tuple[Path, Path],
) -> None:
    for number in (errno.ENETDOWN, errno.ESTALE, errno.EIO):
        for keyless in (False, True):
            system = Failing(number, 100)
            with open_image(paths[0], storage=Storage(system)) as image:
                system.at = 0

                def verify(image: Any = image, keyless: Any = keyless, system: Any = system) -> Any:
                    if not keyless:
                        return image.verify()
                    # Headers and the end are read, and no large piece between them.
                    system.least = 100_000
                    return aipimage.io.checking.keyless.verify_keyless(
                        paths[0], storage=Storage(system)
                    )

                if number == errno.EIO:
                    assert not verify().ok
                else:
                    with pytest.raises(aipimage.StorageError):
                        verify()


def test_cancelling_a_verification_is_no_damage(paths: tuple[Path, Path]) -> None:
    def cancel(progress: aipimage.Progress) -> bool:
        return progress.done == progress.total

    for verify in (aipimage.open(paths[0]).verify, partial(aipimage.verify_keyless, paths[0])):
        with (
            mock.patch("aipimage.io.system.progress._TICK", -1.0),
            pytest.raises(aipimage.CancelledError),
        ):
            verify(progress=cancel)
    gc.collect()
