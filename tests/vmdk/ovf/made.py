"""What the tests of appliances share: disks, and an OVA taken apart by other people's code."""

from __future__ import annotations

import hashlib
import io
import random
import re
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from aipimage.vmdk.ovf.hardware import Appliance, appliance
from tests.support.sources import SparseSource

MIB = 1 << 20
NAMESPACE = "http://schemas.dmtf.org/ovf/envelope/1"
GRAIN = 1 << 16
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"
VSSD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData}"
VMW = "{http://www.vmware.com/schema/ovf}"
FIXED = {"firmware": "bios", "guest": "linux"}
"""Options with which no disk is looked at."""


def disk(size: int = 5 * MIB, seed: int = 0, name: str = "disk") -> SparseSource:
    """A disk with a grain that does not compress, one that does, and an odd piece."""
    noise = random.Random(seed).randbytes(GRAIN)
    pieces = {0: noise, 2 * MIB: b"abc" * 20_000, size - 4096: b"end" * 1000}
    return SparseSource(size, pieces, name=name)


def machine(disks: int = 1, **changes: object) -> Appliance:
    """A machine as it is without any option."""
    options: dict[str, object] = {
        "cpus": 2,
        "memory": 4096 * MIB,
        "networks": ["VM Network"],
        "nic": "E1000",
        "controller": "lsilogic",
        "firmware": "bios",
        "guest": "linux",
        "hardware": 11,
    }
    name = str(changes.pop("name", "machine"))
    return appliance(name, disks, **(options | changes))  # type: ignore[arg-type]


def descriptor(
    href: str = "d.vmdk",
    *,
    size: object = "",
    file: str = "",
    about: str = "",
    space: str = NAMESPACE,
    prolog: str = '<?xml version="1.0" encoding="UTF-8"?>\n',
) -> str:
    """A descriptor of a disk of 5 MiB; ``file``, ``about``: more attributes of file and disk."""
    about = about or f'ovf:capacity="{5 * MIB}" ovf:capacityAllocationUnits="byte"'
    said = f'ovf:size="{size}"' if size != "" else ""
    return (
        f'{prolog}<Envelope xmlns="{space}" xmlns:ovf="{space}"><References>'
        f'<File ovf:id="f1" ovf:href="{href}" {said} {file}/></References>'
        f'<DiskSection><Info>d</Info><Disk ovf:diskId="d1" ovf:fileRef="f1" {about} ovf:format='
        '"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>'
        '</DiskSection><VirtualSystem ovf:id="v"><Info>v</Info><Name>v</Name></VirtualSystem>'
        "</Envelope>\n"
    )


@dataclass(frozen=True)
class Taken:
    """An OVA as Python's tarfile reads it: files in order, and the descriptor's elements."""

    files: dict[str, bytes]
    root: ET.Element

    @property
    def items(self) -> list[dict[str, str]]:
        """The hardware, each item by the names of its elements."""
        found = self.root.findall(f".//{OVF}Item")
        return [{e.tag.removeprefix(RASD): e.text or "" for e in item} for item in found]

    def item(self, kind: int) -> list[dict[str, str]]:
        """The items of a ResourceType."""
        return [each for each in self.items if each["ResourceType"] == str(kind)]


def take(data: bytes | Path) -> Taken:
    """Take an OVA apart."""
    raw = data.read_bytes() if isinstance(data, Path) else data
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
        members = tar.getmembers()
        assert all(member.isreg() and not member.pax_headers for member in members)
        files = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert len(files) == len(members)
    assert next(iter(files)).endswith(".ovf")
    return Taken(files, ET.fromstring(next(iter(files.values()))))


def check_manifest(files: dict[str, bytes], algorithm: str = "sha256") -> None:
    """Recompute all digests, line by line: every other file, in the order of the package."""
    name = next(each for each in files if each.endswith(".mf"))
    lines = files[name].decode().splitlines()
    others = [each for each in files if each != name]
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        found = re.fullmatch(r"(SHA\d+)\(([^)]+)\)= ([0-9a-f]+)", line)
        assert found, line
        assert found[1] == algorithm.upper()
        assert found[2] == other
        assert found[3] == hashlib.new(algorithm, files[other]).hexdigest()


def check_references(files: dict[str, bytes], root: ET.Element) -> None:
    """Every file that the descriptor refers to is there, with the size that it says."""
    found = root.findall(f"{OVF}References/{OVF}File")
    assert [each.attrib[f"{OVF}href"] for each in found] == [
        name for name in files if name.endswith(".vmdk")
    ]
    for each in found:
        assert int(each.attrib[f"{OVF}size"]) == len(files[each.attrib[f"{OVF}href"]])
