"""What the records of $LogFile say: a change and how to undo it, or a checkpoint."""

from __future__ import annotations

import struct
from typing import NamedTuple

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.records import Record
from aipimage.volumes.view import LayoutError


class Change(NamedTuple):
    """A record of a client.

    Attributes:
        redo, undo: operations (``layout.OPERATIONS``). redo_data, undo_data: what they need.
        target: place in the table of open attributes. record_at, attribute_at, cluster_at: bytes
            from the start of the changed record, of its attribute, and of the first cluster.
        vcn: in the attribute, of the first cluster. clusters: of the volume, that are changed.
    """

    redo: int
    undo: int
    redo_data: bytes
    undo_data: bytes
    target: int
    record_at: int
    attribute_at: int
    cluster_at: int
    vcn: int
    clusters: tuple[int, ...]

    @property
    def sides(self) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        """(operation, data) to redo and to undo it."""
        return (self.redo, self.redo_data), (self.undo, self.undo_data)


class Checkpoint(NamedTuple):
    """A record that says where the tables are, as they were at its time.

    Attributes:
        version: of the tables. begin: LSN from which on it holds. attributes, names, dirty_pages,
            transactions: LSNs of the tables; 0 where there was nothing in one.
    """

    version: int
    begin: int
    attributes: int
    names: int
    dirty_pages: int
    transactions: int


def decode_change(record: Record) -> Change:
    """Read a client's record; ``LayoutError`` where it does not fit, or is not known."""
    what = f"the record 0x{record.lsn:x} of its journal"
    data = record.data
    if len(data) < layout.CHANGE.size:
        raise LayoutError(f"{what} is cut short")
    fields = layout.CHANGE.unpack_from(data)
    redo, undo, redo_at, redo_size, undo_at, undo_size = fields[:6]
    target, count, record_at, attribute_at, sectors, vcn = fields[6:]
    if max(redo, undo) >= len(layout.OPERATIONS):
        raise LayoutError(f"{what} has an operation that is not known")
    if layout.CHANGE.size + 8 * count > len(data) or vcn < 0:
        raise LayoutError(f"{what} names clusters past its end")
    clusters = struct.unpack_from(f"<{count}q", data, layout.CHANGE.size)
    redo_data = _part(record, redo, redo_at, redo_size, layout.NO_REDO_DATA)
    undo_data = _part(record, undo, undo_at, undo_size, layout.NO_UNDO_DATA)
    return Change(
        redo, undo, redo_data, undo_data, target, record_at, attribute_at, 512 * sectors, vcn,
        clusters,
    )  # fmt: skip


def _part(record: Record, operation: int, at: int, size: int, left_out: int) -> bytes:
    """The data of one side. What is zeros, or follows from the other side, may be left out; of an
    operation that does nothing the place may be of data that is not there.
    """
    end = len(record.data)
    fits = layout.CHANGE.size <= at and at + size <= end
    if not size or record.flags & left_out:
        return b""
    if not fits and operation in (layout.NOOP, layout.COMPENSATION):
        return b""
    if not fits:
        raise LayoutError(f"the record 0x{record.lsn:x} of its journal has data past its end")
    return record.data[at : at + size]


def decode_checkpoint(record: Record) -> Checkpoint:
    """Read a checkpoint; ``LayoutError`` where it does not fit, or is not known."""
    what = f"the checkpoint 0x{record.lsn:x} of its journal"
    if len(record.data) < layout.CHECKPOINT.size:
        raise LayoutError(f"{what} is cut short")
    major, minor, *lsns = layout.CHECKPOINT.unpack_from(record.data)
    if major not in layout.ATTRIBUTE_ENTRIES or minor:
        raise LayoutError(f"{what} is of version {major}.{minor}")
    return Checkpoint(major, *lsns[:5])
