"""A file that is no raw disk, given as one: it is read as it is, and a warning names it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import aipimage
from aipimage.errors import SourceError
from aipimage.io.blocks.containers import container_in, container_of
from tests.cli.running import invoke
from tests.support.sources import SparseSource

RAW = random.Random(4).randbytes(300_000).ljust(4 << 20, b"\0")


def check(path: Path, name: str, advice: str, where: str = "begins") -> None:
    """Each way to read a disk says what it is; the bytes are taken as they are."""
    text = f"{path}: {where} like {name} and is taken as plain bytes; if it is one, "
    target, copy, other = (path.with_name(each) for each in ("x.aiv", "x.raw", "y.aiv"))
    result = aipimage.create(target, path)
    found = [each for each in result.warnings if each.startswith(text)]
    assert len(found) == 1, result.warnings
    assert advice in found[0]
    with aipimage.open(target) as image, image.devices[0].open() as raw:
        assert raw.read() == path.read_bytes()
    assert found[0] in aipimage.convert(path, copy, source_format="raw").warnings
    assert list(aipimage.convert(path, other).warnings).count(found[0]) == 1
    assert copy.read_bytes().startswith(path.read_bytes())
    for arguments in (["info", path], ["createimage", "-o", target, "--overwrite", path]):
        ran = invoke(*arguments)
        assert ran.code == 0
        assert ran.err.count(text) == 1
    for each in (target, copy, other):
        each.unlink()


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
@pytest.mark.parametrize(
    ("form", "options", "name", "advice"),
    [
        ("qcow2", [], "a qcow2 disk", "qemu-nbd"),
        ("qcow", [], "a qcow2 disk", "qemu-img convert"),
        ("vhdx", [], "a VHDX disk", "qemu-img convert"),
        ("vpc", [], "a VHD disk", "qemu-img convert"),
        ("vdi", [], "a VDI disk", "qemu-img"),
        ("qed", [], "a QED disk", "qemu-img"),
        ("parallels", [], "a Parallels disk", "qemu-img"),
        ("vmdk", [], "a VMDK disk", "(source_format='vmdk')"),
        ("vmdk", ["-o", "subformat=streamOptimized"], "a VMDK disk", "(source_format='vmdk')"),
    ],
)
def test_disks_of_qemu(
    form: str, options: list[str], name: str, advice: str, tmp_path: Path
) -> None:
    (tmp_path / "s.raw").write_bytes(RAW)
    path = tmp_path / "disk.img"
    command = ["qemu-img", "convert", "-q", "-f", "raw", "-O", form, *options]
    subprocess.run([*command, tmp_path / "s.raw", path], check=True)
    check(path, name, advice)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
def test_a_vhd_of_fixed_size_has_its_mark_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "s.raw").write_bytes(RAW)
    path = tmp_path / "disk.img"
    command = ["qemu-img", "convert", "-q", "-O", "vpc", "-o", "subformat=fixed"]
    subprocess.run([*command, tmp_path / "s.raw", path], check=True)
    check(path, "a VHD disk of fixed size", "qemu-img convert -f vpc", "ends")


PACKERS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a gzip file": (gzip.compress, "gunzip"),
    "a bzip2 file": (bz2.compress, "bunzip2"),
    "an xz file": (lzma.compress, "unxz"),
    "a zstd file": (zstandard.ZstdCompressor().compress, "unzstd"),
}


@pytest.mark.parametrize("name", PACKERS)
def test_compressed_disks(name: str, tmp_path: Path) -> None:
    packer, program = PACKERS[name]
    path = tmp_path / "disk.raw.packed"
    path.write_bytes(packer(RAW))
    check(path, name, f"unpack it first ({program})")


def test_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.img", "w") as archive:
        archive.writestr("disk.raw", RAW)
    check(tmp_path / "a.img", "a zip archive", "unzip")
    (tmp_path / "m.ovf").write_text("<a/>")
    for name, said in (("m.ovf", "an appliance (OVA)"), ("a.img", "a tar archive")):
        with tarfile.open(tmp_path / "b.img", "w") as tar:
            tar.add(tmp_path / name, name)
        check(tmp_path / "b.img", said, "(source_format='ova')" if "OVA" in said else "tar -xf")


def test_an_image_and_its_parts_under_other_names(tmp_path: Path) -> None:
    """``convert`` refuses an image that is not named like one; it is not read as a disk."""
    (tmp_path / "s.raw").write_bytes(RAW)
    aipimage.create(tmp_path / "a.aiv", tmp_path / "s.raw", split=128 << 10)
    aipimage.create(tmp_path / "b.aiv", tmp_path / "s.raw")
    for name, said in (("a.aiv.002", "a part of a split .aiv image"), ("b.aiv", "an .aiv image")):
        path = (tmp_path / name).rename(tmp_path / "renamed")
        result = aipimage.create(tmp_path / "c.aiv", path, overwrite=True)
        assert f"{path}: begins like {said} and is taken as plain bytes" in result.warnings[0]


HEADS: list[tuple[bytes, str]] = [
    (b"EVF\x09\x0d\x0a\xff\0", "an E01 image (EWF)"),
    (b"EVF2\x0d\x0a\x81\0", "an Ex01 image (EWF)"),
    (b"AFF10\x0d\x0a\0", "an AFF image"),
    (b"MSWIM\0\0\0", "a WIM archive"),
    (b"partclone-image\0", "a partclone image"),
    (b"PaRtImAgE-VoLuMe", "a Partimage image"),
    (b"\0ntfsclone-image", "an ntfsclone image"),
    (b"\xfe\xef\x01\1", "a Ghost image"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"COWD\1", "a VMDK extent of ESX (COWD)"),
    (b"# Disk DescriptorFile\n", "a VMDK disk"),
    (b"\xef\xbb\xbf\n# Disk Descriptor File\n", "a VMDK disk"),
    (b"VMA\0", "a Proxmox backup (VMA)"),
    (b"WithoutFreeSpace", "a Parallels disk"),
    (b"QFI\xfb\0\0\0\3", "a qcow2 disk"),
    (b"PK\3\4" + bytes(26) + b"container.description", "an AFF4 image"),
    (b"\x89LZO\0\r\n\x1a\n", "an lzop file"),
    (b"Rar!\x1a\x07\0", "a RAR archive"),
]


@pytest.mark.parametrize(("head", "name"), HEADS)
def test_first_bytes(head: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(head.ljust(2048, b"\1"))
    check(path, name, " ")


@pytest.mark.parametrize("tail", [b"koly".ljust(512, b"\1"), b"conectix".ljust(511, b"\1")])
def test_last_bytes(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(9000) + tail)
    name = "a DMG disk" if tail[0] == ord("k") else "a VHD disk of fixed size"
    check(path, name, "convert it first", "ends")


def test_raw_disks_are_left_in_peace(tmp_path: Path) -> None:
    """A boot sector, a file system, an installation disc, zeros, noise, short files."""
    boot = b"\xeb\x63\x90".ljust(510, b"\0") + b"\x55\xaa"
    iso = bytes(32769) + b"CD001\1".ljust(4096, b"\0")
    noise = random.Random(1).randbytes(100_000)
    short = (b"K", b"KDM", b"\x1f\x8b", b"# Disk", b"BZh9", b"PK")
    for data in (boot, iso, bytes(5000), noise, *short):
        assert container_of(data[:4096], data[-512:]) is None
        path = tmp_path / "disk.img"
        path.write_bytes(data.ljust(512, b"\0"))
        result = aipimage.create(tmp_path / "x.aiv", path, overwrite=True)
        assert not any("plain bytes" in each for each in result.warnings)


def test_a_disk_of_another_program_is_not_asked(tmp_path: Path) -> None:
    """What gives blocks by itself gives those of a disk, whatever is in them."""
    source = SparseSource(1 << 20, {0: b"QFI\xfb"}, name="guest")
    assert container_in(source) is not None
    result = aipimage.create(tmp_path / "x.aiv", source)
    assert not any("qcow2" in each for each in result.warnings)


class Unreadable(SparseSource):
    """Its first sector cannot be read."""

    def read_into(self, buffer: object, offset: int) -> None:
        raise SourceError("no")


def test_what_cannot_be_read_is_not_known() -> None:
    assert container_in(Unreadable(1 << 20, {}, name="d")) is None
