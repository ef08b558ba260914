"""Index trees: written bottom-up as their leaves come, read from the root (docs/format.md, sections
6 and 8).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, naming_if
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.tables import (
    FRAME_ENTRY_DTYPE,
    FrameEntries,
    IndexEntry,
    decode_index,
    decode_table_leaf,
    encode_index,
    encode_table_leaf,
)
from aipimage.io.index.origins import Origins
from aipimage.io.records.frames import FrameRun
from aipimage.io.records.records import RecordReader, RecordWriter
from aipimage.io.system.cache import BoundedCache

_PAGES_KEPT = 256
LEAVES_KEPT_BYTES = 16 << 20
_LEAF_BYTES = c.LEAF_FRAMES * FRAME_ENTRY_DTYPE.itemsize
_RUN_SHIFT = np.uint64(21)


class IndexBuilder:
    """Collects (key, reference) pairs in ascending order and writes index pages as they fill.

    Holds at most one page a level, whatever the number of leaves.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._levels: list[list[IndexEntry]] = [[]]

    def add(self, entry: IndexEntry, level: int = 0) -> None:
        """Add what belongs into index pages of ``level`` + 1."""
        if level == len(self._levels):
            self._levels.append([])
        if len(self._levels[level]) == c.INDEX_ENTRIES:
            self._flush(level)
        self._levels[level].append(entry)

    def _flush(self, level: int) -> None:
        entries, self._levels[level] = self._levels[level], []
        ref = self._writer.write(RecordType.INDEX, encode_index(level + 1, entries))
        self.add(IndexEntry(entries[0].key, ref), level + 1)

    def finish(self) -> Reference:
        """Write the pages that are left and return the root; a single leaf is its own root."""
        level = 0
        while level < len(self._levels):
            top = level == len(self._levels) - 1
            if top and len(self._levels[level]) <= 1:
                return self._levels[level][0].ref if self._levels[level] else NO_REFERENCE
            self._flush(level)
            level += 1
        raise RuntimeError("internal error: an index tree without a root")


