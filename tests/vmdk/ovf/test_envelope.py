"""The descriptor of an appliance: elements, their order, and what machines are possible.

The schemas of DMTF (DSP8023) are not free to ship; what they ask for is written down here by hand.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.errors import RequestError
from aipimage.vmdk.guest.info import GuestSystem
from aipimage.vmdk.ovf.envelope import (
    OVF_NAMESPACE,
    STREAM_FORMAT,
    PackedDisk,
    encode_envelope,
    envelope_length,
)
from aipimage.vmdk.ovf.guests import GUESTS, guest_system
from aipimage.vmdk.ovf.hardware import CONTROLLERS, file_stem
from aipimage.vmdk.ovf.parsing import decode_envelope
from tests.support import SAMPLES
from tests.support.tools import require_programs, run
from tests.vmdk.ovf.made import MIB, OVF, RASD, VMW, VSSD, machine

GOVMOMI = SAMPLES / "govmomi-ovf"
ENVELOPE = ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
SYSTEM = ["Info", "Name", "OperatingSystemSection", "VirtualHardwareSection"]
RASD_ORDER = [
    "Address", "AddressOnParent", "AllocationUnits", "AutomaticAllocation",
    "AutomaticDeallocation", "Caption", "ChangeableType", "ConfigurationName", "Connection",
    "ConsumerVisibility", "Description", "ElementName", "Generation", "HostResource", "InstanceID",
    "Limit", "MappingBehavior", "OtherResourceType", "Parent", "PoolID", "Reservation",
    "ResourceSubType", "ResourceType", "VirtualQuantity", "VirtualQuantityUnits", "Weight",
]  # fmt: skip
"""The sequence of CIM_ResourceAllocationSettingData's schema."""
NUMBERS = st.integers(0, 2**63 - 1)


def packed(count: int, size: int = 70_000) -> list[PackedDisk]:
    return [PackedDisk(f"m-disk{at}.vmdk", size + at, 5 * MIB, MIB) for at in range(1, count + 1)]


def root_of(disks: int = 1, **options: object) -> ET.Element:
    return ET.fromstring(encode_envelope(machine(disks, **options), packed(disks)))


def local(element: ET.Element) -> list[str]:
    """Names of children, those of OVF without their namespace."""
    return [child.tag.removeprefix(OVF) for child in element]


def child(element: ET.Element, path: str) -> ET.Element:
    found = element.find("/".join(f"{OVF}{part}" for part in path.split("/")))
    assert found is not None, path
    return found


def test_sections_in_order() -> None:
    root = root_of(2)
    assert root.tag == f"{OVF}Envelope"
    assert local(root) == ENVELOPE
    assert local(child(root, "DiskSection")) == ["Info", "Disk", "Disk"]
    assert local(child(root, "NetworkSection")) == ["Info", "Network"]
    assert local(child(root, "VirtualSystem")) == SYSTEM
    hardware = child(root, "VirtualSystem/VirtualHardwareSection")
    assert local(hardware) == ["Info", "System", *["Item"] * 6, f"{VMW}Config"]
    for section in root.iter():
        if section.tag.endswith("Section"):
            assert section[0].tag == f"{OVF}Info", section.tag
            assert section[0].text


def test_references_and_disks() -> None:
    root = root_of(3)
    files = child(root, "References").findall(f"{OVF}File")
    disks = child(root, "DiskSection").findall(f"{OVF}Disk")
    for number, (file, disk, told) in enumerate(zip(files, disks, packed(3), strict=True), 1):
        assert file.attrib == {
            f"{OVF}href": told.href,
            f"{OVF}id": f"file{number}",
            f"{OVF}size": str(told.size),
        }
        assert disk.attrib == {
            f"{OVF}capacity": str(told.capacity),
            f"{OVF}capacityAllocationUnits": "byte",
            f"{OVF}diskId": f"vmdisk{number}",
            f"{OVF}fileRef": f"file{number}",
            f"{OVF}format": STREAM_FORMAT,
            f"{OVF}populatedSize": str(told.populated),
        }


def test_the_system() -> None:
    system = child(root_of(name="Ä <&\"'> server", firmware="efi", guest="ubuntu"), "VirtualSystem")
    assert system.attrib == {f"{OVF}id": "server"}
    assert child(system, "Name").text == "Ä <&\"'> server"
    kind = child(system, "OperatingSystemSection")
    assert kind.attrib == {f"{OVF}id": "94", f"{VMW}osType": "ubuntu64Guest"}
    hardware = child(system, "VirtualHardwareSection")
    settings = {each.tag.removeprefix(VSSD): each.text for each in child(hardware, "System")}
    assert list(settings) == sorted(settings)
    assert settings == {
        "ElementName": "Virtual Hardware Family",
        "InstanceID": "0",
        "VirtualSystemIdentifier": "Ä <&\"'> server",
        "VirtualSystemType": "vmx-11",
    }
    config = hardware.find(f"{VMW}Config")
    assert config is not None
    assert config.attrib == {
        f"{OVF}required": "false",
        f"{VMW}key": "firmware",
        f"{VMW}value": "efi",
    }


