"""Run lists of what may be old, cut short or freed: as far as they can be followed.

What is found here is kept in addition to what is known to be in use, so that nothing depends on it
being right: a list ends where it makes no sense.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.fixups import fixed_up
from aipimage.volumes.view import LayoutError

_FIRST_AT, _OUTSIDE_AT, _PAIRS_AT = 20, 8, 32
"""Offset of the first attribute in a FILE record; in an attribute, whether it lies outside of it,
and the offset of its mapping pairs."""
_CLUSTER_MAX = 1 << 63
Row = tuple[int, int]
"""First cluster, and clusters."""


def runs_of_record(data: bytes) -> Iterator[Row]:
    """The runs of a FILE record as it lies on the disk, whether or not it is in use."""
    if data[:4] != layout.FILE_MAGIC:
        return
    # Of one that is cut short some words differ, which may be those of another list.
    with contextlib.suppress(LayoutError):
        data = fixed_up(data, layout.FILE_MAGIC, "a FILE record")
    yield from runs_of_attributes(data, int.from_bytes(data[_FIRST_AT : _FIRST_AT + 2], "little"))


def runs_of_logged_record(data: bytes) -> Iterator[Row]:
    """The same of one in a journal, which has no fix-ups."""
    if data[:4] == layout.FILE_MAGIC:
        first = int.from_bytes(data[_FIRST_AT : _FIRST_AT + 2], "little")
        yield from runs_of_attributes(data, first)


def runs_of_attributes(data: bytes, at: int = 0) -> Iterator[Row]:
    """The runs of attributes, one after the other."""
    while at + layout.ATTRIBUTE.size <= len(data):
        kind, length, outside, *_ = layout.ATTRIBUTE.unpack_from(data, at)
        if kind == layout.ATTRIBUTES_END or length < layout.ATTRIBUTE.size:
            return
        if outside == 1:
            attribute = data[at : at + length]
            first = int.from_bytes(attribute[_PAIRS_AT : _PAIRS_AT + 2], "little")
            yield from runs_of_pairs(attribute[first:])
        at += length


def runs_of_pairs(pairs: bytes) -> Iterator[Row]:
    """The runs of mapping pairs, without holes."""
    at = cluster = 0
    while at < len(pairs) and pairs[at]:
        counts, offsets = pairs[at] & 15, pairs[at] >> 4
        middle, stop = at + 1 + counts, at + 1 + counts + offsets
        if not 0 < counts <= 8 or offsets > 8 or stop > len(pairs):
            return
        count = int.from_bytes(pairs[at + 1 : middle], "little", signed=True)
        if count <= 0:
            return
        if offsets:
            cluster += int.from_bytes(pairs[middle:stop], "little", signed=True)
            if not 0 <= cluster < _CLUSTER_MAX:
                return
            yield cluster, count
        at = stop


def pairs_before(record: bytes, attribute_at: int, changed_at: int) -> bytes | None:
    """The mapping pairs of an attribute of a FILE record on the disk, up to a byte of it; ``None``
    where that is not within them.
    """
    try:
        record = fixed_up(record, layout.FILE_MAGIC, "a FILE record")
    except LayoutError:
        return None
    attribute = record[attribute_at:]
    if len(attribute) < layout.NON_RESIDENT.size or attribute[_OUTSIDE_AT] != 1:
        return None
    first = int.from_bytes(attribute[_PAIRS_AT : _PAIRS_AT + 2], "little")
    if not layout.NON_RESIDENT.size <= first <= changed_at <= len(attribute):
        return None
    return attribute[first:changed_at]