class TableBuilder:
    """The frame table of one origin, written leaf by leaf (section 6.2)."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer, self._index = writer, IndexBuilder(writer)
        self._entries = bytearray()
        self.frame_count = 0

    def add(self, frames: FrameEntries) -> None:
        """Add the next frames (``FRAME_ENTRY_DTYPE``), in the order of their numbers."""
        self._entries += frames.tobytes()
        self.frame_count += len(frames)
        while len(self._entries) >= _LEAF_BYTES:
            self._flush()

    def _flush(self) -> None:
        size = FRAME_ENTRY_DTYPE.itemsize
        first = self.frame_count - len(self._entries) // size
        leaf = encode_table_leaf(first, bytes(self._entries[:_LEAF_BYTES]))
        del self._entries[:_LEAF_BYTES]
        self._index.add(IndexEntry(first, self._writer.write(RecordType.TABLE_LEAF, leaf)))

    def finish(self) -> Reference:
        """Write what is left and return the root."""
        if self._entries:
            self._flush()
        return self._index.finish()


class IndexReader:
    """Finds leaves below a root; index pages are kept, they are few."""

    def __init__(
        self, records: RecordReader, root: Reference, leaf: RecordType, kept: int = _PAGES_KEPT
    ) -> None:
        self._records, self._root, self._leaf = records, root, leaf
        self._pages: BoundedCache[Reference, tuple[int, list[IndexEntry]]] = BoundedCache(kept)

    def page(self, ref: Reference) -> tuple[int, list[IndexEntry]]:
        """Return (level, entries) of an index page."""
        page = self._pages.find(ref)
        if page is None:
            page = decode_index(self._records.fetch(ref, RecordType.INDEX).plain)
            self._pages.keep(ref, page)
        return page

    def forget(self) -> None:
        """Drop the pages that were read."""
        self._pages.clear()

    def find(self, key: int, leaf_root: bool) -> Reference | None:
        """Return the reference of the leaf that can hold ``key``; ``leaf_root``: the root is a
        leaf.
        """
        ref, level = self._root, c.INDEX_LEVELS + 1
        while not leaf_root:
            found, entries = self.page(ref)
            _check_level(found, level)
            index = bisect_right(entries, key, key=lambda entry: entry.key) - 1
            if index < 0:
                return None
            ref, level, leaf_root = entries[index].ref, found, found == 1
        return ref

    def leaves(self, leaf_root: bool) -> Iterator[tuple[int | None, Reference]]:
        """Yield (key, reference) of every leaf in ascending order of the keys."""
        if leaf_root:
            yield None, self._root
            return
        stack: list[tuple[int, int | None, Reference]] = [(c.INDEX_LEVELS + 1, None, self._root)]
        last = -1
        while stack:
            above, key, ref = stack.pop()
            if above == 1:
                if key is not None and key <= last:
                    raise FormatError("the keys of an index do not ascend")
                last = -1 if key is None else key
                yield key, ref
                continue
            level, entries = decode_index(self._records.fetch(ref, RecordType.INDEX).plain)
            _check_level(level, above)
            if key is not None and entries[0].key != key:
                raise FormatError("an index page does not begin with the key that leads to it")
            stack.extend((level, entry.key, entry.ref) for entry in reversed(entries))


def _check_level(level: int, above: int) -> None:
    if level >= above or (above <= c.INDEX_LEVELS and level != above - 1):
        raise FormatError("the levels of an index do not descend")


class LeafCache(BoundedCache[tuple[bytes, int], FrameEntries]):
    """Table leaves that were read, by origin and number, for all tables of an image together."""

    def __init__(self, limit: int = LEAVES_KEPT_BYTES) -> None:
        super().__init__(limit, lambda entries: entries.nbytes)


class FrameTable:
    """The frames of one origin by number; safe for threads."""

    def __init__(
        self,
        records: RecordReader,
        origin: bytes,
        root: Reference,
        frame_count: int,
        frame_size: int,
        leaves: LeafCache,
        pages_kept: int = _PAGES_KEPT,
        name: str = "",
    ) -> None:
        self._named = naming_if(name)
        self._records, self.origin, self.frame_count = records, origin, frame_count
        self._frame_size = frame_size
        # A table of one leaf has that leaf as its root (section 6.3).
        self._leaf_root = frame_count <= c.LEAF_FRAMES
        self._index = IndexReader(records, root, RecordType.TABLE_LEAF, pages_kept)
        self._leaves = leaves

    def frame(self, number: int) -> Reference:
        """Return the reference to a frame."""
        if number >= self.frame_count:
            self._refuse()
        entries = self.leaf(number // c.LEAF_FRAMES)
        offset, length, plain, found = entries[number % c.LEAF_FRAMES].item()
        return Reference(self.origin, offset, length, plain, found)

    def entry(self, number: int) -> bytes:
        """Return the 48 bytes of a frame's entry (section 6.2)."""
        if number >= self.frame_count:
            self._refuse()
        index, row = divmod(number, c.LEAF_FRAMES)
        entries = self._leaves.find((self.origin, index))
        if entries is None:
            entries = self.leaf(index)
        return entries[row : row + 1].tobytes()

    def leaf(self, index: int) -> FrameEntries:
        """Return the entries of the frames from ``index`` x 1024 on."""
        entries = self._leaves.find((self.origin, index))
        if entries is None:
            with self._named():
                ref = self._index.find(index * c.LEAF_FRAMES, self._leaf_root)
                entries = self._checked_leaf(ref, index)
            self._leaves.keep((self.origin, index), entries)
        return entries

    def _refuse(self) -> NoReturn:
        with self._named():
            raise FormatError("the map points past the last frame")

    def runs(self, first: int, end: int) -> Iterator[FrameRun]:
        """Yield frames ``first`` to ``end`` (without it) as runs that lie next to each other."""
        if end > self.frame_count:
            self._refuse()
        while first < end:
            leaf, row = divmod(first, c.LEAF_FRAMES)
            rows = np.arange(row, min(c.LEAF_FRAMES, row + end - first))
            yield from split_runs(self.origin, leaf * c.LEAF_FRAMES, self.leaf(leaf), rows)
            first += len(rows)

    def check(self) -> None:
        """Read all of it, and compare it with the number of frames (section 6.2).

        Raises:
            FormatError, IntegrityError: it has others, or is damaged.
            IncompleteError: no file that was found holds it.
        """
        for index in range(self.leaf_count()):
            self.leaf(index)
        self.check_end()

    def check_end(self) -> None:
        """``FormatError`` where the table continues past its last frame."""
        if self._leaf_root:
            return
        last = self._index.find((self.leaf_count() - 1) * c.LEAF_FRAMES, False)
        if self._index.find((1 << 64) - 1, False) != last:
            raise FormatError("the frame table has more frames than the seal counts")

    def forget(self) -> None:
        """Drop what was read, so that all is read again."""
        self._leaves.clear()
        self._index.forget()

    def leaf_count(self) -> int:
        """Leaves that the frame count asks for."""
        return -(-self.frame_count // c.LEAF_FRAMES)

    def _checked_leaf(self, ref: Reference | None, index: int) -> FrameEntries:
        if ref is None:
            raise FormatError("the frame table has a gap")
        plain = self._records.fetch(ref, RecordType.TABLE_LEAF).plain
        first, entries = decode_table_leaf(plain, self._frame_size)
        expected = min(c.LEAF_FRAMES, self.frame_count - index * c.LEAF_FRAMES)
        if first != index * c.LEAF_FRAMES or len(entries) != expected:
            raise FormatError("a frame table leaf holds other frames than its place says")
        return entries


class FrameTables:
    """The frame tables of the origins that an image is known to name, made when they are asked
    for.
    """

    def __init__(self, records: RecordReader, origins: Origins, frame_size: int, name: str) -> None:
        self._records, self._origins, self._frame_size = records, origins, frame_size
        self._name = name
        self._leaves = LeafCache()
        self._tables: dict[int, FrameTable] = {}

    def __len__(self) -> int:
        return len(self._origins)

    def __getitem__(self, index: int) -> FrameTable:
        table = self._tables.get(index)
        if table is None:
            entry = self._origins.entry(index)
            # Many tables are small ones; only those of large images use what they may keep.
            kept = max(4, _PAGES_KEPT // len(self._origins))
            table = self._tables[index] = FrameTable(
                self._records,
                entry.origin,
                entry.table_root,
                entry.frame_count,
                self._frame_size,
                self._leaves,
                kept,
                self._name,
            )
        return table

    def __iter__(self) -> Iterator[FrameTable]:
        return (self[index] for index in range(len(self)))


def split_runs(
    origin: bytes, first: int, entries: FrameEntries, rows: npt.NDArray[np.int64]
) -> Iterator[FrameRun]:
    """Cut ``rows`` of a leaf into runs of records that follow each other, of some megabytes."""
    if not len(rows):
        return
    chosen = entries[rows]
    offset = chosen["offset"]
    follows = (np.diff(rows) == 1) & (offset[1:] == offset[:-1] + chosen["record_length"][:-1])
    follows &= offset[1:] >> _RUN_SHIFT == offset[:-1] >> _RUN_SHIFT
    breaks = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(rows)]
    for low, high in pairwise(breaks):
        yield FrameRun(origin, first + int(rows[low]), chosen[low:high])
