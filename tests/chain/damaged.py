"""Images to damage, what each of their bytes is for, and what a repair of them must keep to."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipimage
from aipimage import IntegrityError, Kind, RepairResult
from aipimage.format.constants import RecordType
from aipimage.format.header import Header, decode_core, decode_core_length
from aipimage.format.record import decode_record_header
from aipimage.format.tables import decode_frame_extents
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.records.keys import Argon2Parameters
from aipimage.io.repair import repair_image
from tests.support.ends import records_end

PASSWORD = "a password of tests"
CHEAP = Argon2Parameters(memory=8192, passes=1, lanes=1)
FORMS: dict[str, dict[str, Any]] = {
    "zstd": {},
    "none": {"compress": "none"},
    "aes-256": {"encrypt": "aes-256", "password": PASSWORD},
    "authenticate": {"encrypt": "authenticate", "password": PASSWORD, "compress": "none"},
    "no checkpoints": {"checkpoint_bytes": 1 << 40, "block_digests": False},
}


def disk(size: int, seed: int, data: float = 0.5) -> bytes:
    """Stretches of noise, of text and of zeros, some with holes of a cluster."""
    rng = np.random.default_rng(seed)
    content = np.zeros(size, np.uint8)
    at = 0
    while at < size:
        length = min(int(rng.integers(1, 30)) * 4096, size - at)
        if rng.random() < data:
            content[at : at + length] = rng.integers(1, 255, length, np.uint8)
            if rng.random() < 0.5:
                content[at : at + length] = np.resize(content[at : at + 97], length)
        at += length
    return content.tobytes()


DISKS = (disk((3 << 20) + 4096 + 100, 1, 0.2), disk(700_000, 2, 0.2), bytes(300_000))


def options(form: str, **more: Any) -> CreateOptions:
    """What an image is made with."""
    small = {"frame_shift": 13, "stripe_shift": 20, "checkpoint_bytes": 1, "argon2": CHEAP}
    return CreateOptions(**(small | FORMS[form] | more))


def password_of(form: str) -> str | None:
    """The password of an image of a form."""
    return FORMS[form].get("password")


def made(path: Path, form: str, disks: Sequence[bytes] = DISKS, **more: Any) -> bytes:
    """Make an image of some disks; return its bytes."""
    create_image(path, [io.BytesIO(each) for each in disks], options(form, **more))
    return path.read_bytes()


@dataclass(frozen=True)
class Part:
    """A structure of a stream: ``kind`` is a record type, or 0 for header, key area, trailer.

    ``low`` and ``high`` are, of a frame, device and sector of its extents as one number.
    """

    kind: int
    start: int
    end: int
    low: int = 0
    high: int = 0


def header_of(data: bytes) -> Header:
    """The header of an image in one file."""
    return decode_core(data[: decode_core_length(data[:200])])


def parts_of(data: bytes, form: str) -> list[Part]:
    """Every structure of an image in one file, in order. Frames of encrypted images have no
    extents here.
    """
    header = header_of(data)
    tag = 16 if header.suite else 0
    parts = [Part(0, 0, header.core_length)]
    for copy in range(header.key_copies):
        start = header.core_length + copy * 4096
        parts.append(Part(0, start, start + 4096))
    at = header.records_start
    while at < records_end(data):
        record = decode_record_header(data[at:], tag)
        end = at + record.record_length
        low = high = 0
        if record.type == RecordType.FRAME and header.suite in (0, 3):
            where = data[end - 16 - tag - 12 * record.extent_count : end - 16 - tag]
            extents = decode_frame_extents(where, record.plain_length)
            low, high = int(extents["at"][0]), int(extents["at"][-1] + extents["sectors"][-1])
        parts.append(Part(record.type, at, end, low, high))
        at = end
    parts.append(Part(0, at, len(data)))
    return parts


def allowed(parts: list[Part], start: int, end: int) -> tuple[int, int]:
    """What damage from byte ``start`` to ``end`` may cost at most, of plain images: everything
    between the whole frame before it and the one behind it, as device and sector in one number.
    """
    frames = [part for part in parts if part.kind == RecordType.FRAME]
    before = [part.high for part in frames if part.end <= start]
    behind = [part.low for part in frames if part.start >= end]
    return max(before, default=0), min(behind, default=1 << 64)


def repaired(
    target: Path, data: bytes | Path, password: str | None = None, **more: Any
) -> RepairResult:
    """Repair bytes, or a file, into a new file beside ``target``'s name."""
    source = data if isinstance(data, Path) else target / "damaged.aiv"
    if isinstance(data, bytes):
        source.write_bytes(data)
    out = target / "out.aiv"
    out.unlink(missing_ok=True)
    return repair_image(source, out, password=password, **more)


def check(
    result: RepairResult,
    disks: Sequence[bytes] = DISKS,
    password: str | None = None,
    whole: bool = True,
) -> None:
    """Each byte is right, or listed as lost and an error to read; the new image is sound."""
    with aipimage.open(result.path, password) as image:
        if whole:
            assert [device.size for device in image.devices] == [len(each) for each in disks]
        total = 0
        for device, content in zip(image.devices, disks, strict=False):
            ranges = [(at, length) for number, at, length in result.lost if number == device.index]
            kind = Kind.LOST
            assert ranges == [(each.start, each.length) for each in device.extents(kind)]
            file = device.open()
            at = 0
            for start, length in [*ranges, (device.size, 0)]:
                file.seek(at)
                expected = content[at:start]
                assert file.read(start - at)[: len(expected)] == expected
                if length:
                    file.seek(start)
                    with pytest.raises(IntegrityError):
                        file.read(1)
                at = start + length
                total += length
        assert total == result.lost_bytes
        assert result.kept == sum(device.size for device in image.devices) - total
        found = image.verify()
        assert found.ok, found.damage


def lost_within(result: RepairResult, low: int, high: int) -> bool:
    """Whether all that is lost lies between two places (device and sector in one number)."""
    return all(
        low <= (device << 48) + offset // 512
        and (device << 48) + (offset + length + 511) // 512 <= high
        for device, offset, length in result.lost
    )


def cuts(data: bytes, parts: list[Part], step: int) -> Iterator[int]:
    """Lengths to cut an image to: each ``step`` bytes, and around the ends of all structures."""
    found = set(range(step, len(data), step))
    for part in parts[1:]:
        found |= {part.start - 1, part.start, part.start + 1}
    return iter(sorted(length for length in found if length < len(data)))
