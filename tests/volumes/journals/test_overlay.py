"""A volume with changes over it: in memory, and in a temporary file without a name."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from aipimage.errors import SourceError, StorageError
from aipimage.io.system.storage import File, Storage, StrPath
from aipimage.volumes.journals import overlay as module
from aipimage.volumes.journals.overlay import PAGE, Overlay
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource

SIZE = 64 * PAGE + 777


def view(data: bytes) -> VolumeView:
    return VolumeView(SparseSource(SIZE + 512, {512: data}), 512, SIZE, 0)


@pytest.mark.parametrize("pages", [1, 3, 100])
def test_random_writes_and_reads(
    pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an array of bytes, whatever part of it is in the file; nothing is left of that."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    chance = random.Random(pages)
    wanted = bytearray(chance.randbytes(SIZE))
    over = Overlay(view(bytes(wanted)), kept_max=pages * PAGE)
    for _ in range(300):
        start = chance.randrange(SIZE)
        length = min(chance.choice([1, 8, 128, 4096, 10_000]), SIZE - start)
        if chance.random() < 0.5:
            data = chance.randbytes(length)
            over.write(start, data)
            wanted[start : start + length] = data
        assert bytes(over.read(start, length)) == wanted[start : start + length]
    assert bytes(over.read(0, SIZE)) == wanted
    assert len(over._kept) <= pages
    assert os.listdir(tmp_path) == []
    over.close()
    over.close()
    assert os.listdir(tmp_path) == []


def test_what_is_outside() -> None:
    over = Overlay(view(b""))
    for start, length in ((-1, 1), (SIZE, 1), (SIZE - 1, 2)):
        with pytest.raises(LayoutError):
            over.write(start, bytes(length))
        with pytest.raises(LayoutError):
            over.read(start, length)
        with pytest.raises(SourceError):
            over.read_into(bytearray(length), start)


def test_class_45_too_many_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGES_MAX", 3)
    over = Overlay(view(b""))
    over.write(0, bytes(3 * PAGE))
    with pytest.raises(LayoutError, match="more than can be looked at"):
        over.write(5 * PAGE, b"x")


class _Full(Storage):
    def create(self, path: StrPath) -> File:
        raise StorageError(f"{path}: no space left")


def test_class_57_no_room_for_the_file() -> None:
    """Then the volume is taken whole; the backup goes on."""
    over = Overlay(view(b""), kept_max=PAGE, storage=_Full())
    over.write(0, b"x")
    with pytest.raises(LayoutError, match=r"needs a temporary file, which failed: .*no space left"):
        over.write(PAGE, b"y")
    over.close()
