"""Journals of NTFS written by hand, from the documented layout and nothing of the reader's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.volumes.ntfs.edited import protect

NOOP, COMPENSATION, INITIALIZE, DEALLOCATE = 0, 1, 2, 3
CREATE, DELETE, RESIDENT, NONRESIDENT, PAIRS, SIZES = 5, 6, 7, 8, 9, 11
SET_BITS, CLEAR_BITS, HOT_FIX, FORGET, OPEN = 0x15, 0x16, 0x17, 0x1B, 0x1C
ATTRIBUTES, NAMES, DIRTY, TRANSACTIONS = 0x1D, 0x1E, 0x1F, 0x20
MFT_PLACE, BITMAP_PLACE = 0x18, 0x40
"""Where ``table_of`` puts the first two attributes of version 1 into the table."""
_DATA_AT, _HEADER = 64, 48


def change(
    redo: int,
    undo: int = NOOP,
    redo_data: bytes = b"",
    undo_data: bytes = b"",
    target: int = 0x18,
    record_at: int = 0,
    attribute_at: int = 0,
    sector: int = 0,
    vcn: int = 0,
    clusters: Sequence[int] = (),
) -> bytes:
    """The data of a client's record."""
    places = list(clusters) or [-1]
    redo_at = 32 + 8 * len(places)
    undo_at = redo_at + -(-len(redo_data) // 8) * 8
    head = struct.pack(
        "<11HHq",
        *(redo, undo, redo_at, len(redo_data), undo_at, len(undo_data), target, len(clusters)),
        *(record_at, attribute_at, sector, 0, vcn),
    )
    body = head + struct.pack(f"<{len(places)}q", *places)
    body += redo_data.ljust(undo_at - redo_at, b"\0") + undo_data
    return body.ljust(-(-len(body) // 8) * 8, b"\0")


def bits(first: int, count: int) -> bytes:
    """The data of an operation on a bitmap."""
    return struct.pack("<II", first, count)


def table(entries: Sequence[bytes], free: int = 1) -> bytes:
    """A table with some free entries at its end."""
    size = len(entries[0])
    head = struct.pack("<HHH6xIII", size, len(entries) + free, len(entries), 0, 0, 0)
    return head + b"".join(entries) + bytes(size * free)


def attribute_entry(file: int, kind: int, lsn: int = 0, version: int = 1) -> bytes:
    """An entry of the table of open attributes; its file has the sequence number 1."""
    reference = file | 1 << 48
    if version:
        return struct.pack("<IIIIQqQ", 0xFFFFFFFF, 0, kind, 0, reference, lsn, 0)
    return struct.pack("<IIQqIIIII", 0xFFFFFFFF, 0, reference, lsn, 0, kind, 0, 0, 0)[:44]


def dirty_entry(
    target: int, vcn: int, oldest: int, clusters: Sequence[int], version: int = 1
) -> bytes:
    """An entry of the table of dirty pages."""
    head = struct.pack("<IIII", 0xFFFFFFFF, target, 4096, len(clusters))
    head += b"" if version else bytes(4)
    return head + struct.pack(f"<qq{len(clusters)}q", vcn, oldest, *clusters)


def transaction_entry(first: int, last: int, state: int = 1) -> bytes:
    """An entry of the table of transactions."""
    return struct.pack("<IB3xqqqII", 0xFFFFFFFF, state, first, last, last, 1, 100)


def names(*named: tuple[int, str]) -> bytes:
    """A table of the names of open attributes."""
    out = b""
    for place, name in named:
        text = name.encode("utf-16-le")
        out += struct.pack("<HH", place, len(text)) + text + b"\0\0"
    return out + bytes(4)


class Log:
    """A journal that is being written.

    Attributes:
        first: offset of its ring. at: where the next record goes. lsns: of the records so far.
    """

    def __init__(
        self, size: int = 1 << 20, version: tuple[int, int] = (1, 1), page: int = 4096,
        turn: int = 1, start: int = 0,
    ) -> None:  # fmt: skip
        """``start``: pages of the ring that are skipped at first."""
        self.size, self.version, self.page, self.turn = size, version, page, turn
        self.first = page * (4 if version == (1, 1) else 34)
        self.bits = size.bit_length() - 3
        self.pages: dict[int, bytearray] = {}
        self.at = self.first + start * page + _DATA_AT
        self.lsns: list[int] = []
        self.checkpoint_lsn = self.oldest = 0

    def lsn(self, at: int, turn: int) -> int:
        return turn << self.bits | at >> 3

    def add(
        self, data: bytes, kind: int = 1, transaction: int = 0x18, previous: int = 0, flags: int = 0
    ) -> int:
        """Write a record; return its LSN."""
        if self.page - self.at % self.page < _HEADER or not self.at % self.page:
            self._next_page((self.at - 1) // self.page * self.page)
        lsn, begin = self.lsn(self.at, self.turn), self.at
        left = self.page - begin % self.page - _HEADER
        flags |= len(data) > left
        raw = struct.pack(
            "<qqqIHHIIH6x", lsn, previous, previous, len(data), 0, 0, kind, transaction, flags
        ) + data  # fmt: skip
        while True:
            at = self.at // self.page * self.page
            inside = self.at - at
            page = self._page(at)
            piece, raw = raw[: self.page - inside], raw[self.page - inside :]
            page[inside : inside + len(piece)] = piece
            struct.pack_into("<q", page, 8, lsn)
            self.at += len(piece)
            if not raw:
                break
            self._next_page(at)
        self.at = -(-self.at // 8) * 8
        struct.pack_into("<I", page, 16, 1)
        struct.pack_into("<H6xq", page, 24, self.at - at, lsn)
        self.lsns.append(lsn)
        return lsn

    def skip(self) -> None:
        """Go on in the next page, as after a restart of the system."""
        self._next_page((self.at - 1) // self.page * self.page)

    def checkpoint(
        self, attributes: int = 0, named: int = 0, dirty: int = 0, open_: int = 0, version: int = 1
    ) -> int:
        """Write a checkpoint that names tables by their LSNs."""
        begin = self.lsns[0] if self.lsns else self.lsn(self.at, self.turn)
        data = struct.pack(
            "<IIqqqqqIIII", version, 0, begin, attributes, named, dirty, open_, *(0,) * 4
        )
        self.checkpoint_lsn = self.add(data.ljust(112, b"\0"), kind=2, transaction=0)
        return self.checkpoint_lsn

    def _next_page(self, at: int) -> None:
        following = at + self.page
        if following >= self.size:
            following, self.turn = self.first, self.turn + 1
        self.at = following + _DATA_AT
        self.pages.pop(following, None)

    def _page(self, at: int) -> bytearray:
        if at not in self.pages:
            page = bytearray(self.page)
            struct.pack_into("<4sHH", page, 0, b"RCRD", 40, self.page // 512 + 1)
            struct.pack_into("<HH", page, 20, 1, 1)
            page[40:42] = (0x1234).to_bytes(2, "little")
            if self.version != (1, 1):
                struct.pack_into("<I", page, 60, at)
            self.pages[at] = page
        return self.pages[at]

    def data(
        self, flags: int = 0, oldest: int | None = None, current: int | None = None,
        copy: bool = False, copied: bool = False, name: str = "NTFS", older: int | None = None,
    ) -> bytearray:  # fmt: skip
        """The file.

        Args:
            copy: the last page lies in the places for copies alone. copied: it lies there too.
            older: the oldest LSN that the second restart page says, which is older itself.
        """
        out = bytearray(b"\xff" * self.size)
        oldest = self.oldest or self.lsns[0] if oldest is None else oldest
        current = self.lsns[-1] if current is None else current
        out[: self.page] = self.restart(flags, oldest, current, name)
        second = self.restart(
            flags, oldest if older is None else older, current - (older is not None), name
        )
        out[self.page : 2 * self.page] = second
        last = max(self.pages, key=lambda at: struct.unpack_from("<q", self.pages[at], 32)[0])
        for at, page in self.pages.items():
            if at != last or not copy:
                out[at : at + self.page] = protect(bytes(page))
        page = bytearray(self.pages[last])
        if self.version == (1, 1):
            struct.pack_into("<q", page, 8, last)
        # ntfsrecover wants both places to be in use, as they are after some time.
        for place in (2, 3) if copy or copied else ():
            out[place * self.page : (place + 1) * self.page] = protect(bytes(page))
        return out

    def restart(self, flags: int, oldest: int, current: int, name: str) -> bytes:
        """A restart page."""
        page = bytearray(self.page)
        words = self.page // 512 + 1
        struct.pack_into(
            "<4sHHqIIHhh", page, 0, b"RSTR", 30, words, 0, self.page, self.page, 64,
            *self.version[::-1],
        )  # fmt: skip
        struct.pack_into("<H", page, 30, 7)
        text = name.encode("utf-16-le")
        struct.pack_into(
            "<qHHHHIHHqIHHI", page, 64, current, 1, 0xFFFF, 0, flags, 64 - self.bits, 224, 64,
            *(self.size, 0, _HEADER, _DATA_AT, 0),
        )  # fmt: skip
        struct.pack_into(
            "<qqHHH6xI", page, 128, oldest, self.checkpoint_lsn, 0xFFFF, 0xFFFF, 0, len(text)
        )
        page[160 : 160 + len(text)] = text
        return protect(bytes(page))
