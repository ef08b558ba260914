"""Checkpoints and continuations of a finished image: whether they fit the records before them
(docs/format.md, sections 11 and 13).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.errors import IntegrityError, reworded
from aipimage.format import constants as c
from aipimage.format.checkpoint import (
    Checkpoint,
    Continuation,
    decode_checkpoint,
    decode_continuation,
)
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.record import RecordHeader
from aipimage.io.index.trees import FrameTable
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.codec import BytesLike
from aipimage.io.records.running import Running

_ROW = struct.Struct("<Q32s")
_ROW_DTYPE = np.dtype([("place", "<u8"), ("digest", "V32")])
_SIZE = len(c.ZERO_DIGEST)
MARKS = (RecordType.CHECKPOINT, RecordType.CONTINUATION)
"""Types of the records that say something of those before them."""
Rows = npt.NDArray[np.void]


class Follower:
    """Follows a stream from its first record on."""

    def __init__(self, header: Header) -> None:
        self._running, self._run = Running(header.header_digest), header.file_id

    def add(self, digests: bytes | memoryview) -> None:
        """Pass over records: their digests, 32 bytes each."""
        self._running.add(digests)

    def check(self, place: int, header: RecordHeader, plain: BytesLike) -> None:
        """Look at the checkpoint or continuation that is the next record; one of a run that is not
        this file's own says nothing.

        Raises:
            IntegrityError: it does not fit the records before it.
        """
        record: Checkpoint | Continuation
        if header.type == RecordType.CHECKPOINT:
            if header.origin != self._run:
                return
            record = decode_checkpoint(plain)
        else:
            record = decode_continuation(plain)
            if record.previous != self._run:
                return
            self._run = header.origin
            if record.length != place:
                raise IntegrityError(f"at byte {place}: a continuation stands in the wrong place")
        try:
            self._running.check(record)
        except IntegrityError as error:
            raise reworded(error, f"at byte {place}: {error}") from error


class RecordOrder:
    """The digests of all records of an image, gathered in any order; frames are not kept, they are
    in the frame tables.
    """

    def __init__(self, image: ImageReader) -> None:
        self._image = image
        self._rows = bytearray()
        self._marks: list[tuple[int, RecordHeader, bytes]] = []

    def add(self, place: int, digest: bytes) -> None:
        """A record that is not a frame."""
        self._rows += _ROW.pack(place, digest)

    def add_dead(self, place: int, digest: bytes, header: RecordHeader, plain: BytesLike) -> None:
        """A record to which nothing refers."""
        self.add(place, digest)
        if header.type in MARKS:
            self._marks.append((place, header, bytes(plain)))

    def check(self) -> None:
        """Compare; all records must have been found whole.

        Raises:
            IntegrityError: a checkpoint or continuation does not fit the records before it.
        """
        if not self._marks or not self._image.segments.is_in_order:
            return
        follower = Follower(self._image.header)
        marks = iter(sorted(self._marks, key=lambda mark: mark[0]))
        mark = next(marks, None)
        for rows in self._in_order():
            digests = np.ascontiguousarray(rows["digest"]).tobytes()
            done = 0
            while mark is not None and mark[0] <= int(rows["place"][-1]):
                at = int(np.searchsorted(rows["place"], mark[0])) * _SIZE
                follower.add(digests[done:at])
                follower.check(*mark)
                done, mark = at, next(marks, None)
            if mark is None:
                return
            follower.add(digests[done:])

    def _in_order(self) -> Iterator[Rows]:
        """All records, as they stand in the stream, some at a time."""
        rows = np.frombuffer(bytes(self._rows), _ROW_DTYPE)
        # A page may have been fetched more than once.
        rows, done = rows[np.unique(rows["place"], return_index=True)[1]], 0
        for table in self._own_tables():
            for leaf in range(table.leaf_count()):
                entries = table.leaf(leaf)
                frames = np.empty(len(entries), _ROW_DTYPE)
                frames["place"], frames["digest"] = entries["offset"], entries["digest"]
                end = int(np.searchsorted(rows["place"], frames["place"][-1]))
                both = np.concatenate((rows[done:end], frames))
                yield both[np.argsort(both["place"], kind="stable")]
                done = end
        if done < len(rows):
            yield rows[done:]

    def _own_tables(self) -> list[FrameTable]:
        image = self._image
        own = [table for table in image.tables if image.segments.holds(table.origin)]
        own = [table for table in own if table.frame_count]
        return sorted(own, key=lambda table: int(table.leaf(0)["offset"][0]))
