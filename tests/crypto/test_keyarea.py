"""The key area's twins and gates (docs/format.md, 4.2 and 4.3)."""

from __future__ import annotations

import struct
import time

import pytest
from cryptography.hazmat.primitives.kdf import argon2
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import AipImageError, FormatError, IntegrityError, LimitError, UnsupportedError
from aipimage.format.digest import digest
from aipimage.format.keyarea import (
    KeyArea,
    Slot,
    choose_copy,
    decode_key_area,
    decode_slot,
    encode_key_area,
    encode_slot,
    is_whole,
)
from tests.crypto.made import CHAIN_ID, OTHER_ID, area_of
from tests.support.soon import SOON


def a_slot(**changes: object) -> Slot:
    values: dict[str, object] = {
        "state": 1,
        "memory": 8192,
        "passes": 1,
        "lanes": 1,
        "salt": b"s" * 16,
        "created": 5,
        "label": "home",
        "commitment": b"c" * 32,
        "nonce": b"n" * 12,
        "wrapped": b"w" * 48,
    }
    return Slot(**(values | changes))  # type: ignore[arg-type]


def resealed(data: bytes) -> bytes:
    """Put the right digest on changed bytes, so that the checks behind it are reached."""
    return data[:4064] + digest(data[:4064])


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return resealed(data[:at] + value + data[at + len(value) :])


slots = st.builds(
    Slot,
    state=st.sampled_from((1, 2)),
    memory=st.integers(8192, 78_643),
    passes=st.integers(1, 10),
    lanes=st.integers(1, 16),
    salt=st.binary(min_size=16, max_size=16),
    created=st.integers(-(2**63), 2**63 - 1),
    label=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6),
    commitment=st.binary(min_size=32, max_size=32),
    nonce=st.binary(min_size=12, max_size=12),
    wrapped=st.binary(min_size=48, max_size=48),
)


@given(
    st.integers(1, 2**64 - 1),
    st.binary(min_size=16, max_size=16),
    st.lists(st.none() | slots, min_size=8, max_size=8),
)
def test_decode_is_the_inverse_of_encode(
    generation: int, chain_id: bytes, each: list[Slot | None]
) -> None:
    area = KeyArea(generation, chain_id, tuple(each))
    data = encode_key_area(area)
    assert len(data) == 4096
    assert decode_key_area(data, chain_id) == area
    assert encode_key_area(decode_key_area(data, chain_id)) == data


@given(st.binary(min_size=256, max_size=256), st.booleans())
def test_any_slot_bytes_give_a_typed_error_or_the_same_bytes(data: bytes, tame: bool) -> None:
    if tame:
        data = encode_slot(a_slot())[:16] + data[16:40] + bytes(24) + data[64:156] + bytes(100)
    try:
        slot = decode_slot(data)
    except AipImageError:
        return
    assert encode_slot(slot) == data


def test_every_reserved_byte_is_checked() -> None:
    data = encode_key_area(area_of(a_slot()))
    reserved = [*range(32 + 2, 32 + 4), *range(32 + 156, 32 + 256), *range(2080, 4064)]
    for at in reserved:
        with pytest.raises(FormatError):
            decode_key_area(patched(data, at, b"\x01"), CHAIN_ID)


def test_every_byte_of_a_free_slot_is_checked() -> None:
    data = encode_key_area(area_of(None))
    for at in range(32, 32 + 256):
        with pytest.raises(FormatError):
            decode_key_area(patched(data, at, b"\x80"), CHAIN_ID)


def test_every_flipped_bit_is_seen() -> None:
    data = encode_key_area(area_of(a_slot()))
    for bit in range(4096 * 8):
        flipped = bytearray(data)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        assert not is_whole(bytes(flipped))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 4064, 4095, 4097])
def test_a_wrong_length_is_not_whole(length: int) -> None:
    data = encode_key_area(area_of(a_slot())) + b"\0"
    assert not is_whole(data[:length])


