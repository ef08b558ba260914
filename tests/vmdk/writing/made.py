"""Small disks for the tests of the writers, and their records read back with plain struct."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aipimage.io.system.storage import SystemCalls
from aipimage.vmdk import feed
from aipimage.vmdk.writing.job import WriteResult, write_vmdk
from tests.support.sources import SparseSource

GRAIN = 65_536
CID = 0x1234_ABCD


def disk(*grains: str, tail: int = 0, seed: int = 1) -> SparseSource:
    """A disk of one grain a letter: ``.`` zeros, ``t`` text, ``r`` random, ``z`` zeros that the
    source calls data; ``tail`` more bytes end it.
    """
    chance = random.Random(seed)
    pieces: dict[int, bytes] = {}
    letters = "".join(grains)
    for number, letter in enumerate(letters):
        if letter == "t":
            words = b"%05d words " % chance.randrange(99_999)
            pieces[number * GRAIN] = words.ljust(GRAIN // 2, b"-").ljust(GRAIN, words[:1])
        elif letter == "r":
            pieces[number * GRAIN] = chance.randbytes(GRAIN)
        elif letter == "z":
            pieces[number * GRAIN] = bytes(GRAIN)
    if tail:
        pieces[len(letters) * GRAIN] = chance.randbytes(tail)
    return SparseSource(len(letters) * GRAIN + tail, pieces)


def raw_file(source: SparseSource, path: Path) -> Path:
    """The same disk as a sparse file."""
    with path.open("wb") as file:
        file.truncate(source.size)
        for offset, data in source.pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def small_batches(patch: pytest.MonkeyPatch, window: int = 2) -> None:
    """Read so few grains at a time that a small disk needs many batches."""
    patch.setattr(feed, "_WINDOW", window)
    patch.setattr(feed, "_ENOUGH", 1)


def write(path: Any, source: Any, **more: Any) -> WriteResult:
    """``write_vmdk`` with a fixed CID."""
    return write_vmdk(path, source, **({"cid": CID} | more))


def without_syncs(patch: pytest.MonkeyPatch) -> None:
    """Let syncs do nothing: nobody cuts this machine's power, and they would cost most of the
    time of a test that makes hundreds of disks.
    """
    patch.setattr(SystemCalls, "fsync", lambda self, descriptor: None)


class Header(NamedTuple):
    """The fields of a sparse header, as the note lists them."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    entries: int
    rgd_offset: int
    gd_offset: int
    overhead: int
    unclean: int
    newlines: bytes
    compression: int


def header_at(data: bytes, sector: int) -> Header:
    """The header, or footer, that lies in a sector; what follows it must be zeros."""
    at = sector * 512
    assert data[at + 79 : at + 512] == bytes(433)
    return Header(*struct.unpack_from("<4sIIQQQQIQQQB4sH", data, at))


def entries_at(data: bytes, sector: int, count: int) -> list[int]:
    """Entries of a directory or table."""
    return list(struct.unpack_from(f"<{count}I", data, sector * 512))


def grains_of_sparse(data: bytes) -> dict[int, bytes]:
    """Grains of a plain sparse extent, by number, through the primary tables; the redundant ones
    must be the same.
    """
    header = header_at(data, 0)
    tables = -(-header.capacity // (128 * 512))
    found: dict[int, bytes] = {}
    primary = entries_at(data, header.gd_offset, tables)
    redundant = entries_at(data, header.rgd_offset, tables)
    for table, (one, other) in enumerate(zip(primary, redundant, strict=True)):
        rows = entries_at(data, one, 512)
        assert rows == entries_at(data, other, 512)
        for row, sector in enumerate(rows):
            if sector:
                assert sector % 128 == 0
                assert sector >= header.overhead
                found[table * 512 + row] = data[sector * 512 :][:GRAIN]
    return found


def grains_of_stream(data: bytes) -> dict[int, bytes]:
    """Grains of a streamOptimized disk, by number, through footer, directory and tables."""
    footer = header_at(data, len(data) // 512 - 2)
    found: dict[int, bytes] = {}
    tables = -(-footer.capacity // (128 * 512))
    for table, at in enumerate(entries_at(data, footer.gd_offset, tables)):
        rows = entries_at(data, at, 512) if at else []
        for row, sector in enumerate(rows):
            if sector:
                first, size = struct.unpack_from("<QI", data, sector * 512)
                assert first == (table * 512 + row) * 128
                found[table * 512 + row] = zlib.decompress(data[sector * 512 + 12 :][:size])
    return found


def grains_of(source: SparseSource) -> dict[int, bytes]:
    """The grains that must be stored: those that are not zeros; the last is filled up."""
    found = {}
    for number in range(-(-source.size // GRAIN)):
        length = min(GRAIN, source.size - number * GRAIN)
        data = source.content(number * GRAIN, length)
        if any(data):
            found[number] = data.ljust(GRAIN, b"\0")
    return found
