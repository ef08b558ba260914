"""Volumes within volumes: logical volumes of a physical one, the content of an array's member."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aipimage.errors import SourceError
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.filesystems.signatures import has_partition_table
from aipimage.volumes.model import ALL_IN_USE, Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer

DEPTH_MAX = 4
"""Containers within each other: a guest's physical volume in a logical volume on an array."""


class MappedRun(NamedTuple):
    """A run of bytes that lies elsewhere: where it begins here and there, and its length."""

    offset: int
    origin: int
    length: int


class MappedSource:
    """A block source whose bytes lie in pieces within a view of another.

    Args:
        view: what holds them. pieces: ascending, without gaps, from 0 on; all inside of the view.
        name: for messages.

    Attributes:
        depth: how many containers are around it.
    """

    def __init__(self, view: VolumeView, pieces: Sequence[MappedRun], name: str) -> None:
        end = 0
        for offset, origin, length in pieces:
            if offset != end or length <= 0 or origin < 0 or origin + length > view.size:
                raise RuntimeError(f"internal error: {name} has no piece at {end}")
            end += length
        self._source: BlockSource = view.source
        self._base = view.offset
        self._pieces, self._starts = pieces, [piece.offset for piece in pieces]
        self.name, self.size, self.sector_size = name, end, view.sector_size
        self.depth = depth_of(view) + 1

    def _parts(self, start: int, end: int) -> Iterator[MappedRun]:
        """Yield the pieces of [start, end), with their places in the source below."""
        at = bisect.bisect_right(self._starts, start) - 1
        while start < end:
            offset, origin, length = self._pieces[at]
            count = min(end, offset + length) - start
            yield MappedRun(start, self._base + origin + start - offset, count)
            start, at = start + count, at + 1

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        target = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(target) > self.size:
            raise SourceError(f"{self.name}: {len(target)} bytes at {offset} are not inside of it")
        for start, origin, count in self._parts(offset, offset + len(target)):
            self._source.read_into(target[start - offset : start - offset + count], origin)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``."""
        for here, origin, count in self._parts(max(start, 0), min(end, self.size)):
            for offset, length in self._source.data_ranges(origin, origin + count):
                yield here + offset - origin, length

    def fingerprint(self) -> dict[str, int | str]:
        """That of what holds it."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Do nothing: the source belongs to its opener."""


def depth_of(view: VolumeView) -> int:
    """Return how many containers are around what a view shows."""
    return view.source.depth if isinstance(view.source, MappedSource) else 0


class Content(NamedTuple):
    """What a container holds; see ``Volume`` for the members."""

    filesystem: FileSystem | None
    allocation: Allocation
    whole_because: str | None

    @property
    def kind(self) -> str:
        """In words."""
        return self.filesystem.kind if self.filesystem else "unknown content"


def content_of(
    view: VolumeView, pieces: Sequence[MappedRun], name: str, options: SurveyOptions
) -> Content:
    """Look at the volume that lies in ``pieces`` of a view.

    Raises:
        LayoutError: there are too many containers around it.
    """
    # The registry knows all families, also those that look into containers.
    from aipimage.volumes.filesystems.registry import probe_volume

    if depth_of(view) >= DEPTH_MAX:
        raise LayoutError(f"more than {DEPTH_MAX} containers lie within each other")
    source = MappedSource(view, pieces, name)
    inner = VolumeView(source, 0, source.size)
    found = Content(*probe_volume(inner, options))
    # A superblock may be older than the partitions that were made over it.
    if found.whole_because is None and has_partition_table(inner):
        return Content(found.filesystem, ALL_IN_USE, "it also holds a partition table")
    return found
