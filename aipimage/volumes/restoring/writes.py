"""From a plan to what is written: ranges of the image, copies of smaller volumes, and patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.restore import Placed
from aipimage.io.reading.results import PartitionChange
from aipimage.volumes.model import Volume
from aipimage.volumes.patches import Patch
from aipimage.volumes.restoring.moving import moved_boot_sectors
from aipimage.volumes.restoring.planning import PartitionPlan
from aipimage.volumes.view import VolumeView


@dataclass(slots=True)
class Writes:
    """What is written to a target. All offsets in bytes, on the target.

    Attributes:
        placed: ranges of the image. zeros: (offset, length) of what lies between them.
        copies: (offset, number of the volume, length): smaller copies of volumes.
    """

    placed: list[Placed] = field(default_factory=list)
    zeros: list[tuple[int, int]] = field(default_factory=list)
    copies: list[tuple[int, int, int]] = field(default_factory=list)


def writes_of(plan: PartitionPlan, size: int, copied: Sequence[int]) -> Writes:
    """Return what a plan means for a source of ``size`` bytes; ``copied``: the volumes that come
    from a copy.

    What lies in front of the first partition that changes is written as it is, gaps too. After
    it only partitions are, and the gaps are zeros: what lay in them is not where it was.
    """
    if not plan.changes:
        return Writes([Placed(0, min(size, plan.size), 0)])
    first = min(min(change.old_start, change.start) for change in plan.changes)
    writes = Writes([Placed(0, first, 0)] if first else [])
    old = {change.number: change.old_start for change in plan.changes}
    done = first
    for number, place in sorted(plan.placements.items(), key=lambda item: item[1].start):
        if place.start < first:
            continue
        if done < place.start:
            writes.zeros.append((done, place.start - done))
        if number in copied:
            writes.copies.append((place.start, number, place.size))
        else:
            writes.placed.append(Placed(old.get(number, place.start), place.size, place.start))
        done = place.start + place.size
    if done < plan.size:
        writes.zeros.append((done, plan.size - done))
    return writes


def boot_sector_patches(
    source: BlockSource,
    changes: Sequence[PartitionChange],
    volumes: Mapping[int, Volume],
    copies: Mapping[int, BlockSource],
) -> list[Patch]:
    """What to write over the boot sectors of volumes that were moved, by offset on the target."""
    patches: list[Patch] = []
    for change in changes:
        volume = volumes.get(change.number)
        if volume is None or volume.filesystem is None:
            continue
        copy = copies.get(change.number)
        if copy is None:
            view = VolumeView(source, change.old_start, change.old_size)
        else:
            view = VolumeView(copy, 0, min(copy.size, change.size))
        kind = volume.filesystem.kind
        for offset, data in moved_boot_sectors(view, kind, change.old_start, change.start):
            # The backup of a boot sector may lie in what was cut off.
            if offset + len(data) <= change.size:
                patches.append((change.start + offset, data))
    return patches
