"""All shadow copies of a volume."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from aipimage.io.blocks.model import BlockSource
from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.shadowcopies.catalogue import Entry, read_catalogue
from aipimage.volumes.shadowcopies.descriptors import read_all_kept
from aipimage.volumes.shadowcopies.needed import Ranges, occupied, read_in_place, unused_bits
from aipimage.volumes.shadowcopies.source import ShadowCopySource
from aipimage.volumes.view import VolumeView

_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """A volume of Windows as it was when a shadow copy (VSS) of it was made.

    Attributes:
        identifier: of its store, as a GUID. created: in UTC. size: bytes of the volume then.
        source: reads it, as a ``BlockSource``; it stays open as long as the image. What the file
            system had free then reads as anything.
    """

    identifier: str
    created: datetime
    size: int
    source: BlockSource


class ShadowCopies:
    """What was read of the shadow copies of a volume.

    Attributes:
        copies: the oldest first.
    """

    def __init__(self, view: VolumeView, entries: list[Entry], blocks: list[int]) -> None:
        self._view, self._entries = view, entries
        self._kept = read_all_kept(view, entries)
        self._structures = np.array(blocks, np.int64)
        self.copies = tuple(self._copy(number) for number in range(len(entries)))

    def _copy(self, number: int) -> ShadowCopy:
        entry = self._entries[number]
        last = number == len(self._entries) - 1
        unused = unused_bits(self._view, entry) if last else None
        source = ShadowCopySource(self._view, entry.size, self._kept[number:], unused)
        name = str(uuid.UUID(bytes_le=entry.identifier))
        return ShadowCopy(name, entry.created, entry.size, source)

    def needed(self) -> Iterator[Ranges]:
        """Yield all bytes of the volume that the copies need, in any order: their structures, the
        blocks that they keep, and those that they may read where the volume has them.

        Raises:
            LayoutError: a structure is not understood.
        """
        for places in (self._structures, *(kept.structures for kept in self._kept)):
            for low in range(0, len(places), _ROWS_AT_ONCE):
                some = places[low : low + _ROWS_AT_ONCE].astype(np.uint64)
                yield np.column_stack((some, np.full(len(some), layout.BLOCK, np.uint64)))
        for entry in self._entries:
            yield occupied(self._view, entry)
            yield from read_in_place(self._view, entry)


def read_shadow_copies(view: VolumeView) -> ShadowCopies | None:
    """Read the shadow copies of a volume; ``None`` where it has none.

    Raises:
        LayoutError: they are not understood.
    """
    catalogue = read_catalogue(view)
    if catalogue is None:
        return None
    return ShadowCopies(view, catalogue.entries, catalogue.blocks)
