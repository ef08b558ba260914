"""What is damaged in one place is one finding, which names all that it touches."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from aipimage.errors import AipImageError, StorageError
from aipimage.format.constants import RecordType
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import Image, open_image
from tests.support.forge import Forger
from tests.support.images import PATH, create, image_files, options
from tests.support.memory import MemorySystem

SECTOR = 4096
CONTENT = random.Random(3).randbytes(3_000_000) + bytes(2_000_000) + b"some text " * 30_000


class BadSectors(MemorySystem):
    """A disk on which the bytes of some ranges cannot be read."""

    bad: Sequence[tuple[int, int]] = ()

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        end = offset + sum(view.nbytes for view in buffers)
        if any(start < end and stop > offset for start, stop in self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().preadv(descriptor, buffers, offset)


@pytest.fixture(scope="module", params=["plain", "zstd", "aes"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def made(kind: str, **more: Any) -> BadSectors:
    files = image_files(kind, [CONTENT, CONTENT[:700_000]], frame_shift=16, **more)
    return BadSectors(files)


def opened(system: MemorySystem, kind: str) -> Image:
    return open_image(PATH, options(kind).password, storage=Storage(system))


def unreadable(image: Image) -> set[tuple[int, int]]:
    """(device, place) of all 4 KiB that cannot be read."""
    found = set()
    for device in image.devices:
        for at in range(0, device.size, 4096):
            try:
                device.read_into(bytearray(4096), at)
            except (AipImageError, StorageError):
                found.add((device.index, at))
    return found


def touched(ranges: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    for device, start, length in ranges:
        yield from ((device, at) for at in range(start - start % 4096, start + length, 4096))


@pytest.mark.parametrize("how", ["unreadable", "zeros", "noise"])
def test_one_bad_sector(kind: str, how: str) -> None:
    """Anywhere among the frames, also where two of them meet: one finding, with all ranges."""
    system = made(kind)
    data = bytes(system.files[PATH])
    chance = random.Random(how)
    with opened(system, kind) as image:
        table = image.tables[0]
        frames = [image.locate(table.frame(number)) for number in range(table.frame_count)]
    meeting = [each - each % SECTOR for each in frames[3:40:9]]
    for start in [*meeting, *(chance.randrange(frames[0], frames[-1] - SECTOR) for _ in range(3))]:
        stop = start + SECTOR
        with opened(system, kind) as image:
            if how == "unreadable":
                system.bad = [(start, stop)]
            else:
                new = bytes(SECTOR) if how == "zeros" else chance.randbytes(SECTOR)
                system.files[PATH][start:stop] = new
            result = image.verify(threads=2)
            [damage] = result.damage
            assert set(touched(damage.ranges)) == unreadable(image)
            ends = [*frames[1:], frames[-1] + 1]
            hit = [
                n
                for n, (a, b) in enumerate(zip(frames, ends, strict=True))
                if a < stop and b > start
            ]
            assert (damage.frame, damage.frames) == (hit[0], len(hit))
        system.bad = ()
        system.files[PATH][:] = data


def test_one_place_of_the_index() -> None:
    """A flipped bit in any record that is not a frame, as the seal's trees lead to it."""
    system = made("plain")
    data = bytes(system.files[PATH])
    kinds = set()
    for record in Forger(data).records[:-1]:
        if record.type == RecordType.FRAME:
            continue
        system.files[PATH][record.offset + record.length // 2] ^= 1
        with opened(system, "plain") as image:
            result = image.verify(threads=1)
            assert len(result.damage) == 1, (record.type, result.damage)
        kinds.add(record.type)
        system.files[PATH][:] = data
    assert {RecordType.MAP, RecordType.TABLE_LEAF, RecordType.DIGEST_LEAF} <= kinds


def test_two_places_are_two_findings() -> None:
    """Bits flipped in the middle of two frames that follow each other."""
    system = made("plain")
    with opened(system, "plain") as image:
        for number in (4, 5):
            system.files[PATH][image.locate(image.tables[0].frame(number)) + 1000] ^= 1
        assert [(each.frame, each.frames) for each in image.verify(threads=1).damage] == [
            (4, 1),
            (5, 1),
        ]


def test_wrong_digests_that_follow_each_other() -> None:
    """One finding with one range."""
    system = MemorySystem()
    create(system, [CONTENT], options("plain"))
    forger = Forger(bytes(system.files[PATH]))
    index = forger.indexes(RecordType.DIGEST_LEAF)[0]
    system.files[PATH] = bytearray(
        forger.forge(index, lambda plain: plain[:48] + bytes(48) + plain[96:])
    )
    with opened(system, "plain") as image:
        [damage] = image.verify(threads=1).damage
        assert damage.ranges == ((0, 2 << 16, 3 << 16),)
        assert "device 0: block digests" in damage.what
