"""Real disk and volume images that nobody here made, where they lie beside the checkout."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import lzma
from pathlib import Path

import pytest

import aipimage
from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.survey import survey
from tests.support import SAMPLES

_OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
_MOST = 32 << 20


def _listed() -> list[Path]:
    manifest = SAMPLES / "MANIFEST.tsv"
    if not manifest.exists():
        return []
    with open(manifest, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        SAMPLES / row["repo"] / row["path"]
        for row in rows
        if row["raw_bytes"].isdigit() and 0 < int(row["raw_bytes"]) <= _MOST
    ]


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_every_sample_comes_back(tmp_path: Path) -> None:
    paths = [path for path in _listed() if path.exists() and ".tar" not in path.name]
    assert len(paths) > 100
    for path in paths:
        opener = _OPENERS.get(path.suffix, open)
        with opener(path, "rb") as file:
            data = file.read()
        source = tmp_path / "sample.raw"
        source.write_bytes(data)
        for include_free in (True, False):
            aipimage.create(
                tmp_path / "sample.aiv",
                [str(source)],
                compress="zstd:1",
                overwrite=True,
                include_free=include_free,
            )
            with aipimage.open(tmp_path / "sample.aiv") as image:
                assert image.verify().ok, path
                image.restore(tmp_path / "back.raw", force=True, set_size=True)
            back = (tmp_path / "back.raw").read_bytes()
            wanted = data if include_free else _used(data)
            assert hashlib.sha256(back).digest() == hashlib.sha256(wanted).digest(), path


def _used(data: bytes) -> bytes:
    """A disk with zeros in its free clusters, which the tests of each file system look at."""
    free = survey(BinaryFileSource(io.BytesIO(data))).free
    used = bytearray(data)
    for rows in free.ranges(0, len(data)):
        for offset, length in rows.tolist():
            used[offset : offset + length] = bytes(length)
    return bytes(used)


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_pytsk3_reads_a_device(tmp_path: Path) -> None:
    """The Sleuth Kit lists the files of a real NTFS volume straight from an image."""
    pytsk3 = pytest.importorskip("pytsk3")
    aipimage.create(tmp_path / "n.aiv", [str(SAMPLES / "ColinFinck-ntfs/testdata/testfs1")])

    class Adapter(pytsk3.Img_Info):  # type: ignore[misc]
        def __init__(self, device: aipimage.Device) -> None:
            self._file = device.open()
            self._size = device.size
            super().__init__(url="", type=pytsk3.TSK_IMG_TYPE_EXTERNAL)

        def read(self, offset: int, length: int) -> bytes:
            self._file.seek(offset)
            return self._file.read(length) or b""

        def get_size(self) -> int:
            return self._size

    with aipimage.open(tmp_path / "n.aiv") as image:
        volume = pytsk3.FS_Info(Adapter(image.devices[0]))
        names = {entry.info.name.name for entry in volume.open_dir("/")}
    assert b"$MFT" in names
    assert len(names) > 10
