"""The records of $LogFile, one after the other as they were written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.pages import LogPage, LogPages
from aipimage.volumes.view import LayoutError


class Record(NamedTuple):
    """A log record.

    Attributes:
        lsn: of itself. previous, undo_next: of the record of its transaction before it, and of the
            one that is undone after it; 0 for none.
        kind: of a client, or a checkpoint. transaction: place in the table of transactions.
        flags: of the header. data: what the client wrote.
    """

    lsn: int
    previous: int
    undo_next: int
    kind: int
    transaction: int
    flags: int
    data: bytes


class _Place(NamedTuple):
    """A place in the ring: offset in the file, and the turn."""

    at: int
    turn: int


class LogRecords:
    """Reads records by their log sequence number."""

    def __init__(self, pages: LogPages) -> None:
        self._pages, self._shape = pages, pages.shape
        self._bits = 64 - pages.shape.sequence_bits
        self._kept: tuple[int, LogPage | None] = (-1, None)

    def has(self, lsn: int) -> bool:
        """Whether a record is there, as a whole."""
        return self._record(self._place(lsn)) is not None

    def _place(self, lsn: int) -> _Place:
        return _Place((lsn & (1 << self._bits) - 1) << 3, lsn >> self._bits)

    def from_lsn(self, lsn: int) -> Iterator[Record]:
        """Yield the records from one on to the last.

        Raises:
            LayoutError: that record is not there, or one is not understood.
        """
        found = self._record(self._place(lsn))
        if found is None:
            raise LayoutError(f"its journal does not hold the record 0x{lsn:x}, the oldest one")
        while found is not None:
            record, end = found
            yield record
            found = self._following(end)

    def scattered(self) -> Iterator[Record]:
        """Yield every record that lies at its own place in a page that is whole, of whatever turn,
        and whatever came before it.
        """
        page, start = self._shape.page, self._shape.data_at
        for at in range(self._pages.first, self._shape.size, page):
            found = self._page(at)
            if found is None:
                continue
            lsns = np.frombuffer(found.data, "<u8", (page - start) // 8, start)
            places = np.arange(at + start, at + page, 8, dtype=np.uint64) >> np.uint64(3)
            own = lsns & np.uint64((1 << self._bits) - 1) == places
            for index in np.flatnonzero(own & (lsns >> np.uint64(self._bits) > 0)).tolist():
                with contextlib.suppress(LayoutError):
                    turn = int(lsns[index]) >> self._bits
                    record = self._record(_Place(at + start + 8 * index, turn))
                    if record is not None:
                        yield record[0]

    def _following(self, end: _Place) -> tuple[Record, _Place] | None:
        """The record that was written next, after the end of one.

        It lies right there where a header has room. Where that page holds nothing more, as after a
        restart of the system, it is at the start of the next page.
        """
        size = self._shape.page
        # An end at the end of a page belongs to that page.
        inside = (end.at - 1) % size + 1
        start = end.at - inside
        if size - inside >= self._shape.header:
            found = self._record(end)
            if found is not None:
                return found
            page = self._page(start)
            if page is None or page.ended > inside:
                return None
        return self._record(self._after(_Place(start, end.turn)))

    def _after(self, page: _Place) -> _Place:
        """The first data of the page that follows on the one which begins at a place."""
        at = self._pages.after(page.at)
        return _Place(at + self._shape.data_at, page.turn + (at <= page.at))

    def _record(self, place: _Place) -> tuple[Record, _Place] | None:
        """The record at a place and the place past it; ``None`` where there is none, or not all."""
        size = self._shape.page
        inside = place.at % size
        is_inside = self._pages.first <= place.at < self._shape.size
        if not is_inside or place.at % 8 or not self._has_room(inside):
            return None
        page = self._page(place.at - inside)
        if page is None:
            return None
        fields = layout.RECORD.unpack_from(page.data, inside)
        lsn, previous, undo_next, length, _, client, kind, transaction, flags = fields
        if lsn != place.turn << self._bits | place.at >> 3:
            return None
        if length > layout.DATA_MAX or client != self._shape.client:
            raise LayoutError(f"the record 0x{lsn:x} of its journal does not fit")
        taken = self._data(place, lsn, length)
        if taken is None:
            return None
        data, end = taken
        return Record(lsn, previous, undo_next, kind, transaction, flags, data), end

    def _has_room(self, inside: int) -> bool:
        return self._shape.data_at <= inside <= self._shape.page - self._shape.header

    def _data(self, place: _Place, lsn: int, length: int) -> tuple[bytes, _Place] | None:
        """The data of a record, which goes on at the start of the data of the pages that follow;
        ``None`` where one of them was not written yet.
        """
        size, turn = self._shape.page, place.turn
        pieces: list[bytes] = []
        left = length
        inside = (place.at + self._shape.header - 1) % size + 1
        begin = start = place.at + self._shape.header - inside
        while True:
            page = self._page(start)
            if page is None or max(page.last, page.last_end) < lsn:
                return None
            pieces.append(page.data[inside : inside + left])
            left -= len(pieces[-1])
            if not left:
                break
            following = self._after(_Place(start, turn))
            inside, turn = self._shape.data_at, following.turn
            start = following.at - inside
            if start == begin:
                return None
        end = start + -(-(inside + len(pieces[-1])) // 8) * 8
        return b"".join(pieces), _Place(end, turn)

    def _page(self, at: int) -> LogPage | None:
        """The page at an offset; ``None`` where it is not whole."""
        if self._kept[0] != at:
            try:
                self._kept = (at, self._pages.page(at))
            except LayoutError:
                self._kept = (at, None)
        return self._kept[1]
