"""A frame for a small read: found in its table, read, and checked and decoded with one call of the
core (docs/format.md, sections 5 and 6.2).

What is sealed, and what is not plainly right, is left to the way for any record
(``io/records/records.py``), which says what is wrong with it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from aipimage import _core
from aipimage.io.index.trees import FrameTable
from aipimage.io.records.codec import frames_decoder
from aipimage.io.records.frames import FrameStore
from aipimage.io.system.buffers import thread_buffer

if TYPE_CHECKING:
    from aipimage._core import CodecFunctions

_ENTRY = struct.Struct("<QII32x")
"""Of a frame table: offset, record length, plain length, digest."""


def read_frame(store: FrameStore, table: FrameTable, number: int) -> memoryview | None:
    """Return the plain bytes of a frame; ``None`` where another way is needed.

    Raises:
        StorageError, IncompleteError: its file cannot be read. FormatError: there is no such frame.
    """
    decoder = frames_decoder()
    if decoder is None or store.records.tag or store.records.on_fetch is not None:
        return None
    return _decoded(store, table, number, decoder)


def _decoded(
    store: FrameStore, table: FrameTable, number: int, decoder: CodecFunctions
) -> memoryview | None:
    origin, entry = table.origin, table.entry(number)
    offset, length, size = _ENTRY.unpack(entry)
    data = store.read_stored(origin, offset, thread_buffer("record", length))
    plain = np.empty(size, np.uint8).data
    kind = _core.read_frame(decoder, data, entry, origin, number, plain)
    return plain if kind == _core.FRAME_GOOD else None
