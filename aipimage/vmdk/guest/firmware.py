"""Which firmware a disk was made for."""

from __future__ import annotations

from typing import NamedTuple

from aipimage.vmdk.guest.contents import Content, Disk
from aipimage.vmdk.guest.parttypes import BIOS_BOOT, EFI_SYSTEM

NONE, HINT, LIKELY, CERTAIN = range(4)


class Evidence(NamedTuple):
    """What speaks for a firmware: how much, and why, as a clause; empty where nothing does."""

    weight: int
    why: str = ""


class Firmware(NamedTuple):
    """A decision.

    Attributes:
        kind: ``"bios"``, ``"efi"`` or ``None``. why: a clause. bios, efi: whether each would find
            something to start.
    """

    kind: str | None
    why: str
    bios: bool
    efi: bool


def firmware_of(disk: Disk) -> Firmware:
    """Decide by the stronger evidence; where both are alike, by the table: a GPT is EFI's own, and
    a BIOS needs a special partition or flag to start from it.
    """
    efi, bios = _efi(disk), _bios(disk)
    wins = efi.weight > bios.weight or (efi.weight == bios.weight and disk.table.scheme == "gpt")
    chosen, other = (efi, bios) if wins else (bios, efi)
    starts = bios.weight >= LIKELY, efi.weight >= LIKELY
    if not chosen.weight:
        return Firmware(None, "nothing to start from was found", *starts)
    name, second = ("efi", "a BIOS") if wins else ("bios", "EFI firmware")
    also = f"; {second} could start it too: {other.why}" if other.weight >= LIKELY else ""
    return Firmware(name, chosen.why + also, *starts)


def _efi(disk: Disk) -> Evidence:
    found = [_efi_of(each) for each in disk.contents]
    return max(found, key=lambda each: each.weight, default=Evidence(NONE))


def _efi_of(content: Content) -> Evidence:
    """An EFI system partition with loaders is certain; either of both alone is less."""
    is_system, where = content.partition.type in EFI_SYSTEM, _where(content)
    if content.efi:
        loaders = ", ".join(f"\\EFI\\{name}" for name in content.efi if "/" not in name)
        loaders = loaders[:100] or "\\EFI"
        if is_system:
            return Evidence(CERTAIN, f"{where} is an EFI system partition with {loaders}")
        return Evidence(LIKELY, f"{where} has {loaders}, though it is not an EFI system partition")
    if is_system:
        return Evidence(HINT, f"{where} is an EFI system partition, in which no loader was found")
    return Evidence(NONE)


def _bios(disk: Disk) -> Evidence:
    if not disk.has_boot_code:
        return Evidence(NONE)
    scheme, grub = disk.table.scheme, b"GRUB" in disk.head[:440]
    code = "the first sector has code of GRUB" if grub else "the first sector has boot code"
    if scheme == "none":
        # Every FAT and NTFS volume begins with one, whether or not there is something to start.
        return Evidence(HINT, "its first sector is a boot sector")
    if scheme == "gpt":
        return _bios_gpt(disk, code)
    parts = (each for each in disk.contents if not each.partition.logical)
    active = next((each for each in parts if each.partition.active), None)
    if active is not None and active.has_boot_sector:
        return Evidence(CERTAIN, f"{code}, and {_where(active)} is active, with a boot sector")
    if grub:
        return Evidence(CERTAIN, code)
    if active is not None:
        return Evidence(LIKELY, f"{code}, and {_where(active)} is active")
    # Windows puts code into the MBR of every disk that it makes, those for data too.
    return Evidence(HINT, f"{code}, but no partition is active")


def _bios_gpt(disk: Disk, code: str) -> Evidence:
    """Windows and others put code into the MBR beside any GPT: alone it says nothing."""
    for each in disk.contents:
        if each.partition.type == BIOS_BOOT and any(each.sector):
            return Evidence(CERTAIN, f"{code}, and {_where(each)} holds the core of a boot loader")
    for each in disk.contents:
        if each.partition.active and each.partition.type not in EFI_SYSTEM:
            return Evidence(LIKELY, f"{code}, and {_where(each)} is marked for a BIOS to start")
    return Evidence(NONE)


def _where(content: Content) -> str:
    number = content.partition.number
    return f"partition {number}" if number else "the disk"
