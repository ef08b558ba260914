"""Listing and changing the passwords of an image (docs/format.md, 4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aipimage.errors import (
    AipImageError,
    FormatError,
    IntegrityError,
    PasswordError,
    RequestError,
    TargetError,
)
from aipimage.format.header import Header, decode_core, decode_core_length, encode_core
from aipimage.format.keyarea import choose_copy
from aipimage.format.parts import PartHeader, encode_part_header
from aipimage.io.records.keys import unlock
from aipimage.io.stream import passwords
from aipimage.io.system.storage import DEFAULT
from tests.crypto.made import (
    CHAIN_ID,
    CHEAP,
    FILE_ID,
    OTHER_ID,
    area_of,
    chain_keys,
    image_bytes,
    slot_for,
    write_image,
)

add_password = partial(passwords.add_password, parameters=CHEAP)
change_password = partial(passwords.change_password, parameters=CHEAP)
add_recovery_key = partial(passwords.add_recovery_key, parameters=CHEAP)
remove_password, list_slots = passwords.remove_password, passwords.list_slots


def copies(path: Path, at: int = 0) -> tuple[bytes, bytes, Header]:
    data = path.read_bytes()[at:]
    length = decode_core_length(data)
    return (
        data[length : length + 4096],
        data[length + 4096 : length + 8192],
        decode_core(data[:length]),
    )


def opens(path: Path, password: str, at: int = 0) -> bool:
    copy0, copy1, header = copies(path, at)
    area, _ = choose_copy(copy0, copy1, CHAIN_ID)
    try:
        keys = unlock(area, password, CHAIN_ID, header.key_commitment, suite=header.suite)
    except PasswordError:
        return False
    assert keys.key_commitment() == chain_keys().key_commitment()
    return True


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "disk.aiv", "first")


def test_list_needs_no_password(tmp_path: Path) -> None:
    slots = slot_for("a", label="laptop"), None, slot_for("b", state=2)
    path = tmp_path / "disk.aiv"
    path.write_bytes(image_bytes(area_of(*slots)))
    first, second = list_slots(path)
    assert (first.index, first.state, first.label) == (0, "password", "laptop")
    assert (second.index, second.state, second.label) == (2, "recovery", "")
    assert (first.memory, first.passes, first.lanes) == (8192, 1, 1)
    assert first.created == slots[0].created


@pytest.mark.parametrize("split", [False, True])
def test_life_of_passwords(tmp_path: Path, split: bool) -> None:
    path, at = tmp_path / "disk.aiv", 128 if split else 0
    write_image(path, "first", split=split)
    before = path.read_bytes()
    assert add_password(path, "first", "second", label="office") == 1
    assert opens(path, "first", at)
    assert opens(path, "second", at)
    change_password(path, "first", "third")
    assert not opens(path, "first", at)
    assert opens(path, "third", at)
    recovery = add_recovery_key(path, "second")
    assert opens(path, recovery, at)
    assert [slot.state for slot in list_slots(path)] == ["password", "password", "recovery"]
    remove_password(path, recovery, 1)
    assert not opens(path, "second", at)
    remove_password(path, "third", 2)
    assert not opens(path, recovery, at)
    assert [slot.index for slot in list_slots(path)] == [0]

    copy0, copy1, header = copies(path, at)
    assert copy0 == copy1
    assert choose_copy(copy0, copy1, CHAIN_ID)[0].generation == 6
    after, areas = path.read_bytes(), slice(at + header.core_length, at + header.records_start)
    assert len(after) == len(before)
    assert after[: areas.start] == before[: areas.start]
    assert after[areas.stop :] == before[areas.stop :]


def test_a_change_keeps_the_label(image: Path) -> None:
    add_password(image, "first", "second", label="office")
    change_password(image, "second", "third")
    assert [slot.label for slot in list_slots(image)] == ["", "office"]


@pytest.mark.parametrize(
    "action",
    [
        lambda path: add_password(path, "wrong", "new"),
        lambda path: change_password(path, "wrong", "new"),
        lambda path: remove_password(path, "wrong", 0),
        lambda path: add_recovery_key(path, "wrong"),
        lambda path: add_password(path, "first", ""),
        lambda path: change_password(path, "first", ""),
    ],
)
def test_wrong_or_empty_passwords_change_nothing(
    image: Path, action: Callable[[Path], object]
) -> None:
    before = image.read_bytes()
    with pytest.raises(PasswordError, match=r"disk\.aiv: "):
        action(image)
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda path: remove_password(path, "first", 0), "only one|last one"),
        (lambda path: remove_password(path, "first", 3), "not in use"),
        (lambda path: remove_password(path, "first", -1), "not in use"),
        (lambda path: remove_password(path, "first", 8), "not in use"),
        (lambda path: change_password(path, "first", "first"), "already"),
        (lambda path: add_password(path, "first", "first"), "already"),
        (lambda path: add_password(path, "first", "x", label="x" * 25), "label"),
    ],
)
def test_requests_that_cannot_be_met(
    image: Path, action: Callable[[Path], object], message: str
) -> None:
    before = image.read_bytes()
    with pytest.raises(RequestError, match=message):
        action(image)
    assert image.read_bytes() == before


def test_the_password_given_stays(tmp_path: Path) -> None:
    path = write_image(tmp_path / "disk.aiv", "a", "b")
    with pytest.raises(RequestError, match="one that stays"):
        remove_password(path, "a", 0)
    remove_password(path, "b", 0)
    assert not opens(path, "a")


def test_all_slots_in_use(tmp_path: Path) -> None:
    path = write_image(tmp_path / "disk.aiv", *"abcdefgh")
    with pytest.raises(RequestError, match="in use"):
        add_password(path, "h", "new")
    change_password(path, "h", "new")
    assert opens(path, "new")


def test_a_password_in_two_slots_is_changed_in_both(tmp_path: Path) -> None:
    path = write_image(tmp_path / "disk.aiv", "same", "other", "same")
    change_password(path, "same", "new")
    assert not opens(path, "same")
    assert opens(path, "new")
    assert opens(path, "other")


def test_a_recovery_key_is_not_changed_into_a_password(image: Path) -> None:
    key = add_recovery_key(image, "first")
    with pytest.raises(RequestError, match="recovery key"):
        change_password(image, key, "new")
    add_password(image, key, "new")
    assert opens(image, "new")


def test_a_plain_image_has_no_passwords(tmp_path: Path) -> None:
    path = tmp_path / "plain.aiv"
    path.write_bytes(encode_core(Header(FILE_ID, CHAIN_ID, 0)) + bytes(10_000))
    for action in (list_slots, partial(add_recovery_key, password="x")):
        with pytest.raises(RequestError, match="not protected"):
            action(path)


def test_only_the_first_part_has_them(tmp_path: Path) -> None:
    path = tmp_path / "disk.aiv.002"
    path.write_bytes(encode_part_header(PartHeader(FILE_ID, 2, 999)) + bytes(20_000))
    with pytest.raises(RequestError, match="part 2"):
        list_slots(path)
    foreign = encode_part_header(PartHeader(OTHER_ID, 1, 0))
    path.write_bytes(foreign + image_bytes(area_of(slot_for("x"))))
    with pytest.raises(FormatError, match="another image"):
        list_slots(path)


def test_every_truncation_is_refused(image: Path) -> None:
    data = image.read_bytes()
    end = copies(image)[2].records_start
    for length in [*range(300), *range(300, end, 97), end - 1, end]:
        image.write_bytes(data[:length])
        for action in (list_slots, partial(change_password, password="first", new_password="x")):
            with pytest.raises(AipImageError):
                action(image)
        assert image.read_bytes() == data[:length]


def test_a_tampered_header_is_not_rewrapped(image: Path) -> None:
    """The digest is made anew, the MAC cannot be."""
    data = image.read_bytes()
    length = decode_core_length(data)
    header = decode_core(data[:length])
    image.write_bytes(encode_core(replace(header, created=99), header.header_mac) + data[length:])
    with pytest.raises(IntegrityError, match="header"):
        change_password(image, "first", "new")


def test_the_last_generation(tmp_path: Path) -> None:
    path = tmp_path / "disk.aiv"
    path.write_bytes(image_bytes(area_of(slot_for("a"), generation=2**64 - 1)))
    with pytest.raises(FormatError, match="generation"):
        change_password(path, "a", "b")


def test_two_writers_do_not_meet(image: Path) -> None:
    with DEFAULT.open_update(image) as other:
        assert other.lock()
        with pytest.raises(TargetError):
            change_password(image, "first", "new")
    change_password(image, "first", "new")


@pytest.mark.parametrize("broken", [0, 1])
def test_a_damaged_copy_is_replaced(image: Path, broken: int) -> None:
    data = bytearray(image.read_bytes())
    data[decode_core_length(data) + broken * 4096 + 100] ^= 1
    image.write_bytes(data)
    change_password(image, "first", "new")
    copy0, copy1, _ = copies(image)
    assert copy0 == copy1
    assert opens(image, "new")
