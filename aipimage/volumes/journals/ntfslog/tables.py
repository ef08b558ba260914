"""The tables that a checkpoint of $LogFile leaves: open attributes and their names, dirty pages,
and transactions that had not ended.

Their entries are of two versions, which differ in their sizes, so that each table says itself of
which one it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.view import LayoutError


class OpenAttribute(NamedTuple):
    """An attribute that was open.

    Attributes:
        file: number of its FILE record. type: of the attribute. name: in UTF-16, little-endian.
    """

    file: int
    type: int
    name: bytes = b""


class DirtyPage(NamedTuple):
    """Pages that had not been written.

    Attributes:
        target: place in the table of open attributes. vcn: of the first cluster. oldest: LSN of the
            first record that changed them. clusters: of the volume.
    """

    target: int
    vcn: int
    oldest: int
    clusters: tuple[int, ...]


class OpenTransaction(NamedTuple):
    """A transaction that had not ended; ``first``, ``last``: LSNs of its records."""

    state: int
    first: int
    last: int


def open_attributes(data: bytes) -> dict[int, OpenAttribute]:
    """Read a table of open attributes: by their places in it."""
    return {place: decode_open_attribute(entry) for place, entry in _entries(data, 40)}


def decode_open_attribute(entry: bytes) -> OpenAttribute:
    """Read one entry; also what is logged where an attribute is opened."""
    for version, form in layout.ATTRIBUTE_ENTRIES.items():
        if len(entry) == form.size:
            fields = form.unpack(entry)
            type_, reference = (fields[2], fields[0]) if not version else (fields[0], fields[1])
            return OpenAttribute(reference & (1 << 48) - 1, type_)
    raise LayoutError(f"its journal has open attributes of {len(entry)} bytes")


def attribute_names(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (place in the table of open attributes, name)."""
    at = 0
    while at + layout.NAME.size <= len(data):
        place, length = layout.NAME.unpack_from(data, at)
        if not place:
            return
        at += layout.NAME.size
        if at + length > len(data):
            raise LayoutError("a name in its journal runs out of its table")
        yield place, data[at : at + length]
        at += length + 2


def dirty_pages(data: bytes) -> Iterator[DirtyPage]:
    """Read a table of dirty pages."""
    for _, entry in _entries(data, layout.DIRTY_PAGES[1].size):
        form = layout.DIRTY_PAGES[0 if len(entry) % 8 else 1]
        target, _, count, vcn, oldest = form.unpack_from(entry)
        if form.size + 8 * count > len(entry):
            raise LayoutError("a dirty page in its journal names clusters past its end")
        clusters = struct.unpack_from(f"<{count}q", entry, form.size)
        yield DirtyPage(target, vcn, oldest, clusters)


def transactions(data: bytes) -> Iterator[OpenTransaction]:
    """Read a table of transactions."""
    for _, entry in _entries(data, layout.TRANSACTION.size):
        yield OpenTransaction(*layout.TRANSACTION.unpack_from(entry)[:3])


def _entries(data: bytes, least: int) -> Iterator[tuple[int, bytes]]:
    """Yield (place, bytes) of the entries of a table that are in use."""
    if len(data) < layout.TABLE.size:
        raise LayoutError("a table in its journal is cut short")
    size, count, used, *_ = layout.TABLE.unpack_from(data)
    if size < least or size % 4 or layout.TABLE.size + count * size > len(data):
        raise LayoutError("a table in its journal runs out of its record")
    found = 0
    for at in range(layout.TABLE.size, layout.TABLE.size + count * size, size):
        if int.from_bytes(data[at : at + 4], "little") == layout.ENTRY_IN_USE:
            found += 1
            yield at, data[at : at + size]
    if found != used:
        raise LayoutError(f"a table in its journal says that it has {used} entries, not {found}")
