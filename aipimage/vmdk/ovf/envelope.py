"""Writing the descriptor of an appliance, the ``.ovf`` file.

Source: DSP0243 1.1 (OVF 1.x, which every importer reads), "OVF Descriptor", "Virtual Hardware
Description" and "Core Metadata Sections"; what it leaves open is as ovftool and vSphere write it.
The elements of an ``Item`` are in the order of the alphabet, as its schema wants them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from aipimage.vmdk.ovf.hardware import MIB, Appliance

OVF_NAMESPACE = "http://schemas.dmtf.org/ovf/envelope/1"
_CIM = "http://schemas.dmtf.org/wbem/wscim/1"
RASD_NAMESPACE = f"{_CIM}/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD_NAMESPACE = f"{_CIM}/cim-schema/2/CIM_VirtualSystemSettingData"
VMW_NAMESPACE = "http://www.vmware.com/schema/ovf"
STREAM_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_NAMESPACES = (
    ("xmlns", OVF_NAMESPACE),
    ("xmlns:cim", f"{_CIM}/common"),
    ("xmlns:ovf", OVF_NAMESPACE),
    ("xmlns:rasd", RASD_NAMESPACE),
    ("xmlns:vmw", VMW_NAMESPACE),
    ("xmlns:vssd", VSSD_NAMESPACE),
    ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance"),
)
_WIDEST = (1 << 63) - 1
_CPU, _MEMORY, _NIC, _DISK, _OTHER_STORAGE = 3, 4, 10, 17, 20
"""Values of CIM's ResourceType."""

Item = dict[str, object]


@dataclass(frozen=True, slots=True)
class PackedDisk:
    """A disk as the descriptor has it.

    Attributes:
        href: the file's name. size: its bytes. capacity: bytes of the disk, padding included.
        populated: bytes of the disk that are stored.
    """

    href: str
    size: int
    capacity: int
    populated: int


def encode_envelope(machine: Appliance, disks: Sequence[PackedDisk]) -> bytes:
    """Return the descriptor, UTF-8, padded with blanks at its end to :func:`envelope_length`: its
    length does not depend on the numbers, which are known last and stand in front.
    """
    text = _text(machine, disks)
    length = envelope_length(machine, [disk.href for disk in disks])
    if len(text) > length:
        raise RuntimeError(f"internal error: a descriptor of {len(text)} bytes, {length} expected")
    return text + b" " * (length - len(text) - 1) + b"\n" if len(text) < length else text


def envelope_length(machine: Appliance, hrefs: Sequence[str]) -> int:
    """Bytes of the descriptor, whatever the sizes of the disks turn out to be."""
    widest = [PackedDisk(href, _WIDEST, _WIDEST, _WIDEST) for href in hrefs]
    return len(_text(machine, widest))


def _text(machine: Appliance, disks: Sequence[PackedDisk]) -> bytes:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<Envelope{_attributes(*_NAMESPACES)}>",
        *_references(disks),
        *_disk_section(disks),
        *_network_section(machine),
        *_virtual_system(machine),
        "</Envelope>",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def _references(disks: Sequence[PackedDisk]) -> Iterator[str]:
    yield "  <References>"
    for number, disk in enumerate(disks, 1):
        attributes = _attributes(
            ("ovf:href", disk.href), ("ovf:id", f"file{number}"), ("ovf:size", disk.size)
        )
        yield f"    <File{attributes}/>"
    yield "  </References>"


def _disk_section(disks: Sequence[PackedDisk]) -> Iterator[str]:
    yield "  <DiskSection>"
    yield "    <Info>Virtual disk information</Info>"
    for number, disk in enumerate(disks, 1):
        attributes = _attributes(
            ("ovf:capacity", disk.capacity),
            ("ovf:capacityAllocationUnits", "byte"),
            ("ovf:diskId", f"vmdisk{number}"),
            ("ovf:fileRef", f"file{number}"),
            ("ovf:format", STREAM_FORMAT),
            ("ovf:populatedSize", disk.populated),
        )
        yield f"    <Disk{attributes}/>"
    yield "  </DiskSection>"


def _network_section(machine: Appliance) -> Iterator[str]:
    """One network a name, however many adapters it has; the section must not be empty."""
    if not machine.networks:
        return
    yield "  <NetworkSection>"
    yield "    <Info>The list of logical networks</Info>"
    for network in dict.fromkeys(machine.networks):
        yield f"    <Network{_attributes(('ovf:name', network))}>"
        yield f"      <Description>{escape(f'The {network} network')}</Description>"
        yield "    </Network>"
    yield "  </NetworkSection>"


