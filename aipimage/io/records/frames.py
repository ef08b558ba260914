"""Runs of frames that lie next to each other: read with one call, checked and opened together.

The core compares headers and digests of a run with one call, and decodes it with another, to where
it is wanted; between the two each sealed frame is opened in place. A frame that is not plainly
right is looked at alone, by the way that says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.digest import digest
from aipimage.format.record import Reference
from aipimage.format.tables import FrameEntries
from aipimage.io.records.codec import BytesLike, decompress, frames_decoder
from aipimage.io.records.damage import damage_text
from aipimage.io.records.records import RecordReader
from aipimage.io.system.buffers import thread_buffer

_NOTHING = memoryview(bytearray())
Copies = npt.NDArray[np.uint64]
"""What is wanted of a run: rows (frame of the run, offset in it, length, offset in a view), in
bytes, ascending by frame."""
NO_COPIES = np.empty((0, 4), np.uint64)


class FrameStore(Protocol):
    """What holds the frames of a run: an image with the other images of its chain."""

    @property
    def records(self) -> RecordReader: ...

    def read_stored(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` with stored bytes from an address on, and return it."""


class FrameRun(NamedTuple):
    """Frames ``first``, ``first`` + 1, … of an origin; each record follows on the one before."""

    origin: bytes
    first: int
    entries: FrameEntries

    @property
    def start(self) -> int:
        """Address of the first record."""
        return int(self.entries["offset"][0])

    @property
    def length(self) -> int:
        """Bytes of all records."""
        last = self.entries[-1]
        return int(last["offset"]) + int(last["record_length"]) - self.start


class FailedFrame(NamedTuple):
    """A frame that did not pass every check, and the error that it met.

    ``begins``: its header is the right one; where it is not, the damage of the frame before may
    reach into this one.
    """

    number: int
    error: AipImageError
    begins: bool = True


class OpenedRun(NamedTuple):
    """A run after all of its frames were looked at.

    Attributes:
        data: its bytes, each body opened in place; empty where it could not be read.
        failed: frames with errors, in the order of their numbers; nothing of them is to be used.
    """

    run: FrameRun
    data: memoryview
    failed: list[FailedFrame]


def read_run(
    store: FrameStore,
    run: FrameRun,
    room: memoryview,
    copies: Copies = NO_COPIES,
    view: memoryview = _NOTHING,
) -> Iterator[OpenedRun]:
    """Read a run, verify and open its frames; damage is in what is yielded. Where the run cannot be
    read with one call its frames are read one by one, so that a bad sector costs those alone that
    it is in.

    Args:
        room: at least the bytes of the run, for what is stored; it is used as long as the run that
            was yielded. copies, view: see :func:`open_run`.
    """
    try:
        data = store.read_stored(run.origin, run.start, room[: run.length])
    except AipImageError as error:
        damage_text(error)
        if len(run.entries) == 1:
            yield OpenedRun(run, _NOTHING, [FailedFrame(run.first, error, begins=False)])
            return
        for row in range(len(run.entries)):
            alone = FrameRun(run.origin, run.first + row, run.entries[row : row + 1])
            own = copies[copies[:, 0] == row]
            own[:, 0] = 0
            yield from read_run(store, alone, room, own, view)
    else:
        yield open_run(store.records, run, data, copies, view)


def open_run(
    records: RecordReader,
    run: FrameRun,
    data: memoryview,
    copies: Copies = NO_COPIES,
    view: memoryview = _NOTHING,
) -> OpenedRun:
    """Verify and open all frames of a run, and copy what is wanted of them.

    Args:
        data: the bytes of the run; decrypted in place.
        copies: what is wanted in ``view``; undefined bytes are where it is of a frame that failed.
    """
    return OpenedRun(run, data, _Opening(records, run, data, copies, view).failed())


def copy_frame(plain: BytesLike, copies: Copies, row: int, view: memoryview) -> None:
    """Copy what is wanted of one frame of a run."""
    for _, inside, length, place in copies[copies[:, 0] == row].tolist():
        view[place : place + length] = plain[inside : inside + length]


