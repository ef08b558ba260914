"""Checking appliances: each fault is found, and what is whole has no findings."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from aipimage.errors import StorageError
from aipimage.vmdk.ovf.checking import check_ova
from aipimage.vmdk.ovf.writing import write_ova
from tests.vmdk.ovf.made import FIXED, disk


@pytest.fixture
def ova(tmp_path: Path) -> Path:
    """An appliance of two disks."""
    write_ova(tmp_path / "m.ova", [disk(seed=1), disk(seed=2)], name="m", **FIXED)  # type: ignore[arg-type]
    return tmp_path / "m.ova"


def repacked(ova: Path, change: str) -> Path:
    """The same files in an archive of their own, with one of them changed."""
    target = ova.with_name("changed.ova")
    with tarfile.open(ova) as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        members = old.getmembers()
        if change == "order":
            members.append(members.pop(0))
        for member in members:
            file = old.extractfile(member)
            assert file is not None
            data = bytearray(file.read())
            if member.name.endswith("disk2.vmdk"):
                if change == "gone":
                    continue
                if change == "content":
                    # A reserved byte of the end of stream marker, the last sector.
                    data[-8] ^= 1
            if member.name.endswith(".mf") and change in ("no manifest", "size"):
                continue
            if change == "size" and member.name.endswith(".vmdk"):
                data += bytes(512)
            member.size = len(data)
            new.addfile(member, io.BytesIO(bytes(data)))
    return target


def test_whole(ova: Path) -> None:
    result = check_ova(ova)
    assert result.ok
    assert not result.findings
    assert result.grains == 6
    assert result.bytes == ova.stat().st_size
    assert check_ova(repacked(ova, "nothing")).findings == ()


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ("order", {"ova"}),
        ("gone", {"ova-manifest", "ova-file"}),
        ("content", {"ova-manifest", "marker-reserved"}),
        ("no manifest", {"ova-no-manifest"}),
        ("size", {"ova-no-manifest", "ova-file"}),
    ],
)
def test_one_fault(ova: Path, change: str, codes: set[str]) -> None:
    result = check_ova(repacked(ova, change))
    assert codes <= {each.code for each in result.findings}
    assert result.ok == (change == "no manifest")
    if change in ("gone", "content"):
        assert any("disk2.vmdk" in each.message for each in result.findings)


def test_cut_short(ova: Path) -> None:
    """Wherever the file ends: a finding, never another error."""
    data = ova.read_bytes()
    for end in (0, 1, 511, 512, 1500, len(data) // 2, len(data) - 1024, len(data) - 1):
        ova.write_bytes(data[:end])
        result = check_ova(ova)
        assert not result.ok, end
        assert result.findings[0].code == "ova"


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nothing"):
        check_ova(tmp_path / "nothing.ova")
