"""Codec, digests and cipher on a batch of frames, beside the libraries called directly."""

from __future__ import annotations

import os

import blake3
import numpy as np
import pytest
import zstandard
from conftest import SIZE
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pytest_benchmark.fixture import BenchmarkFixture

from aipimage import _core
from aipimage.format.digest import block_digest, digest
from aipimage.io.records.cipher import RecordCipher
from aipimage.io.records.records import FrameWhere, RecordBuilder

FRAME = 64 << 10
COUNT = SIZE // FRAME


@pytest.mark.benchmark(group="compress a batch of 64 frames, level 1")
@pytest.mark.parametrize("sealed", [False, True])
def test_build_frames(benchmark: BenchmarkFixture, batch: bytes, sealed: bool) -> None:
    """With their digests, and the second time with their seals."""
    cipher = RecordCipher(1, bytes(16), bytes(16), data_key=bytes(32), metadata_key=bytes(32))
    builder = RecordBuilder(bytes(16), cipher if sealed else None)
    out = memoryview(bytearray(builder.frames_room(SIZE, FRAME, 2 * COUNT)))
    where = FrameWhere(np.array([(0, SIZE // 512)], np.uint64), 0)
    rows = benchmark(builder.build_frames, out, 0, memoryview(batch), FRAME, where, 1)
    assert rows["record_length"].sum() < SIZE


@pytest.mark.benchmark(group="compress a batch of 64 frames, level 1")
def test_compress_frames_one_by_one(benchmark: BenchmarkFixture, batch: bytes) -> None:
    """The limit of a caller without the core: the library, a frame a call."""
    press = zstandard.ZstdCompressor(1).compress
    view = memoryview(batch)
    benchmark(lambda: [press(view[at : at + FRAME]) for at in range(0, SIZE, FRAME)])


@pytest.mark.benchmark(group="open 64 frames")
def test_decompress_frames_one_by_one(benchmark: BenchmarkFixture, batch: bytes) -> None:
    press = zstandard.ZstdCompressor(1).compress
    packed = [press(batch[at : at + FRAME]) for at in range(0, SIZE, FRAME)]
    unpack = zstandard.ZstdDecompressor().decompress
    benchmark(lambda: [unpack(each) for each in packed])


@pytest.mark.benchmark(group="digest a batch of 64 frames")
def test_digests(benchmark: BenchmarkFixture, batch: bytes) -> None:
    view = memoryview(batch)
    benchmark(lambda: [digest(view[at : at + FRAME]) for at in range(0, SIZE, FRAME)])


@pytest.mark.benchmark(group="digest a batch of 64 frames")
def test_digest_in_one_piece(benchmark: BenchmarkFixture, batch: bytes) -> None:
    """The limit: BLAKE3 of the same bytes with one call."""
    benchmark(lambda: blake3.blake3(batch).digest())


@pytest.mark.benchmark(group="digest a batch of 64 blocks")
def test_block_digests(benchmark: BenchmarkFixture, batch: bytes) -> None:
    view = memoryview(batch)
    benchmark(lambda: [block_digest(view[at : at + FRAME]) for at in range(0, SIZE, FRAME)])


@pytest.mark.benchmark(group="encrypt a batch of 64 frames")
def test_encrypt(benchmark: BenchmarkFixture, batch: bytes) -> None:
    cipher = AESGCM(os.urandom(32))
    out = memoryview(bytearray(FRAME + 16))
    view, nonce = memoryview(batch), bytes(12)

    def run() -> None:
        for at in range(0, SIZE, FRAME):
            cipher.encrypt_into(nonce, view[at : at + FRAME], None, out)

    benchmark(run)


@pytest.mark.benchmark(group="digest a batch of 64 frames")
def test_digests_with_one_call(benchmark: BenchmarkFixture, variant: str, batch: bytes) -> None:
    rows = [(at, FRAME) for at in range(0, SIZE, FRAME)]
    assert len(benchmark(_core.blake3_many, batch, rows)) == COUNT
