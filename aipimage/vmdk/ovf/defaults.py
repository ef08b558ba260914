"""Chooses firmware and guest system of an appliance by its disks, where the caller did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.device import Device
from aipimage.vmdk.guest.examining import examine, starting_disk
from aipimage.vmdk.guest.info import UNKNOWN, GuestInfo, GuestSystem
from aipimage.volumes.restoring.imagesource import ImageSource


@dataclass(frozen=True, slots=True)
class Seen:
    """What the disks show: ``firmware``, ``system``, and ``warnings`` for people."""

    firmware: str
    system: GuestSystem
    warnings: tuple[str, ...] = ()


def seen(disks: Sequence[BlockSource | Device]) -> Seen:
    """Look at the disks of a machine, some hundred KiB of each.

    The disk that it starts from decides; where none starts, the first that shows anything.

    Raises:
        SourceError: a source failed. IntegrityError: an image is damaged.
    """
    infos = [examine(as_source(disk)) for disk in disks]
    boot = starting_disk(infos)
    ordered = infos if boot is None else [infos[boot], *infos[:boot], *infos[boot + 1 :]]
    firmware = next((info.firmware for info in ordered if info.firmware), None)
    system = next((info.system for info in ordered if info.family), UNKNOWN)
    return Seen(firmware or "bios", system, tuple(_warnings(infos, boot)))


def as_source(disk: BlockSource | Device) -> BlockSource:
    """A disk of an image as a block source; any other as it is."""
    return ImageSource(disk) if isinstance(disk, Device) else disk


def _warnings(infos: Sequence[GuestInfo], boot: int | None) -> list[str]:
    found = []
    if boot is None:
        reason = infos[0].firmware_reason
        found.append(f"no disk was found that a machine starts from ({infos[0].name}: {reason})")
    elif boot:
        found.append(
            f"the machine starts from {infos[boot].name}, which is disk {boot} of the appliance, "
            "counted from 0: an importer starts disk 0; put the disks in another order (disk=)"
        )
    return found
