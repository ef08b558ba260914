"""NTFS volumes that nobody here made, some of them by Windows, beside the checkout."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.ntfs.boot import decode_geometry, is_ntfs
from aipimage.volumes.view import LayoutError
from tests.support import SAMPLES
from tests.support.tools import PATH, run
from tests.volumes.ntfs.judge import compare, surveyed
from tests.volumes.ntfs.made import require_ntfs

_OPENERS = {".bz2": bz2.open, ".xz": lzma.open, ".gz": gzip.open}
_REPOSITORIES = (
    "ColinFinck-ntfs",
    "dfir_ntfs",
    "dfvfs",
    "dissect_hypervisor-3.20",
    "keramics",
    "util-linux",
)
_CONTAINERS = (".vhd", ".vhdx", ".qcow2")
_MOST = 64 << 20

pytestmark = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")


def disks(scratch: Path, names: Collection[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Name and content of every sample that may be a disk, or of some."""
    for path in sorted(path for name in _REPOSITORIES for path in (SAMPLES / name).rglob("*")):
        if (
            (names and path.name not in names)
            or not path.is_file()
            or ".tar" in path.name
            or path.suffix == ".tgz"
        ):
            continue
        with _OPENERS.get(path.suffix, open)(path, "rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            continue
        name = path.name.removesuffix(path.suffix) if path.suffix in _OPENERS else path.name
        if name.endswith(_CONTAINERS) and shutil.which("qemu-img", path=PATH):
            (scratch / name).write_bytes(data)
            raw = scratch / "raw"
            run(["qemu-img", "convert", "-O", "raw", scratch / name, raw], codes=(0, 1))
            if raw.exists() and raw.stat().st_size <= _MOST:
                data = raw.read_bytes()
            raw.unlink(missing_ok=True)
        yield path.name, data


def volumes(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of everything that begins like NTFS; second boot sectors among them."""
    at = data.find(b"NTFS    ")
    while at >= 0:
        offset = at - 3
        if offset % 512 == 0 and is_ntfs(sector := data[offset : offset + 512]):
            try:
                geometry = decode_geometry(sector)
                yield offset, geometry.size + geometry.sector_size
            except LayoutError:
                yield offset, 0
        at = data.find(b"NTFS    ", at + 1)


def test_all_samples_are_read_as_ntfsclone_reads_them(tmp_path: Path) -> None:
    require_ntfs()
    volume, compared, cut = tmp_path / "volume", [], []
    for name, data in disks(tmp_path):
        for offset, size in volumes(data):
            volume.write_bytes(data[offset : offset + size] if size else data[offset:])
            if size and offset + size <= len(data):
                compare(volume, tmp_path)
                compared.append(name)
            else:
                with pytest.raises(LayoutError):
                    surveyed(volume)
                cut.append(name)
    assert len(compared) >= 7, compared
    assert len(cut) >= 5, cut
    assert {"testfs1", "ntfs3_attrlist.raw.gz", "ntfs_index.raw.gz", "fixed.vhd.gz"} <= {*compared}
