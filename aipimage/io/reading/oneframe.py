"""A frame for a small read: found in its table, read, and checked and decoded with one call of the
core (docs/format.md, sections 5 and 6.2).

What is sealed, and what is not plainly right, is left to the way for any record
(``io/records/records.py``), which says what is wrong with it. The functions are few and long for
their work, because each call costs here.
"""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np

from aipimage import _core
from aipimage.io.index.trees import FrameTable
from aipimage.io.records import zstdcalls
from aipimage.io.records.records import RecordReader
from aipimage.io.system.buffers import thread_buffer

_ENTRY = struct.Struct("<QII32x")
"""Of a frame table: offset, record length, plain length, digest."""


class StoredFrames(Protocol):
    """What holds the frames: an image with the other images of its chain."""

    @property
    def records(self) -> RecordReader: ...

    def read_inside(self, origin: bytes, offset: int, buffer: memoryview) -> memoryview:
        """Fill ``buffer`` with stored bytes from an address on, and return it."""


def read_frame(store: StoredFrames, table: FrameTable, number: int) -> memoryview | None:
    """Return the plain bytes of a frame; ``None`` where another way is needed. The caller is inside
    of the gate of what is read.

    Raises:
        StorageError, IncompleteError: its file cannot be read. FormatError: there is no such frame.
    """
    if not zstdcalls.AVAILABLE or store.records.tag or store.records.on_fetch is not None:
        return None
    origin, entry = table.origin, table.entry(number)
    offset, length, size = _ENTRY.unpack(entry)
    data = store.read_inside(origin, offset, thread_buffer("record", length))
    plain = np.empty(size, np.uint8).data
    kind = _core.read_frame(zstdcalls.decompressor(), data, entry, origin, number, plain)
    return plain if kind == _core.FRAME_GOOD else None
