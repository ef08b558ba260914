"""Descriptors as other makers write them: the disks are what they were, or the error says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage.vmdk.ovf import check_ova, open_ova
from tests.vmdk.ovf.foreign import SIZE, check, pack
from tests.vmdk.ovf.made import descriptor

# What the descriptor says.


@pytest.mark.parametrize(
    "space",
    [
        "http://schemas.dmtf.org/ovf/envelope/2",
        "http://www.vmware.com/schema/ovf/1/envelope",
        "http://schemas.dmtf.org/ovf/1/envelope",
        "http://schemas.dmtf.org/ovf/envelope/1/",
        "https://schemas.dmtf.org/ovf/envelope/1",
        "http://schemas.dmtf.org/ovf/envelope/1.1.0",
        "",
    ],
)
def test_name_spaces(space: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(size=len(vmdk), space=space)
    if not space:
        text = text.replace('xmlns="" xmlns:ovf=""', "").replace("ovf:", "")
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


def test_sections_of_ovf_0_9(vmdk: bytes, tmp_path: Path) -> None:
    space = "http://www.vmware.com/schema/ovf/1/envelope"
    text = (
        f'<ovf:Envelope xmlns:ovf="{space}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<References><File ovf:href="d.vmdk" ovf:id="f1"/></References>'
        '<Section xsi:type="ovf:DiskSection_Type"><Info>d</Info>'
        f'<Disk ovf:capacity="{SIZE}" ovf:diskId="d1" ovf:fileRef="f1" ovf:format="http://www.vmware'
        '.com/specifications/vmdk.html#sparse"/></Section>'
        '<Content ovf:id="v" xsi:type="ovf:VirtualSystem_Type"><Info/><Name>old</Name></Content>'
        "</ovf:Envelope>"
    )
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path)
    with open_ova(path) as opened:
        assert opened.envelope.name == "old"
        assert opened.disks[0].capacity == SIZE


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("", None),
        (" ", None),
        ("x", "is not a number: 'x'"),
        ("-1", "is not a number"),
        (str(1 << 70), "is not a number"),
        ("1", "bytes, and the descriptor says 1"),
        ("99999999", "bytes, and the descriptor says 99999999"),
    ],
)
def test_sizes_that_are_wrong(size: str, said: str | None, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor(file=f'ovf:size="{size}"')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path, *([said] if said else []))
    assert check_ova(path).ok == (said is None or "not a number" in said)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ("", None),
        ('ovf:capacity=""', None),
        ('ovf:capacity="${disk}"', None),
        ('ovf:capacity="1e9"', "capacity of the disk 'd1' is not a number"),
        ('ovf:capacity="5.0"', "is not a number"),
        ('ovf:capacity="-1"', "is not a number"),
        ('ovf:capacity="9223372036854775808"', "is not a number"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="byte * 2^62"', "cannot be"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="parsec"', "unknown unit of a capacity"),
        ('ovf:capacity="9" ovf:capacityAllocationUnits="byte * 0"', "unknown unit of a capacity"),
    ],
)
def test_capacities_that_are_wrong(
    about: str, said: str | None, vmdk: bytes, tmp_path: Path
) -> None:
    """The disk itself knows better."""
    path = pack(tmp_path / "a.ova", {"m.ovf": descriptor(about=about or " "), "d.vmdk": vmdk})
    check(path, *([said] if said else []))
    with open_ova(path) as opened:
        assert opened.disks[0].capacity is None


@pytest.mark.parametrize("reference", ["f1", "ovf:/file/f1", "/file/f1", "file/f1", "d.vmdk"])
def test_references_to_files(reference: str, vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor().replace('fileRef="f1"', f'fileRef="{reference}"')
    check(pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk}))


@pytest.mark.parametrize(
    ("prolog", "codec"),
    [
        ('\ufeff<?xml version="1.0" encoding="UTF-8"?>', "utf-8"),
        ("\r\n \r\n", "utf-8"),
        ('\n<?xml version="1.0"?>', "utf-8"),
        ('\ufeff<?xml version="1.0" encoding="UTF-16"?>', "utf-16-le"),
        ('<?xml version="1.0" encoding="GBK"?>', "gbk"),
        ("<?xml version='1.0' encoding='Shift_JIS'?>", "shift_jis"),
        ('<?xml version="1.0" encoding="windows-1252"?>', "cp1252"),
    ],
)
def test_encodings_of_the_descriptor(prolog: str, codec: str, vmdk: bytes, tmp_path: Path) -> None:
    name = "Größe.vmdk" if codec == "cp1252" else "系統.vmdk"
    data = descriptor(name, prolog=prolog).encode(codec)
    check(pack(tmp_path / "a.ova", {"m.ovf": data, name: vmdk}))


def test_files_that_are_not_needed_may_be_incomplete(vmdk: bytes, tmp_path: Path) -> None:
    text = descriptor().replace("</References>", '<File ovf:href="x"/><File/></References>')
    path = pack(tmp_path / "a.ova", {"m.ovf": text, "d.vmdk": vmdk})
    check(path, "has no id or no href", "has no id or no href")
