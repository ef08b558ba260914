"""Frames compressed and opened with one call, and one by one: the same bytes, the same errors."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from aipimage.io.records import codec, zstdcalls

LEVELS = [None, -7, 1, 3, 9]


def compressed(
    plain: bytes, frame_size: int, stored: list[bool], level: int | None
) -> tuple[list[int], list[bytes]]:
    """Lengths and payloads."""
    gaps = np.full(len(stored) + 1, 3, np.uint64)
    out = memoryview(bytearray(codec.room_for_frames(len(plain), frame_size, int(gaps.sum()))))
    bits = np.packbits(np.array(stored, bool), bitorder="little")
    lengths = codec.compress_frames(memoryview(plain), frame_size, bits, gaps, out, level).tolist()
    ends = np.cumsum(np.array(lengths, np.int64) + 3)
    return lengths, [
        bytes(out[end - length : end]) for end, length in zip(ends, lengths, strict=True)
    ]


@pytest.mark.parametrize("level", LEVELS)
@given(
    st.binary(max_size=500),
    st.integers(1, 9),
    st.sampled_from([64, 512, 4096, 65_536]),
    st.integers(0, 2**64 - 1),
)
def test_both_ways_give_the_same(
    level: int | None, start: bytes, times: int, frame_size: int, chosen: int
) -> None:
    """Whether libzstd is called for all frames or for one; each payload opens to its frame."""
    plain = start * times
    frames = [plain[at : at + frame_size] for at in range(0, len(plain), frame_size)]
    stored = [bool(chosen >> number % 64 & 1) for number in range(len(frames))]
    ways = []
    with pytest.MonkeyPatch.context() as patch:
        for available in (True, False):
            patch.setattr(zstdcalls, "AVAILABLE", available and zstdcalls.AVAILABLE)
            ways.append(compressed(plain, frame_size, stored, level))
    assert ways[0] == ways[1]
    for payload, frame, is_stored in zip(ways[0][1], frames, stored, strict=True):
        kind = codec.Codec.ZSTD if len(payload) < len(frame) else codec.Codec.NONE
        assert codec.decompress(kind, payload, len(frame)) == frame
        assert payload == frame or (level is not None and not is_stored)


@pytest.mark.parametrize("size", [65_536, 262_144])
def test_large_frames_have_their_own_parameters(size: int) -> None:
    """Those that the last, short frame has too: they depend on the frame size alone."""
    plain = np.random.default_rng(2).integers(0, 30, 3 * size + 5000, np.uint8).tobytes()
    _, payloads = compressed(plain, size, [False] * 4, 1)
    press = codec.compressor(1, size)
    assert payloads == [press.compress(plain[at : at + size]) for at in range(0, len(plain), size)]


def test_a_compressor_that_fails_is_asked_again_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its own error is told, or that the frames are compressed all the same."""

    def fails(*_: object) -> None:
        raise _core.CodecError("the codec reported an error")

    plain = bytes(100) + b"x" * 28
    expected = compressed(plain, 64, [False, False], 1)
    monkeypatch.setattr(_core, "encode_frames", fails)
    assert compressed(plain, 64, [False, False], 1) == expected


def test_only_frames_that_state_their_length_are_decompressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What drives the library's work is looked at first; the rest is told by decompress."""
    honest = zstandard.ZstdCompressor().compress(bytes(1000))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000))
    payloads = [honest, silent, b"", b"\x28\xb5", honest]
    lengths = [len(each) for each in payloads]
    starts = np.cumsum([0, *lengths])[:-1]
    pieces = np.array(
        [
            (at, length, 1000 * n, 1000)
            for n, (at, length) in enumerate(zip(starts, lengths, strict=True))
        ],
        np.uint64,
    )
    data, plain = memoryview(b"".join(payloads)), memoryview(bytearray(b"\xaa" * 5000))
    assert codec.decompress_frames(data, pieces, plain) == [1, 0, 0, 0, 1]
    assert plain[:1000] == plain[4000:] == bytes(1000)
    assert codec.decompress_frames(data, pieces[:0], plain) == []
    monkeypatch.setattr(zstdcalls, "AVAILABLE", False)
    assert codec.decompress_frames(data, pieces, plain) == [0] * 5


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
