"""Descriptors with their files beside them as sources: like an OVA, and never out of the folder."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

import aipimage
from aipimage import FunctionOpener
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    LimitError,
    RequestError,
    StorageError,
    UnsupportedError,
)
from aipimage.vmdk.ovf import OvaFile, check_ovf, open_ovf, write_ovf
from tests.vmdk.ovf.made import FIXED, MIB, descriptor, disk

SIZE = 5 * MIB


@pytest.fixture
def ovf(tmp_path: Path) -> Path:
    """An appliance of two disks in a folder of its own."""
    folder = tmp_path / "machine"
    folder.mkdir()
    disks = [disk(SIZE), disk(3 * MIB, seed=1)]
    write_ovf(folder / "m.ovf", disks, cids=[1, 2], **FIXED)  # type: ignore[arg-type]
    return folder / "m.ovf"


@pytest.fixture
def loose(ovf: Path) -> Path:
    """A folder with a disk, ``d.vmdk``, and a descriptor by hand, without a manifest."""
    ovf.unlink()
    (ovf.parent / "m.mf").unlink()
    (ovf.parent / "m-disk2.vmdk").unlink()
    (ovf.parent / "m-disk1.vmdk").rename(ovf.parent / "d.vmdk")
    ovf.write_text(descriptor())
    return ovf


def content(opened: OvaFile, number: int = 0) -> bytes:
    with opened.open_disk(number) as source:
        data = bytearray(source.size)
        source.read_into(data, 0)
        return bytes(data)


def test_disks_are_read_beside_the_descriptor(ovf: Path) -> None:
    with open_ovf(ovf) as opened:
        assert (opened.envelope.name, opened.warnings) == ("m", ())
        assert content(opened) == disk(SIZE).content(0, SIZE)
        assert content(opened, 1) == disk(3 * MIB, seed=1).content(0, 3 * MIB)
        assert sorted(opened.files) == sorted(map(str, ovf.parent.iterdir()))
        assert opened.size == sum(each.stat().st_size for each in ovf.parent.iterdir())
        assert not list(opened.damaged())
    result = check_ovf(ovf)
    assert (result.ok, result.findings, sorted(result.files)) == (True, (), sorted(opened.files))


def test_what_else_lies_in_the_folder_is_none_of_it(ovf: Path) -> None:
    """Other appliances, their manifests, and whatever is called nearly alike."""
    for name in ("a.ovf", "a.mf", "other.vmdk", "m.mf.bak", "m-disk1.vmdk.1"):
        (ovf.parent / name).write_bytes(b"?")
    (ovf.parent / "below").mkdir()
    with open_ovf(ovf) as opened:
        names = ["m.ovf", "m.mf", "m-disk1.vmdk", "m-disk2.vmdk"]
        assert ([each.name for each in opened.members], opened.warnings) == (names, ())
    assert check_ovf(ovf).findings == ()


def test_damage_is_found_by_the_manifest(ovf: Path) -> None:
    place = ovf.parent / "m-disk2.vmdk"
    data = bytearray(place.read_bytes())
    data[-8] ^= 1
    place.write_bytes(data)
    with open_ovf(ovf) as opened:
        assert list(opened.damaged()) == ["m-disk2.vmdk"]
    assert "ova-manifest" in {each.code for each in check_ovf(ovf).findings}
    place.unlink()
    with open_ovf(ovf) as opened:
        assert ["which is not in the appliance" in each for each in opened.warnings] == [True]
        with pytest.raises(FormatError, match=r"m-disk2\.vmdk' .*; copy it beside the descriptor"):
            opened.open_disk(1)
    assert not check_ovf(ovf).ok


def test_conversion(ovf: Path, tmp_path: Path) -> None:
    """All disks to an image, one to plain bytes; and never onto a file of the source."""
    made = aipimage.convert(ovf, tmp_path / "m.aiv")
    assert (made.source_format, made.disks) == ("ovf", (0, 1))
    with aipimage.open(tmp_path / "m.aiv") as image:
        assert image.devices[1].open().read() == disk(3 * MIB, seed=1).content(0, 3 * MIB)
    aipimage.convert(ovf, tmp_path / "1.raw", disk=1)
    assert (tmp_path / "1.raw").read_bytes() == disk(3 * MIB, seed=1).content(0, 3 * MIB)
    before = {each: each.read_bytes() for each in ovf.parent.iterdir()}
    for each in before:
        with pytest.raises(RequestError, match="is the source itself, or a file of it"):
            aipimage.convert(ovf, each, format="raw", disk=0, overwrite=True)
    assert {each: each.read_bytes() for each in ovf.parent.iterdir()} == before
    renamed = ovf.rename(ovf.parent / "m.xml")
    made = aipimage.convert(renamed, tmp_path / "x.raw", source_format="ovf", disk=0)
    assert (tmp_path / "x.raw").read_bytes() == disk(SIZE).content(0, SIZE)
    assert ["names 'm.ovf', which is not" in each for each in made.warnings] == [True]


def test_a_storage_of_names(ovf: Path, tmp_path: Path) -> None:
    """Read through anything that opens names."""
    names = [each.name for each in ovf.parent.iterdir()]
    opener = FunctionOpener(lambda name: (ovf.parent / name).open("rb"), lambda: names)
    aipimage.convert("m.ovf", tmp_path / "0.raw", disk=0, storage=opener)
    assert (tmp_path / "0.raw").read_bytes() == disk(SIZE).content(0, SIZE)


def test_a_disk_of_several_files(loose: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extents are files of the package too; and the path may be relative."""
    monkeypatch.chdir(loose.parent)
    aipimage.convert("d.vmdk", "s.vmdk", subformat="monolithicFlat")
    more = '<File ovf:id="f2" ovf:href="s-flat.vmdk"/>'
    text = descriptor("s.vmdk").replace("</References>", f"{more}</References>")
    loose.write_text(text)
    with open_ovf("m.ovf") as opened:
        assert content(opened) == disk(SIZE).content(0, SIZE)
        assert opened.files == ("m.ovf", "s-flat.vmdk", "s.vmdk")
    loose.write_text(descriptor("s.vmdk"))
    with open_ovf("m.ovf") as opened, pytest.raises(IncompleteError, match="its extent 's-flat"):
        opened.open_disk(0)


