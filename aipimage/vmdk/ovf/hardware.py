"""The virtual machine of an appliance: what was asked for, checked, and where each disk goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from aipimage.errors import RequestError
from aipimage.vmdk.guest.info import GuestSystem
from aipimage.vmdk.ovf.guests import guest_system

_T = TypeVar("_T")

MIB = 1 << 20
CPUS_MAX = 128
MEMORY_STEP = 4 * MIB
"""vSphere takes memory in steps of 4 MiB only."""
MEMORY_MAX = 4080 << 30
NICS_MAX = 10
NAME_MAX = 80
"""Characters of a virtual machine's name in vSphere."""
HARDWARE = range(7, 22)
"""Versions of virtual hardware (``vmx-NN``) that are known."""
NICS = ("E1000", "E1000e", "VmxNet3", "PCNet32")
FIRMWARES = ("bios", "efi")


@dataclass(frozen=True, slots=True)
class ControllerKind:
    """A kind of disk controller.

    Attributes:
        resource_type: CIM's ResourceType: 5 IDE, 6 parallel SCSI, 20 other storage.
        subtype: ``rasd:ResourceSubType`` as VMware writes it. label: for people.
        units: places of disks on one controller. count: controllers of a machine at most.
        adapter: ``ddb.adapterType`` of its disks, of those that importers accept.
        since: the hardware version that it needs.
    """

    resource_type: int
    subtype: str | None
    label: str
    units: tuple[int, ...]
    count: int
    adapter: str
    since: int = 7


_SCSI_UNITS = tuple(unit for unit in range(16) if unit != 7)
"""Unit 7 is the controller's own."""
CONTROLLERS = {
    "lsilogic": ControllerKind(6, "lsilogic", "SCSI", _SCSI_UNITS, 4, "lsilogic"),
    "lsilogicsas": ControllerKind(6, "lsilogicsas", "SCSI", _SCSI_UNITS, 4, "lsilogic"),
    "buslogic": ControllerKind(6, "buslogic", "SCSI", _SCSI_UNITS, 4, "buslogic"),
    "pvscsi": ControllerKind(6, "VirtualSCSI", "SCSI", _SCSI_UNITS, 4, "lsilogic"),
    "sata": ControllerKind(20, "vmware.sata.ahci", "SATA", tuple(range(30)), 4, "lsilogic", 10),
    "ide": ControllerKind(5, None, "IDE", (0, 1), 2, "ide"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a disk is: the number of its controller, from 0, and its unit there."""

    bus: int
    unit: int


@dataclass(frozen=True, slots=True)
class Appliance:
    """A virtual machine, every number checked.

    Attributes:
        name: as people see it. stem: of its files, safe in any file system and in a URL.
        cpus: virtual processors. memory: bytes. networks: one adapter each, by network name.
        nic: their kind. controller: of the disks. places: of each disk, in order.
        firmware: ``bios`` or ``efi``. guest: the system. hardware: version, ``vmx-NN``.
    """

    name: str
    stem: str
    cpus: int
    memory: int
    networks: tuple[str, ...]
    nic: str
    controller: ControllerKind
    places: tuple[Place, ...]
    firmware: str
    guest: GuestSystem
    hardware: int


def appliance(
    name: str, disks: int, *, stem: str | None = None, cpus: int, memory: int,
    networks: Sequence[str], nic: str, controller: str, firmware: str, guest: str | GuestSystem,
    hardware: int,
) -> Appliance:  # fmt: skip
    """Return the machine that is asked for.

    Raises:
        RequestError: something of it is not possible; the message says what is.
    """
    kind = _chosen(controller, CONTROLLERS, "disk controller")
    version = verified_hardware(hardware, kind, controller)
    if isinstance(networks, str):
        raise RequestError(f"{networks!r}: pass the networks as a list of names")
    if len(networks) > NICS_MAX:
        raise RequestError(f"{len(networks)} network adapters; a machine has at most {NICS_MAX}")
    return Appliance(
        name=verified_text(name, "name of a virtual machine"),
        stem=file_stem(name) if stem is None else stem,
        cpus=_within(cpus, 1, CPUS_MAX, "virtual processors"),
        memory=verified_memory(memory),
        networks=tuple(verified_text(each, "name of a network") for each in networks),
        nic=_chosen(nic, {each: each for each in NICS}, "network adapter"),
        controller=kind,
        places=verified_places(disks, kind, controller),
        firmware=_chosen(firmware, {each: each for each in FIRMWARES}, "firmware"),
        guest=guest_system(guest),
        hardware=version,
    )


def verified_text(text: str, what: str) -> str:
    """Return a name for people; ``RequestError`` unless 1 to 80 characters that XML can hold and a
    line of a list can show.
    """
    if not 1 <= len(text) <= NAME_MAX or not text.strip():
        raise RequestError(f"{text[:NAME_MAX]!r}: a {what} has 1 to {NAME_MAX} characters")
    # What is not printable includes all that XML 1.0 forbids: controls, surrogates, U+FFFE, U+FFFF.
    if not text.isprintable():
        raise RequestError(f"{text!r}: a {what} cannot have control characters")
    return text


def verified_memory(size: int) -> int:
    """Return bytes of memory; ``RequestError`` unless whole steps of 4 MiB, up to 4080 GiB."""
    _within(size, MEMORY_STEP, MEMORY_MAX, "bytes of memory")
    if size % MEMORY_STEP:
        raise RequestError(f"{size} bytes of memory are not a multiple of {MEMORY_STEP}")
    return size


def verified_hardware(version: int, kind: ControllerKind, name: str) -> int:
    """Return a hardware version; ``RequestError`` for an unknown one, or one without the
    controller.
    """
    if isinstance(version, bool) or version not in HARDWARE:
        raise RequestError(
            f"hardware version {version!r} is not known; use {HARDWARE[0]} to {HARDWARE[-1]}"
        )
    if version < kind.since:
        raise RequestError(
            f"a {name} controller needs hardware version {kind.since}, not {version}"
        )
    return version


def verified_places(disks: int, kind: ControllerKind, name: str) -> tuple[Place, ...]:
    """Return a place for each disk, filling one controller after the other; ``RequestError`` where
    there are none, or more than there are places for.
    """
    room = kind.count * len(kind.units)
    if not 1 <= disks <= room:
        raise RequestError(
            f"{disks} disks: an appliance has 1 to {room} on {name} controllers; choose another "
            "controller or fewer disks"
        )
    return tuple(
        Place(number // len(kind.units), kind.units[number % len(kind.units)])
        for number in range(disks)
    )


def file_stem(name: str) -> str:
    """Return what the files of an appliance are called: letters, digits, ``.``, ``_``, ``-`` of
    ASCII, which every importer takes as a file name, a line of a manifest and a URL alike.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:NAME_MAX] or "appliance"


def _within(value: float, low: int, high: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"{value!r} {what}: use {low} to {high}")
    return value


def _chosen(value: str, choices: dict[str, _T], what: str) -> _T:
    if value not in choices:
        raise RequestError(f"{value!r}: unknown {what}; use one of {', '.join(choices)}")
    return choices[value]