@pytest.mark.parametrize(
    ("at", "values"),
    [
        (4, (0, 1, 8191, 1_048_577, 2**31 - 1, 2**31, 2**32 - 1)),
        (8, (0, 11, 2**31 - 1, 2**31, 2**32 - 1)),
        (12, (0, 17, 2**31, 2**32 - 1)),
    ],
)
def test_class_25_key_derivation_bomb(
    at: int, values: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cost beyond the caps is refused before anything is derived."""
    monkeypatch.setattr(argon2, "Argon2id", None)
    data = encode_key_area(area_of(a_slot()))
    for value in values:
        began = time.process_time()
        with pytest.raises(LimitError):
            decode_key_area(patched(data, 32 + at, struct.pack("<I", value)), CHAIN_ID)
        assert time.process_time() - began < SOON


def test_class_25_many_slot_bomb() -> None:
    """Each slot is within its caps, all together are not."""
    costly = a_slot(memory=786_432, passes=1, lanes=1)
    data = encode_key_area(area_of(*[costly] * 8))
    assert decode_key_area(data, CHAIN_ID).slots == (costly,) * 8
    over = patched(data, 32 + 8, struct.pack("<I", 2))
    with pytest.raises(LimitError, match="at most 6291456"):
        decode_key_area(over, CHAIN_ID)
    with pytest.raises(LimitError):
        encode_key_area(area_of(*[a_slot(memory=1_048_576, passes=3)] * 8))


def test_boundaries_that_are_allowed() -> None:
    for changes in (
        {"memory": 1_048_576, "passes": 10, "lanes": 16},
        {"memory": 8192, "lanes": 16},
        {"label": "é" * 12},
        {"created": -(2**63)},
        {"created": 2**63 - 1},
    ):
        slot = a_slot(**changes)
        assert decode_slot(encode_slot(slot)) == slot


@pytest.mark.parametrize("state", [0, 3, 255])
def test_unknown_state(state: int) -> None:
    data = bytes([state]) + encode_slot(a_slot())[1:]
    with pytest.raises(FormatError, match="state"):
        decode_slot(data)


@pytest.mark.parametrize("kdf", [0, 2, 255])
def test_unknown_derivation(kdf: int) -> None:
    data = encode_slot(a_slot())
    with pytest.raises(UnsupportedError, match="derivation"):
        decode_slot(data[:1] + bytes([kdf]) + data[2:])


@pytest.mark.parametrize("label", [b"\xff", b"a\0b", b"\xc3", b"\xed\xa0\x80"])
def test_a_label_that_is_no_padded_utf8(label: bytes) -> None:
    data = encode_slot(a_slot())
    with pytest.raises(FormatError, match="label"):
        decode_slot(data[:40] + label.ljust(24, b"\0") + data[64:])


def test_magic_generation_and_chain() -> None:
    data = encode_key_area(area_of(a_slot()))
    for changed in (patched(data, 0, b"AIVKEYS2"), patched(data, 8, bytes(8))):
        with pytest.raises(FormatError):
            decode_key_area(changed, CHAIN_ID)
    with pytest.raises(FormatError, match="another chain"):
        decode_key_area(data, OTHER_ID)


def test_the_newer_whole_copy_is_chosen() -> None:
    old = encode_key_area(area_of(a_slot(), generation=1))
    new = encode_key_area(area_of(a_slot(label="new"), generation=2))
    torn = new[:2048] + old[2048:]
    assert choose_copy(old, old, CHAIN_ID)[1] == ()
    for copies, generation, damaged in (
        ((old, new), 2, ()),
        ((new, old), 2, ()),
        ((torn, old), 1, (0,)),
        ((old, torn), 1, (1,)),
        ((new, b""), 2, (1,)),
    ):
        area, found = choose_copy(*copies, CHAIN_ID)
        assert (area.generation, found) == (generation, damaged)


def test_no_whole_copy_is_refused() -> None:
    torn = encode_key_area(area_of(a_slot()))[:-1] + b"\0"
    with pytest.raises(IntegrityError, match="both copies"):
        choose_copy(torn, b"", CHAIN_ID)


def test_a_hostile_copy_with_a_right_digest_is_refused() -> None:
    """It is no torn write, so the other copy does not excuse it."""
    good = encode_key_area(area_of(a_slot()))
    bomb = patched(good, 32 + 4, struct.pack("<I", 2**32 - 1))
    for copies in ((good, bomb), (bomb, good)):
        with pytest.raises(LimitError):
            choose_copy(*copies, CHAIN_ID)


def test_contradicting_copies_of_one_generation() -> None:
    first, second = (encode_key_area(area_of(a_slot(label=label))) for label in "ab")
    area, damaged = choose_copy(first, second, CHAIN_ID)
    assert area.slots[0] == a_slot(label="a")
    assert damaged == (1,)


@pytest.mark.parametrize(
    "changes", [{"salt": b"short"}, {"label": "x" * 25}, {"label": "a\0b"}, {"wrapped": b""}]
)
def test_our_own_mistakes_are_internal_errors(changes: dict[str, object]) -> None:
    with pytest.raises(RuntimeError, match="internal error"):
        encode_slot(a_slot(**changes))
