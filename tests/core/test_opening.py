"""check_frames and open_frames: runs of frames, compared with frames looked at one by one; and
read_frame, which does both for one.
"""

from __future__ import annotations

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

ORIGIN = bytes(range(1, 17))
FIRST = 41
ZSTD = zstandard.ZstdCompressor(level=1, write_content_size=True)
GOOD, HEADER, DIGEST, PAYLOAD = range(4)
SIZES = st.lists(st.tuples(st.integers(1, 3000), st.booleans()), min_size=1, max_size=8)


def frame_record(plain: bytes, number: int, tag: int, payload: bytes | None = None) -> bytes:
    """A frame of one extent; ``payload`` instead of the right one."""
    head = twins.frames(bytes(512), 512, lambda _: b"x", [(5, 1)], 0, ORIGIN, number, tag)[0][:40]
    stored = ZSTD.compress(plain) if payload is None else payload
    codec = 1
    if payload is None and len(stored) >= len(plain):
        stored, codec = plain, 0
    edited = bytearray(head)
    edited[5] = codec
    edited[8:12] = (len(stored) + 12 + tag).to_bytes(4, "little")
    edited[12:16] = len(plain).to_bytes(4, "little")
    body = bytes(edited) + stored + bytes(12) + b"t" * tag
    return body + digest(body)[:16]


def run_of(records: list[bytes], plains: list[bytes], base: int = 1000) -> np.ndarray:
    """The entries of records that lie one after the other from address ``base`` on."""
    entries = np.zeros(len(records), FRAME_ENTRY_DTYPE)
    entries["record_length"] = [len(each) for each in records]
    ends = np.cumsum(entries["record_length"], dtype=np.uint64)
    entries["offset"] = base + ends - entries["record_length"]
    entries["plain_length"] = [len(each) for each in plains]
    found = b"".join(digest(each[:-16]) for each in records)
    entries["digest"] = np.frombuffer(found, "V32")
    return entries


def plain_of(size: int, is_random: bool) -> bytes:
    if is_random:
        return np.random.default_rng(size).bytes(size)
    return (b"words %d " % size * size)[:size]


@pytest.mark.parametrize("tag", [0, 16])
@given(SIZES, st.data())
def test_damage_is_told_by_its_kind(
    tag: int, sizes: list[tuple[int, bool]], draw: st.DataObject
) -> None:
    plains = [plain_of(*each) for each in sizes]
    records = [frame_record(each, FIRST + at, tag) for at, each in enumerate(plains)]
    entries = run_of(records, plains)
    wanted = []
    for at, record in enumerate(records):
        place = draw.draw(st.none() | st.integers(0, len(record) - 1))
        wanted.append(GOOD if place is None else DIGEST)
        if place is not None:
            flipped = bytearray(record)
            flipped[place] ^= draw.draw(st.integers(1, 255))
            records[at] = bytes(flipped)
            # Of the header only a codec may be another one, where no length contradicts it.
            if place < 40 and not (place == 5 and flipped[5] != 0):
                wanted[-1] = HEADER
                if place in (6, 7) and flipped[5] == 1:
                    body, count = int.from_bytes(flipped[8:12], "little"), flipped[6:8]
                    if body > int.from_bytes(count, "little") * 12 + tag:
                        wanted[-1] = DIGEST
    found = _core.check_frames(b"".join(records), entries, ORIGIN, FIRST, tag)
    assert found.tolist() == wanted


@pytest.mark.parametrize("change", ["digest", "plain_length", "number", "origin", "check"])
def test_each_field_of_the_table_is_compared(change: str) -> None:
    plains = [b"a" * 600, b"b" * 700, b"c" * 800]
    records = [frame_record(each, FIRST + at, 0) for at, each in enumerate(plains)]
    entries, origin, first = run_of(records, plains), ORIGIN, FIRST
    wanted = [GOOD, HEADER, GOOD]
    if change == "digest":
        entries["digest"][1] = np.void(bytes(32))
        wanted[1] = DIGEST
    elif change == "plain_length":
        entries["plain_length"][1] += 1
    elif change == "check":
        # Another check, and a digest in the table that is the right one.
        records[1] = records[1][:-1] + bytes([records[1][-1] ^ 1])
        wanted[1] = DIGEST
    else:
        wanted = [HEADER] * 3
        origin, first = (ORIGIN, 42) if change == "number" else (bytes(16), FIRST)
    found = _core.check_frames(b"".join(records), entries, origin, first, 0)
    assert found.tolist() == wanted


def test_many_frames_are_checked_in_groups() -> None:
    plains = [plain_of(10 + at % 50, at % 2 == 0) for at in range(600)]
    records = [frame_record(each, FIRST + at, 0) for at, each in enumerate(plains)]
    entries = run_of(records, plains)
    for at in (0, 255, 256, 257, 599):
        records[at] = records[at][:-1] + bytes([records[at][-1] ^ 1])
    for at in (1, 254, 598):
        records[at] = b"X" + records[at][1:]
    found = _core.check_frames(b"".join(records), entries, ORIGIN, FIRST, 0)
    assert np.flatnonzero(found == DIGEST).tolist() == [0, 255, 256, 257, 599]
    assert np.flatnonzero(found == HEADER).tolist() == [1, 254, 598]


