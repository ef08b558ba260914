"""What lies on a disk: its partition table, its volumes, and what of all that is free."""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.io.freespace import FreeSpace, MappedFree
from aipimage.io.sources import BlockSource
from aipimage.volumes.filesystems.registry import probe_volume
from aipimage.volumes.filesystems.wholedisk import why_in_doubt
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


def survey(source: BlockSource, options: SurveyOptions = _PLAIN) -> DiskSurvey:
    """Look at a disk, or at a volume without a table.

    Nothing that is on a disk is an error: what cannot be trusted counts as in use, and its volume
    says why.

    Raises:
        SourceError: the source failed, not only some of its sectors.
    """
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
    return DiskSurvey(source.name, source.size, table.sector_size, table, tuple(volumes), doubt)


def _volume(source: ReadAhead, partition: Partition, options: SurveyOptions) -> Volume:
    volume = Volume(
        partition.number, partition.start, partition.size, partition.type, partition.name,
        partition.guid, partition.active, partition.logical,
    )  # fmt: skip
    if partition.doubt is not None:
        # Not looked at: a thousand entries that overlap would be a thousand looks at one place.
        return volume.whole(partition.doubt)
    return _content(source, volume, options)


def _content(source: ReadAhead, volume: Volume, options: SurveyOptions) -> Volume:
    source.prefetch_ends(volume.start, volume.size)
    view = VolumeView(source, volume.start, volume.size, 0)
    return volume.with_content(*probe_volume(view, options))
