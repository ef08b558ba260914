"""From what lies on a disk to what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

from aipimage.io.blocks.sources import BlockSource
from aipimage.vmdk.guest.contents import Disk, look
from aipimage.vmdk.guest.family import family_of
from aipimage.vmdk.guest.firmware import firmware_of
from aipimage.vmdk.guest.info import GuestInfo, GuestVolume, system_of


def examine(source: BlockSource) -> GuestInfo:
    """Say what kind of machine a disk comes from: nothing that lies on it is an error.

    Some hundred KiB of it are read, whatever its size.

    Raises:
        SourceError: the source failed, not only some of its sectors. IntegrityError: an image that
            it is read from is damaged there.
    """
    return judged(look(source))


def judged(disk: Disk) -> GuestInfo:
    """The same of a disk that was looked at."""
    source, table = disk.source, disk.table
    firmware, family = firmware_of(disk), family_of(disk)
    sector_size = table.sector_size if table.partitions else source.sector_size
    system = system_of(family.name, family.architecture, family.old)
    starts = {"bios": firmware.bios, "efi": firmware.efi}.get(firmware.kind or "", False)
    volumes = tuple(
        GuestVolume(
            each.partition.number,
            each.partition.start,
            each.partition.size,
            each.partition.type,
            each.kind,
        )
        for each in disk.contents
    )
    return GuestInfo(
        source.name, source.size, sector_size, table.scheme, firmware.kind, firmware.why, starts,
        firmware.bios, firmware.efi, disk.has_boot_code, family.name, family.why,
        family.architecture, system, volumes, _reasons(disk, firmware.why, family.signs),
    )  # fmt: skip


def _reasons(disk: Disk, firmware: str, signs: Sequence[str]) -> tuple[str, ...]:
    doubts = [disk.doubt] if disk.doubt else []
    return tuple(f"{text[0].upper()}{text[1:]}." for text in (firmware, *signs, *doubts))


def starting_disk(disks: Sequence[GuestInfo]) -> int | None:
    """Return the number of the disk that a machine with these starts from: the first that its own
    firmware can start; ``None`` where there is none.
    """
    return next((number for number, disk in enumerate(disks) if disk.starts), None)
