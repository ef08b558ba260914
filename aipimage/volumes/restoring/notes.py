"""What a restore reports besides its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipimage.io.reading.device import Device
from aipimage.volumes.restoring.job import described_volumes

if TYPE_CHECKING:
    from aipimage.volumes.restoring.planning import PartitionPlan
    from aipimage.volumes.survey import DiskSurvey
    from aipimage.volumes.tables.placing import NewIds

_NAMED = (
    "UUIDs and labels of file systems are the same as before, and so is the boot loader's "
    "configuration: what it names by partition GUID or disk signature has to be changed in it"
)


def left_out_warnings(device: Device) -> tuple[str, ...]:
    """Volumes that were left out when the image was made."""
    gone = [str(each.number) for each in described_volumes(device) if not each.kept]
    if not gone:
        return ()
    now = "empty in a file, and what it was before on a device"
    if len(gone) == 1:
        return (f"volume {gone[0]} was left out when the image was made: it is {now}",)
    return (f"volumes {', '.join(gone)} were left out when the image was made: each is {now}",)


def id_notes(ids: NewIds | None) -> list[str]:
    """Which ids are new."""
    if ids is None:
        return ["the disk has no partition table, so there are no ids to change"]
    notes = []
    if ids.signature:
        notes.append(f"new disk signature: {ids.signature}")
    if ids.disk_guid:
        notes.append(f"new disk GUID: {ids.disk_guid}")
    notes += [f"new GUID of partition {number}: {guid}" for number, guid in ids.guids.items()]
    return [*notes, _NAMED]


def moved_warnings(found: DiskSurvey, plan: PartitionPlan) -> list[str]:
    """What may not start any more because partitions lie elsewhere."""
    kinds = {volume.number: volume.filesystem.kind for volume in found.volumes if volume.filesystem}
    moved = [change.number for change in plan.changes if change.start != change.old_start]
    if found.table.scheme == "mbr" and any(kinds.get(number) == "ntfs" for number in moved):
        return [
            "a Windows that starts from this disk finds its partition by its place, which is "
            "another one now: repair its boot configuration (bootrec /rebuildbcd)"
        ]
    return []
