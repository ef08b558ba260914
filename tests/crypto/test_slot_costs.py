"""What trying the slots of a key area may cost (docs/format.md, 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from aipimage.errors import LimitError, PasswordError, RequestError
from aipimage.format.digest import digest
from aipimage.format.keyarea import (
    MEMORY_MAX,
    SLOTS,
    WORK_MAX,
    KeyArea,
    Slot,
    decode_key_area,
    encode_key_area,
    encode_slot,
)
from aipimage.io.records import keys
from aipimage.io.records.keys import (
    DEFAULT_PARAMETERS,
    Argon2Parameters,
    open_slot,
    slots_opened_by,
)
from aipimage.io.stream.passwords import add_password, add_recovery_key, change_password, list_slots
from tests.crypto.made import CHAIN_ID, CHEAP, area_of, chain_keys, image_bytes, slot_for

COMMITMENT = chain_keys().key_commitment()


def with_cost(slot: Slot, memory: int, passes: int) -> Slot:
    """The same slot, which says that it costs more: nothing opens it any more."""
    return Slot(**{**vars(slot), "memory": memory, "passes": passes})


def encoded(*slots: Slot) -> bytes:
    """A key area that no encoder here would write."""
    plain = encode_key_area(area_of())
    body = plain[:32] + b"".join(map(encode_slot, slots)) + bytes(256 * (SLOTS - len(slots)))
    body += plain[len(body) : 4064]
    return body + digest(body)


@pytest.fixture
def derived() -> Iterator[list[tuple[int, int]]]:
    """(memory, passes) of every derivation that is begun; costly ones are not done."""
    found: list[tuple[int, int]] = []
    real = keys._slot_keys

    def counting(slot: Slot, secret: bytes, chain_id: bytes) -> tuple[bytes, bytes]:
        found.append((slot.memory, slot.passes))
        if slot.memory * slot.passes > 100_000:
            return bytes(32), bytes(32)
        return real(slot, secret, chain_id)

    with mock.patch.object(keys, "_slot_keys", counting):
        yield found


def test_eight_costly_slots_are_refused_before_anything_is_derived(derived: list) -> None:
    slot = with_cost(slot_for("a"), 1_048_576, 2)
    derived.clear()
    with pytest.raises(LimitError, match="85 times the recommended cost") as caught:
        decode_key_area(encoded(*[slot] * 8), CHAIN_ID)
    assert str(WORK_MAX) in str(caught.value)
    assert derived == []


def test_what_people_use_is_possible() -> None:
    """Eight slots of the recommended cost, and one of 1 GiB and four passes beside seven."""
    usual = with_cost(slot_for("a"), DEFAULT_PARAMETERS.memory, DEFAULT_PARAMETERS.passes)
    strong = with_cost(usual, 1_048_576, 4)
    for slots in ([usual] * 8, [strong], [strong, *[usual] * 7]):
        assert decode_key_area(encoded(*slots), CHAIN_ID).slots[0] is not None
    for slots in ([strong, strong], [with_cost(usual, 1_048_576, 10)]):
        with pytest.raises(LimitError):
            decode_key_area(encoded(*slots), CHAIN_ID)


def test_the_bound_is_exact() -> None:
    slot = with_cost(slot_for("a"), 1_048_576, 5)
    last = WORK_MAX - 5 * 1_048_576
    decode_key_area(encoded(slot, with_cost(slot, last, 1)), CHAIN_ID)
    with pytest.raises(LimitError):
        decode_key_area(encoded(slot, with_cost(slot, last // 2 + 1, 2)), CHAIN_ID)


def test_the_cheapest_slot_is_tried_first(derived: list) -> None:
    """Whoever knows a password of a cheap slot does not pay for those before it."""
    mine = slot_for("mine")
    costly = with_cost(slot_for("other"), 65_536, 3)
    area = KeyArea(1, CHAIN_ID, (costly, costly, None, mine, None, None, None, None))
    derived.clear()
    assert open_slot(area, "mine", CHAIN_ID, COMMITMENT).index == 3
    assert derived == [(mine.memory, mine.passes)]
    derived.clear()
    with pytest.raises(PasswordError):
        open_slot(area, "wrong", CHAIN_ID, COMMITMENT)
    assert len(derived) == 3
    assert derived[0] == (mine.memory, mine.passes)


def test_all_slots_that_open_are_told_in_their_order() -> None:
    first, second = slot_for("same"), slot_for("same")
    assert slots_opened_by([first, None, second], "same", CHAIN_ID, COMMITMENT) == [0, 2]


def test_a_slot_over_the_bound_is_refused_before_it_is_derived(
    derived: list, tmp_path: Path
) -> None:
    """The set of passwords stays as it is; one that still fits is taken."""
    mine, other = slot_for("a"), slot_for("x")
    left = WORK_MAX - 5 * MEMORY_MAX - 2 * CHEAP.memory
    costly = [with_cost(other, MEMORY_MAX, 1), with_cost(other, MEMORY_MAX, 4)]
    path = tmp_path / "disk.aiv"
    path.write_bytes(image_bytes(area_of(mine, *costly, with_cost(other, left, 1))))
    before = path.read_bytes()
    dearer, twice = (Argon2Parameters(cost, 1, 1) for cost in (8193, 16_385))
    for call in (
        lambda: add_password(path, "a", "b", parameters=dearer),
        lambda: add_recovery_key(path, "a", parameters=dearer),
        lambda: change_password(path, "a", "b", parameters=twice),
    ):
        derived.clear()
        with pytest.raises(RequestError, match=f"^{path}: .*remove a password") as caught:
            call()
        assert str(WORK_MAX) in str(caught.value)
        assert path.read_bytes() == before
        assert {8193, 16_385}.isdisjoint(memory for memory, _ in derived)
    assert add_password(path, "a", "b", parameters=CHEAP) == 4
    assert len(list_slots(path)) == 5