def test_chunks_are_joined(loose: Path) -> None:
    data = (loose.parent / "d.vmdk").read_bytes()
    (loose.parent / "d.vmdk").unlink()
    pieces = [data[at : at + 20_000] for at in range(0, len(data), 20_000)]
    for number, piece in enumerate(pieces):
        (loose.parent / f"d.vmdk.{number:09d}").write_bytes(piece)
    loose.write_text(descriptor(size=len(data), file='ovf:chunkSize="20000"'))
    with open_ovf(loose) as opened:
        assert content(opened) == disk(SIZE).content(0, SIZE)
        assert len(opened.files) == 1 + len(pieces)
    (loose.parent / "d.vmdk.000000001").unlink()
    with open_ovf(loose) as opened, pytest.raises(IncompleteError, match=r"d\.vmdk\.000000001, a"):
        opened.open_disk(0)


@pytest.mark.parametrize(
    "spelling", ["D.VMDK", "./d.vmdk", "%64.vmdk", "file:///d.vmdk", "x/d.vmdk"]
)
def test_names_in_other_spellings(spelling: str, loose: Path) -> None:
    """As in an archive: some are understood, none leads elsewhere."""
    loose.write_text(descriptor(spelling))
    with open_ovf(loose) as opened:
        if "/" in spelling.removeprefix("./"):
            with pytest.raises(FormatError, match=r"leads out|copy it beside the descriptor"):
                opened.open_disk(0)
        else:
            assert content(opened) == disk(SIZE).content(0, SIZE)


@pytest.mark.parametrize(
    "href", ["../secret.vmdk", "..\\secret.vmdk", "%2e%2e/secret.vmdk", "x/../../secret.vmdk"]
)
def test_class_36_no_name_leads_out_of_the_folder(href: str, loose: Path) -> None:
    (loose.parent / "d.vmdk").rename(loose.parent.parent / "secret.vmdk")
    loose.write_text(descriptor(href))
    with open_ovf(loose) as opened, pytest.raises(FormatError, match="leads out of the appliance"):
        opened.open_disk(0)
    loose.write_text(descriptor(str(loose.parent.parent / "secret.vmdk")))
    with open_ovf(loose) as opened, pytest.raises(FormatError, match="leads out of the appliance"):
        opened.open_disk(0)


