"""Frame tables of a repaired image (docs/format.md, sections 6.2, 6.3 and 9.5).

A table that is whole and still right stays as it is. Else leaves that are whole stay, and the
others are made anew from the frames; a frame that is lost gets an entry at an address that no
segment covers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aipimage.errors import AipImageError, FormatError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import SealDevice
from aipimage.format.tables import FRAME_ENTRY_DTYPE, FrameEntries, IndexEntry, encode_table_leaf
from aipimage.io.index.trees import FrameTable, IndexBuilder, IndexReader, LeafCache
from aipimage.io.records.records import RecordReader, RecordWriter
from aipimage.io.repair.addresses import SLOT, Addresses
from aipimage.io.repair.facts import Facts
from aipimage.io.repair.frames import FrameRuns, FramesDigest, WholeFrames
from aipimage.io.repair.mapping import MapOrigins
from aipimage.io.repair.survey import Survey

_Row = tuple[int, int, int, bytes]


@dataclass(slots=True)
class MadeTable:
    """The table of an origin: its root, how many frames it names, and whether it is the old one."""

    root: Reference
    frame_count: int
    kept: bool


class TableMaker:
    """Makes the tables of origins that the file holds.

    Args:
        records: reads records of this file by their addresses.
    """

    def __init__(
        self, survey: Survey, addresses: Addresses, records: RecordReader, writer: RecordWriter
    ) -> None:
        self._survey, self._addresses = survey, addresses
        self._records, self._writer = records, writer
        self._size = survey.beginning.header.frame_size

    def make(self, origin: bytes, old: OriginEntry | None) -> MadeTable:
        """Return the table of an origin; ``old`` is what a whole seal or page says of it."""
        frames = self._survey.frames.get(origin) or FrameRuns(origin)
        count = max(frames.end, old.frame_count if old else 0)
        if not count:
            return MadeTable(NO_REFERENCE, 0, False)
        if old is not None and old.frame_count == count:
            leaves = self._old_leaves(old, frames)
            if leaves and None not in leaves:
                return MadeTable(old.table_root, count, True)
        else:
            leaves = [None] * -(-count // c.LEAF_FRAMES)
        index = IndexBuilder(self._writer)
        for leaf, ref in enumerate(leaves):
            first = leaf * c.LEAF_FRAMES
            if ref is None:
                body = encode_table_leaf(first, self._entries(frames, leaf, count).tobytes())
                ref = self._writer.write(RecordType.TABLE_LEAF, body)
            index.add(IndexEntry(first, ref))
        return MadeTable(index.finish(), count, False)

    def _old_leaves(self, old: OriginEntry, frames: FrameRuns) -> list[Reference | None]:
        """The leaves of the old table, ``None`` for each that is lost or not right any more."""
        table = FrameTable(
            self._records, old.origin, old.table_root, old.frame_count, self._size, LeafCache()
        )
        index = IndexReader(self._records, old.table_root, RecordType.TABLE_LEAF)
        leaves: list[Reference | None] = []
        for leaf in range(table.leaf_count()):
            try:
                ref = index.find(leaf * c.LEAF_FRAMES, old.frame_count <= c.LEAF_FRAMES)
                right = self._is_right(table.leaf(leaf), frames.of_leaf(leaf))
                table.forget()
            except AipImageError:
                right = False
            leaves.append(ref if right else None)
        return leaves

    def _is_right(self, entries: FrameEntries, runs: list[WholeFrames]) -> bool:
        """Whether a leaf says of each frame that is whole where it is, and which one it is; and of
        those that are lost no place where something else is.
        """
        if not runs:
            return False
        return all(self._told(entries, run) == run.frames for run in runs) and not any(
            self._leads_somewhere(runs[0].origin, entries[row])
            for row in _lost_rows(len(entries), runs)
        )

    def _leads_somewhere(self, origin: bytes, entry: np.void) -> bool:
        """Whether the entry of a lost frame has the address of something that is whole."""
        try:
            self._addresses.locate(origin, int(entry["offset"]), 1)
        except AipImageError:
            return False
        return True

    def _told(self, entries: FrameEntries, run: WholeFrames) -> FramesDigest:
        """What the entries of a run say, with places of the stream for the addresses.

        Raises:
            IncompleteError: nothing whole has the address.
        """
        told = FramesDigest()
        row = run.first % c.LEAF_FRAMES
        for offset, length, plain, found in entries[row : row + run.count].tolist():
            place = self._addresses.locate(run.origin, offset, length)
            told.add(place, length, plain, found)
        return told

    def _entries(self, frames: FrameRuns, leaf: int, count: int) -> FrameEntries:
        first = leaf * c.LEAF_FRAMES
        rows: dict[int, _Row] = {}
        for run in frames.of_leaf(leaf):
            rows |= self._walked(run)
        filled = _Filled(self._addresses, frames.origin, self._size)
        for number in range(first, min(first + c.LEAF_FRAMES, count)):
            filled.add(rows.get(number))
        return np.array(filled.finish(), FRAME_ENTRY_DTYPE)

    def _walked(self, run: WholeFrames) -> dict[int, _Row]:
        rows: dict[int, _Row] = {}
        number = run.first
        for record in self._survey.scanner.scan(run.place, run.end):
            header = record.header
            if (header.type, header.origin, header.number) == (
                RecordType.FRAME,
                run.origin,
                number,
            ):
                address = self._addresses.of(record.place)
                if address is None:
                    raise FormatError("a frame lies outside of its segments")
                rows[number] = (address, record.length, header.plain_length, record.digest)
                number += 1
        return rows


class OriginTables:
    """The entries of the origins that the new image holds, each with its table.

    Args:
        name: of the new file, encoded, for the entries.

    Attributes:
        frames_lost: frames that the tables name and that are not whole.
    """

    def __init__(self, maker: TableMaker, survey: Survey, facts: Facts, name: bytes) -> None:
        self._maker, self._survey, self._facts, self._name = maker, survey, facts, name
        self._kept: list[bool] = []
        self.frames_lost = 0

    def entry(self, origin: bytes, old: OriginEntry | None) -> OriginEntry:
        """The entry of an origin that the file holds, with a table that names what is whole."""
        table = self._maker.make(origin, old)
        self._kept.append(table.kept)
        frames = self._survey.frames.get(origin) or FrameRuns(origin)
        self.frames_lost += table.frame_count - frames.count
        holder = old.holder if old else self._holder()
        return OriginEntry(origin, holder, table.frame_count, table.root, self._name)

    def of_seal(self, origins: MapOrigins, devices: Sequence[SealDevice]) -> list[OriginEntry]:
        """The new image's own, and those of the images whose block digests it keeps."""
        own = origins.names.image_id
        if self._kept and all(self._kept):
            self._facts.used.append("frame tables")
        roots = [each.digest_root for each in devices]
        for root in roots:
            if root != NO_REFERENCE:
                origins.place_runs(root.origin)
        return [OriginEntry(own, own, 0, NO_REFERENCE), *origins.names.reached_from(roots)]

    def _holder(self) -> bytes:
        """The image that held the frames first: it would have borne the id of its last run."""
        return list(self._survey.runs)[-1]

    @property
    def frames(self) -> int:
        """Whole frames of all origins that the file holds."""
        return sum(
            runs.count
            for origin, runs in self._survey.frames.items()
            if origin in self._facts.origins
        )


