"""File objects that decompress: what was read lately is not read again from the start."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aipimage
from aipimage.io.blocks import forward
from aipimage.io.blocks.forward import Lately, reads_forward
from aipimage.io.blocks.sources import BinaryFileSource

MIB = 1 << 20


class Counting(io.BytesIO):
    """A file object that counts how often somebody goes back."""

    back = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < self.tell():
            self.back += 1
        return super().seek(offset, whence)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 900)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_the_same_bytes_as_without(reads: list[tuple[int, int]]) -> None:
    data = random.Random(5).randbytes(4500)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forward, "_KEPT_MAX", 700)
        patched.setattr(forward, "_STEP", 100)
        patched.setattr(forward, "_LEAST", 64)
        stream, plain = Lately(io.BytesIO(data)), io.BytesIO(data)
        for offset, length in reads:
            assert stream.seek(offset) == plain.seek(offset)
            found = b""
            while len(found) < length and (part := stream.read(length - len(found))):
                found += part
            assert found == plain.read(length)
            assert stream.tell() == max(offset, plain.tell())
            assert stream.read(0) == b""


def test_neighbours_out_of_order_are_not_read_again() -> None:
    """As worker threads read; only a place that was passed long ago is gone back to."""
    data = random.Random(1).randbytes(8 * MIB)
    below = Counting(data)
    stream = Lately(below)
    order = list(range(0, len(data), 256 << 10))
    for at in range(0, len(order) - 4, 4):
        order[at], order[at + 3] = order[at + 3], order[at]
    for offset in order:
        stream.seek(offset)
        assert stream.read(4096) == data[offset : offset + 4096]
    assert below.back == 0


def _zip(path: Path, data: bytes) -> IO[bytes]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("disk", data)
    return zipfile.ZipFile(path).open("disk")


def _tar(path: Path, data: bytes) -> Any:
    with tarfile.open(path, "w:gz") as made:
        entry = tarfile.TarInfo("disk")
        entry.size = len(data)
        made.addfile(entry, io.BytesIO(data))
    return tarfile.open(path).extractfile("disk")


def _by(module: Any) -> Any:
    def make(path: Path, data: bytes) -> Any:
        with module.open(path, "wb") as made:
            made.write(data)
        return module.open(path)

    return make


@pytest.mark.parametrize(
    "make", [_zip, _tar, _by(gzip), _by(bz2), _by(lzma)], ids=["zip", "tar", "gzip", "bz2", "lzma"]
)
def test_compressed_file_objects(tmp_path: Path, make: Any) -> None:
    data = random.Random(2).randbytes(3 * MIB) + bytes(2 * MIB) + b"end!" * 256
    stream = make(tmp_path / "packed", data)
    assert reads_forward(stream)
    source = BinaryFileSource(stream, "packed")
    assert source.reads_forward
    assert source.size == len(data)
    for offset in (len(data) - 512, 0, 4 * MIB, 100, 3 * MIB - 256):
        buffer = bytearray(512)
        source.read_into(buffer, offset)
        assert buffer == data[offset : offset + 512]
    aipimage.create(tmp_path / "a.aiv", stream)
    with aipimage.open(tmp_path / "a.aiv") as image:
        image.restore(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data


def test_plain_file_objects_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(bytes(1024))
    with open(tmp_path / "plain", "rb") as stream:
        assert not BinaryFileSource(stream).reads_forward
    assert not BinaryFileSource(io.BytesIO(bytes(1024))).reads_forward
