"""Checkpoint and continuation records: docs/format.md, section 11."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.extents import Kind
from aipimage.format import constants as c
from aipimage.format.gates import verified_ids, verified_length, verified_limit, verified_range
from aipimage.format.tables import SECTOR_LIMIT, devices_of

NOTE_DTYPE = np.dtype([("at", "<u8"), ("sectors", "<u8"), ("kind", "<u8")])
"""An extent that no frame names; ``at`` as in section 6.1."""

_HEAD = struct.Struct("<IIQQ32s")
_CONTINUATION = struct.Struct("<16sQqQ32s")
_NOTED = (Kind.UNUSED, Kind.ZERO, Kind.UNREADABLE)


class Checkpoint(NamedTuple):
    """How far an origin came: all before ``sector`` of ``device``; ``notes`` of `NOTE_DTYPE`.

    ``records``: how many lie before it in the stream; ``running``: the running digest over them.
    """

    device: int
    sector: int
    notes: npt.NDArray[np.void]
    records: int
    running: bytes


class Continuation(NamedTuple):
    """The first record of a run that resumes another; ``records`` and ``running`` are as in a
    checkpoint: they bind what is resumed.
    """

    previous: bytes
    length: int
    time: int
    records: int
    running: bytes


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the plain record."""
    head = _HEAD.pack(
        checkpoint.device,
        len(checkpoint.notes),
        checkpoint.sector,
        checkpoint.records,
        checkpoint.running,
    )
    return head + checkpoint.notes.tobytes()


def decode_checkpoint(data: bytes | memoryview) -> Checkpoint:
    """Decode a checkpoint and bound everything in it."""
    if len(data) < _HEAD.size:
        raise FormatError("a checkpoint is cut short")
    device, count, sector, records, running = _HEAD.unpack_from(data)
    verified_limit(device, c.DEVICES_MAX - 1, "device of a checkpoint")
    verified_limit(sector, SECTOR_LIMIT, "sector of a checkpoint")
    verified_range(records, 1, c.STREAM_MAX, "number of records before a checkpoint")
    verified_length(data, _HEAD.size + count * NOTE_DTYPE.itemsize, "checkpoint")
    notes = np.frombuffer(data, NOTE_DTYPE, count, _HEAD.size)
    if not np.isin(notes["kind"], _NOTED).all():
        raise FormatError("a checkpoint notes an extent of an impossible kind")
    start, sectors = notes["at"] & np.uint64(SECTOR_LIMIT - 1), notes["sectors"]
    if (sectors == 0).any() or (sectors > np.uint64(SECTOR_LIMIT) - start).any():
        raise FormatError("a checkpoint notes an extent of an impossible length")
    if (devices_of(notes["at"]) >= c.DEVICES_MAX).any():
        raise FormatError("a checkpoint notes an extent on an impossible device")
    return Checkpoint(device, sector, notes, records, running)


def encode_continuation(continuation: Continuation) -> bytes:
    """Return the plain record."""
    return _CONTINUATION.pack(*continuation)


def decode_continuation(data: bytes | memoryview) -> Continuation:
    """Decode a continuation."""
    verified_length(data, _CONTINUATION.size, "continuation")
    continuation = Continuation(*_CONTINUATION.unpack(data))
    verified_range(continuation.length, 1, c.STREAM_MAX, "length before a continuation")
    verified_range(continuation.records, 1, c.STREAM_MAX, "number of records before a continuation")
    verified_ids((continuation.previous,), "continuation")
    return continuation
