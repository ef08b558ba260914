"""Records that lie one after the other: record_ends, check_records, finish_records, blake3_chain;
and the sizes of the format in C.
"""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from aipimage import _core
from aipimage._native import lib
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.record import RecordHeader, encode_record_header
from aipimage.format.tables import FRAME_ENTRY_DTYPE
from tests.core.twins import bits_of

BODIES = st.lists(st.binary(min_size=1, max_size=90), max_size=9)


def record(body: bytes, kind: int = 1) -> bytes:
    """A whole record with some body."""
    head = encode_record_header(RecordHeader(kind, 0, 0, len(body), len(body), bytes(16), 7))
    return head + body + digest(head + body)[:16]


def test_the_sizes_are_those_of_the_format() -> None:
    assert SECTOR == lib.AIP_SECTOR
    assert FRAME_ENTRY_DTYPE.itemsize == lib.AIP_FRAME_ENTRY
    for name in ("RECORD_HEADER", "CHECK", "TAG", "FRAME_EXTENT", "BODY_MAX", "PLAIN_MAX"):
        assert getattr(lib, f"AIP_{name}") == getattr(c, name), name
    assert (lib.AIP_BLOCK, lib.AIP_BLOCK_DIGEST) == (c.BLOCK, c.BLOCK_DIGEST)


@given(BODIES, st.integers(0, 12), st.integers(0, 120))
def test_ends_are_those_of_whole_records(bodies: list[bytes], most: int, cut: int) -> None:
    records = [record(body) for body in bodies]
    data = b"".join(records)
    data = data[: max(0, len(data) - cut)]
    wanted = [end for end in np.cumsum([len(each) for each in records]) if end <= len(data)][:most]
    ends, stop, is_bad = _core.record_ends(data, most)
    assert ends.tolist() == wanted
    assert (stop, is_bad) == (wanted[-1] if wanted else 0, False)


@pytest.mark.parametrize("body", [0, c.BODY_MAX + 1, 2**32 - 1])
@pytest.mark.parametrize("before", [0, 2])
def test_what_is_no_record_is_told(body: int, before: int) -> None:
    good = record(b"body") * before
    for bad in (record(b"body").replace(b"AIVR", b"AIVS"), bytes(40)):
        ends, stop, is_bad = _core.record_ends(good + bad, 9)
        assert (len(ends), stop, is_bad) == (before, len(good), True)
    head = encode_record_header(RecordHeader(1, 0, 0, body, 1, bytes(16), 0))
    assert _core.record_ends(good + head, 9)[2]
    largest = encode_record_header(RecordHeader(1, 0, 0, c.BODY_MAX, 1, bytes(16), 0))
    assert not _core.record_ends(good + largest, 9)[2]


@given(BODIES, st.data())
def test_checks_are_compared(bodies: list[bytes], draw: st.DataObject) -> None:
    records = [bytearray(record(body, 1 + at % 12)) for at, body in enumerate(bodies)]
    damaged = draw.draw(st.lists(st.booleans(), min_size=len(bodies), max_size=len(bodies)))
    for each, is_damaged in zip(records, damaged, strict=True):
        if is_damaged:
            each[draw.draw(st.integers(0, len(each) - 1))] ^= draw.draw(st.integers(1, 255))
    ends = np.cumsum([len(each) for each in records], dtype=np.uint64)
    digests, types, bad = _core.check_records(b"".join(records), ends)
    assert [each.tobytes() for each in digests] == [digest(each[:-16]) for each in records]
    assert types.tolist() == [each[4] for each in records]
    assert bits_of(bad.tobytes(), len(records)).tolist() == [int(each) for each in damaged]


def test_more_records_than_are_digested_together() -> None:
    """And of those a bad one at each end of a group."""
    records = [record(bytes([at % 251]) * (at % 70 + 1)) for at in range(600)]
    wrong = {0, 255, 256, 511, 512, 599}
    data = b"".join(
        each[:-1] + bytes([each[-1] ^ (at in wrong)]) for at, each in enumerate(records)
    )
    digests, _, bad = _core.check_records(data, np.cumsum([len(each) for each in records]))
    assert set(np.flatnonzero(bits_of(bad.tobytes(), 600)).tolist()) == wrong
    assert digests[300].tobytes() == digest(records[300][:-16])


@pytest.mark.parametrize("ends", [[56], [57, 113], [57, 50], [200], [2**64 - 1], [57, 57]])
def test_ends_outside_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError):
        _core.check_records(bytes(150), np.array(ends, np.uint64))


@given(BODIES, st.binary(max_size=20))
def test_finishing_writes_digests_and_checks(bodies: list[bytes], before: bytes) -> None:
    records = [record(body) for body in bodies]
    data = bytearray(before + b"".join(each[:-16] + bytes(16) for each in records))
    entries = np.zeros(len(records), FRAME_ENTRY_DTYPE)
    entries["record_length"] = [len(each) for each in records]
    ends = np.cumsum(entries["record_length"], dtype=np.uint64)
    entries["offset"] = len(before) + ends - entries["record_length"]
    _core.finish_records(data, entries)
    assert data == before + b"".join(records)
    found = [bytes(each) for each in entries["digest"].tolist()]
    assert found == [digest(each[:-16]) for each in records]


@pytest.mark.parametrize(("offset", "length"), [(1, 100), (0, 56), (2**64 - 8, 60), (101, 57)])
def test_finishing_outside_is_refused(offset: int, length: int) -> None:
    entries = np.zeros(2, FRAME_ENTRY_DTYPE)
    entries[0] = (0, 57, 1, bytes(32))
    entries[1] = (offset, length, 1, bytes(32))
    data = bytearray(100)
    with pytest.raises(ValueError):
        _core.finish_records(data, entries)
    assert data == bytes(100)


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(min_size=32, max_size=32)))
def test_a_chain_of_digests(value: bytes, digests: list[bytes]) -> None:
    wanted = value
    for each in digests:
        wanted = blake3(wanted + each).digest()
    assert _core.blake3_chain(value, b"".join(digests)) == wanted


@pytest.mark.parametrize(("value", "digests"), [(31, 32), (33, 0), (0, 0), (32, 33)])
def test_a_chain_of_wrong_lengths_is_refused(value: int, digests: int) -> None:
    with pytest.raises(ValueError):
        _core.blake3_chain(bytes(value), bytes(digests))
