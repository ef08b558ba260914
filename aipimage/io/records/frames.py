"""Runs of frames that lie next to each other: read with one call, checked together, opened one by
one.

What can be compared for all frames of a run at once is compared by numpy, and all are decompressed
with one or two calls, to the place where they are wanted if there is one. Only digest and tag are
checked frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import Codec, RecordType
from aipimage.format.digest import digest
from aipimage.format.record import RECORD_HEADER_DTYPE, RECORD_MAGIC_NUMBER, Reference
from aipimage.format.tables import FrameEntries
from aipimage.io.records.codec import BytesLike, decompress, decompress_frames
from aipimage.io.records.damage import damage_text
from aipimage.io.records.records import RecordReader

_HEADER_BYTES = np.arange(c.RECORD_HEADER)


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


class OpenedFrame(NamedTuple):
    """A frame that passed every check, or the error that it met.

    ``is_placed``: its plain bytes lie where the caller wanted them. ``begins``: its header is the
    right one; where it is not, the damage of the frame before may reach into this one.
    """

    number: int
    plain: BytesLike
    extents: memoryview
    error: AipImageError | None
    is_placed: bool = False
    begins: bool = True


class Places(NamedTuple):
    """Where plain frames are wanted.

    Attributes:
        view: what they are to lie in. starts: frame number -> offset in it, of frames for which
            there is the room of a full frame.
        size: bytes of a full frame.
    """

    view: memoryview
    starts: Mapping[int, int]
    size: int


class _Unsealed(NamedTuple):
    """A frame whose digest and tag are right, or the error: where its payload and its extents are
    in the run's bytes.
    """

    number: int
    codec: int
    start: int
    middle: int
    end: int
    plain_length: int
    error: AipImageError | None
    begins: bool = True


Headers = npt.NDArray[np.void]
_NOTHING = memoryview(b"")
NOWHERE = Places(_NOTHING, {}, 0)
"""For frames that are wanted nowhere in particular."""
_AT_ONCE = 4 << 20
"""Plain bytes that are decompressed together; a single frame may be larger."""


def open_frames(
    records: RecordReader,
    run: FrameRun,
    data: memoryview,
    room: Callable[[int], memoryview],
    places: Places = NOWHERE,
) -> Iterator[OpenedFrame]:
    """Verify and open the frames of a run; damage is yielded.

    Args:
        data: the bytes of the run; decrypted in place.
        room: returns so many bytes for plain frames, called again for each few megabytes of them.
        places: what is compressed is decompressed there where it names a place for it.
    """
    group: list[_Unsealed] = []
    size = 0
    for frame in _unseal(records, run, data):
        if group and size + frame.plain_length > _AT_ONCE:
            yield from _decoded(group, data, room, places)
            group, size = [], 0
        group.append(frame)
        size += frame.plain_length
    yield from _decoded(group, data, room, places)


def read_frames(
    store: FrameStore,
    run: FrameRun,
    take: Callable[[int], memoryview],
    room: Callable[[int], memoryview],
    places: Places = NOWHERE,
) -> Iterator[OpenedFrame]:
    """Read a run, verify and open its frames; damage is yielded. Where the run cannot be read with
    one call its frames are read one by one, so that a bad sector costs those alone that it is in.

    Args:
        take: returns so many bytes for stored frames. room, places: see :func:`open_frames`.
    """
    try:
        data = store.read_stored(run.origin, run.start, take(run.length))
    except AipImageError as error:
        damage_text(error)
        if len(run.entries) == 1:
            yield OpenedFrame(run.first, _NOTHING, _NOTHING, error, begins=False)
            return
        for row in range(len(run.entries)):
            alone = FrameRun(run.origin, run.first + row, run.entries[row : row + 1])
            yield from read_frames(store, alone, take, room, places)
    else:
        yield from open_frames(store.records, run, data, room, places)


def _unseal(records: RecordReader, run: FrameRun, data: memoryview) -> Iterator[_Unsealed]:
    """Verify all of each frame but its payload's coding."""
    offsets = (run.entries["offset"] - run.entries["offset"][0]).astype(np.int64)
    headers = _headers(data, offsets)
    sound = _sound(headers, run, records.tag).tolist()
    stored = headers["body_length"] - c.FRAME_EXTENT * headers["extent_count"].astype(np.int64)
    rows = zip(
        offsets.tolist(),
        run.entries.tolist(),
        headers["codec"].tolist(),
        (stored - records.tag).tolist(),
        sound,
        strict=True,
    )
    cipher, tag = records.cipher(run.origin), records.tag
    for number, (at, entry, codec, length, is_sound) in enumerate(rows, run.first):
        record = data[at : at + entry[1]]
        start, end = at + c.RECORD_HEADER, at + entry[1] - c.CHECK
        try:
            if not is_sound:
                _refuse(records, run.origin, number, entry, record)
            if digest(record[: -c.CHECK]) != entry[3] or record[-c.CHECK :] != entry[3][: c.CHECK]:
                raise IntegrityError("it is damaged: its digest differs")
            if cipher is not None:
                cipher.open_into(data[at:start], data[start:end], data[start : end - tag])
        except AipImageError as error:
            yield _Unsealed(number, codec, start, start, start, 0, error, is_sound)
        else:
            yield _Unsealed(number, codec, start, start + length, end - tag, entry[2], None)