@pytest.mark.parametrize("kind", ["a symbolic link", "a folder", "a device or a pipe"])
def test_class_36_only_regular_files_are_disks(kind: str, loose: Path) -> None:
    """A link may lead anywhere, here to a whole disk; a pipe would be waited for."""
    place = loose.parent / "d.vmdk"
    place.rename(loose.parent.parent / "whole.vmdk")
    if kind == "a symbolic link":
        place.symlink_to(loose.parent.parent / "whole.vmdk")
    elif kind == "a folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    with open_ovf(loose) as opened, pytest.raises(FormatError, match=f"'d.vmdk' is {kind}"):
        opened.open_disk(0)
    assert [each.code for each in check_ovf(loose).findings] == ["ova-no-manifest", "ova-file"]


def test_class_36_a_manifest_that_is_a_link_is_not_read(ovf: Path) -> None:
    (ovf.parent / "m.mf").rename(ovf.parent.parent / "elsewhere")
    (ovf.parent / "m.mf").symlink_to(ovf.parent.parent / "elsewhere")
    with open_ovf(ovf) as opened:
        assert not opened.manifest
        [warning] = opened.warnings
        assert "m.mf is a symbolic link: it is not read as the manifest" in warning
    assert "ova-no-manifest" in {each.code for each in check_ovf(ovf).findings}


def test_class_22_a_disk_that_is_replaced_is_not_read(ovf: Path) -> None:
    """By another file, or by a link to one, after it was looked at."""
    disks = [ovf.parent / f"m-disk{number}.vmdk" for number in (1, 2)]
    with open_ovf(ovf) as opened:
        whole = disks[0].read_bytes()
        disks[0].rename(ovf.parent / "old")
        disks[0].write_bytes(whole)
        disks[1].rename(ovf.parent / "old2")
        disks[1].symlink_to(disks[0])
        for number in (0, 1):
            with pytest.raises(AipImageError, match="was replaced while it was read"):
                opened.open_disk(number)


def test_class_22_a_disk_that_is_cut_is_never_zeros(ovf: Path) -> None:
    place = ovf.parent / "m-disk1.vmdk"
    with open_ovf(ovf) as opened, opened.open_disk(0) as source:
        os.truncate(place, 4096)
        with pytest.raises(AipImageError, match=r"m-disk1\.vmdk"):
            source.read_into(bytearray(source.size), 0)


def test_a_disk_that_was_changed_is_known(ovf: Path) -> None:
    """By the time of its own file: what a resume compares."""

    def fingerprint() -> object:
        with open_ovf(ovf) as opened, opened.open_disk(1) as source:
            return source.fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    os.utime(ovf.parent / "m-disk1.vmdk", ns=(1, 1))
    assert fingerprint() == before
    os.utime(ovf.parent / "m-disk2.vmdk", ns=(1, 1))
    assert fingerprint() != before


def test_compressed_disks_are_named(loose: Path) -> None:
    place = loose.parent / "d.vmdk"
    place.write_bytes(gzip.compress(place.read_bytes()))
    with open_ovf(loose) as opened, pytest.raises(UnsupportedError) as caught:
        opened.open_disk(0)
    assert "d.vmdk is a gzip file: unpack it first (gunzip), and pass" in str(caught.value)


def test_descriptors_that_are_none(ovf: Path) -> None:
    for data, kind, said in (
        (b"", FormatError, "is empty"),
        (b"KDMV", FormatError, "not well-formed XML"),
        (b"<a/>", FormatError, "OVF"),
        (bytes((8 << 20) + 1), LimitError, "8388609 bytes"),
    ):
        ovf.write_bytes(data)
        with pytest.raises(kind, match=said):
            open_ovf(ovf)
    ovf.unlink()
    with pytest.raises(StorageError, match=r"m\.ovf"):
        open_ovf(ovf)
    with pytest.raises(RequestError, match="is a directory"):
        open_ovf(ovf.parent)
