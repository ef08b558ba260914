"""Sealing and opening records (docs/format.md, 4.6)."""

from __future__ import annotations

import mmap
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aipimage.errors import IntegrityError, LimitError
from aipimage.format.constants import BODY_MAX
from aipimage.io.records import cipher as cipher_module
from aipimage.io.records.cipher import RecordCipher
from aipimage.io.records.keys import ChainKeys, Suite
from tests.crypto.made import CHAIN_KEY, FILE_ID, OTHER_ID, SUITES, chain_keys, record
from tests.support.soon import SOON

every_suite = pytest.mark.parametrize("suite", SUITES)
PLAIN = random.Random(1).randbytes(4096)


def sealed_by(cipher: RecordCipher, header: bytes, plain: bytes = PLAIN) -> bytes:
    out = bytearray(len(plain) + cipher.tag_length)
    cipher.seal_into(header, plain, memoryview(out))
    return bytes(out)


def refuses(cipher: RecordCipher, header: bytes, sealed: bytes) -> None:
    """Neither way of opening gives a byte."""
    out = bytearray(b"\xaa" * max(0, len(sealed) - 16))
    with pytest.raises(IntegrityError, match="damage or tampering"):
        cipher.open_into(header, sealed, memoryview(out))
    assert out in (b"\xaa" * len(out), bytes(len(out))), "unverified bytes were delivered"
    with pytest.raises(IntegrityError):
        cipher.open(header, sealed)


@every_suite
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 512, 65_536, 1_000_003, BODY_MAX - 16])
def test_round_trip(suite: Suite, length: int) -> None:
    cipher, plain = chain_keys(suite).cipher(FILE_ID), bytes(length - 1) + b"x" if length else b""
    header = record(max(1, length))
    sealed = sealed_by(cipher, header, plain)
    assert len(sealed) == length + 16
    assert cipher.open(header, sealed) == plain
    out = bytearray(length)
    cipher.open_into(header, sealed, memoryview(out))
    assert out == plain
    assert cipher.open(header, sealed).readonly
    assert (sealed[:length] == plain) == (length == 0 or suite == Suite.AES_256_GMAC)


@every_suite
def test_buffers_of_many_kinds(suite: Suite) -> None:
    cipher, header = chain_keys(suite).cipher(FILE_ID), record(len(PLAIN))
    expected = sealed_by(cipher, header)
    words = np.frombuffer(PLAIN, dtype="<u4").reshape(2, -1)
    for plain in (bytearray(PLAIN), memoryview(PLAIN), words):
        out = bytearray(len(PLAIN) + 16)
        cipher.seal_into(memoryview(header), plain, memoryview(out))
        assert out == expected


@every_suite
def test_in_place(suite: Suite) -> None:
    """Input and output may begin at one byte; batches are sealed where they lie."""
    cipher, header = chain_keys(suite).cipher(FILE_ID), record(len(PLAIN))
    buffer = bytearray(PLAIN) + bytearray(16)
    view = memoryview(buffer)
    cipher.seal_into(header, view[: len(PLAIN)], view)
    assert buffer == sealed_by(cipher, header)
    cipher.open_into(header, view, view[: len(PLAIN)])
    assert buffer[: len(PLAIN)] == PLAIN


@every_suite
def test_every_flipped_bit_is_refused(suite: Suite) -> None:
    cipher, plain = chain_keys(suite).cipher(FILE_ID), PLAIN[:64]
    header = record(len(plain))
    sealed = sealed_by(cipher, header, plain)
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit >> 3] ^= 1 << (bit & 7)
        refuses(cipher, header, bytes(flipped))
    for bit in range(len(header) * 8):
        changed = bytearray(header)
        changed[bit >> 3] ^= 1 << (bit & 7)
        refuses(cipher, bytes(changed), sealed)
    for length in range(len(sealed)):
        refuses(cipher, header, sealed[:length])
    refuses(cipher, header, sealed + b"\0")


def test_a_failed_tag_leaves_no_plain_bytes() -> None:
    """OpenSSL has written them by then; the cipher wipes them, in place too."""
    cipher, header = chain_keys().cipher(FILE_ID), record(len(PLAIN))
    sealed = bytearray(sealed_by(cipher, header))
    sealed[-1] ^= 1
    out = memoryview(sealed)[: len(PLAIN)]
    with pytest.raises(IntegrityError):
        cipher.open_into(header, sealed, out)
    assert not any(out)


