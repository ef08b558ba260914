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
from aipimage.io.reading.bulkread import fill_together, load_frames, read_range
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


def test_whole_frames_are_not_copied(device: Device) -> None:
    """What is compressed and full is decompressed in its place; what is not wanted there is
    not.
    """
    pieces = [piece for piece in device.map.pieces(0, 2048) if piece.kind == Kind.DATA]
    frames = load_frames(device.image, pieces, Buffers(), [])
    assert None not in frames.values()
    view = memoryview(bytearray(FRAME * len(frames)))
    starts = {key: FRAME * at for at, key in enumerate(frames)}
    again = load_frames(device.image, pieces, Buffers(), [], view, starts)
    compressed = device.image.header.incompatible & 2 and zstdcalls.AVAILABLE
    placed = [key for key, plain in again.items() if plain is None]
    assert bool(placed) == bool(compressed)
    for key in placed:
        assert view[starts[key] : starts[key] + FRAME] == frames[key]


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


def test_damage_is_an_error(tmp_path: Path) -> None:
    """A frame that is to be placed is verified before."""
    path = tmp_path / "disk.aiv"
    create_image(path, [io.BytesIO(DISK)], CreateOptions())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with aipimage.open(path) as image, pytest.raises(IntegrityError, match="frame"):
        read_range(image.devices[0], memoryview(bytearray(SIZE)), 0, Buffers())
