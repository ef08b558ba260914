"""Formats follow from names, never from content; options that do not fit are refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import aipimage
from aipimage.converting.formats import format_of_source, format_of_target
from aipimage.errors import AipImageError, PasswordError, RequestError
from aipimage.io.system.storage import DEFAULT

MIB = 1 << 20
DESCRIPTOR = (
    b"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
    b'createType="monolithicFlat"\nRW 2048 FLAT "/etc/passwd" 0\n'
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Two MiB, half of them zeros."""
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(MIB) + bytes(MIB))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.aiv", "aiv"), ("a.AIV.002", "aiv"), ("a.aii", "aiv"), ("a.vmdk", "vmdk"),
     ("a.VMDK", "vmdk"), ("a-delta.vmdk", "vmdk"), ("a-s001.vmdk", "vmdk"), ("a.raw", "raw"),
     ("a.img", "raw"), ("vmdk", "raw"), ("a.aiv.partial", "raw"), ("a.vmdk.bak", "raw"),
     ("/dev/sda", "raw")],
)  # fmt: skip
def test_sources_are_what_their_names_say(name: str, kind: str) -> None:
    assert format_of_source(name, None) == kind
    assert format_of_source(name, "raw") == "raw"


@pytest.mark.parametrize("name", ["a-flat.vmdk", "a-f001.vmdk", "x/a-FLAT.VMDK", "a-rdm.vmdk"])
def test_extents_of_plain_bytes_are_no_disks(name: str) -> None:
    with pytest.raises(RequestError, match=r"is an extent of a virtual disk; use the \.vmdk file"):
        format_of_source(name, None)
    assert format_of_source(name, "raw") == "raw"
    assert format_of_source(name, "vmdk") == "vmdk"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.vmdk", "vmdk"),
        ("a.raw", "raw"),
        ("a.IMG", "raw"),
        ("a.aiv", "aiv"),
        ("a.ova", "ova"),
        ("a.ovf", "ovf"),
    ],
)
def test_targets_are_what_their_names_say(name: str, kind: str) -> None:
    assert format_of_target(name, None, DEFAULT) == kind
    assert format_of_target(name, "raw", DEFAULT) == "raw"


def test_a_target_without_a_format_is_refused(disk: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "disk", tmp_path / "disk.qcow2"):
        with pytest.raises(RequestError, match="does not show the format; pass it"):
            aipimage.convert(disk, target)
    assert list(tmp_path.iterdir()) == [disk]


def test_class_37_a_raw_disk_that_looks_like_a_descriptor_stays_raw(tmp_path: Path) -> None:
    """A guest can write a descriptor to its first sectors: it is bytes, and a warning says so."""
    disk = tmp_path / "guest.raw"
    disk.write_bytes(DESCRIPTOR.ljust(MIB, b"\0"))
    made = aipimage.convert(disk, tmp_path / "copy.img")
    assert (tmp_path / "copy.img").read_bytes() == disk.read_bytes()
    assert made.source_format == "raw"
    [warning] = made.warnings
    assert "begins like a VMDK disk and is taken as plain bytes; if" in warning


@pytest.mark.parametrize("name", ["guest-flat.vmdk", "guest-f001.vmdk"])
def test_class_37_an_extent_that_looks_like_a_descriptor_is_refused(
    name: str, tmp_path: Path
) -> None:
    """The bytes of a guest in an extent are never opened as a virtual disk."""
    (tmp_path / name).write_bytes(DESCRIPTOR.ljust(MIB, b"\0"))
    with pytest.raises(RequestError, match="is an extent of a virtual disk"):
        aipimage.convert(tmp_path / name, tmp_path / "copy.img")
    made = aipimage.convert(tmp_path / name, tmp_path / "copy.img", source_format="raw")
    assert made.warnings
    assert (tmp_path / "copy.img").read_bytes() == (tmp_path / name).read_bytes()


def test_class_37_plain_bytes_called_vmdk_are_refused(disk: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.vmdk"
    disk.rename(wrong)
    with pytest.raises(AipImageError, match=r"wrong\.vmdk"):
        aipimage.convert(wrong, tmp_path / "copy.img")
    assert list(tmp_path.iterdir()) == [wrong]
    wrong.rename(tmp_path / "a-s001.vmdk")
    with pytest.raises(RequestError, match="is an extent of a virtual disk"):
        aipimage.convert(tmp_path / "a-s001.vmdk", tmp_path / "copy.img")


def test_class_37_an_image_under_another_name_is_asked_about(disk: Path, tmp_path: Path) -> None:
    """Neither is guessed: as raw it would be copied as it is, as an image it would be opened."""
    image = tmp_path / "backup.bin"
    aipimage.create(image, disk)
    with pytest.raises(RequestError, match="say what it is"):
        aipimage.convert(image, tmp_path / "copy.img")
    aipimage.convert(image, tmp_path / "copy.img", source_format="aiv")
    assert (tmp_path / "copy.img").read_bytes() == disk.read_bytes()
    aipimage.convert(image, tmp_path / "same.img", source_format="raw")
    assert (tmp_path / "same.img").read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("a.raw", {"subformat": "streamOptimized"}, "subformat belongs to a target of format vmdk"),
        ("a.raw", {"adapter": "ide"}, "adapter belongs to a target of format ova or ovf or vmdk"),
        ("a.raw", {"split": 1 << 30}, "split belongs to"),
        ("a.aiv", {"cid": 0}, "cid belongs to"),
        ("a.aiv", {"level": "dense"}, "level belongs to"),
        ("a.vmdk", {"compress": "none"}, "compress belongs to a target of format aiv, not vmdk"),
        ("a.vmdk", {"encrypt": "aes-256", "password": "x"}, "encrypt belongs to"),
        ("a.vmdk", {"comment": "c"}, "comment belongs to"),
        ("a.vmdk", {"include_free": True}, "include-free belongs to"),
        ("a.vmdk", {"appliance": {"cpus": 1}}, "appliance belongs to"),
        ("a.ova", {"resume": True}, "resume belongs to"),
        ("a.raw", {"format": "qcow2"}, "unknown format 'qcow2'"),
        ("a.raw", {"source_format": "qcow2"}, "unknown source format 'qcow2'"),
        ("a.raw", {"disk": 1}, "has no disk 1; it has 1, numbered from 0"),
        ("a.raw", {"disk": -1}, "disk=-1 is not possible"),
        ("a.raw", {"disk": []}, "name each disk once"),
        ("a.ova", {"disk": [0, 0]}, "name each disk once"),
    ],
)
def test_what_does_not_fit_is_refused(
    target: str, options: dict[str, Any], message: str, disk: Path, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=message):
        aipimage.convert(disk, tmp_path / target, **options)
    assert list(tmp_path.iterdir()) == [disk]


def test_a_password_that_nothing_needs_is_refused(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(PasswordError, match=r"of use only for an \.aiv image"):
        aipimage.convert(disk, tmp_path / "a.img", password="secret")


def test_an_image_of_an_image_is_refused(disk: Path, tmp_path: Path) -> None:
    aipimage.create(tmp_path / "a.aiv", disk)
    with pytest.raises(RequestError, match=r"is an \.aiv image already; merge, split and join"):
        aipimage.convert(tmp_path / "a.aiv", tmp_path / "b.aiv")


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.raw").touch()
    with pytest.raises(RequestError, match="nothing to convert"):
        aipimage.convert(tmp_path / "empty.raw", tmp_path / "a.img")
    assert [each.name for each in tmp_path.iterdir()] == ["empty.raw"]