@pytest.mark.parametrize("version", [7, 9, 11, 21])
def test_hardware_versions_have_two_digits(version: int) -> None:
    found = root_of(hardware=version).iter(f"{VSSD}VirtualSystemType")
    assert [each.text for each in found] == [f"vmx-{version:02d}"]


def items_of(root: ET.Element) -> list[dict[str, str]]:
    return [
        {each.tag.removeprefix(RASD): each.text or "" for each in item}
        for item in root.iter(f"{OVF}Item")
    ]


@pytest.mark.parametrize(("controller", "disks"), [
    ("lsilogic", 1), ("lsilogic", 15), ("lsilogic", 16), ("lsilogicsas", 60), ("pvscsi", 2),
    ("buslogic", 8), ("sata", 31), ("sata", 120), ("ide", 1), ("ide", 4),
])  # fmt: skip
def test_items(controller: str, disks: int) -> None:
    root = root_of(disks, controller=controller, networks=["a", "b"], cpus=3, memory=512 * MIB)
    for item in root.iter(f"{OVF}Item"):
        names = [each.tag.removeprefix(RASD) for each in item]
        assert names == [name for name in RASD_ORDER if name in names]
        assert {"ElementName", "InstanceID", "ResourceType"} <= set(names)
    items = items_of(root)
    assert [item["InstanceID"] for item in items] == [str(at + 1) for at in range(len(items))]
    kind = CONTROLLERS[controller]
    buses = -(-disks // len(kind.units))
    assert [int(item["ResourceType"]) for item in items] == [
        3,
        4,
        *[kind.resource_type] * buses,
        *[17] * disks,
        10,
        10,
    ]
    assert items[0]["VirtualQuantity"] == "3"
    assert (items[1]["AllocationUnits"], items[1]["VirtualQuantity"]) == ("byte * 2^20", "512")
    _check_disks(items, disks)


def _check_disks(items: list[dict[str, str]], count: int) -> None:
    """Each disk hangs on a controller before it, alone in its place, and in order."""
    by_id = {item["InstanceID"]: item for item in items}
    places = set()
    disks = [item for item in items if item["ResourceType"] == "17"]
    for number, item in enumerate(disks, 1):
        parent = by_id[item["Parent"]]
        assert int(item["Parent"]) < int(item["InstanceID"])
        assert parent["ResourceType"] in ("5", "6", "20")
        assert item["HostResource"] == f"ovf:/disk/vmdisk{number}"
        places.add((parent["Address"], item["AddressOnParent"]))
    assert len(places) == len(disks) == count
    if by_id[disks[0]["Parent"]]["ResourceType"] == "6":
        assert all(unit != "7" for _, unit in places), "7 is the controller's own"


def test_controllers() -> None:
    found = {
        name: {item["InstanceID"]: item for item in items_of(root_of(controller=name))}["3"]
        for name in CONTROLLERS
    }
    assert {name: item.get("ResourceSubType") for name, item in found.items()} == {
        "lsilogic": "lsilogic",
        "lsilogicsas": "lsilogicsas",
        "buslogic": "buslogic",
        "pvscsi": "VirtualSCSI",
        "sata": "vmware.sata.ahci",
        "ide": None,
    }
    assert found["sata"]["Caption"] == "sataController0"
    assert {name: kind.adapter for name, kind in CONTROLLERS.items() if name != "lsilogic"} == {
        "lsilogicsas": "lsilogic",
        "buslogic": "buslogic",
        "pvscsi": "lsilogic",
        "sata": "lsilogic",
        "ide": "ide",
    }


def test_networks() -> None:
    root = root_of(networks=["LAN <1>", "LAN <1>", 'D"MZ'], nic="VmxNet3")
    names = [each.attrib[f"{OVF}name"] for each in root.iter(f"{OVF}Network")]
    assert names == ["LAN <1>", 'D"MZ']
    adapters = [item for item in items_of(root) if item["ResourceType"] == "10"]
    assert [item["Connection"] for item in adapters] == ["LAN <1>", "LAN <1>", 'D"MZ']
    assert {item["ResourceSubType"] for item in adapters} == {"VmxNet3"}
    assert len({item["AddressOnParent"] for item in adapters}) == 3
    alone = root_of(networks=())
    assert local(alone) == [name for name in ENVELOPE if name != "NetworkSection"]
    assert not [item for item in items_of(alone) if item["ResourceType"] == "10"]


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_the_length_does_not_depend_on_the_numbers(numbers: list[tuple[int, int, int]]) -> None:
    disks = [PackedDisk(f"d{at}.vmdk", *each) for at, each in enumerate(numbers)]
    wanted = machine(len(disks))
    data = encode_envelope(wanted, disks)
    assert len(data) == envelope_length(wanted, [each.href for each in disks])
    assert data.endswith(b"\n")
    found = decode_envelope(data, "x")
    assert [(each.href, each.size) for each in found.files] == [(d.href, d.size) for d in disks]
    assert [each.capacity for each in found.disks] == [each.capacity for each in disks]


@given(st.text(min_size=1, max_size=80))
def test_any_name_is_written_or_refused(name: str) -> None:
    try:
        wanted = machine(name=name, networks=[name])
    except RequestError:
        assert not name.isprintable() or not name.strip()
        return
    root = ET.fromstring(encode_envelope(wanted, packed(1)))
    assert child(root, "VirtualSystem/Name").text == name
    assert next(root.iter(f"{OVF}Network")).attrib[f"{OVF}name"] == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpus": 0}, "0 virtual processors: use 1 to 128"),
        ({"cpus": 129}, "129 virtual processors"),
        ({"cpus": True}, "virtual processors"),
        ({"cpus": 1.5}, "virtual processors"),
        ({"memory": 4 * MIB - 1}, "bytes of memory: use 4194304 to"),
        ({"memory": 4 * MIB + MIB}, "not a multiple of 4194304"),
        ({"memory": (4080 << 30) + 4 * MIB}, "bytes of memory"),
        ({"controller": "nvme"}, "unknown disk controller; use one of lsilogic"),
        ({"controller": "sata", "hardware": 9}, "needs hardware version 10"),
        ({"hardware": 6}, "hardware version 6 is not known"),
        ({"hardware": 22}, "hardware version 22 is not known"),
        ({"hardware": True}, "not known"),
        ({"nic": "e1000"}, "unknown network adapter"),
        ({"networks": "LAN"}, "as a list"),
        ({"networks": ["n"] * 11}, "at most 10"),
        ({"networks": [""]}, "a name of a network has 1 to 80"),
        ({"networks": ["a\x00"]}, "control characters"),
        ({"firmware": "uefi"}, "unknown firmware; use one of bios, efi"),
        ({"guest": "dos"}, "not a known guest system"),
        ({"guest": '"x"Guest'}, "not a known guest system"),
        ({"name": ""}, "1 to 80 characters"),
        ({"name": "n" * 81}, "1 to 80 characters"),
        ({"name": "a\nb"}, "control characters"),
        ({"name": "a\udc80"}, "control characters"),
    ],
)
def test_refusals(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        machine(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("controller", "limit"), [("lsilogic", 60), ("sata", 120), ("ide", 4)])
def test_as_many_disks_as_there_are_places(controller: str, limit: int) -> None:
    assert len(set(machine(limit, controller=controller).places)) == limit
    for count in (0, limit + 1):
        with pytest.raises(RequestError, match=f"1 to {limit} on {controller}"):
            machine(count, controller=controller)


def test_guests() -> None:
    assert guest_system("LINUX") is GUESTS["linux"]
    assert guest_system("ubuntu64Guest") is GUESTS["ubuntu"]
    own = guest_system("windows2019srv_64Guest")
    assert own == GuestSystem(1, "windows2019srv_64Guest", "windows2019srv_64Guest")
    assert guest_system(own) is own


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a", "a"),
        ("My server (2)", "My_server_2"),
        ("../../etc/x", "etc_x"),
        ("Ä", "appliance"),
        (".hidden", "hidden"),
        ("n" * 80, "n" * 80),
        ("-o", "o"),
    ],
)
def test_file_stems(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_xmllint_takes_it(tmp_path: Path) -> None:
    require_programs("xmllint")
    path = tmp_path / "m.ovf"
    path.write_bytes(encode_envelope(machine(15, name='<"&ß'), packed(15)))
    run(["xmllint", "--nonet", "--noout", path], timeout=120)


def paths(root: ET.Element) -> Iterator[str]:
    """Every element and attribute by the names that lead to it."""
    todo = [(root, root.tag)]
    while todo:
        element, path = todo.pop()
        yield path
        yield from (f"{path}@{name}" for name in element.attrib)
        todo += [(each, f"{path}/{each.tag}") for each in element]


@pytest.mark.skipif(not GOVMOMI.exists(), reason="no samples beside this checkout")
def test_importers_know_all_elements_from_real_descriptors() -> None:
    """All that is written stands in descriptors that importers take, but for VirtualBox's
    caption.
    """
    known: set[str] = set()
    for sample in GOVMOMI.rglob("*.ovf"):
        if b"envelope/1" in (data := sample.read_bytes()):
            known |= set(paths(ET.fromstring(data)))
    for controller in CONTROLLERS:
        ours = set(paths(root_of(3, controller=controller, firmware="efi")))
        assert {path for path in ours - known if not path.endswith(f"{RASD}Caption")} == set()
    assert OVF_NAMESPACE in next(iter(known))
