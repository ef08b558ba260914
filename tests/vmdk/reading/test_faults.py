"""Reading from media and files that fail, images made of virtual disks, and their size and cost."""

from __future__ import annotations

import errno
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage import vmdk
from aipimage.errors import AipImageError, SourceError
from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError, read_with_retries
from aipimage.io.system.storage import Storage
from aipimage.vmdk.descriptor import ExtentLine
from aipimage.vmdk.layout import GRAIN, SECTOR, SparseHeader, encode_sparse_header
from aipimage.vmdk.pieces import State
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.soon import SOON
from tests.vmdk.reading.built import (
    GRAIN_BYTES,
    Plain,
    Stream,
    content,
    noise,
    own_text,
    text,
    written,
)
from tests.vmdk.reading.made import check_reading, read_whole

CAPACITY = 600 * GRAIN
GRAINS = {number: noise(GRAIN_BYTES, number) for number in (0, 1, 2, 9, 511, 512, 599)}
DISKS = ("plain", "stream", "flat")


def made(folder: Path, kind: str) -> tuple[Path, bytes]:
    """A disk of a kind; its path and its content."""
    expected = content(CAPACITY, GRAINS)
    if kind == "flat":
        written(folder / "d-flat.vmdk", expected)
        line = ExtentLine("RW", CAPACITY, "FLAT", "d-flat.vmdk", 0)
        return written(folder / "d.vmdk", text(line, kind="monolithicFlat")), expected
    if kind == "split":
        # More extents than stay open, so that they are opened again and again.
        lines, step = [], len(expected) // 20
        for number in range(20):
            name = f"d-f{number:03}.vmdk"
            written(folder / name, expected[number * step : (number + 1) * step])
            lines.append(ExtentLine("RW", step // SECTOR, "FLAT", name, 0))
        return written(folder / "d.vmdk", text(*lines, kind="twoGbMaxExtentFlat")), expected
    disk = Plain(CAPACITY, GRAINS) if kind == "plain" else Stream(CAPACITY, GRAINS)
    return written(folder / "d.vmdk", disk.build()), expected


def scenario(path: Path, system: FaultySystemCalls) -> bytes:
    with vmdk.open(path, storage=Storage(system)) as source:
        list(source.pieces(0, source.size))
        source.fingerprint()
        return b"".join(
            bytes(part)
            for offset in (0, 511 * GRAIN_BYTES - 512)
            for part in [bytearray(3 * GRAIN_BYTES)]
            if source.read_into(part, offset) is None
        )


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *((kind, number) for kind in DISKS for number in (errno.EIO, errno.EACCES, 0)),
        ("split", errno.EIO),
    ],
)
def test_class_57_every_call_failing_in_turn(tmp_path: Path, kind: str, number: int) -> None:
    """A typed error, or the same data as without the fault; a short read is none."""
    path, _ = made(tmp_path, kind)
    counted = FaultySystemCalls()
    expected = scenario(path, counted)
    errors = 0
    for at in range(counted.total):
        fault = Fault(at, number) if number else Fault(at, 0, ("preadv",), short=True)
        system = FaultySystemCalls(fault)
        try:
            assert scenario(path, system) == expected
        except AipImageError:
            errors += 1
    assert errors > 5 if number else not errors


@pytest.mark.parametrize("kind", DISKS)
def test_class_55_a_medium_error_names_the_range_of_the_disk(tmp_path: Path, kind: str) -> None:
    """And never becomes zeros: retries find the single sectors."""
    path, expected = made(tmp_path, kind)
    system = FaultySystemCalls()
    with vmdk.open(path, storage=Storage(system)) as source:
        source.read_into(bytearray(SECTOR), 2 * GRAIN_BYTES - SECTOR)
        system.faults = (Fault(0, errno.EIO, ("preadv",)),)
        system._seen = [0]
        with pytest.raises(UnreadableRangeError) as caught:
            source.read_into(bytearray(2 * GRAIN_BYTES), GRAIN_BYTES)
        assert (caught.value.offset, caught.value.length) == (GRAIN_BYTES, 2 * GRAIN_BYTES)
        buffer = bytearray(2 * GRAIN_BYTES)
        assert read_with_retries(source, buffer, GRAIN_BYTES) == []
        assert buffer == expected[GRAIN_BYTES : 3 * GRAIN_BYTES]


