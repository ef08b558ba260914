"""Filling views from a device: frames are decompressed to where they belong, or copied there."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import IntegrityError
from aipimage.extents import SECTOR, Kind
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.index.devicemap import DeviceMap, Piece
from aipimage.io.reading.bulkread import cut_frames, fill_together, load_pieces, read_range
from aipimage.io.reading.device import Device
from aipimage.io.records import zstdcalls
from aipimage.io.records.keys import Argon2Parameters
from aipimage.io.system.buffers import Buffers

FRAME = 1 << 16
SIZE = 5 * (1 << 20) + 3 * SECTOR
SECRET = "correct horse"
FORMS: dict[str, dict[str, object]] = {
    "zstd": {},
    "stored": {"compress": "none"},
    "aes-256": {
        "encrypt": "aes-256",
        "password": SECRET,
        "argon2": Argon2Parameters(memory=8192, passes=1, lanes=1),
    },
}


def disk() -> bytes:
    """Text, random bytes and zeros in turns."""
    rng = random.Random(11)
    content = bytearray()
    while len(content) < SIZE:
        length = rng.randrange(1, 90) * 4096
        text = (b"%d of the text, " % rng.randrange(1000)) * (length // 13)
        content += rng.choice([bytes(length), rng.randbytes(length), text[:length], text[:length]])
    return bytes(content[:SIZE])


DISK = disk()


@pytest.fixture(params=FORMS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Device]:
    """The disk, imaged in each form."""
    options = FORMS[request.param]
    path = tmp_path / "disk.aiv"
    create_image(path, [io.BytesIO(DISK)], CreateOptions(**options))  # type: ignore[arg-type]
    with aipimage.open(path, SECRET if "password" in options else None) as image:
        yield image.devices[0]


def test_any_range(device: Device) -> None:
    """Wherever it begins and ends, in frames and in sectors; what lies around it is left alone."""
    rng = random.Random(3)
    buffers = Buffers()
    ranges = [(0, SIZE), (SIZE - 1, 1), (FRAME, FRAME), (0, 0), (SIZE - 3 * SECTOR, 3 * SECTOR)]
    for _ in range(60):
        start = rng.randrange(SIZE)
        ranges.append((start, rng.randrange(1, min(SIZE - start, 600_000) + 1)))
    for start, length in ranges:
        room = bytearray(b"\xa5" * (length + 200))
        read_range(device, memoryview(room)[100 : 100 + length], start, buffers)
        assert room == b"\xa5" * 100 + DISK[start : start + length] + b"\xa5" * 100


def test_several_ranges_together(device: Device) -> None:
    """Frames that several of them need, ranges in any order, and one range twice."""
    spans = [(FRAME // 2, 0, FRAME), (3 * FRAME, FRAME, 2 * FRAME), (FRAME // 2, 3 * FRAME, FRAME)]
    spans.append((SIZE - 700, 4 * FRAME, 700))
    room = bytearray(4 * FRAME + 700)
    fill_together(device, memoryview(room), spans, Buffers())
    assert room == b"".join(DISK[offset : offset + length] for offset, _, length in spans)


@pytest.mark.parametrize("available", [True, False])
def test_pieces_anywhere(device: Device, available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of pieces, in any order of their places; with the core's decoder and without."""
    monkeypatch.setattr(zstdcalls, "AVAILABLE", available and zstdcalls.AVAILABLE)
    pieces = [piece for piece in device.map.pieces(0, 9000) if piece.kind == Kind.DATA]
    random.Random(5).shuffle(pieces)
    places, wanted = [], bytearray()
    for number, piece in enumerate(pieces):
        skip, start = number % 7, piece.start * SECTOR
        length = piece.length * SECTOR - 2 * skip
        places.append((skip, len(wanted), length))
        wanted += DISK[start + skip : start + skip + length]
    view = bytearray(len(wanted))
    load_pieces(device.image, pieces, places, memoryview(view), Buffers())
    assert view == wanted


def test_cuts_are_those_of_a_loop() -> None:
    """Of any pieces: where frames end, in the order of the frames."""
    rng = random.Random(9)
    pieces = [
        Piece(0, rng.randrange(1, 700), int(Kind.DATA), rng.randrange(3), rng.randrange(2000))
        for _ in range(200)
    ]
    places, expected = [], []
    for number, piece in enumerate(pieces):
        skip = rng.randrange(piece.length * SECTOR)
        length = rng.randrange(1, piece.length * SECTOR - skip + 1)
        places.append((skip, rng.randrange(10**6), length))
        at, left, place = piece.position * SECTOR + skip, length, places[-1][1]
        while left:
            size = min(left, FRAME - at % FRAME)
            expected.append((piece.origin, at // FRAME, at % FRAME, size, place, number))
            at, left, place = at + size, left - size, place + size
    found = list(
        zip(*(column.tolist() for column in cut_frames(pieces, places, FRAME)), strict=True)
    )
    assert sorted(found) == sorted(expected)
    assert [row[:2] for row in found] == sorted(row[:2] for row in expected)


class TwiceMapped(DeviceMap):
    """A map of which each second half of a range has the data of the first half once more."""

    def __init__(self, real: DeviceMap) -> None:
        self._real = real

    def pieces(self, sector: int, count: int) -> list[Piece]:
        """The first half, and again."""
        half = self._real.pieces(sector, count // 2)
        return half + [each._replace(start=each.start + count // 2) for each in half]


def test_a_frame_that_is_mapped_twice(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """No writer of ours does that, but the format does not forbid it."""
    monkeypatch.setattr(device, "map", TwiceMapped(device.map))
    room = bytearray(2 << 20)
    read_range(device, memoryview(room), 0, Buffers())
    assert room == DISK[: 1 << 20] * 2


def test_damage_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is to be placed is verified before."""
    path = tmp_path / "disk.aiv"
    create_image(path, [io.BytesIO(DISK)], CreateOptions())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with aipimage.open(path) as image, pytest.raises(IntegrityError, match="frame") as found:
        read_range(image.devices[0], memoryview(bytearray(SIZE)), 0, Buffers())
    monkeypatch.setattr(zstdcalls, "AVAILABLE", False)
    with aipimage.open(path) as image, pytest.raises(IntegrityError) as again:
        read_range(image.devices[0], memoryview(bytearray(SIZE)), 0, Buffers())
    assert str(again.value) == str(found.value)
