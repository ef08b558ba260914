"""build_frames: the records of many frames with one call, compared with frames built one by one."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from aipimage.format.digest import digest
from aipimage.format.tables import FRAME_ENTRY_DTYPE
from aipimage.io.records import zstdcalls
from tests.core import twins

PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    1, write_checksum=0, write_content_size=1
)
CODECS = ["none", "zstd"]
ORIGIN = bytes(range(1, 17))
RUNS = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 20)), max_size=9)


def codec(name: str) -> _core.CodecFunctions:
    """Functions of this thread, by a key that the library does not use."""
    return zstdcalls.compressor((99, False), PARAMETERS) if name == "zstd" else _core.NO_CODEC


def packed(sectors: int, seed: int) -> bytes:
    """Text, random sectors, and sectors of one byte."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 3, sectors)
    some = [random.bytes(512), b"a line of text\n" * 40, bytes([int(random.integers(256))]) * 512]
    return b"".join(some[kind][:512] for kind in kinds)


def payload(plain: bytes, name: str, probe: bool) -> bytes:
    """What is stored of a frame."""
    if name == "none" or (probe and _core.random_bitmap(plain, len(plain))[0]):
        return plain
    return zstandard.ZstdCompressor(compression_params=PARAMETERS).compress(plain)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("tag", [0, 16])
@given(RUNS, st.integers(1, 12), st.booleans(), st.integers(0, 2**53), st.data())
def test_frames_equal_those_built_one_by_one(
    name: str,
    tag: int,
    runs: list[tuple[int, int]],
    frame: int,
    probe: bool,
    first: int,
    draw: st.DataObject,
) -> None:
    total = sum(length for _, length in runs)
    data = packed(total, draw.draw(st.integers(0, 99)))
    where, size = draw.draw(st.integers(0, 1023)) << 48, frame * 512
    entries = np.full(-(-total // frame), 7, "u1").repeat(48).view(FRAME_ENTRY_DTYPE)
    wanted = twins.frames(
        data, size, lambda plain: payload(plain, name, probe), runs, where, ORIGIN, first, tag
    )
    most = len(data) + len(wanted) * (56 + tag) + 12 * (len(runs) + len(wanted))
    out = bytearray(b"\xaa" * (most + zstdcalls.room_to_work(size)))
    used = _core.build_frames(
        codec(name), data, size, probe, (runs, where), (ORIGIN, first), tag, out, entries
    )
    assert used == sum(len(each) + tag + 16 for each in wanted)
    at = 0
    for number, (record, entry) in enumerate(zip(wanted, entries.tolist(), strict=True)):
        length = len(record) + tag + 16
        assert out[at : at + len(record)] == record
        plain = min(size, len(data) - number * size)
        assert entry[:3] == (at, length, plain)
        assert bytes(entry[3]) == (bytes(32) if tag else digest(record))
        assert tag or out[at + len(record) : at + length] == digest(record)[:16]
        at += length
    if tag:
        _core.finish_records(out, entries)
        for at, length, _, found in entries.tolist():
            assert bytes(found) == digest(out[at : at + length - 16])
            assert out[at + length - 16 : at + length] == bytes(found)[:16]


def refused(**changes: object) -> None:
    """Every call with one wrong argument is a ValueError, and nothing was written."""
    entries, out = np.zeros(3, FRAME_ENTRY_DTYPE), bytearray(4000)
    arguments = {
        "codec": codec("zstd"), "src": bytes(2560), "frame": 1024, "probe": False,
        "where": ([(4, 5)], 0), "first": (ORIGIN, 0), "tag": 0, "out": out, "entries": entries,
    }  # fmt: skip
    assert set(changes) <= set(arguments)
    with pytest.raises(ValueError):
        _core.build_frames(**(arguments | changes))  # type: ignore[arg-type]
    assert out == bytes(4000)
    assert entries.tobytes() == bytes(3 * 48)


@pytest.mark.parametrize(
    "changes",
    [
        {"frame": 0}, {"frame": 1000}, {"frame": (4 << 20) + 512}, {"src": bytes(2561)},
        {"tag": 17}, {"first": (ORIGIN[:-1], 0)}, {"where": ([(4, 4)], 0)},
        {"where": ([(4, 6)], 0)}, {"where": ([(4, 5), (1, 2**64 - 1)], 0)}, {"where": ([], 0)},
        {"entries": np.zeros(2, FRAME_ENTRY_DTYPE)}, {"entries": np.zeros(4, FRAME_ENTRY_DTYPE)},
        {"out": bytearray(2560 + 3 * (56 + 12) - 1)},
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(changes: dict[str, object]) -> None:
    refused(**changes)


def test_the_least_room_is_enough_without_a_codec() -> None:
    entries = np.zeros(3, FRAME_ENTRY_DTYPE)
    out = bytearray(2560 + 3 * (56 + 12))
    arguments = (_core.NO_CODEC, bytes(2560), 1024, True, ([(4, 5)], 0), (ORIGIN, 0), 0)
    assert _core.build_frames(*arguments, out, entries) == len(out)
    noise = np.random.default_rng(1).bytes(2560)
    with pytest.raises(_core.CodecError):
        _core.build_frames(codec("zstd"), noise, 1024, False, *arguments[4:], out, entries)


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
