"""Passwords, slots and keys (docs/format.md, 4.1 to 4.5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers import aead
from cryptography.hazmat.primitives.kdf import argon2

from aipimage.errors import IntegrityError, PasswordError, RequestError
from aipimage.format.header import Header, encode_core, encode_core_body
from aipimage.format.keyarea import KeyArea, Slot
from aipimage.io.records import keys
from aipimage.io.records.keys import ChainKeys, Suite, generate_recovery_key, normalised, unlock
from tests.crypto.made import (
    CHAIN_ID,
    CHAIN_KEY,
    CHEAP,
    FILE_ID,
    OTHER_ID,
    SUITES,
    area_of,
    chain_keys,
    slot_for,
)

COMMITMENT = chain_keys().key_commitment()


def opens(area: KeyArea, password: str, commitment: bytes = COMMITMENT) -> ChainKeys:
    return unlock(area, password, CHAIN_ID, commitment, suite=Suite.AES_256_GCM)


def refusal(area: KeyArea, password: str, commitment: bytes = COMMITMENT) -> str:
    with pytest.raises(PasswordError) as caught:
        opens(area, password, commitment)
    return str(caught.value)


def test_defaults_are_the_recommended_cost() -> None:
    default = keys.DEFAULT_PARAMETERS
    assert (default.memory, default.passes, default.lanes) == (65_536, 3, 4)
    slot = keys.wrap_chain_key("one at full cost", CHAIN_KEY, CHAIN_ID)
    assert (slot.memory, slot.passes, slot.lanes) == (65_536, 3, 4)
    assert opens(area_of(slot), "one at full cost").key_commitment() == COMMITMENT


def test_any_slot_opens() -> None:
    area = area_of(slot_for("first"), None, slot_for("third"))
    for password in ("first", "third"):
        assert opens(area, password).key_commitment() == COMMITMENT
    assert keys.open_slot(area, "third", CHAIN_ID, COMMITMENT).index == 2


@pytest.mark.parametrize("name", ["aes-128", "aes-256", "authenticate"])
def test_suite_names(name: str) -> None:
    suite = Suite.parse(name)
    assert suite.key_length == {"aes-128": 16}.get(name, 32)


def test_suite_parse_refuses_other_names() -> None:
    assert Suite.parse(None) is Suite.NONE
    for name in ("", "AES-256", "none", "aes-192"):
        with pytest.raises(RequestError, match="aes-256"):
            Suite.parse(name)


def test_normal_forms_are_one_password() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert normalised(composed) == normalised(decomposed) == b"caf\xc3\xa9"
    assert opens(area_of(slot_for(composed)), decomposed)
    # NFC, not NFKC: a ligature is not its letters.
    assert normalised("\ufb01") != normalised("fi")


@pytest.mark.parametrize("password", ["", "a\ud800b"])
def test_refused_passwords(password: str) -> None:
    with pytest.raises(PasswordError):
        slot_for(password)
    refusal(area_of(slot_for("x")), password)


@pytest.mark.parametrize("password", [b"bytes", None, 5, ["x"]])
def test_a_password_is_text(password: object) -> None:
    with pytest.raises(TypeError, match="is str"):
        normalised(password)  # type: ignore[arg-type]


def test_one_message_for_wrong_and_tampered() -> None:
    slot = slot_for("right")
    other = slot_for("right", bytes(32))
    flips = [
        replace(slot, **{name: bytes([getattr(slot, name)[0] ^ 1]) + getattr(slot, name)[1:]})
        for name in ("salt", "commitment", "nonce", "wrapped")
    ]
    flips += [
        replace(slot, label="other"),
        replace(slot, created=slot.created + 1),
        replace(slot, state=2),
        replace(slot, memory=8200),
        replace(slot, passes=2),
        replace(slot, lanes=2),
    ]
    messages = {refusal(area_of(each), "right") for each in [*flips, other]}
    messages.add(refusal(area_of(slot), "wrong"))
    messages.add(refusal(area_of(slot), "right", bytes(32)))
    messages.add(refusal(area_of(None), "right"))
    assert messages == {"the password is wrong, or the key slots were tampered with"}


def test_class_26_no_aead_before_the_commitment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that the AEAD would open for two passwords opens for the committed one only."""
    alice, bob = slot_for("alice"), slot_for("bob")
    calls: list[bytes] = []
    real = aead.AESGCMSIV

    class Watched:
        def __init__(self, key: bytes) -> None:
            self.inner = real(key)

        def decrypt(self, *arguments: bytes) -> bytes:
            calls.append(arguments[0])
            return self.inner.decrypt(*arguments)

    monkeypatch.setattr(aead, "AESGCMSIV", Watched)
    # All of Bob's slot, so that his AEAD opens it, under Alice's commitment.
    refusal(area_of(replace(bob, commitment=alice.commitment)), "bob")
    refusal(area_of(alice), "bob")
    assert calls == []
    assert opens(area_of(alice), "alice")
    assert len(calls) == 1


