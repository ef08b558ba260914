"""Whether grains of a stream decompress to what they should; work for threads.

zlib's own functions decompress here, not the reader's; the output is bounded by a grain and a byte.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.linting.header import Shape


@functools.cache
def _library() -> tuple[Callable[..., Any], tuple[type[Exception], ...]]:
    """What makes a decompressor, and the errors of that."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj, (zlib.error,)
    mistake: Any = isal_zlib.error
    return isal_zlib.decompressobj, (mistake, zlib.error)


class Stored(NamedTuple):
    """A grain after its marker: first sector on the disk, sector of the marker, and where in the
    piece its data begins and how long it is, in bytes.
    """

    lba: int
    sector: int
    start: int
    size: int


@dataclass
class StreamPiece:
    """Some MiB of a stream and the grains in it."""

    data: memoryview
    grains: list[Stored]
    shape: Shape


class Problem(NamedTuple):
    """A finding of a worker."""

    code: str
    message: str
    sector: int


def check_grains(piece: StreamPiece) -> tuple[int, list[Problem]]:
    """Decompress the grains of a piece; return its length in bytes, and what was found."""
    found: list[Problem] = []
    for grain in piece.grains:
        problem = _check_grain(piece, grain)
        if problem is not None:
            found.append(Problem(*problem, grain.sector))
    return len(piece.data), found


def _check_grain(piece: StreamPiece, grain: Stored) -> tuple[str, str] | None:
    shape = piece.shape
    data = piece.data[grain.start : grain.start + grain.size]
    sectors = min(shape.grain, shape.capacity - grain.lba)
    full = shape.grain * SECTOR
    where = f"the grain of sector {grain.lba}"
    try:
        content, unused, whole = _inflated(data, full, zlib.MAX_WBITS)
    except _library()[1]:
        if _is_raw(data, full):
            return "grain-raw-deflate", f"{where} is a raw deflate stream, not a zlib stream"
        return "grain-inflate", f"{where} cannot be decompressed"
    # A last grain may be short, or padded to a whole one.
    if len(content) > full or (whole and len(content) not in (full, sectors * SECTOR)):
        size = f"over {full}" if len(content) > full else str(len(content))
        return "grain-inflated-size", f"{where} decompresses to {size} bytes"
    if not whole:
        return "grain-inflate", f"{where} ends within its compressed data"
    if unused:
        return "grain-trailing", f"{unused} bytes follow the compressed data of {where[4:]}"
    if not np.frombuffer(content, np.uint8).any():
        return "grain-zero", f"{where} holds zeros, and need not be stored"
    return None


def _inflated(data: memoryview, full: int, window: int) -> tuple[bytes, int, bool]:
    """Return (content, unused bytes, whether the stream ends)."""
    stream = _library()[0](wbits=window)
    content = stream.decompress(data, full + 1)
    return content, len(stream.unused_data), stream.eof


def _is_raw(data: memoryview, full: int) -> bool:
    try:
        content, _, whole = _inflated(data, full, -zlib.MAX_WBITS)
    except _library()[1]:
        return False
    return whole and len(content) <= full
