"""Every C function again, in plain Python and numpy: slow, short, and plainly right."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aipimage.format import constants as c
from aipimage.format.constants import Codec, RecordType
from aipimage.format.digest import block_digest
from aipimage.format.record import RecordHeader, encode_record_header


def bits_of(bitmap: bytes, nbits: int) -> npt.NDArray[np.uint8]:
    """Return the first ``nbits`` bits, one in each element."""
    return np.unpackbits(np.frombuffer(bitmap, np.uint8), count=nbits, bitorder="little")


def bitmap_of(bits: list[bool] | npt.NDArray[np.uint8]) -> list[int]:
    """Return bits packed least significant first, as a list of byte values."""
    return np.packbits(np.array(bits, dtype=bool), bitorder="little").tolist()


def runs_of(bits: list[bool] | npt.NDArray[np.uint8]) -> list[list[int]]:
    """Return the runs of ones as [start, length]."""
    runs: list[list[int]] = []
    for position, bit in enumerate(bits):
        if not bit:
            continue
        if runs and sum(runs[-1]) == position:
            runs[-1][1] += 1
        else:
            runs.append([position, 1])
    return runs


def chunks(data: bytes, size: int) -> list[bytes]:
    """Return ``data`` cut into pieces of ``size`` bytes, the last one short."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def nonzero(data: bytes, cluster: int) -> list[bool]:
    """Return whether each cluster has a nonzero byte."""
    return [any(piece) for piece in chunks(data, cluster)]


def cut(extents: list[tuple[int, int]], size: int) -> tuple[list[list[int]], list[int]]:
    """Return the pieces of extents laid end to end and cut every ``size``, and their number a
    part.
    """
    pieces: list[list[int]] = []
    counts: list[int] = []
    laid = 0
    for start, length in extents:
        for at in range(length):
            if laid % size == 0:
                counts.append(0)
            if at == 0 or laid % size == 0:
                pieces.append([start + at, 0])
                counts[-1] += 1
            pieces[-1][1] += 1
            laid += 1
    return pieces, counts


def different(a: bytes, b: bytes, block: int) -> list[bool]:
    """Return whether each block differs."""
    pairs = zip(chunks(a, block), chunks(b, block), strict=True)
    return [left != right for left, right in pairs]


def packed(src: bytes, extents: list[tuple[int, int]]) -> bytes:
    """Return the byte extents of ``src`` one after the other."""
    return b"".join(src[offset : offset + length] for offset, length in extents)


def unpacked(src: bytes, extents: list[tuple[int, int]], dst: bytes) -> bytes:
    """Return ``dst`` with the start of ``src`` laid into its extents."""
    out, done = bytearray(dst), 0
    for offset, length in extents:
        out[offset : offset + length] = src[done : done + length]
        done += length
    return bytes(out)


def block_digests(data: bytes) -> list[bytes]:
    """Return 16 bytes a block of 64 KiB (docs/format.md, section 8)."""
    return [
        block_digest(block.ljust(c.BLOCK, b"\0")) if any(block) else bytes(c.BLOCK_DIGEST)
        for block in chunks(data, c.BLOCK)
    ]


def frames(
    data: bytes,
    frame: int,
    payload_of: Callable[[bytes], bytes],
    runs: list[tuple[int, int]],
    where: int,
    origin: bytes,
    first: int,
    tag: int,
) -> list[bytes]:
    """Return the frame records of some packed bytes without their last ``tag`` + 16 bytes
    (docs/format.md, sections 5 and 6.1).
    """
    records = []
    sectors = [where + start + at for start, length in runs for at in range(length)]
    for number, plain in enumerate(chunks(data, frame)):
        own = sectors[number * frame // 512 :][: len(plain) // 512]
        extents: list[list[int]] = []
        # A run of no sectors apart, two runs that meet are two extents: so each run is looked at.
        starts = set(np.cumsum([0] + [length for _, length in runs]).tolist())
        for at, sector in enumerate(own):
            if at == 0 or number * frame // 512 + at in starts:
                extents.append([sector, 0])
            extents[-1][1] += 1
        payload = payload_of(plain)
        payload = payload if len(payload) < len(plain) else plain
        codec = Codec.ZSTD if len(payload) < len(plain) else Codec.NONE
        tail = b"".join(struct.pack("<QI", *extent) for extent in extents)
        body = len(payload) + len(tail) + tag
        header = RecordHeader(
            RecordType.FRAME, codec, len(extents), body, len(plain), origin, first + number
        )
        records.append(encode_record_header(header) + payload + tail)
    return records