def _virtual_system(machine: Appliance) -> Iterator[str]:
    guest = machine.guest
    kind = _attributes(("ovf:id", guest.os_id), ("vmw:osType", guest.os_type))
    yield f"  <VirtualSystem{_attributes(('ovf:id', machine.stem))}>"
    yield "    <Info>A virtual machine</Info>"
    yield f"    <Name>{escape(machine.name)}</Name>"
    yield f"    <OperatingSystemSection{kind}>"
    yield "      <Info>The kind of installed guest operating system</Info>"
    yield f"      <Description>{escape(guest.description)}</Description>"
    yield "    </OperatingSystemSection>"
    yield "    <VirtualHardwareSection>"
    yield "      <Info>Virtual hardware requirements</Info>"
    yield "      <System>"
    yield "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>"
    yield "        <vssd:InstanceID>0</vssd:InstanceID>"
    identifier = escape(machine.name)
    yield f"        <vssd:VirtualSystemIdentifier>{identifier}</vssd:VirtualSystemIdentifier>"
    yield f"        <vssd:VirtualSystemType>vmx-{machine.hardware:02d}</vssd:VirtualSystemType>"
    yield "      </System>"
    for item in _items(machine):
        yield from _item_lines(item)
    firmware = _attributes(
        ("ovf:required", "false"), ("vmw:key", "firmware"), ("vmw:value", machine.firmware)
    )
    yield f"      <vmw:Config{firmware}/>"
    yield "    </VirtualHardwareSection>"
    yield "  </VirtualSystem>"


def _items(machine: Appliance) -> list[Item]:
    """Processors, memory, controllers, disks, network adapters; each names the one it hangs on,
    which stands before it. Instance IDs count from 1.
    """
    items = [_processors(machine.cpus), _memory(machine.memory)]
    parents = {}
    for bus in sorted({place.bus for place in machine.places}):
        items.append(_controller(machine, bus))
        parents[bus] = len(items)
    for number, place in enumerate(machine.places, 1):
        items.append(_disk(number, place.unit, parents[place.bus]))
    items += [
        _adapter(number, network, machine.nic) for number, network in enumerate(machine.networks)
    ]
    return [item | {"InstanceID": number} for number, item in enumerate(items, 1)]


def _processors(count: int) -> Item:
    return {
        "AllocationUnits": "hertz * 10^6",
        "Description": "Number of Virtual CPUs",
        "ElementName": f"{count} virtual CPU(s)",
        "ResourceType": _CPU,
        "VirtualQuantity": count,
    }


def _memory(size: int) -> Item:
    return {
        "AllocationUnits": "byte * 2^20",
        "Description": "Memory Size",
        "ElementName": f"{size // MIB}MB of memory",
        "ResourceType": _MEMORY,
        "VirtualQuantity": size // MIB,
    }


def _controller(machine: Appliance, bus: int) -> Item:
    kind = machine.controller
    item: Item = {
        "Address": bus,
        "Description": f"{kind.label} Controller",
        "ElementName": f"{kind.label} Controller {bus}",
        "ResourceType": kind.resource_type,
    }
    if kind.subtype is not None:
        item["ResourceSubType"] = kind.subtype
    if kind.resource_type == _OTHER_STORAGE:
        # VirtualBox takes a controller of this type for SATA only where its caption says so.
        item["Caption"] = f"sataController{bus}"
    return item


def _disk(number: int, unit: int, parent: int) -> Item:
    return {
        "AddressOnParent": unit,
        "ElementName": f"Hard Disk {number}",
        "HostResource": f"ovf:/disk/vmdisk{number}",
        "Parent": parent,
        "ResourceType": _DISK,
    }


def _adapter(number: int, network: str, kind: str) -> Item:
    return {
        "AddressOnParent": number + 1,
        "AutomaticAllocation": "true",
        "Connection": network,
        "Description": f'{kind} ethernet adapter on "{network}"',
        "ElementName": f"Network adapter {number + 1}",
        "ResourceSubType": kind,
        "ResourceType": _NIC,
    }


def _item_lines(item: Item) -> Iterator[str]:
    yield "      <Item>"
    for name in sorted(item):
        yield f"        <rasd:{name}>{escape(str(item[name]))}</rasd:{name}>"
    yield "      </Item>"


def _attributes(*pairs: tuple[str, object]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in pairs)
