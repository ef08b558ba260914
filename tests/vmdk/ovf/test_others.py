"""Manifests and places of members as other makers write them: the disks are what they were."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from aipimage.errors import FormatError
from aipimage.vmdk.ovf import check_ova, open_ova
from tests.vmdk.ovf.foreign import SIZE, check, content, pack
from tests.vmdk.ovf.made import descriptor, disk

# Manifests.

SPELLINGS: dict[str, Callable[[str, str], str]] = {
    "openssl3": lambda name, digest: f"SHA2-256({name})= {digest}\n",
    "dash": lambda name, digest: f"SHA-256({name})= {digest}\n",
    "small": lambda name, digest: f"sha256({name}) = {digest}\n",
    "bsd, crlf": lambda name, digest: f"SHA256 ({name}) = {digest}\r\n",
    "coreutils": lambda name, digest: f"{digest} *{name}\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_manifests(spelling: str, vmdk: bytes, tmp_path: Path) -> None:
    """Read without a word; and a check compares the digests."""
    files: dict[str, str | bytes] = {"m.ovf": descriptor(), "d.vmdk": vmdk}
    lines = {
        name: hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
        for name, data in files.items()
    }
    text = "".join(SPELLINGS[spelling](name, digest) for name, digest in lines.items())
    path = pack(tmp_path / "a.ova", files | {"m.mf": text})
    check(path)
    assert check_ova(path).ok
    wrong = text.replace(lines["d.vmdk"], lines["m.ovf"])
    result = check_ova(pack(tmp_path / "b.ova", files | {"m.mf": wrong}))
    assert [each.message for each in result.findings if each.code == "ova-manifest"] == [
        "d.vmdk is missing or not what the manifest says"
    ]


def test_a_manifest_that_is_odd_is_a_warning(vmdk: bytes, tmp_path: Path) -> None:
    text = f"# by hand\nnonsense\nWHIRLPOOL(d.vmdk)= {'0' * 128}\nSHA1(gone.iso)= {'0' * 40}\n"
    files = {"m.ovf": descriptor(), "m.mf": text, "d.vmdk": vmdk}
    path = pack(tmp_path / "a.ova", files)
    check(path, "line 2", "unknown kind, 'WHIRLPOOL'", "names 'gone.iso', which is not in")
    result = check_ova(path)
    assert not result.ok
    assert [each.severity for each in result.findings] == ["warning"] * 3 + ["error"]


def test_the_manifest_is_that_of_the_descriptor(vmdk: bytes, tmp_path: Path) -> None:
    right = f"SHA1(d.vmdk)= {hashlib.sha1(vmdk).hexdigest()}\n"
    files = {"m.ovf": descriptor(), "a.mf": "SHA1(x)= 00", "m.mf": right, "d.vmdk": vmdk}
    path = pack(tmp_path / "a.ova", files)
    check(path)
    with open_ova(path) as opened:
        assert [line.name for line in opened.manifest] == ["d.vmdk"]


# Where members lie.


@pytest.mark.parametrize(("href", "member", "folder"), [
    ("d.vmdk", "sub/d.vmdk", "sub/"), ("d.vmdk", "./d.vmdk", "./"), ("./d.vmdk", "d.vmdk", ""),
    ("disks/d.vmdk", "sub/disks/d.vmdk", "sub/"), ("disks/d.vmdk", "disks/d.vmdk", ""),
    ("my%20disk.vmdk", "my disk.vmdk", ""), ("my%20disk.vmdk", "my%20disk.vmdk", ""),
    ("my disk.vmdk", "my disk.vmdk", ""), ("disks\\d.vmdk", "disks/d.vmdk", ""),
    ("disks\\d.vmdk", "disks\\d.vmdk", ""), (".\\d.vmdk", "d.vmdk", ""),
    ("disks%2Fd.vmdk", "disks/d.vmdk", ""), ("Gr%C3%B6%C3%9Fe.vmdk", "Größe.vmdk", ""),
    ("sub/d.vmdk", "sub/d.vmdk", "sub/"), ("D.VMDK", "d.vmdk", ""), ("d.vmdk", "D.VMDK", ""),
    ("disks//d.vmdk", "disks/d.vmdk", ""), ("o\u0308.vmdk", "ö.vmdk", ""),
    ("d.vmdk", "a/very/deep/folder/d.vmdk", "a/very/deep/folder/"), ("100%.vmdk", "100%.vmdk", ""),
    ("d.vmdk", "/abs/d.vmdk", "/abs/"), ("a#b?c.vmdk", "a#b?c.vmdk", ""),
])  # fmt: skip
def test_places_of_members(
    href: str, member: str, folder: str, vmdk: bytes, tmp_path: Path
) -> None:
    text = descriptor(href, size=len(vmdk))
    digests = f"SHA1({os.path.basename(member)})= {hashlib.sha1(vmdk).hexdigest()}\n"
    files = {f"{folder}m.OVF": text, f"{folder}m.MF": digests, member: vmdk}
    path = pack(tmp_path / "a.ova", files)
    found, warnings = content(path)
    assert found == disk(SIZE).content(0, SIZE)
    if os.path.dirname(member) == folder.rstrip("/"):
        assert not warnings
        with open_ova(path) as opened:
            assert not list(opened.damaged())


@pytest.mark.parametrize("href", [
    "/etc/passwd", "../d.vmdk", "sub/../d.vmdk", "..", "%2e%2e/d.vmdk", "..%2fd.vmdk", "..\\d.vmdk",
    "%2Fetc%2Fpasswd", "sub/..", "sub%5c..%5cd.vmdk", "\\d.vmdk", "C:\\d.vmdk", "c:/d.vmdk",
    "file:///d.vmdk", "http://host/d.vmdk", "https://host/d.vmdk", "//host/d.vmdk", "d.vmdk%00",
])  # fmt: skip
@pytest.mark.parametrize("folder", ["", "sub/"])
def test_class_36_no_reference_leads_out(
    href: str, folder: str, vmdk: bytes, tmp_path: Path
) -> None:
    """Not even where the archive has a file of that name."""
    (tmp_path / "d.vmdk").write_bytes(vmdk)
    files = {f"{folder}m.ovf": descriptor(href), href: vmdk, "d.vmdk": vmdk, f"sub/{href}": vmdk}
    path = pack(tmp_path / "a.ova", files)
    with pytest.raises(FormatError, match="leads out of the appliance and is not followed"):
        content(path)


def test_descriptors_beside_the_first(vmdk: bytes, tmp_path: Path) -> None:
    """Importers take the first; what macOS calls ``._m.ovf`` holds attributes of a file."""
    other = descriptor("other.vmdk")
    files = {
        "._m.ovf": b"\0\5\x16\7" + bytes(90),
        "m.ovf": descriptor(),
        "n.ovf": other,
        "._d.vmdk": bytes(90),
        "d.vmdk": vmdk,
    }
    check(pack(tmp_path / "a.ova", files), "n.ovf is not read: m.ovf comes first")


def test_what_no_disk_needs_may_be_anything(vmdk: bytes, tmp_path: Path) -> None:
    """Links, folders, devices, files that are there twice, certificates, other files."""
    path = tmp_path / "a.ova"
    files = {"m.ovf": descriptor(), "m.cert": "-----BEGIN", "d.vmdk": vmdk, "x.nvram": b"1"}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for kind in (
            tarfile.DIRTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
            b"V",
            b"Q",
        ):
            info = tarfile.TarInfo(f"entry-{kind.decode()}")
            info.type, info.linkname = kind, "l" * 150
            tar.addfile(info)
        for name, data in (*files.items(), ("x.nvram", b"2")):
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    check(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_disk_that_is_a_link_is_named(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor()})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("d.vmdk")
        info.type, info.linkname = kind, str(tmp_path / "secret")
        tar.addfile(info)
    with pytest.raises(FormatError, match=r"'d\.vmdk' is a (hard|symbolic) link in the appliance"):
        content(path)


def test_a_disk_that_is_there_twice_is_refused(vmdk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(), "d.vmdk": vmdk, "./d.vmdk": vmdk})
    with pytest.raises(FormatError, match=r"two members called 'd\.vmdk'"):
        content(path)
