"""Runs of frames that lie next to each other: read with one call, checked together, opened one by
one.

What can be compared for all frames of a run at once is compared by numpy; for each frame are left
its digest, its tag, and its decompression, which release the GIL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import Codec, RecordType
from aipimage.format.digest import digest
from aipimage.format.record import RECORD_HEADER_DTYPE, Reference
from aipimage.format.tables import FrameEntries
from aipimage.io.codec import BytesLike, decompress
from aipimage.io.records import RecordReader

_MAGIC = int.from_bytes(c.RECORD_MAGIC, "little")
_HEADER_BYTES = np.arange(c.RECORD_HEADER)


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
    """A frame that passed every check, or the error that it met."""

    number: int
    plain: BytesLike
    extents: memoryview
    error: AipImageError | None


Headers = npt.NDArray[np.void]
_NOTHING = memoryview(b"")


def open_frames(records: RecordReader, run: FrameRun, data: memoryview) -> Iterator[OpenedFrame]:
    """Verify and open the frames of a run whose bytes are ``data``; damage is yielded."""
    offsets = (run.entries["offset"] - run.entries["offset"][0]).astype(np.int64)
    headers = _headers(data, offsets)
    sound = _sound(headers, run, records.tag).tolist()
    stored = headers["body_length"] - c.FRAME_EXTENT * headers["extent_count"].astype(np.int64)
    rows = zip(
        offsets.tolist(), run.entries.tolist(), headers["codec"].tolist(),
        (stored - records.tag).tolist(), sound, strict=True,
    )  # fmt: skip
    cipher = records.cipher(run.origin)
    for number, (at, entry, codec, length, is_sound) in enumerate(rows, run.first):
        record = data[at : at + entry[1]]
        try:
            if not is_sound:
                _refuse(records, run.origin, number, entry, record)
            if digest(record[: -c.CHECK]) != entry[3] or record[-c.CHECK :] != entry[3][: c.CHECK]:
                raise IntegrityError("it is damaged: its digest differs")
            body = record[c.RECORD_HEADER : -c.CHECK]
            if cipher is not None:
                body = cipher.open(record[: c.RECORD_HEADER], body)
            plain = decompress(codec, body[:length], entry[2])
        except AipImageError as error:
            yield OpenedFrame(number, _NOTHING, _NOTHING, error)
        else:
            yield OpenedFrame(number, plain, body[length:], None)


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
        (headers["magic"] == _MAGIC)
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
    records: RecordReader, origin: bytes, number: int, entry: tuple[int, int, int, bytes],
    record: memoryview,
) -> None:  # fmt: skip
    """Say what is wrong with a record by the way that looks at one at a time."""
    opened = records.open(record, Reference(origin, *entry), RecordType.FRAME)
    if opened.header.number != number:
        raise IntegrityError("it bears another number than its place")
