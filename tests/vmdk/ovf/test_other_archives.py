"""Dialects of tar: the disks of other makers' archives are found, and are what they were."""

from __future__ import annotations

import hashlib
import os
import random
import tarfile
from pathlib import Path

import pytest

from aipimage.errors import FormatError
from aipimage.vmdk.ovf import check_ova, open_ova
from tests.support.tools import require_programs, run
from tests.vmdk.ovf.foreign import SIZE, check, content, pack
from tests.vmdk.ovf.made import descriptor, disk

# Dialects of tar.

LONG = "x" * 110 + ".vmdk"


@pytest.mark.parametrize("form", ["ustar", "v7", "gnu", "oldgnu", "posix"])
@pytest.mark.parametrize("sparse", [False, True])
def test_dialects_of_gnu_tar(form: str, sparse: bool, vmdk: bytes, tmp_path: Path) -> None:
    """Long names where the dialect has them; sparse files in the forms of GNU and of pax."""
    require_programs("tar")
    if sparse and form in ("ustar", "v7"):
        pytest.skip("has no sparse files")
    name = "d.vmdk" if form in ("ustar", "v7") else LONG
    (tmp_path / "m.ovf").write_text(descriptor(name))
    with (tmp_path / name).open("wb") as file:
        file.write(vmdk)
        if sparse:
            file.truncate(len(vmdk) + (900 << 10))
    command = ["tar", f"--format={form}", "-C", tmp_path, *(["-S"] if sparse else [])]
    run([*command, "-cf", tmp_path / "a.ova", "m.ovf", name])
    expected = [f"has {900 << 10} bytes after its end"] if sparse else []
    found, warnings = content(tmp_path / "a.ova")
    assert found == disk(SIZE).content(0, SIZE)
    assert [each.split(": ")[1] for each in warnings] == expected


def holed(path: Path) -> bytes:
    """A file with so many holes that its map needs further blocks."""
    data = bytearray(60 << 16)
    with path.open("wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), 1 << 16):
            piece = random.Random(at).randbytes(5000)
            os.pwrite(file.fileno(), piece, at)
            data[at : at + len(piece)] = piece
    return bytes(data)


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_files_with_many_pieces(form: list[str], tmp_path: Path) -> None:
    require_programs("tar")
    data = holed(tmp_path / "d.vmdk")
    (tmp_path / "m.ovf").write_text(descriptor())
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "m.mf").write_text(f"SHA256(d.vmdk)= {digest}\n")
    path = tmp_path / "a.ova"
    run(["tar", *form, "-S", "-C", tmp_path, "-cf", path, "m.ovf", "m.mf", "d.vmdk"])
    with open_ova(path) as opened:
        member = opened.members[-1]
        assert (member.name, member.size) == ("d.vmdk", len(data))
        assert len(member.ranges) >= 60
        assert not list(opened.damaged())
        file = opened.storage().open_read(path / "d.vmdk")
        rng = random.Random(7)
        for _ in range(300):
            at, length = rng.randrange(len(data) + 10), rng.randrange(1, 200_000)
            assert file.pread(length, at) == data[at : at + length]


def test_hostile_maps_of_sparse_files(tmp_path: Path) -> None:
    require_programs("tar")
    data = holed(tmp_path / "d.vmdk")
    (tmp_path / "m.ovf").write_text(descriptor())
    path = tmp_path / "a.ova"
    run(["tar", "--format=gnu", "-S", "-C", tmp_path, "-cf", path, "m.ovf", "d.vmdk"])
    whole = path.read_bytes()
    header = whole.index(b"d.vmdk\0")
    for at, value in (
        (386, b"77777777777\0"),
        (398, b"77777777777\0"),
        (410, b"00000000000\0"),
        (483, b"0" * 12),
        (398, b"00000000001\0"),
        (386, b"\xff" * 12),
        (482, b"\0"),
    ):
        changed = bytearray(whole)
        changed[header + at : header + at + len(value)] = value
        block = changed[header : header + 512]
        total = sum(block[:148]) + 256 + sum(block[156:])
        changed[header + 148 : header + 156] = b"%06o\0 " % total
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=r"sparse file|63 bits|no tar header|checksum"):
            content(path)
    assert len(data) == 60 << 16


def test_archives_without_an_end(vmdk: bytes, tmp_path: Path) -> None:
    files = {"m.ovf": descriptor(), "d.vmdk": vmdk + bytes(-len(vmdk) % 512)}
    path = pack(tmp_path / "a.ova", files)
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-1].offset_data + len(files["d.vmdk"])
    data = path.read_bytes()
    for rest, said in (
        (b"", "has no end"),
        (bytes(512), "has no end"),
        (bytes(100), "has no end"),
        (bytes(512) + b"rest" * 128, "single block of zeros"),
    ):
        path.write_bytes(data[:end] + rest)
        check(path, said)
        assert not check_ova(path).ok
    path.write_bytes(data[:end] + bytes(1024) + b"rest")
    check(path)


def test_old_sums_of_signed_bytes(vmdk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor("ä.vmdk"), "ä.vmdk": vmdk})
    data = bytearray(path.read_bytes())
    at = data.index("ä.vmdk\0".encode() + bytes(50))
    total = int(data[at + 148 : at + 154], 8)
    data[at + 148 : at + 156] = b"%06o\0 " % (total - 2 * 256)
    path.write_bytes(data)
    check(path)
