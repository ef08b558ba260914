"""Many frames with one call: encode_frames, decode_frames, with zstd's functions and with none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from aipimage.io.records import zstdcalls

PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    1, write_checksum=0, write_content_size=1
)
CODECS = ["none", "zstd"]


def codec(name: str) -> _core.CodecFunctions:
    """Functions of this thread."""
    return zstdcalls.compressor((1, False), PARAMETERS) if name == "zstd" else _core.NO_CODEC


def encoded(data: bytes, frame: int, stored: list[bool], name: str) -> list[bytes]:
    """Each payload, made one by one."""
    press = zstandard.ZstdCompressor(compression_params=PARAMETERS).compress
    payloads = []
    for number, start in enumerate(range(0, len(data), frame)):
        plain = data[start : start + frame]
        payload = plain if name == "none" or stored[number] else press(plain)
        # What does not become smaller is stored: of two of one length the plain one.
        payloads.append(min(plain, payload, key=len))
    return payloads


@pytest.mark.parametrize("name", CODECS)
@given(st.binary(max_size=300), st.integers(1, 3), st.integers(1, 700), st.data())
def test_encode_equals_one_by_one(
    name: str, start: bytes, times: int, frame: int, data: st.DataObject
) -> None:
    plain = start * times
    count = -(-len(plain) // frame)
    stored = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    gaps = data.draw(st.lists(st.integers(0, 9), min_size=count + 1, max_size=count + 1))
    out = bytearray(b"\xaa" * (len(plain) + sum(gaps) + zstdcalls.room_to_work(frame)))
    payloads = encoded(plain, frame, stored, name)
    lengths = _core.encode_frames(
        codec(name),
        plain,
        frame,
        np.packbits(np.array(stored, bool), bitorder="little"),
        np.array(gaps, np.uint64),
        out,
    )
    assert lengths.tolist() == [len(each) for each in payloads]
    at = 0
    for gap, payload in zip(gaps[:-1], payloads, strict=True):
        at += gap
        assert out[at : at + len(payload)] == payload
        at += len(payload)


@pytest.mark.parametrize(
    ("frame", "stored", "gaps", "room"),
    [
        (0, b"\0", [1, 1, 1], 99),
        (2**64, b"\0", [1, 1, 1], 99),
        (10, b"", [1, 1, 1], 99),
        (10, b"\0", [1, 1], 99),
        (10, b"\0", [], 99),
        (10, b"\0", [1, 1, 1], 22),
        (10, b"\0", [1, 2**64 - 1, 1], 99),
    ],
)
def test_wrong_lengths_are_refused(frame: int, stored: bytes, gaps: list[int], room: int) -> None:
    out = bytearray(b"\xaa" * room)
    with pytest.raises(ValueError):
        _core.encode_frames(codec("zstd"), bytes(20), frame, stored, np.array(gaps, np.uint64), out)
    assert out == b"\xaa" * room


def test_a_failing_codec_is_told() -> None:
    """A pointer to no compressor is not needed for it: without room to work zstd gives up."""
    plain = np.random.default_rng(1).bytes(100)
    gaps = np.zeros(2, np.uint64)
    with pytest.raises(_core.CodecError):
        _core.encode_frames(codec("zstd"), plain, 100, b"\0", gaps, bytearray(100))


def whole(payloads: list[bytes], sizes: list[int]) -> tuple[bytes, np.ndarray, int]:
    """Payloads one after the other, their pieces, and the bytes of all plain frames."""
    lengths = np.array([len(each) for each in payloads], np.uint64)
    room = np.array(sizes, np.uint64)
    pieces = np.column_stack((np.cumsum(lengths) - lengths, lengths, np.cumsum(room) - room, room))
    return b"".join(payloads), pieces, sum(sizes)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=12))
def test_decode_undoes_zstd(frames: list[bytes]) -> None:
    press = zstandard.ZstdCompressor(compression_params=PARAMETERS).compress
    src, pieces, size = whole([press(each) for each in frames], [len(each) for each in frames])
    dst = bytearray(size)
    bits = _core.decode_frames(zstdcalls.decompressor(), src, pieces.reshape(-1, 4), dst)
    assert np.unpackbits(bits, bitorder="little")[: len(frames)].all()
    assert dst == b"".join(frames)


PLAIN = b"some plain bytes " * 9
GOOD = zstandard.ZstdCompressor(compression_params=PARAMETERS).compress(PLAIN)
SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"xx"
BAD = {
    "cut": GOOD[:-1],
    "longer": GOOD + b"\0",
    "two frames": GOOD + GOOD,
    "a frame and a skippable one": GOOD + SKIPPABLE,
    "a skippable frame and one": SKIPPABLE + GOOD,
    "skippable": SKIPPABLE,
    "no frame": b"\0" * 20,
    "damaged": GOOD[:-4] + bytes(value ^ 255 for value in GOOD[-4:]),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("size", [len(PLAIN), 2 * len(PLAIN)])
def test_what_is_not_one_whole_frame_is_told(name: str, size: int) -> None:
    src, pieces, room = whole([GOOD, BAD[name], GOOD], [len(PLAIN), size, len(PLAIN)])
    dst = bytearray(room)
    bits = _core.decode_frames(zstdcalls.decompressor(), src, pieces, dst)
    expected = 0b101
    if name == "damaged":
        # Without a checksum of its own zstd may take it for a frame of other bytes.
        assert bits[0] & 0b101 == expected
    else:
        assert bits.tolist() == [expected]
    assert dst[: len(PLAIN)] == PLAIN == dst[-len(PLAIN) :]


@pytest.mark.parametrize("size", [0, len(PLAIN) - 1, len(PLAIN) + 1])
def test_another_length_is_told(size: int) -> None:
    src, pieces, room = whole([GOOD], [size])
    assert _core.decode_frames(zstdcalls.decompressor(), src, pieces, bytearray(room))[0] == 0


@pytest.mark.parametrize(
    "piece", [(1, len(GOOD), 0, 1), (0, 1, 1, 200), (2**64 - 1, 2, 0, 1), (0, 1, 0, 2**64 - 1)]
)
def test_pieces_out_of_range_are_refused(piece: tuple[int, ...]) -> None:
    dst = bytearray(b"\xaa" * 200)
    pieces = np.array([(0, len(GOOD), 0, len(PLAIN)), piece], np.uint64)
    with pytest.raises(ValueError):
        _core.decode_frames(zstdcalls.decompressor(), GOOD, pieces, dst)
    assert dst == b"\xaa" * 200
    with pytest.raises(ValueError, match="shape"):
        _core.decode_frames(zstdcalls.decompressor(), GOOD, pieces[:, :2], dst)


def test_decode_without_functions_is_refused() -> None:
    pieces = np.array([(0, len(GOOD), 0, len(PLAIN))], np.uint64)
    with pytest.raises(ValueError):
        _core.decode_frames(_core.NO_CODEC, GOOD, pieces, bytearray(200))


def test_each_thread_has_its_own_functions() -> None:
    """A context is for one thread at a time."""
    found: list[tuple[int, int]] = []

    def note() -> None:
        found.append((codec("zstd").context, zstdcalls.decompressor().context))
        together.wait(10)

    together = threading.Barrier(3)
    threads = [threading.Thread(target=note) for _ in range(2)]
    for thread in threads:
        thread.start()
    note()
    for thread in threads:
        thread.join()
    assert len({context for pair in found for context in pair}) == 6
    assert (codec("zstd").context, zstdcalls.decompressor().context) in found