@pytest.mark.parametrize("kind", DISKS)
def test_class_62_a_file_that_shrinks(tmp_path: Path, kind: str) -> None:
    path, expected = made(tmp_path, kind)
    victim = tmp_path / "d-flat.vmdk" if kind == "flat" else path
    with vmdk.open(path) as source:
        os.truncate(victim, victim.stat().st_size // 2)
        with pytest.raises(SourceError, match="shrank"):
            read_whole(source)
        buffer = bytearray(GRAIN_BYTES)
        if kind != "stream":
            source.read_into(buffer, 0)
            assert buffer == expected[:GRAIN_BYTES]


@pytest.mark.parametrize("kind", [*DISKS, "split"])
def test_class_60_threads_that_read_one_disk(tmp_path: Path, kind: str) -> None:
    path, expected = made(tmp_path, kind)
    with vmdk.open(path) as source, ThreadPoolExecutor(4) as pool:
        for done in pool.map(partial(_reads, source, expected), range(4)):
            assert done


def _reads(source: vmdk.VmdkSource, expected: bytes, seed: int) -> bool:
    check_reading(source, expected, seed=seed, reads=30)
    return True


@pytest.mark.parametrize("kind", DISKS)
def test_the_fingerprint_follows_every_file(tmp_path: Path, kind: str) -> None:
    path, _ = made(tmp_path, kind)
    with vmdk.open(path) as source:
        before = source.fingerprint()
        assert source.fingerprint() == before
        for victim in {path, tmp_path / "d-flat.vmdk"} & set(tmp_path.iterdir()):
            os.utime(victim, ns=(1, 1))
            after = source.fingerprint()
            assert after != before
            before = after


@pytest.mark.parametrize("kind", DISKS)
def test_an_image_of_a_virtual_disk(tmp_path: Path, kind: str) -> None:
    path, expected = made(tmp_path, kind)
    target, back = tmp_path / "d.aiv", tmp_path / "back.raw"
    with vmdk.open(path) as source:
        assert isinstance(source, BlockSource)
        aipimage.create(target, [source], include_free=True)
    with aipimage.open(target) as image:
        image.restore(back)
    assert back.read_bytes() == expected


def test_three_tebibytes_are_walked_quickly(tmp_path: Path) -> None:
    """All tables are there, 200 MB of them in holes; a grain here and there, and a whole table."""
    capacity, path = 3 << 31, tmp_path / "d.vmdk"
    tables = capacity // (GRAIN * 512)
    first = 64 + -(-tables * 4 // SECTOR)
    header = SparseHeader(1, 1, capacity, GRAIN, 1, 20, 512, 0, 64, first + 4 * tables)
    grain = (first + 4 * tables) * SECTOR
    with path.open("wb") as file:
        file.write(encode_sparse_header(header))
        file.write(own_text(capacity, "monolithicSparse").encode())
        file.seek(64 * SECTOR)
        file.write((first + 4 * np.arange(tables)).astype("<u4").tobytes())
        for number in range(0, tables, 1000):
            file.seek((first + 4 * number) * SECTOR)
            file.write(struct.pack("<I", grain // SECTOR) * (1 if number else 512))
        file.seek(grain)
        file.write(noise(GRAIN_BYTES))
    with vmdk.open(path) as source:
        began = time.process_time()
        data = sum(
            int(rows[rows[:, 2] == State.DATA, 1].sum()) for rows in source.pieces(0, source.size)
        )
        assert time.process_time() - began < SOON
        assert data == (512 + -(-tables // 1000) - 1) * GRAIN_BYTES
        buffer = bytearray(2 * GRAIN_BYTES)
        source.read_into(buffer, 3000 * 512 * GRAIN_BYTES - 100)
        assert buffer == bytes(100) + noise(GRAIN_BYTES) + bytes(GRAIN_BYTES - 100)