COPIES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3000), st.integers(0, 3000)))


@pytest.mark.parametrize("tag", [0, 16])
@given(SIZES, COPIES, st.data())
def test_what_is_wanted_is_copied(
    tag: int, sizes: list[tuple[int, bool]], wishes: list[tuple[int, int, int]], draw: st.DataObject
) -> None:
    plains = [plain_of(*each) for each in sizes]
    records = [frame_record(each, FIRST + at, tag) for at, each in enumerate(plains)]
    kinds = np.array(draw.draw(st.lists(
        st.sampled_from([GOOD, GOOD, HEADER]), min_size=len(sizes), max_size=len(sizes)
    )), np.uint8)  # fmt: skip
    rows, wanted, at = [], bytearray(), 0
    for row, low, length in sorted(wish for wish in wishes if wish[0] < len(plains)):
        plain = plains[row]
        # As often as not all of it.
        low, length = (low % len(plain), length) if length % 2 else (0, len(plain))
        length = min(length, len(plain) - low)
        rows.append((row, low, length, at))
        wanted += plain[low : low + length] if kinds[row] == GOOD else bytes(length)
        at += length
    dst, scratch = bytearray(at), bytearray(3000)
    before = kinds.copy()
    good = _core.open_frames(
        zstdcalls.decompressor(), b"".join(records), run_of(records, plains), tag,
        np.array(rows, np.uint64).reshape(-1, 4), dst, scratch, kinds,
    )  # fmt: skip
    assert good == (before == GOOD).sum()
    assert kinds.tolist() == before.tolist()
    assert dst == wanted


PLAIN = b"some plain bytes " * 9
FRAME = ZSTD.compress(PLAIN)
SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"xx"
WITH_CHECKSUM = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(PLAIN)
LARGE_WINDOW = bytes.fromhex("28b52ffd8070") + len(PLAIN).to_bytes(4, "little") + FRAME[6:]
BAD = {
    "cut": FRAME[:-1],
    "longer": FRAME + b"\0",
    "two frames": FRAME + FRAME,
    "a skippable frame": SKIPPABLE + FRAME,
    "no frame": b"\0" * 20,
    "short": FRAME[:5],
    "nothing but a magic": FRAME[:4],
    "a window over the limit": LARGE_WINDOW,
    "no content size": zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN),
    "another content size": ZSTD.compress(PLAIN + b"x"),
    "a dictionary": zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(PLAIN * 9)
    ).compress(PLAIN),
}


@pytest.mark.parametrize("name", BAD)
def test_what_the_core_does_not_decode_is_left(name: str) -> None:
    payloads = [None, BAD[name], WITH_CHECKSUM]
    records = [frame_record(PLAIN, FIRST + at, 0, each) for at, each in enumerate(payloads)]
    entries = run_of(records, [PLAIN] * 3)
    data = b"".join(records)
    kinds = _core.check_frames(data, entries, ORIGIN, FIRST, 0)
    assert kinds.tolist() == [GOOD] * 3
    size = len(PLAIN)
    copies = np.array([(at, 0, size, at * size) for at in range(3)], np.uint64)
    dst = bytearray(3 * size)
    args = (data, entries, 0, copies, dst, bytearray(size), kinds)
    assert _core.open_frames(zstdcalls.decompressor(), *args) == 2
    assert kinds.tolist() == [GOOD, PAYLOAD, GOOD]
    assert dst[:size] == PLAIN == dst[2 * size :]


@pytest.mark.parametrize("size", [255, 256, 257, 65_791, 65_792, 70_000])
def test_every_form_of_a_content_size(size: int) -> None:
    """And a codec that is not known, and a stored frame."""
    plain = b"p" * size
    records = [frame_record(plain, FIRST, 0), frame_record(plain, FIRST + 1, 0, plain)]
    records.append(frame_record(plain, FIRST + 2, 0, plain))
    stored = bytearray(records[1])
    stored[5] = 0
    records[1] = bytes(stored)
    unknown = bytearray(records[2])
    unknown[5] = 2
    records[2] = bytes(unknown)
    entries = run_of(records, [plain] * 3)
    kinds = np.zeros(3, np.uint8)
    copies = np.array([(0, 0, size, 0), (1, 0, size, size)], np.uint64)
    dst = bytearray(2 * size)
    args = (b"".join(records), entries, 0, copies, dst, bytearray(size), kinds)
    assert _core.open_frames(zstdcalls.decompressor(), *args) == 2
    assert dst == plain * 2
    assert kinds.tolist() == [GOOD, GOOD, PAYLOAD]


