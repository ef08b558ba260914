"""Frames compressed and opened with one call, and one by one: the same bytes, the same errors."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from aipimage.format.digest import digest
from aipimage.format.record import decode_record_header
from aipimage.format.tables import decode_frame_extents
from aipimage.io.records import codec, zstdcalls
from aipimage.io.records.cipher import RecordCipher
from aipimage.io.records.records import FrameWhere, RecordBuilder, open_record

LEVELS = [None, -7, 1, 3, 9]
CIPHER = RecordCipher(1, bytes(16), bytes(range(16)), data_key=bytes(32), metadata_key=bytes(32))


def built(
    plain: bytes, frame_size: int, level: int | None, sealed: bool = False
) -> tuple[list[bytes], list[int]]:
    """The records of a batch and their plain lengths; every second sector of a disk is in it."""
    builder = RecordBuilder(bytes(range(16)), CIPHER if sealed else None)
    sectors = np.arange(len(plain) // 512, dtype=np.uint64)
    where = FrameWhere(np.column_stack((2 * sectors, np.ones_like(sectors))), 3 << 48)
    cut = 2 * len(sectors)
    out = memoryview(bytearray(builder.frames_room(len(plain), frame_size, cut)))
    rows = builder.build_frames(out, 7, memoryview(plain), frame_size, where, level)
    records = [bytes(out[at : at + size]) for at, size, _, _ in rows.tolist()]
    assert [bytes(found) for *_, found in rows.tolist()] == [digest(each[:-16]) for each in records]
    return records, rows["plain_length"].tolist()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sealed", [False, True])
@given(
    st.lists(st.binary(min_size=1, max_size=40) | st.integers(0, 99), min_size=1, max_size=40),
    st.sampled_from([512, 4096, 65_536]),
)
def test_both_ways_give_the_same(
    level: int | None, sealed: bool, sectors: list[bytes | int], frame_size: int
) -> None:
    """Whether the core builds all frames or each is built alone; each payload opens to its
    frame.
    """
    parts = [
        np.random.default_rng(each).bytes(512) if isinstance(each, int) else (each * 512)[:512]
        for each in sectors
    ]
    plain = b"".join(parts)
    ways = []
    with pytest.MonkeyPatch.context() as patch:
        for available in (True, False):
            patch.setattr(zstdcalls, "AVAILABLE", available and zstdcalls.AVAILABLE)
            ways.append(built(plain, frame_size, level, sealed))
    assert ways[0] == ways[1]
    for number, record in enumerate(ways[0][0]):
        frame = plain[number * frame_size : (number + 1) * frame_size]
        header = decode_record_header(record, 16 if sealed else 0)
        opened = open_record(memoryview(record), header, CIPHER if sealed else None)
        assert bytes(opened.plain) == frame
        assert (header.number, header.origin) == (7 + number, bytes(range(16)))
        extents = decode_frame_extents(opened.extents, len(frame)).tolist()
        first = number * frame_size // 512
        assert extents == [(3 << 48 | 2 * (first + at), 1) for at in range(len(frame) // 512)]


@pytest.mark.parametrize("size", [65_536, 262_144])
def test_large_frames_have_their_own_parameters(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the last, short frame has too: they depend on the frame size alone."""
    plain = np.random.default_rng(2).integers(0, 30, 3 * size + 5120, np.uint8).tobytes()
    records, _ = built(plain, size, 1)
    press = codec.compressor(1, size)
    for number, record in enumerate(records):
        payload = press.compress(plain[number * size : (number + 1) * size])
        assert record[40 : 40 + len(payload)] == payload
    monkeypatch.setattr(zstdcalls, "AVAILABLE", False)
    assert built(plain, size, 1)[0] == records


def test_a_compressor_that_fails_is_asked_again_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its own error is told, or that the frames are compressed all the same."""

    def fails(*_: object) -> None:
        raise _core.CodecError("the codec reported an error")

    plain = bytes(1024) + b"x" * 512
    expected = built(plain, 1024, 1)
    monkeypatch.setattr(_core, "build_frames", fails)
    assert built(plain, 1024, 1) == expected


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzstd gives a null pointer then."""

    class Lib:
        ZSTD_createCCtx = staticmethod(lambda: zstdcalls._zstd.ffi.NULL)
        ZSTD_freeCCtx = staticmethod(lambda pointer: 0)

    class Library:
        lib, ffi = Lib, zstdcalls._zstd.ffi

    parameters = zstandard.ZstdCompressionParameters.from_level(1)
    monkeypatch.setattr(zstdcalls, "_zstd", Library)
    with pytest.raises(MemoryError):
        zstdcalls.compressor((-49, False), parameters)
