"""Appliances as other makers' tools write them, and what is found in them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import aipimage
from aipimage.vmdk.ovf import check_ova, open_ova
from tests.vmdk.ovf.made import MIB, disk

SIZE = 5 * MIB


def pack(path: Path, files: Mapping[str, str | bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    """Make a tar of files."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return path


def content(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """What the one disk of an appliance holds, and the warnings."""
    with open_ova(path) as opened:
        assert len(opened.disks) == 1
        with opened.open_disk(0) as source:
            data = bytearray(source.size)
            source.read_into(data, 0)
            return bytes(data), (*opened.warnings, *source.warnings)


def check(path: Path, *expected: str) -> None:
    """The disk is what it was, with just these warnings; so say the command's functions too."""
    found, warnings = content(path)
    assert found == disk(SIZE).content(0, SIZE)
    assert len(warnings) == len(expected), warnings
    for said, part in zip(warnings, expected, strict=True):
        assert part in said
        assert str(path) in said
    target = path.with_suffix(".raw")
    result = aipimage.convert(path, target, overwrite=True)
    assert target.read_bytes() == found
    assert set(warnings) <= set(result.warnings)
    check_ova(path)