@every_suite
def test_class_27_replayed_swapped_and_spliced_records(suite: Suite) -> None:
    """A record is good as itself alone: not under another number, type, origin, length or chain."""
    chain = chain_keys(suite)
    cipher, header = chain.cipher(FILE_ID), record(len(PLAIN), 1, 7)
    sealed = sealed_by(cipher, header)
    assert cipher.open(header, sealed) == PLAIN
    for other in (
        record(len(PLAIN), 1, 8),
        record(len(PLAIN), 1, 7 + 2**32),
        record(len(PLAIN), 4, 7),
        record(len(PLAIN), 1, 7, codec=1),
        record(len(PLAIN) - 1, 1, 7),
    ):
        refuses(cipher, other, sealed)
    foreign = record(len(PLAIN), 1, 7, origin=OTHER_ID)
    refuses(chain.cipher(OTHER_ID), foreign, sealed)
    refuses(chain.cipher(OTHER_ID), header, sealed)
    refuses(cipher, foreign, sealed)
    # The same origin and number in another chain, and under another chain key.
    refuses(ChainKeys(CHAIN_KEY, OTHER_ID, suite).cipher(FILE_ID), header, sealed)
    refuses(chain_keys(suite, bytes(32)).cipher(FILE_ID), header, sealed)


@every_suite
def test_class_28_another_suite_opens_nothing(suite: Suite) -> None:
    header = record(len(PLAIN))
    sealed = sealed_by(chain_keys(suite).cipher(FILE_ID), header)
    for other in set(SUITES) - {suite}:
        refuses(chain_keys(other).cipher(FILE_ID), header, sealed)


@every_suite
def test_class_30_associated_data_is_never_empty(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call binds suite, chain and the whole record header; without them nothing opens."""
    seen: list[bytes] = []

    class Watched:
        def __init__(self, key: bytes) -> None:
            self.inner = AESGCM(key)

        def encrypt_into(self, nonce: bytes, data: bytes, associated: bytes, out: bytes) -> int:
            seen.append(bytes(associated))
            return self.inner.encrypt_into(nonce, data, associated, out)

        def decrypt_into(self, nonce: bytes, data: bytes, associated: bytes, out: bytes) -> int:
            seen.append(bytes(associated))
            with pytest.raises(InvalidTag):
                self.inner.decrypt_into(nonce, data, b"", bytearray(len(out)))
            return self.inner.decrypt_into(nonce, data, associated, out)

    monkeypatch.setattr(cipher_module, "AESGCM", Watched)
    cipher, header = chain_keys(suite).cipher(FILE_ID), record(len(PLAIN))
    sealed = sealed_by(cipher, header)
    cipher.open(header, sealed)
    cipher.open_into(header, sealed, memoryview(bytearray(len(PLAIN))))
    assert len(seen) == 3
    for associated in seen:
        assert associated[:5] == b"aiv1" + bytes([suite])
        assert associated[21:61] == header
        assert len(associated) == 61 + (len(PLAIN) if suite == Suite.AES_256_GMAC else 0)


@every_suite
def test_class_31_buffers_over_2_gib(suite: Suite) -> None:
    """Refused by their length; not a byte of them is touched (CVE-2020-36242)."""
    cipher, header = chain_keys(suite).cipher(FILE_ID), record(1)
    with mmap.mmap(-1, 2**31 + 32) as huge, memoryview(huge) as view:
        for length in (2**31 - 17, 2**31 - 1, 2**31, 2**31 + 16, BODY_MAX + 1):
            began = time.process_time()
            with view[:length] as plain, view[: length + 16] as out:
                with pytest.raises(LimitError):
                    cipher.seal_into(header, plain, out)
                with pytest.raises(LimitError):
                    cipher.open_into(header, out, plain)
                with pytest.raises(LimitError):
                    cipher.open(header, out)
            assert time.process_time() - began < SOON
        with view[: BODY_MAX - 15] as plain, pytest.raises(LimitError):
            cipher.seal_into(header, plain, view[: BODY_MAX + 1])


@every_suite
def test_one_cipher_serves_many_threads(suite: Suite) -> None:
    chain = chain_keys(suite)
    barrier = threading.Barrier(8)

    def work(worker: int) -> None:
        barrier.wait()
        chance = random.Random(worker)
        for turn in range(60):
            plain = chance.randbytes(chance.randrange(1, 70_000))
            header = record(len(plain), chance.choice((1, 4)), worker * 1000 + turn)
            cipher = chain.cipher(FILE_ID)
            sealed = sealed_by(cipher, header, plain)
            assert cipher.open(header, sealed) == plain

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_our_own_mistakes_are_internal_errors() -> None:
    cipher = chain_keys().cipher(FILE_ID)
    good = record(4)
    for header, out in (
        (good, bytearray(19)),
        (good, bytearray(21)),
        (good[:-1], bytearray(20)),
        (record(4, origin=OTHER_ID), bytearray(20)),
    ):
        with pytest.raises(RuntimeError, match="internal error"):
            cipher.seal_into(header, b"abcd", memoryview(out))
    with pytest.raises(RuntimeError, match="internal error"):
        cipher.open_into(good, sealed_by(cipher, good, b"abcd"), memoryview(bytearray(5)))