@pytest.mark.parametrize(
    ("copies", "room"),
    [
        ([(3, 0, 1, 0)], 153), ([(1, 0, 1, 0), (0, 0, 1, 0)], 153), ([(0, 0, 154, 0)], 153),
        ([(0, 1, 153, 0)], 153), ([(0, 0, 153, 848)], 153), ([(0, 0, 2**64 - 1, 0)], 153),
        ([(0, 2**64 - 1, 2, 0)], 153), ([], 152),
    ],
)  # fmt: skip
def test_copies_outside_are_refused(copies: list[tuple[int, ...]], room: int) -> None:
    records = [frame_record(PLAIN, FIRST + at, 0) for at in range(3)]
    entries, dst = run_of(records, [PLAIN] * 3), bytearray(1000)
    rows = np.array([(0, 0, 153, 0), *copies], np.uint64)
    args = (b"".join(records), entries, 0, rows, dst, bytearray(room), np.zeros(3, np.uint8))
    with pytest.raises(ValueError):
        _core.open_frames(zstdcalls.decompressor(), *args)
    assert dst == bytes(1000)


def test_records_outside_are_refused() -> None:
    records = [frame_record(PLAIN, FIRST + at, 0) for at in range(3)]
    entries, data = run_of(records, [PLAIN] * 3), b"".join(records)
    dst, scratch, kinds = bytearray(9), bytearray(200), np.zeros(3, np.uint8)
    empty = np.empty((0, 4), np.uint64)
    codec = zstdcalls.decompressor()
    assert _core.open_frames(codec, data, entries, 0, empty, dst, scratch, kinds) == 3
    for wrong in (data[:-1], b""):
        with pytest.raises(ValueError):
            _core.check_frames(wrong, entries, ORIGIN, FIRST, 0)
        with pytest.raises(ValueError):
            _core.open_frames(codec, wrong, entries, 0, empty, dst, scratch, kinds)
    entries["offset"][1] = 0
    with pytest.raises(ValueError):
        _core.check_frames(data, entries, ORIGIN, FIRST, 0)
    with pytest.raises(ValueError):
        _core.check_frames(data, entries[:1], ORIGIN[1:], FIRST, 0)
    with pytest.raises(ValueError, match="shape"):
        _core.open_frames(codec, data, entries, 0, empty[:, :2], dst, scratch, kinds)


@given(st.tuples(st.integers(1, 3000), st.booleans()), st.data())
def test_one_frame_is_read_with_one_call(size: tuple[int, bool], draw: st.DataObject) -> None:
    """It says of a record what the two calls say, and decodes the same bytes."""
    plain = plain_of(*size)
    record = bytearray(frame_record(plain, FIRST, 0))
    entries = run_of([bytes(record)], [plain])
    place = draw.draw(st.none() | st.integers(0, len(record) - 1))
    if place is not None:
        record[place] ^= draw.draw(st.integers(1, 255))
    data, dst, scratch = bytes(record) + b"more", bytearray(3000), bytearray(3000)
    found = _core.read_frame(zstdcalls.decompressor(), data, entries.tobytes(), ORIGIN, FIRST, dst)
    kinds = _core.check_frames(data, entries, ORIGIN, FIRST, 0)
    copies, wanted = np.array([(0, 0, len(plain), 0)], np.uint64), bytearray(3000)
    args = (data, entries, 0, copies, wanted, scratch, kinds)
    _core.open_frames(zstdcalls.decompressor(), *args)
    assert found == kinds[0]
    assert (found == GOOD) == (place is None)
    if found == GOOD:
        assert dst == wanted == plain + bytes(3000 - len(plain))


@pytest.mark.parametrize("name", BAD)
def test_one_payload_that_the_core_does_not_decode(name: str) -> None:
    record = frame_record(PLAIN, FIRST, 0, BAD[name])
    entry = run_of([record], [PLAIN]).tobytes()
    args = (record, entry, ORIGIN, FIRST, bytearray(len(PLAIN)))
    assert _core.read_frame(zstdcalls.decompressor(), *args) == PAYLOAD


def test_one_frame_with_wrong_lengths_is_refused() -> None:
    record = frame_record(PLAIN, FIRST, 0)
    entry, dst = run_of([record], [PLAIN]).tobytes(), bytearray(len(PLAIN))
    shared = bytearray(record)
    wrong: list[tuple[object, ...]] = [
        (record[:-1], entry, ORIGIN, FIRST, dst),
        (record, entry[:-1], ORIGIN, FIRST, dst),
        (record, entry, ORIGIN[:-1], FIRST, dst),
        (record, entry, ORIGIN, FIRST, dst[:-1]),
        (shared, entry, ORIGIN, FIRST, memoryview(shared)[: len(PLAIN)]),
    ]
    for args in wrong:
        with pytest.raises(ValueError):
            _core.read_frame(zstdcalls.decompressor(), *args)  # type: ignore[arg-type]
    assert dst == bytes(len(PLAIN))
    args = (record, entry, ORIGIN, FIRST, dst)
    assert _core.read_frame(zstdcalls.decompressor(), *args) == GOOD
    assert dst == PLAIN
