"""Which shadow copies a volume has ("Volume header", "Catalog")."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.shadowcopies.blocks import chain
from aipimage.volumes.view import LayoutError, VolumeView

COPIES_MAX = 512
"""Windows makes no more for a volume."""
_BLOCKS_MAX = 64
_Fields = dict[bytes, tuple[int, ...]]
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """A shadow copy in the catalogue; places are bytes of the volume.

    Attributes:
        identifier: 16 bytes. size: bytes of the volume at its time. time: a FILETIME.
        descriptors, header, ranges, bitmap: where its structures begin.
        before: the bitmap of the copy before, or 0.
    """

    identifier: bytes
    size: int
    time: int
    descriptors: int
    header: int
    ranges: int
    bitmap: int
    before: int

    @property
    def created(self) -> datetime:
        """When it was made; ``LayoutError`` where that is no time."""
        try:
            return _EPOCH + timedelta(microseconds=self.time // 10)
        except OverflowError as error:
            raise LayoutError("a shadow copy is of an impossible time") from error


class Catalogue(NamedTuple):
    """All shadow copies of a volume.

    Attributes:
        entries: the oldest first. blocks: bytes of the volume where the catalogue's blocks begin.
    """

    entries: list[Entry]
    blocks: list[int]


def read_catalogue(view: VolumeView) -> Catalogue | None:
    """Return the catalogue of a volume, ``None`` where it has no shadow copies.

    A header without a catalogue is what is left where the last copy was deleted and the protection
    was turned off; but the copies of a volume may also be kept on another one.

    Raises:
        LayoutError: the catalogue is not understood, or the copies are kept elsewhere.
    """
    if layout.HEADER_AT + layout.HEADER.size > view.size:
        return None
    view.allow(layout.HEADER.size)
    fields = layout.HEADER.unpack(view.read(layout.HEADER_AT, layout.HEADER.size))
    identifier, version, kind, place, volume, storage = fields
    if identifier != layout.IDENTIFIER:
        return None
    if kind != layout.VOLUME or version not in layout.VERSIONS:
        raise LayoutError("their header is of an unknown version")
    if any(storage) and storage != volume:
        raise LayoutError("they are kept on another volume")
    if not place:
        return None
    blocks: list[int] = []
    copies: _Fields = {}
    places: _Fields = {}
    for at, data in chain(view, place, layout.CATALOGUE, _BLOCKS_MAX):
        blocks.append(at)
        for row in range(0, len(data) - layout.ENTRY_BYTES + 1, layout.ENTRY_BYTES):
            _take(data[row : row + layout.ENTRY_BYTES].tobytes(), copies, places)
    entries = _entries(view, copies, places)
    return Catalogue(entries, blocks) if entries else None


def _take(data: bytes, copies: _Fields, places: _Fields) -> None:
    """Take an entry: what a copy is, or where its structures are."""
    (kind,) = layout.ENTRY_KIND.unpack_from(data)
    if kind in layout.UNUSED:
        return
    if kind == layout.COPY:
        size, identifier, *rest = layout.ENTRY_COPY.unpack_from(data)
        into, fields = copies, (size, *rest)
    elif kind == layout.PLACES:
        descriptors, identifier, *rest = layout.ENTRY_PLACES.unpack_from(data)
        into, fields = places, (descriptors, *rest)
    else:
        raise LayoutError(f"their catalogue has an entry of the kind {kind}")
    if identifier in into:
        raise LayoutError("their catalogue has a shadow copy twice")
    into[identifier] = fields


def _entries(view: VolumeView, copies: _Fields, places: _Fields) -> list[Entry]:
    if copies.keys() != places.keys():
        raise LayoutError("their catalogue does not say where each of them is")
    if len(copies) > COPIES_MAX:
        raise LayoutError(f"there are {len(copies)} of them")
    found = []
    for identifier, (size, _, _, time) in copies.items():
        if not 0 < size <= view.size:
            raise LayoutError("one of them is larger than its volume")
        found.append(Entry(identifier, size, time, *places[identifier]))
    found.sort(key=lambda entry: entry.time)
    if len({entry.time for entry in found}) != len(found):
        raise LayoutError("two of them are of the same time")
    return found
