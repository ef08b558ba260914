"""What is found out about a disk, as data, and the names that an OVF has for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class GuestSystem(NamedTuple):
    """How an OVF calls a guest's system.

    Attributes:
        os_id: ``ovf:id`` of OperatingSystemSection, a value of CIM_OperatingSystem.OsType (DMTF
            CIM Schema, which DSP0243, section 9.4, refers to).
        os_type: ``vmw:osType``, VMware's name (vSphere API, VirtualMachineGuestOsIdentifier).
        description: in words.
    """

    os_id: int
    os_type: str
    description: str


UNKNOWN = GuestSystem(102, "otherGuest64", "Other (64-bit)")
_SYSTEMS = {
    ("linux", False): GuestSystem(101, "other3xLinux64Guest", "Linux (64-bit)"),
    ("linux", True): GuestSystem(36, "other3xLinuxGuest", "Linux (32-bit)"),
    ("windows", False): GuestSystem(120, "windows9_64Guest", "Windows (64-bit)"),
    ("windows", True): GuestSystem(119, "windows9Guest", "Windows (32-bit)"),
    ("windows-nt5", False): GuestSystem(71, "winXPPro64Guest", "Windows XP or 2003 (64-bit)"),
    ("windows-nt5", True): GuestSystem(67, "winXPProGuest", "Windows XP or 2003 (32-bit)"),
}


def system_of(family: str | None, architecture: str, old: bool) -> GuestSystem:
    """Return the names for a family. An architecture that is not known counts as 64 bits, but for a
    Windows that starts by ``ntldr``: of those hardly any had 64.
    """
    narrow = architecture == "x86" or (old and not architecture)
    key = f"{family}-nt5" if old and family == "windows" else family
    return _SYSTEMS.get((key or "", narrow), UNKNOWN)


class GuestVolume(NamedTuple):
    """A volume: partition ``number`` (0: the disk is one volume), ``start`` and ``size`` in bytes,
    ``type`` of the partition, ``filesystem`` as ``blkid`` names it, empty where nothing is known.
    """

    number: int
    start: int
    size: int
    type: str
    filesystem: str


@dataclass(frozen=True, slots=True)
class GuestInfo:
    """What a disk shows of the machine that it comes from.

    Attributes:
        name: of the source. size: bytes. sector_size: bytes, that its partition table counts in;
            without a table that of the source.
        scheme: ``"gpt"``, ``"mbr"`` or ``"none"``.
        firmware: ``"bios"``, ``"efi"``, or ``None`` where nothing says. firmware_reason: why.
        starts: whether that firmware finds something to start on this disk.
        bios, efi: whether it finds that, of each.
        has_boot_code: whether there is code in the first sector.
        family: ``"windows"``, ``"linux"`` or ``None``. family_reason: why.
        architecture: ``"x86-64"``, ``"x86"``, ``"arm64"``, or empty where nothing says.
        system: what an OVF calls the guest; its ``os_id``, ``os_type`` and ``os_name`` are here
            too. What version of a system it is, is not looked at.
        volumes: by their number.
        reasons: sentences: all that was seen and what follows from it.
    """

    name: str
    size: int
    sector_size: int
    scheme: str
    firmware: str | None
    firmware_reason: str
    starts: bool
    bios: bool
    efi: bool
    has_boot_code: bool
    family: str | None
    family_reason: str
    architecture: str
    system: GuestSystem
    volumes: tuple[GuestVolume, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def os_id(self) -> int:
        """``ovf:id`` of OperatingSystemSection."""
        return self.system.os_id

    @property
    def os_type(self) -> str:
        """``vmw:osType`` of OperatingSystemSection."""
        return self.system.os_type

    @property
    def os_name(self) -> str:
        """The system in words."""
        return self.system.description
