"""What a machine whose disk becomes a virtual one should know before it is started.

Nothing of the guest's own software is needed or looked at: partition table, boot sectors, sizes.
Whether the guest has a driver for the new adapter, in a Windows registry or a Linux initramfs, is
not looked at, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aipimage.errors import RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.vmdk.geometry import Geometry, geometry_of
from aipimage.vmdk.guest.bootsectors import boot_warnings, chs_texts
from aipimage.vmdk.guest.contents import Disk, look
from aipimage.vmdk.guest.examining import judged
from aipimage.vmdk.guest.info import GuestInfo
from aipimage.vmdk.guest.parttypes import LDM
from aipimage.vmdk.layout import SECTOR

_MIB = 1 << 20
_DRIVERS = {
    "lsilogic": "Linux: mptspi; Windows: LSI_SCSI or symmpi, and XP has none of its own",
    "lsilogicsas": "Linux: mptsas; Windows: LSI_SAS, from Vista on",
    "buslogic": "Linux: BusLogic; Windows: only up to 2003, with 32 bits",
    "pvscsi": "Linux: vmw_pvscsi; Windows: pvscsi, of VMware Tools",
    "sata": "Linux: ahci; Windows: storahci or msahci",
    "ide": "Linux: ata_piix; Windows: intelide and atapi",
}


@dataclass(frozen=True, slots=True)
class P2vReport:
    """What was found.

    Attributes:
        info: what the disk shows of its machine.
        geometry: of the new disk. capacity: its bytes.
        notes: sentences: what the new machine needs, and what changes.
        warnings: sentences: what may keep it from starting.
    """

    info: GuestInfo
    geometry: Geometry
    capacity: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def p2v_report(
    source: BlockSource,
    *,
    adapter: str = "lsilogic",
    controller: str | None = None,
    capacity: int | None = None,
) -> P2vReport:
    """Compare a disk with the virtual disk that it is to become.

    Args:
        source: the disk. adapter: ``ddb.adapterType`` of the new one.
        controller: of the new machine, where that is another than the disk names, such as ``sata``.
        capacity: its bytes, where they are known already; else as many as the writers, which round
            up to whole grains or a MiB, would make of the source at most.

    Raises:
        RequestError: the source has sectors of 4,096 bytes, or its partition table counts in them.
        SourceError: the source failed, not only some of its sectors. IntegrityError: an image that
            it is read from is damaged there.
    """
    disk = look(source)
    info = judged(disk)
    refuse_4kn(source, info)
    if capacity is None:
        capacity = -(-source.size // _MIB) * _MIB
    sectors = capacity // SECTOR
    notes, warnings = [*_notes(disk, info, capacity)], [*_warnings(disk, info)]
    if info.firmware == "bios":
        warnings += boot_warnings(disk, sectors, adapter)
        notes += chs_texts(disk, sectors, adapter)
    notes.append(_driver(controller or adapter))
    geometry = geometry_of(sectors, adapter)
    return P2vReport(info, geometry, capacity, tuple(notes), tuple(warnings))


def refuse_4kn(source: BlockSource, info: GuestInfo) -> None:
    """Raise ``RequestError`` where no system would find what is on the disk on a VMDK: sectors of a
    virtual disk have 512 bytes. A file has no sector size, but its table implies one.
    """
    size = max(source.sector_size, info.sector_size)
    if size != SECTOR:
        raise RequestError(
            f"{info.name}: has {size:,}-byte sectors; a VMDK supports only 512, and no system "
            "would find its partitions: convert it to raw and attach that with such sectors, or "
            "restore its volumes one by one"
        )


def _warnings(disk: Disk, info: GuestInfo) -> Iterator[str]:
    if disk.doubt:
        yield f"what lies on this disk is not certain: {disk.doubt}"
    if info.firmware == "bios" and info.scheme == "gpt" and info.family == "windows":
        yield "Windows does not start from a GPT with a BIOS"
    if info.architecture == "arm64":
        yield "its system is made for arm64 processors and will not start on others"
    if any(each.kind == "bitlocker" for each in disk.contents):
        yield "it is encrypted by BitLocker: a new machine asks for the recovery key"
    if any(each.partition.type in LDM for each in disk.contents):
        yield "it is a Windows dynamic disk: its volumes may need other disks of the machine too"


def _notes(disk: Disk, info: GuestInfo, capacity: int) -> Iterator[str]:
    if info.firmware and info.starts:
        name = {"bios": "a BIOS", "efi": "EFI firmware"}[info.firmware]
        yield (
            f"the new machine needs {name}, which an appliance says and a VMDK cannot: "
            f"{info.firmware_reason}"
        )
    else:
        why = f" ({info.firmware_reason})" if info.firmware else ""
        yield f"a machine will not start from this disk alone{why}"
    if info.scheme == "gpt" and capacity > disk.source.size:
        yield (
            "where the new disk is made larger, to whole grains or a MiB, the backup of its GPT is "
            "not at its end: tools may say so, and systems use the first copy"
        )


def _driver(adapter: str) -> str:
    names = f" ({_DRIVERS[adapter]})" if adapter in _DRIVERS else ""
    return (
        f"the guest needs a driver for the adapter {adapter}{names}, loaded at its start: whether "
        "it has that (Windows registry, Linux initramfs) was not looked at"
    )
