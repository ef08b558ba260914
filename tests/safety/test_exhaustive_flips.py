"""Every single bit and every length of small images: typed errors, never other data (class 1)."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import pytest

from aipimage import verify_keyless
from aipimage.errors import AipImageError
from aipimage.io.stream.instream import open_stream
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.support import flips
from tests.support.images import (
    MIB,
    PATH,
    assert_whole,
    image_files,
    mixed,
    outcome,
    password_of,
    remember_derivations,
    sparse,
)
from tests.support.memory import MemorySystem

VARIANTS = ("plain", "zstd", "aes", "split")
SMALL = [mixed(1500, seed) for seed in range(10)]
# The last device has a second stripe: a checkpoint, which nothing refers to, lies before it.
LARGE = {
    name: [*SMALL, mixed(size, 99), sparse(MIB + 8192, MIB)]
    for name, size in zip(VARIANTS, (54_000, 120_000, 110_000, 110_000), strict=True)
}
LEAST = 65_536


@cache
def files_of(name: str) -> dict[str, bytes]:
    remember_derivations()
    files = image_files(name, LARGE[name], checkpoint_bytes=1)
    assert sum(map(len, files.values())) >= LEAST
    assert_whole(files, LARGE[name], password_of(name))
    return files


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("name", VARIANTS)
def test_class_01_every_bit(name: str) -> None:
    """Each bit of the file: reading fails typed or is unchanged, both verifications find it."""
    files = files_of(name)
    with pool() as workers:
        shares = [workers.submit(flips.run_share, name, files, share, 2) for share in range(2)]
        results = [share.result() for share in shares]
    assert sum(count for count, _ in results) == sum(map(len, files.values())) * 8
    missed = [text for _, texts in results for text in texts]
    assert not missed, f"{len(missed)} bits escaped: {missed[:5]}"


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("count", [60, pytest.param(2500, marks=pytest.mark.slow)])
def test_class_01_a_sample_of_bits_the_long_way(name: str, count: int) -> None:
    """The whole of opening, reading and verifying agrees with what the fast way found."""
    with pool() as workers:
        args = (name, files_of(name), LARGE[name], count)
        shares = [workers.submit(flips.run_sample, *args, seed) for seed in range(2)]
        missed = [text for share in shares for text in share.result()]
    assert not missed, missed[:5]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_byte_of_an_image_is_in_one_region(name: str) -> None:
    """The fast way leaves nothing out: regions tile the files, references lead to records."""
    subject = flips.Subject(name, files_of(name))
    regions = subject.regions()
    for path, data in files_of(name).items():
        at = 0
        for region in sorted((r for r in regions if r.path == path), key=lambda r: r.start):
            assert region.start == at
            at += region.length
        assert at == len(data)
    records = {region.record[0] for region in regions if region.what == "record"}
    assert set(subject.references) < records, "a checkpoint is among the records"
    subject.stream.close()


@pytest.mark.parametrize("name", ["zstd", "aes"])
def test_class_01_every_truncation(name: str) -> None:
    """Cut to any length: opening fails typed, so does verification without keys."""
    whole = files_of(name)[PATH]
    system = MemorySystem({PATH: whole})
    storage, data = Storage(system), system.files[PATH]
    for length in range(len(whole) - 1, -1, -1):
        del data[length:]
        with pytest.raises(AipImageError):
            open_image(PATH, password_of(name), storage=storage)
        if length % 16 == 0:
            with pytest.raises(AipImageError):
                verify_keyless(PATH, storage=storage)
    assert system.open_descriptors == 0


def test_class_01_every_truncation_of_every_part() -> None:
    files = files_of("split")
    for path, whole in files.items():
        system = MemorySystem(files)
        data = system.files[path]
        for length in range(len(whole) - 1, -1, -1):
            del data[length:]
            with pytest.raises(AipImageError):
                open_stream(Storage(system), path)
        assert system.open_descriptors == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_class_01_trailing_bytes(name: str) -> None:
    """What follows the end makes the image incomplete, whatever it is."""
    files = files_of(name)
    for path, whole in files.items():
        fillers = [bytes(n) for n in (1, 2, 255, 256, 257, 512, 4096)]
        fillers += [whole[-256:], whole[-128:], whole[:300], whole, b"\xff"]
        for filler in fillers:
            system = MemorySystem({**files, path: whole + filler})
            assert outcome(system, LARGE[name], password_of(name)) is not None
