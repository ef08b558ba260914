"""An open $LogFile from its oldest record to its last, and whether that is all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.operations import (
    Change,
    Checkpoint,
    decode_change,
    decode_checkpoint,
)
from aipimage.volumes.journals.ntfslog.pages import LogPages, Read
from aipimage.volumes.journals.ntfslog.records import LogRecords, Record
from aipimage.volumes.journals.ntfslog.restart import Shape
from aipimage.volumes.journals.ntfslog.tables import (
    OpenAttribute,
    attribute_names,
    decode_open_attribute,
    dirty_pages,
    open_attributes,
    transactions,
)
from aipimage.volumes.view import LayoutError


class OpenLog:
    """A log that was not closed.

    Args:
        read: reads the file. shape: of the log.

    Attributes:
        attributes: those that were open, by their place in the table, as of the
            record that was read last. records: how many were read.
    """

    def __init__(self, read: Read, shape: Shape) -> None:
        self.shape = shape
        self.attributes: dict[int, OpenAttribute] = {}
        self.records = 0
        self._pages = LogPages(read, self.shape)
        self._oldest_of: dict[int, int] = {}

    def changes(self) -> Iterator[Change]:
        """Yield every change from the oldest record that may be needed on.

        Raises:
            LayoutError: what is needed is not all there, in one piece, or not understood.
        """
        last, checkpoint = 0, None
        records = LogRecords(self._pages)
        # What the older restart page asks for may be overwritten: then it is no longer needed.
        start = self.shape.older if records.has(self.shape.older) else self.shape.oldest
        for record in records.from_lsn(start):
            self.records, last = self.records + 1, record.lsn
            if record.kind == layout.OF_RESTART:
                checkpoint = decode_checkpoint(record)
            elif record.kind == layout.OF_CLIENT:
                change = decode_change(record)
                self._note(record, change)
                yield change
            else:
                raise LayoutError(f"its journal has a record of the unknown type {record.kind}")
        self._check_end(last, checkpoint)

    def scattered(self) -> Iterator[Change]:
        """Yield every change that can be read from a page that is whole, of whatever turn; what is
        not understood is passed over.
        """
        for record in LogRecords(self._pages).scattered():
            if record.kind == layout.OF_CLIENT:
                with contextlib.suppress(LayoutError):
                    change = decode_change(record)
                    self.records += 1
                    yield change

    def _note(self, record: Record, change: Change) -> None:
        """Keep what a table, or an attribute that is opened, says."""
        data, operation = change.redo_data, change.redo
        if operation == layout.ATTRIBUTE_TABLE:
            self.attributes = open_attributes(data)
        elif operation == layout.NAME_TABLE:
            for place, name in attribute_names(data):
                if place in self.attributes:
                    self.attributes[place] = self.attributes[place]._replace(name=name)
        elif operation == layout.OPEN_ATTRIBUTE:
            opened = decode_open_attribute(data)
            self.attributes[change.target] = opened._replace(name=change.undo_data)
        elif operation == layout.DIRTY_PAGE_TABLE:
            oldest = (page.oldest for page in dirty_pages(data))
            self._oldest_of[record.lsn] = min(oldest, default=record.lsn)
        elif operation == layout.TRANSACTION_TABLE:
            first = (each.first for each in transactions(data))
            self._oldest_of[record.lsn] = min(first, default=record.lsn)

    def _check_end(self, last: int, checkpoint: Checkpoint | None) -> None:
        if last < max(self.shape.current, self.shape.checkpoint):
            raise LayoutError(f"its journal cannot be read past the record 0x{last:x}")
        if self._pages.last_ends() > last:
            raise LayoutError(f"its journal has a gap after the record 0x{last:x}")
        if checkpoint is None:
            raise LayoutError("its journal has no checkpoint")
        for lsn in (checkpoint.dirty_pages, checkpoint.transactions):
            if lsn and self._oldest_of.get(lsn, 0) < self.shape.oldest:
                raise LayoutError("its journal no longer holds all that its tables name")