def _lost_rows(count: int, runs: list[WholeFrames]) -> Iterator[int]:
    """The rows of a leaf that belong to no whole frame."""
    at = 0
    for run in runs:
        row = run.first % c.LEAF_FRAMES
        yield from range(at, row)
        at = row + run.count
    yield from range(at, count)


class _Filled:
    """The entries of a leaf, lost frames at addresses that nothing has."""

    def __init__(self, addresses: Addresses, origin: bytes, frame_size: int) -> None:
        self._addresses, self._origin, self._size = addresses, origin, frame_size
        self._rows: list[_Row] = []
        self._end, self._missing = c.CORE_MIN, 0

    def add(self, row: _Row | None) -> None:
        """Add the next frame, or ``None`` for a lost one."""
        if row is None:
            self._missing += 1
            return
        self._fill(row[0])
        self._rows.append(row)
        self._end = row[0] + row[1]

    def _fill(self, stop: int) -> None:
        free = self._addresses.free(self._origin, self._end, stop)
        for low, high in free if self._missing else ():
            while self._missing and low + SLOT <= high:
                self._rows.append((low, SLOT, self._size, bytes(32)))
                low += SLOT
                self._missing -= 1
        if self._missing:
            raise FormatError(
                "the segments of the image leave no addresses for the frames that are lost"
            )

    def finish(self) -> list[_Row]:
        """The frames after the last whole one are lost past the end of all."""
        self._end = max(self._end, self._addresses.end(self._origin))
        self._fill(self._end + SLOT * (self._missing + 1))
        return self._rows
