"""The ring of log pages of $LogFile, with the copies of pages that were not full yet.

A page that is not full is written to one of the places before the ring, and to its own place once
it is full. So the newest form of a page may be a copy: two places take turns in version 1.1, and
32 in version 2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from aipimage.volumes.fixups import fixed_up
from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.restart import Shape
from aipimage.volumes.view import LayoutError

Read = Callable[[int, int], bytes]
"""Returns bytes of the file, by offset and length."""
_PIECE = 1 << 20


class LogPage(NamedTuple):
    """A log page.

    Attributes:
        data: all of it, with the fix-ups undone. last: LSN of the last record that begins or goes
            on in it. last_end: of the last record that ends in it; ended: offset past that one.
    """

    data: bytes
    last: int
    last_end: int
    ended: int


class LogPages:
    """The pages of a log by their place in the file.

    Args:
        read: reads the file. shape: of the log.
    """

    def __init__(self, read: Read, shape: Shape) -> None:
        self._read, self.shape = read, shape
        self._piece: tuple[int, bytes] = (-1, b"")
        self._copies = self._newest_copies()

    def page(self, at: int) -> LogPage:
        """The newest form of the page at an offset; ``LayoutError`` where none is whole."""
        copy = self._copies.get(at)
        try:
            own = self._decoded(self._raw(at), is_copy=False)
        except LayoutError:
            if copy is None:
                raise
            return copy
        return copy if copy is not None and copy.last_end > own.last_end else own

    def after(self, at: int) -> int:
        """The offset of the page that follows in the ring."""
        following = at + self.shape.page
        return following if following < self.shape.size else self.first

    @property
    def first(self) -> int:
        """The offset of the first page of the ring."""
        return self.shape.first * self.shape.page

    def last_ends(self) -> int:
        """The greatest LSN of a record that ended, by all pages, whole or not, but for those that
        do not begin like one.
        """
        page, greatest = self.shape.page, 0
        step = max(page, _PIECE)
        for at in range(2 * page, self.shape.size, step):
            count = min(step, self.shape.size - at)
            rows = np.frombuffer(self._read(at, count), np.uint8).reshape(-1, page)
            is_page = (rows[:, :4] == np.frombuffer(layout.PAGE_MAGIC, np.uint8)).all(axis=1)
            ends = np.ascontiguousarray(rows[is_page, 32:40]).view("<i8")
            greatest = max(greatest, int(ends.max(initial=0)))
        return greatest

    def _newest_copies(self) -> dict[int, LogPage]:
        """The newest copy of each page that has one, by the place where it belongs."""
        found: dict[int, LogPage] = {}
        for number in range(2, self.shape.first):
            data = self._raw(number * self.shape.page)
            try:
                page = self._decoded(data, is_copy=True)
            except LayoutError:
                # Never written, or cut short: then what it was to replace is still there.
                continue
            at = self._place_of(page.data)
            is_place = at % self.shape.page == 0 and self.first <= at < self.shape.size
            if is_place and (at not in found or found[at].last_end < page.last_end):
                found[at] = page
        return found

    def _place_of(self, data: bytes) -> int:
        if self.shape.copies_have_place:
            return int.from_bytes(data[layout.PLACE_AT : layout.PLACE_AT + 4], "little")
        return int(layout.PAGE.unpack_from(data)[0])

    def _decoded(self, data: bytes, is_copy: bool) -> LogPage:
        fixed = fixed_up(data, layout.PAGE_MAGIC, "a page of its journal")
        last, _, _, _, ended, last_end = layout.PAGE.unpack_from(fixed)
        if ended > len(data):
            raise LayoutError("a page of its journal says that it ends past its end")
        if is_copy and not self.shape.copies_have_place:
            last = last_end
        return LogPage(fixed, last, last_end, ended)

    def _raw(self, at: int) -> bytes:
        start = at // _PIECE * _PIECE
        if self._piece[0] != start:
            length = min(_PIECE, self.shape.size - start)
            self._piece = (start, self._read(start, length))
        return self._piece[1][at - start : at - start + self.shape.page]