class _Opening:
    def __init__(
        self,
        records: RecordReader,
        run: FrameRun,
        data: memoryview,
        copies: Copies,
        view: memoryview,
    ) -> None:
        self._records, self._run, self._data = records, run, data
        self._copies, self._view = copies, view
        self._cipher, self._tag = records.cipher(run.origin), records.tag
        self._failed: dict[int, FailedFrame] = {}

    def failed(self) -> list[FailedFrame]:
        run, tag = self._run, self._tag
        kinds = _core.check_frames(self._data, run.entries, run.origin, run.first, tag)
        for row in np.flatnonzero(kinds).tolist():
            self._alone(row, int(kinds[row]))
        if self._cipher is not None:
            for row in np.flatnonzero(kinds == _core.FRAME_GOOD).tolist():
                if not self._unseal(row):
                    kinds[row] = _core.FRAME_DIGEST
        self._decode(kinds)
        for row in np.flatnonzero(kinds == _core.FRAME_PAYLOAD).tolist():
            self._alone(row, _core.FRAME_PAYLOAD)
        return [self._failed[row] for row in sorted(self._failed)]

    def _decode(self, kinds: npt.NDArray[np.uint8]) -> None:
        decoder = frames_decoder()
        if decoder is None:
            kinds[kinds == _core.FRAME_GOOD] = _core.FRAME_PAYLOAD
            return
        entries = self._run.entries
        scratch = thread_buffer("frame", int(entries["plain_length"].max()))
        _core.open_frames(
            decoder, self._data, entries, self._tag, self._copies, self._view, scratch, kinds
        )

    def _unseal(self, row: int) -> bool:
        """Decrypt the body of a frame in place."""
        assert self._cipher is not None
        at, _, end = self._place(row)
        start = at + c.RECORD_HEADER
        try:
            self._cipher.open_into(
                self._data[at:start], self._data[start:end], self._data[start : end - self._tag]
            )
        except AipImageError as error:
            self._failed[row] = FailedFrame(self._run.first + row, error)
            return False
        return True

    def _place(self, row: int) -> tuple[int, tuple[int, int, int, bytes], int]:
        """Where a record begins, its entry, and where its check begins."""
        entry = self._run.entries[row].item()
        at = entry[0] - self._run.start
        return at, entry, at + entry[1] - c.CHECK

    def _alone(self, row: int, kind: int) -> None:
        """Look at one frame by itself: it fails, or what is wanted of it is copied."""
        try:
            if kind != _core.FRAME_PAYLOAD:
                self._check_alone(row, kind)
            plain = self._decode_alone(row)
        except AipImageError as error:
            begins = kind != _core.FRAME_HEADER
            self._failed[row] = FailedFrame(self._run.first + row, error, begins)
            return
        copy_frame(plain, self._copies, row, self._view)

    def _check_alone(self, row: int, kind: int) -> None:
        at, entry, _ = self._place(row)
        record = self._data[at : at + entry[1]]
        if kind == _core.FRAME_HEADER:
            ref = Reference(self._run.origin, *entry)
            opened = self._records.open(record, ref, RecordType.FRAME)
            if opened.header.number != self._run.first + row:
                raise FormatError("it has another number than its place")
        if digest(record[: -c.CHECK]) != entry[3] or record[-c.CHECK :] != entry[3][: c.CHECK]:
            raise IntegrityError("it is damaged: its digest differs")
        if self._cipher is not None and not self._unseal(row):
            raise self._failed[row].error

    def _decode_alone(self, row: int) -> BytesLike:
        at, entry, end = self._place(row)
        header = self._data[at : at + c.RECORD_HEADER]
        extents = int.from_bytes(header[6:8], "little") * c.FRAME_EXTENT
        payload = self._data[at + c.RECORD_HEADER : end - self._tag - extents]
        return decompress(header[5], payload, entry[2])
