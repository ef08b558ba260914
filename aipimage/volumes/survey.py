"""What lies on a disk: its partition table, its volumes, and what of all that is free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

from aipimage.io.blocks.freespace import FreeSpace, MappedFree
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.filesystems.ntfs.paging import HIBERNATED
from aipimage.volumes.filesystems.registry import probe_volume
from aipimage.volumes.filesystems.swap import SUSPENDED
from aipimage.volumes.filesystems.wholedisk import why_in_doubt
from aipimage.volumes.journals.live import why_changing
from aipimage.volumes.journals.notes import is_in_use
from aipimage.volumes.model import SurveyOptions, Volume
from aipimage.volumes.readahead import ReadAhead
from aipimage.volumes.tables.model import Partition, PartitionTable
from aipimage.volumes.tables.reading import read_table
from aipimage.volumes.view import VolumeView


@dataclass(frozen=True, slots=True)
class DiskSurvey:
    """A disk and its volumes.

    Attributes:
        name, size, sector_size: of the source; bytes.
        table: its partition table; scheme ``"none"`` where there is none.
        volumes: by number; a disk without a table is one volume of number 0.
        doubt: why no place on it can be trusted to be what its table says: it is a member of an
            array.
    """

    name: str
    size: int
    sector_size: int
    table: PartitionTable
    volumes: tuple[Volume, ...]
    doubt: str | None = None

    def may_leave_out(self, number: int) -> bool:
        """Whether all of a volume may be left out: its place is certain, so that nothing else lies
        there, such as the partition table or a volume that is wanted.
        """
        partition = self.table.partition(number)
        return self.doubt is None and (partition is None or partition.doubt is None)

    @property
    def free(self) -> FreeSpace:
        """What of the disk is free: the free space of its volumes, by their place on it. What is in
        no partition counts as in use, since boot loaders lie there.
        """
        return MappedFree(
            [
                (volume.start, volume.allocation.free, 0, volume.size)
                for volume in sorted(self.volumes, key=lambda volume: volume.start)
                if volume.whole_because is None
            ]
        )


_PLAIN = SurveyOptions()
_DYNAMIC = "it belongs to dynamic disks of Windows, whose volumes may lie on several of them"
_SPACES = "it belongs to a storage pool of Windows"
ELSEWHERE_TYPES = {
    "0x42": _DYNAMIC,
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": _DYNAMIC,
    "af9b60a0-1431-4f62-bc68-3311714a69ad": _DYNAMIC,
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": _SPACES,
    "52414944-0000-11aa-aa11-00306543ecac": "it belongs to an array of macOS",
    "52414944-5f4f-11aa-aa11-00306543ecac": "it belongs to an array of macOS",
    "53746f72-6167-11aa-aa11-00306543ecac": "it belongs to Core Storage of macOS",
    "516e7cb8-6ecf-11d6-8ff8-00022d09712b": "it belongs to a volume manager (vinum)",
}
"""Types of partitions whose content another system spreads over disks. What begins there like a
file system may continue elsewhere, and what that calls free may be another volume's.
"""


def survey(source: BlockSource, options: SurveyOptions = _PLAIN) -> DiskSurvey:
    """Look at a disk, or at a volume without a table.

    Nothing that is on a disk is an error: what cannot be trusted counts as in use, and its volume
    says why.

    Raises:
        SourceError: the source failed, not only some of its sectors.
    """
    options = options._replace(changing=cache(partial(why_changing, source)))
    disk = ReadAhead(source)
    disk.prefetch_ends(0, disk.size)
    table, doubt = read_table(disk), None
    volumes = [_volume(disk, partition, options) for partition in table.partitions]
    if table.may_be_volume:
        volumes = [_content(disk, Volume(0, 0, disk.size), options)]
    elif table.partitions:
        # A member of an array begins with the array's table; its file systems lie otherwise.
        places = [(volume.start, volume.size) for volume in volumes]
        doubt = why_in_doubt(VolumeView(disk, 0, disk.size), places)
        if doubt is not None:
            volumes = [volume.whole(doubt) for volume in volumes]
    volumes = _awake([_steady(source, each, options) for each in volumes])
    return DiskSurvey(source.name, source.size, table.sector_size, table, tuple(volumes), doubt)


def _volume(source: ReadAhead, partition: Partition, options: SurveyOptions) -> Volume:
    volume = Volume(
        partition.number,
        partition.start,
        partition.size,
        partition.type,
        partition.name,
        partition.guid,
        partition.active,
        partition.logical,
    )
    if partition.doubt is not None:
        # Not looked at: a thousand entries that overlap would be a thousand looks at one place.
        return volume.whole(partition.doubt)
    looked_at = _content(source, volume, options)
    elsewhere = ELSEWHERE_TYPES.get(partition.type)
    if elsewhere is not None and looked_at.whole_because is None:
        return looked_at.whole(elsewhere)
    return looked_at


def _steady(source: BlockSource, volume: Volume, options: SurveyOptions) -> Volume:
    """Look once more at a volume whose journal was read, without what was kept of the first look:
    one that its machine is writing to will mostly have gone on since.
    """
    if not is_in_use(volume.allocation) or getattr(source, "reads_forward", False):
        return volume
    again = _content(ReadAhead(source), volume, options)
    if (again.whole_because, again.allocation.notes, again.used) == (
        volume.whole_because,
        volume.allocation.notes,
        volume.used,
    ):
        return volume
    return volume.whole("it is in use, and has changed while it was looked at; take a snapshot")


def _awake(volumes: list[Volume]) -> list[Volume]:
    """Take all of a disk whole where a suspended system lies on it: it resumes with what it had of
    any volume in its memory, which need not be what lies on the disk.
    """
    asleep = next((each.number for each in volumes if _is_asleep(each)), None)
    if asleep is None:
        return volumes
    because = f"a suspended system, in volume {asleep}, may have it in use"
    return [each.whole(because) if each.whole_because is None else each for each in volumes]


def _is_asleep(volume: Volume) -> bool:
    said = (volume.whole_because or "", *volume.allocation.notes)
    return any(mark in text for text in said for mark in (SUSPENDED, HIBERNATED))


def _content(source: ReadAhead, volume: Volume, options: SurveyOptions) -> Volume:
    source.prefetch_ends(volume.start, volume.size)
    view = VolumeView(source, volume.start, volume.size, 0)
    return volume.with_content(*probe_volume(view, options))
