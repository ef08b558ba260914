"""Boot regions of exFAT volumes that were moved on their disk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.exfat.headers import moved
from tests.support import loop_device
from tests.support.sources import view_of
from tests.support.tools import require_programs, run

MIB = 1 << 20


@pytest.mark.parametrize("sector", [512, 4096])
def test_exfat_moved(tmp_path: Path, sector: int) -> None:
    """Both boot regions and their checksums; fsck has nothing against it."""
    require_programs("mkfs.exfat", "fsck.exfat", "dump.exfat")
    path = tmp_path / "v"
    path.write_bytes(bytes(16 * MIB))
    with loop_device(path, "--sector-size", str(sector)) as device:
        run(["mkfs.exfat", device])
        data = bytearray(path.read_bytes())
        assert moved(view_of(bytes(data)), MIB, 2 * MIB) == []
        patches = moved(view_of(bytes(data)), 0, 3 * MIB)
        assert len(patches) == 4
        for offset, part in patches:
            data[offset : offset + len(part)] = part
        path.write_bytes(data)
        run(["fsck.exfat", "-n", device])
    for region in (0, 12 * sector):
        assert struct.unpack_from("<Q", data, region + 64)[0] == 3 * MIB // sector
