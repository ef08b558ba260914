"""No (key, nonce) pair comes twice (hostile-inputs class 29; docs/format.md, 4.6)."""

from __future__ import annotations

import copy
import os
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aipimage.io.records import cipher as cipher_module
from aipimage.io.records.keys import Suite
from aipimage.io.records.numbering import RecordNumbers
from tests.crypto.made import SUITES, chain_keys, record

TYPES = range(1, 11)
Claims = npt.NDArray[np.uint64]


def assert_disjoint(claims: Claims) -> int:
    """Check rows of (origin, type, first, count) for overlaps and gaps; return the numbers."""
    order = np.lexsort((claims[:, 2], claims[:, 1], claims[:, 0]))
    origin, kind, first, count = claims[order].T
    same = (origin[1:] == origin[:-1]) & (kind[1:] == kind[:-1])
    expected = np.where(same, first[:-1] + count[:-1], 0)
    assert first[0] == 0
    assert np.array_equal(first[1:], expected)
    return int(count.sum())


def test_class_29_ten_million_claims() -> None:
    """Over threads, types and origins: each thread claims from all runs, in rows of any length."""
    runs = [RecordNumbers() for _ in range(50)]
    assert len({run.origin for run in runs}) == len(runs)

    def work(seed: int) -> Claims:
        chance = random.Random(seed)
        rows = np.empty((80_000, 4), dtype=np.uint64)
        for row in rows:
            which, kind, count = chance.randrange(50), chance.choice(TYPES), chance.randrange(1, 32)
            row[:] = (which, kind, runs[which].claim(kind, count), count)
        return rows

    with ThreadPoolExecutor(8) as pool:
        claims = np.concatenate(list(pool.map(work, range(8))))
    total = assert_disjoint(claims)
    assert total >= 10_000_000
    assert total == sum(run.claim(kind) for run in runs for kind in TYPES)


def test_class_29_single_claims_from_threads() -> None:
    run = RecordNumbers()

    def work(_: int) -> Claims:
        return np.array([run.claim(1) for _ in range(50_000)], dtype=np.uint64)

    with ThreadPoolExecutor(8) as pool:
        found = np.concatenate(list(pool.map(work, range(8))))
    assert np.array_equal(np.sort(found), np.arange(400_000))


def test_class_29_every_run_has_keys_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, retries and resumes begin with a new origin: no key comes twice, in any suite."""
    made: list[bytes] = []
    monkeypatch.setattr(cipher_module, "AESGCM", made.append)
    for suite in SUITES:
        chain = chain_keys(suite)
        for _ in range(500):
            chain.cipher(RecordNumbers().origin)
    assert len(made) == 2 * 500 * len(SUITES)
    assert len(set(made)) == len(made)


def test_class_29_nonces_as_they_reach_the_cipher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that write the same records as the run before: 12 resumes of one image."""
    seen: list[tuple[bytes, bytes]] = []

    class Watched:
        def __init__(self, key: bytes) -> None:
            self.key, self.inner = key, AESGCM(key)

        def encrypt_into(self, nonce: bytes, data: bytes, associated: bytes, out: bytes) -> int:
            assert len(nonce) == 12
            seen.append((self.key, bytes(nonce)))
            return self.inner.encrypt_into(nonce, data, associated, out)

    monkeypatch.setattr(cipher_module, "AESGCM", Watched)
    chain = chain_keys(Suite.AES_256_GCM)
    for _ in range(12):
        run = RecordNumbers()
        for kind in list(TYPES) * 20:
            header = record(4, kind, run.claim(kind), run.origin)
            chain.cipher(run.origin).seal_into(header, b"same", memoryview(bytearray(20)))
    assert len(seen) == 12 * 200
    assert len(set(seen)) == len(seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_class_29_a_forked_process_claims_nothing() -> None:
    run = RecordNumbers()
    run.claim(1)
    child = os.fork()
    if child == 0:
        try:
            run.claim(1)
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert run.claim(1) == 1


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_class_29_counters_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="internal error"):
        duplicate(RecordNumbers())


@pytest.mark.parametrize(("kind", "count"), [(0, 1), (256, 1), (1, 0), (1, -1), (1, 2**64 + 1)])
def test_impossible_claims(kind: int, count: int) -> None:
    with pytest.raises(RuntimeError, match="internal error"):
        RecordNumbers().claim(kind, count)


def test_numbers_end_before_the_nonce_wraps() -> None:
    run = RecordNumbers()
    assert run.claim(1, 2**64 - 1) == 0
    assert run.claim(1) == 2**64 - 1
    with pytest.raises(RuntimeError, match="used up"):
        run.claim(1)
    assert run.claim(2) == 0