def test_class_26_a_file_opens_under_one_chain_key() -> None:
    """Two slots that give two chain keys: only the one that the header commits to counts."""
    area = area_of(slot_for("evil", bytes(32)), slot_for("good"))
    refusal(area, "evil")
    assert opens(area, "good")
    # One password in both slots: the wrong chain key is passed over.
    both = area_of(slot_for("same", bytes(32)), slot_for("same"))
    assert keys.open_slot(both, "same", CHAIN_ID, COMMITMENT).index == 1
    assert keys.slots_opened_by(both.slots, "same", CHAIN_ID, COMMITMENT) == [1]


def test_a_slot_of_another_chain_does_not_open() -> None:
    slot = keys.wrap_chain_key("x", CHAIN_KEY, OTHER_ID, parameters=CHEAP)
    refusal(area_of(slot), "x")


@pytest.mark.parametrize("suite", SUITES)
def test_header_mac(suite: Suite) -> None:
    header = Header(FILE_ID, CHAIN_ID, 0, suite=suite, incompatible=1)
    body = encode_core_body(header)
    core = encode_core(header, chain_keys(suite).header_mac(body))
    chain_keys(suite).verify_header_mac(core)
    for at in range(len(core) - 32):
        changed = core[:at] + bytes([core[at] ^ 1]) + core[at + 1 :]
        with pytest.raises(IntegrityError):
            chain_keys(suite).verify_header_mac(changed)
    with pytest.raises(IntegrityError):
        chain_keys(suite, bytes(32)).verify_header_mac(core)


def test_class_28_another_suite_gives_other_keys() -> None:
    """A header whose suite byte was changed neither passes its MAC nor opens a record."""
    body = bytes(32) + FILE_ID + bytes(72)
    macs = {chain_keys(suite).header_mac(body) for suite in SUITES}
    assert len(macs) == len(SUITES)
    header = Header(FILE_ID, CHAIN_ID, 0, suite=Suite.AES_256_GCM, incompatible=1)
    core = encode_core(header, chain_keys().header_mac(encode_core_body(header)))
    downgraded = core[:72] + bytes([Suite.AES_256_GMAC]) + core[73:]
    for suite in SUITES:
        with pytest.raises(IntegrityError):
            chain_keys(suite).verify_header_mac(downgraded)


def test_chain_keys_need_a_suite() -> None:
    for arguments in (
        (CHAIN_KEY, CHAIN_ID, Suite.NONE),
        (b"short", CHAIN_ID, Suite.AES_128_GCM),
        (CHAIN_KEY, b"", Suite.AES_128_GCM),
    ):
        with pytest.raises(RuntimeError, match="internal error"):
            ChainKeys(*arguments)


def test_ciphers_are_cached_by_origin() -> None:
    chain = chain_keys()
    assert chain.cipher(FILE_ID) is chain.cipher(bytes(FILE_ID))
    assert chain.cipher(FILE_ID) is not chain.cipher(OTHER_ID)


def test_recovery_keys() -> None:
    found = {generate_recovery_key() for _ in range(200)}
    assert len(found) == 200
    for key in found:
        groups = key.split("-")
        assert [len(group) for group in groups] == [4] * 7
        assert not set("01OIL") & set(key)
        assert key == key.upper()
    letters = set("".join(found)) - {"-"}
    assert len(letters) ** 28 > 2**128


def test_recovery_letters_are_equally_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(list(range(256)) * 40)
    monkeypatch.setattr(keys.entropy, "random_bytes", lambda count: bytes([next(values)]))
    text = "".join(generate_recovery_key() for _ in range(300)).replace("-", "")
    counts = {text.count(letter) for letter in set(text)}
    assert max(counts) - min(counts) <= 1


def test_two_slots_share_nothing_random() -> None:
    first, second = slot_for("same"), slot_for("same")
    for name in ("salt", "nonce", "commitment", "wrapped"):
        assert getattr(first, name) != getattr(second, name)


@pytest.mark.parametrize("label", ["x" * 25, "é" * 13, "a\nb", "\x1b[31m", "a\0", "\ud800"])
def test_labels_that_cannot_be_stored(label: str) -> None:
    with pytest.raises(RequestError, match="label"):
        slot_for("x", label=label)


def test_too_little_memory_is_a_request_error(monkeypatch: pytest.MonkeyPatch) -> None:
    slot: Slot = slot_for("x")

    class Exhausted:
        def __init__(self, **_: object) -> None: ...

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(argon2, "Argon2id", Exhausted)
    with pytest.raises(RequestError, match="8 MiB"):
        opens(area_of(slot), "x")
