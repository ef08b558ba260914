"""Records whose compressed bytes are not what they say, one test a class of hostile inputs.

Each is refused by whoever meets it: who reads one frame at a time, and who opens runs of frames,
which are decompressed with one call, or one by one where that call is not to be had.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
import zstandard

from aipimage.errors import AipImageError, IntegrityError
from aipimage.format.constants import RecordType
from aipimage.io.records import zstdcalls
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.refusals import forger_of, refused
from tests.support.forge import Record
from tests.support.images import PATH
from tests.support.memory import ROOT, MemorySystem

KINDS = (RecordType.FRAME, RecordType.MAP)


@pytest.fixture(params=[True, False], ids=["at once", "one by one"], autouse=True)
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the call for many frames, and without."""
    if request.param and not zstdcalls.AVAILABLE:
        pytest.skip("this build of zstandard comes without its cffi backend")
    monkeypatch.setattr(zstdcalls, "AVAILABLE", request.param)


def refused_everywhere(data: bytes, error: type[AipImageError], match: str = "") -> None:
    """Refused by reading, by restoring, and by verifying, with the same words."""
    refused(data, error, match)
    storage = Storage(MemorySystem({PATH: data}))
    with open_image(PATH, storage=storage) as image:
        with pytest.raises(error, match=match or None):
            image.restore(f"{ROOT}/target", storage=storage)
        try:
            found = image.verify(threads=1)
            assert not found.ok
            reasons = [each.what for each in found.damage]
        except AipImageError as raised:
            reasons = [str(raised)]
    assert any(match in each for each in reasons)


def with_payload(payload: bytes, plain_length: int, kind: int = RecordType.FRAME) -> bytes:
    """An image in which the first record of a type has these stored bytes."""
    forger = forger_of("zstd", block_digests=False)

    def change(record: Record) -> Record:
        return replace(record, codec=1, payload=payload, plain=bytes(plain_length))

    return forger.forge_record(forger.indexes(kind)[0], change)


def zstd(plain: bytes, **parameters: Any) -> bytes:
    return zstandard.ZstdCompressor(**parameters).compress(plain)


@pytest.mark.parametrize("kind", KINDS)
def test_class_11_an_expansion_bomb(kind: int) -> None:
    bomb = zstd(bytes(512 << 20))
    refused_everywhere(with_payload(bomb, 4096, kind), IntegrityError)
    refused_everywhere(with_payload(bomb, 4 << 20, kind), AipImageError)


@pytest.mark.parametrize("kind", KINDS)
def test_class_12_a_false_content_size(kind: int) -> None:
    honest = zstd(bytes(4096))
    assert honest[4] == 0x60
    for size in (0, 1, 4095, 8192, 65_535):
        lying = honest[:5] + struct.pack("<H", (size - 256) & 0xFFFF) + honest[7:]
        refused_everywhere(with_payload(lying, 4096, kind), IntegrityError)
    # The frame declares what the record says, and holds less or more.
    for held in (2048, 6000):
        lying = bytearray(zstd(bytes(held)))
        lying[5:7] = struct.pack("<H", 4096 - 256)
        refused_everywhere(with_payload(bytes(lying), 4096, kind), IntegrityError)
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4096))
    refused_everywhere(with_payload(unknown, 4096, kind), IntegrityError)


def test_class_13_a_window_bomb() -> None:
    for window_log in (24, 27, 31):
        body = struct.pack("<I", 0xFD2FB528) + bytes([0x80, (window_log - 10) << 3])
        body += struct.pack("<I", 4096) + struct.pack("<I", 4096 << 3 | 3)[:3] + b"\0"
        refused_everywhere(with_payload(body, 4096), IntegrityError, "window")


def test_class_14_concatenated_and_skippable_frames() -> None:
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    for payload in (
        zstd(bytes(2048)) * 2,
        zstd(bytes(4096)) + zstd(b""),
        zstd(bytes(4096)) + skippable,
        skippable + zstd(bytes(4096)),
        zstd(bytes(4096)) + b"\0",
        skippable,
    ):
        refused_everywhere(with_payload(payload, 4096), IntegrityError)


def test_class_15_a_frame_that_asks_for_a_dictionary() -> None:
    samples = [b"sector %d of a disk " % n * 8 for n in range(2000)]
    words = zstandard.train_dictionary(4096, samples)
    payload = zstd(bytes(4096), dict_data=words)
    refused_everywhere(with_payload(payload, 4096), IntegrityError, "dictionary")