def _decoded(
    group: list[_Unsealed], data: memoryview, room: Callable[[int], memoryview], places: Places
) -> Iterator[OpenedFrame]:
    """Decompress some frames together, and one that fails once more alone, for its error."""
    placed: list[_Unsealed] = []
    others: list[_Unsealed] = []
    for frame in group:
        if frame.codec == Codec.ZSTD and frame.error is None:
            fits = frame.number in places.starts and frame.plain_length == places.size
            (placed if fits else others).append(frame)
    ends = np.cumsum([frame.plain_length for frame in others], dtype=np.int64).tolist()
    plain = room(ends[-1]) if others else _NOTHING
    done = _decompressed(others, [0, *ends[:-1]], data, plain)
    here = [places.starts[frame.number] for frame in placed]
    done_here = _decompressed(placed, here, data, places.view)
    for frame in group:
        if frame.error is not None:
            yield OpenedFrame(frame.number, _NOTHING, _NOTHING, frame.error, begins=frame.begins)
            continue
        opened: BytesLike | None = done_here.get(frame.number)
        is_placed = opened is not None
        if opened is None:
            opened = done.get(frame.number)
        if opened is None:
            payload = data[frame.start : frame.middle]
            try:
                opened = decompress(frame.codec, payload, frame.plain_length)
            except AipImageError as error:
                yield OpenedFrame(frame.number, _NOTHING, _NOTHING, error)
                continue
        extents = data[frame.middle : frame.end]
        yield OpenedFrame(frame.number, opened, extents, None, is_placed)


def _decompressed(
    frames: list[_Unsealed], starts: list[int], data: memoryview, plain: memoryview
) -> dict[int, memoryview]:
    """Decompress frames to their places in ``plain`` with one call; return those that are there, by
    number.
    """
    if not frames:
        return {}
    pieces = np.empty((len(frames), 4), np.uint64)
    pieces[:, 0] = [frame.start for frame in frames]
    pieces[:, 1] = [frame.middle - frame.start for frame in frames]
    pieces[:, 2] = starts
    pieces[:, 3] = [frame.plain_length for frame in frames]
    done = decompress_frames(data, pieces, plain)
    return {
        frame.number: plain[start : start + frame.plain_length]
        for frame, start, is_done in zip(frames, starts, done, strict=True)
        if is_done
    }


def _headers(data: memoryview, offsets: npt.NDArray[np.int64]) -> Headers:
    """The record headers of a run as an array of :data:`RECORD_HEADER_DTYPE`."""
    raw = np.frombuffer(data, np.uint8)[offsets[:, None] + _HEADER_BYTES]
    headers: Headers = raw.reshape(-1).view(RECORD_HEADER_DTYPE)
    return headers


def _sound(headers: Headers, run: FrameRun, tag: int) -> npt.NDArray[np.bool_]:
    """Which headers are those of the frames that the table names (docs/format.md, section 5)."""
    count = len(headers)
    body = headers["body_length"].astype(np.int64)
    numbers = np.arange(run.first, run.first + count, dtype=np.uint64)
    origin = np.frombuffer(run.origin, "<u8")
    stored = body - c.FRAME_EXTENT * headers["extent_count"].astype(np.int64)
    sound: npt.NDArray[np.bool_] = (
        (headers["magic"] == RECORD_MAGIC_NUMBER)
        & (headers["type"] == RecordType.FRAME)
        & (headers["plain_length"] == run.entries["plain_length"])
        & (body + (c.RECORD_HEADER + c.CHECK) == run.entries["record_length"])
        & (headers["origin"] == origin).all(axis=1)
        & (headers["number"] == numbers)
        & (stored > tag)
        & ((headers["codec"] != Codec.NONE) | (stored - tag == headers["plain_length"]))
    )
    return sound


def _refuse(
    records: RecordReader,
    origin: bytes,
    number: int,
    entry: tuple[int, int, int, bytes],
    record: memoryview,
) -> None:
    """Raise the error of a record, by the checks for a single one."""
    opened = records.open(record, Reference(origin, *entry), RecordType.FRAME)
    if opened.header.number != number:
        raise FormatError("it has another number than its place")
