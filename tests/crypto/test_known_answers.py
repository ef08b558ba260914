"""Keys and sealed records against values computed from the text of docs/format.md, section 4."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from aipimage.format.keyarea import encode_slot
from aipimage.io.records.keys import Suite
from tests.crypto.made import (
    CHAIN_ID,
    CHAIN_KEY,
    FILE_ID,
    OTHER_ID,
    SUITES,
    chain_keys,
    record,
    slot_for,
)
from tests.support.deterministic import deterministic


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-256, for at most 32 bytes."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def test_hkdf_of_this_file_against_rfc_5869_case_1() -> None:
    found = hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 32)
    assert found.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


def test_slot() -> None:
    slot = slot_for("pässword", label="laptop")
    data = encode_slot(slot)
    assert data[:4] == bytes((1, 1, 0, 0))
    assert [int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12)] == [8192, 1, 1]
    assert data[40:64] == b"laptop".ljust(24, b"\0")
    derived = Argon2id(salt=data[16:32], length=32, iterations=1, lanes=1, memory_cost=8192).derive(
        "pässword".encode()
    )
    assert data[64:96] == hkdf(derived, CHAIN_ID, b"aiv1 slot commitment", 32)
    wrap_key = hkdf(derived, CHAIN_ID, b"aiv1 slot wrap", 32)
    associated = b"aiv1 slot" + CHAIN_ID + data[:64]
    assert AESGCMSIV(wrap_key).decrypt(data[96:108], data[108:156], associated) == CHAIN_KEY
    assert data[156:] == bytes(100)


@pytest.mark.parametrize("suite", SUITES)
def test_derived_keys(suite: Suite) -> None:
    keys = chain_keys(suite)
    assert keys.key_commitment() == hkdf(CHAIN_KEY, CHAIN_ID, b"aiv1 chain commitment", 32)
    body = bytes(32) + FILE_ID + bytes(72)
    header_key = hkdf(CHAIN_KEY, FILE_ID, b"aiv1 header" + bytes([suite]), 32)
    assert keys.header_mac(body) == hmac.digest(header_key, body, "sha256")


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("kind", "purpose"), [(1, b"aiv1 data"), (2, b"aiv1 metadata"), (10, b"aiv1 metadata")]
)
def test_sealed_record(suite: Suite, kind: int, purpose: bytes) -> None:
    plain, number = b"sector" * 100, 0x0102030405060708
    header = record(len(plain), kind, number)
    sealed = bytearray(len(plain) + 16)
    chain_keys(suite).cipher(FILE_ID).seal_into(header, plain, memoryview(sealed))

    length = 16 if suite == Suite.AES_128_GCM else 32
    key = AESGCM(hkdf(CHAIN_KEY, FILE_ID, purpose + bytes([suite]), length))
    nonce = bytes([kind, 0, 0, 0]) + number.to_bytes(8, "little")
    associated = b"aiv1" + bytes([suite]) + CHAIN_ID + header
    assert len(associated) == 61
    if suite == Suite.AES_256_GMAC:
        expected = plain + key.encrypt(nonce, b"", associated + plain)
    else:
        expected = key.encrypt(nonce, plain, associated)
    assert bytes(sealed) == expected


def test_frozen_values() -> None:
    """What version 1.0 gave must be given for ever: old images depend on it."""
    keys = chain_keys()
    sealed = bytearray(528)
    for origin in (FILE_ID, OTHER_ID):
        keys.cipher(origin).seal_into(record(512, origin=origin), bytes(512), memoryview(sealed))
    with deterministic(7):
        slot = encode_slot(slot_for("correct horse", label="x"))
    assert keys.key_commitment().hex() == FROZEN_COMMITMENT
    assert hashlib.sha256(sealed).hexdigest() == FROZEN_RECORD
    assert hashlib.sha256(slot).hexdigest() == FROZEN_SLOT


FROZEN_COMMITMENT = "62659c77a2c2f2036c67f2b1e9a38c5e6a134a1aad32890c735fbc9255b3beec"
FROZEN_RECORD = "6dd2ce1b13fd1f1d38e402e24b2e78c93d9051f78d92519a161d46ae94cae00c"
FROZEN_SLOT = "2d2c0bf1e76653109120b5afb362fe7001680c6fe5761c02e821fdfe47752ba7"
