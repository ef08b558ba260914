"""Disks in chunks, compressed disks, and archives that are something else."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from aipimage.errors import AipImageError, FormatError, IncompleteError, UnsupportedError
from aipimage.vmdk.ovf import check_ova, open_ova
from aipimage.vmdk.ovf.parsing import decode_envelope
from tests.vmdk.ovf.foreign import check, content, pack
from tests.vmdk.ovf.made import descriptor

# Chunks.


def chunks(vmdk: bytes, size: int, name: str = "d.vmdk") -> dict[str, str | bytes]:
    """A disk in pieces, as DSP0243 calls them."""
    return {f"{name}.{at // size:09d}": vmdk[at : at + size] for at in range(0, len(vmdk), size)}


@pytest.mark.parametrize("told", ['ovf:chunkSize="20000"', "", 'ovf:chunkSize=""'])
@pytest.mark.parametrize("folder", ["", "sub/"])
def test_chunks_are_joined(told: str, folder: str, vmdk: bytes, tmp_path: Path) -> None:
    files = {f"{folder}m.ovf": descriptor(size=len(vmdk), file=told)}
    pieces = chunks(vmdk, 20_000, f"{folder}d.vmdk")
    assert len(pieces) > 3
    path = pack(tmp_path / "a.ova", files | dict(reversed(pieces.items())))
    check(path)
    assert check_ova(path).ok


@pytest.mark.parametrize("size", ["7516192768", "20000", "0", "x"])
def test_a_file_that_is_not_in_chunks(size: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(size=len(vmdk), file=f'ovf:chunkSize="{size}"')
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


@pytest.mark.parametrize("gap", [0, 1, -1])
def test_a_gap_is_named(gap: int, vmdk: bytes, tmp_path: Path) -> None:
    files = chunks(vmdk, 20_000)
    missing = sorted(files)[gap]
    del files[missing]
    text = descriptor(size=len(vmdk), file='ovf:chunkSize="20000"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, **files})
    with pytest.raises(IncompleteError, match=f"{missing}, a chunk of the disk d.vmdk, is not in"):
        content(path)
    assert [each.code for each in check_ova(path).findings] == ["ova-no-manifest", "ova-file"]


# What is compressed.


def test_compressed_disks_are_named(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor("d.vmdk.gz", file='ovf:compression="gzip"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk.gz": gzip.compress(vmdk)})
    with pytest.raises(UnsupportedError, match=r"d\.vmdk\.gz is a gzip file: .*\(gunzip\)"):
        content(path)
    untold = {"m.ovf": descriptor(), "d.vmdk": gzip.compress(vmdk)}
    with pytest.raises(UnsupportedError, match="is a gzip file"):
        content(pack(tmp_path / "b.ova", untold))
    strange = descriptor(file='ovf:compression="http://x/y"')
    with pytest.raises(UnsupportedError, match="is compressed"):
        content(pack(tmp_path / "c.ova", {"m.ovf": strange, "d.vmdk": b"?" * 600}))
    for said in ('ovf:compression="identity"', 'ovf:compression="gzip"'):
        # What is called compressed and is not is read.
        check(pack(tmp_path / "d.ova", {"m.ovf": descriptor(file=said), "d.vmdk": vmdk}))


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (b"\x1f\x8b\x08\0", "a gzip file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"BZh91AY&SY", "a bzip2 file"),
        (b"PK\3\4", "a zip archive"),
        (b"(\xb5/\xfd", "a zstd file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"KDMV\1", "a VMDK disk"),
        (b"QFI\xfb", "a qcow2 disk"),
    ],
)
def test_whole_archives_that_are_something_else(magic: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ova"
    path.write_bytes(magic + random.Random(1).randbytes(3000))
    with pytest.raises(FormatError, match=rf"is not an OVA: it begins like {name}"):
        open_ova(path)


def test_disks_of_other_kinds_are_named(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor("d.img").replace("vmdk.html", "x")
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.img": b"QFI\xfb" + bytes(508)})
    with pytest.raises(UnsupportedError, match=r"only VMDK disks .* like a qcow2 disk"):
        content(path)


def test_any_error_is_one_line(vmdk: bytes, tmp_path: Path) -> None:
    """Whatever a descriptor calls a file."""
    for href in ("a&#10;b", "&#x202e;", "&#9;"):
        path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(href), "d.vmdk": vmdk})
        with pytest.raises(AipImageError) as caught:
            content(path)
        assert str(caught.value).isprintable()
    assert decode_envelope(descriptor().encode(), "x").files[0].compression == ""
