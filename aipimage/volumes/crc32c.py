"""CRC-32C (Castagnoli), as ext4, XFS and Btrfs use it, fast enough for many blocks.

A cyclic redundancy check is linear: what a word adds to the result depends only on the word and on
how many bytes follow it. So a row of words is folded: each of its stripes is carried to the place
of the next one by a table and added to it, for all rows at once, until one word is left.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
"""RFC 3720, appendix B.4, bits reflected."""
_LANES = 64
"""Words of a stripe."""
_BATCH_BYTES = 1 << 20
_SHORT = 64
_LONG, _PIECE = 8192, 256
"""Bytes from which on a row is taken as several ones, and those of each."""


def crc32c(data: bytes, seed: int = 0xFFFFFFFF) -> int:
    """Return the register after ``data``, which is *not* inverted at the end.

    So the result is the seed for what follows; RFC 3720, XFS and Btrfs store it inverted
    (``^ 0xFFFFFFFF``), ext4 as it is.
    """
    if len(data) < _SHORT:
        table = _byte_table()
        for byte in data:
            seed = table[(seed ^ byte) & 255] ^ seed >> 8
        return seed
    if len(data) >= _LONG:
        return _of_long(data, seed)
    return int(crc32c_rows(np.frombuffer(data, np.uint8)[None], seed)[0])


def crc32c_rows(rows: npt.NDArray[np.uint8], seed: int | npt.NDArray[Any] = 0xFFFFFFFF) -> Words:
    """The same for each row of an array of shape (n, k); ``seed`` is one for all or one a row."""
    count, length = rows.shape
    seeds = np.broadcast_to(np.asarray(seed, np.uint32), (count,))
    if length < 4:
        pairs = zip(rows, seeds.tolist(), strict=True)
        return np.array([crc32c(row.tobytes(), start) for row, start in pairs], np.uint32)
    result = np.empty(count, np.uint32)
    batch = max(1, _BATCH_BYTES // length)
    for low in range(0, count, batch):
        result[low : low + batch] = _of_batch(rows[low : low + batch], seeds[low : low + batch])
    return result


def _of_long(data: bytes, seed: int) -> int:
    """The same for one long row: its pieces are rows of their own, each carried to the end of the
    next, half of them at once.
    """
    count = 1 << (-(-len(data) // _PIECE) - 1).bit_length()
    padded = np.zeros(count * _PIECE, np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= np.frombuffer(seed.to_bytes(4, "little"), np.uint8)
    left = crc32c_rows(padded.reshape(count, _PIECE), 0)
    while len(left) > 1:
        half = len(left) // 2
        left = _carried(left[:half], half * _PIECE // 4) ^ left[half:]
    return int(left[0])


def _of_batch(rows: npt.NDArray[np.uint8], seeds: Words) -> Words:
    """Zeros before the first byte leave a register of zero as it is, and a seed is the same as a
    register of zero with the seed added to the first four bytes: so every row is made whole stripes
    by putting zeros before it.
    """
    count, length = rows.shape
    stripe = 4 * (_LANES if length >= 4 * _LANES else 1)
    padding = -length % stripe
    bytes_ = np.empty((count, padding + length), np.uint8)
    bytes_[:, :padding] = 0
    bytes_[:, padding:] = rows
    bytes_[:, padding : padding + 4] ^= seeds.astype("<u4").view(np.uint8).reshape(count, 4)
    words = bytes_.view("<u4").reshape(count, -1, stripe // 4)
    left: Words = words[:, 0].astype(np.uint32)
    for index in range(1, words.shape[1]):
        left = _carried(left, stripe // 4) ^ words[:, index]
    while left.shape[1] > 1:
        half = left.shape[1] // 2
        left = _carried(left[:, :half], half) ^ left[:, half:]
    return _carried(left[:, 0], 1)


def _carried(registers: Words, words: int) -> Words:
    """What registers become when so many words of zeros follow."""
    low, high = _carry_tables(words)
    carried: Words = low[registers & np.uint32(0xFFFF)] ^ high[registers >> np.uint32(16)]
    return carried


@cache
def _carry_tables(words: int) -> tuple[Words, Words]:
    """What the lower and the upper half of a register become, for each value of a half."""
    bits = _columns(words)
    return _table(bits[:16]), _table(bits[16:])


def _table(bits: list[int]) -> Words:
    table = np.zeros(1, np.uint32)
    for bit in bits:
        table = np.concatenate((table, table ^ np.uint32(bit)))
    return table


@cache
def _columns(words: int) -> list[int]:
    """What each bit of a register becomes when so many words, a power of two, of zeros follow."""
    if words > 1:
        half = _columns(words // 2)
        return [_applied(half, bit) for bit in half]
    return [_applied(_step_columns(), bit) for bit in _step_columns()]


@cache
def _step_columns() -> list[int]:
    """The same for two bytes."""
    table, found = _byte_table(), []
    for bit in range(32):
        register = 1 << bit
        for _ in range(2):
            register = table[register & 255] ^ register >> 8
        found.append(register)
    return found


def _applied(columns: list[int], register: int) -> int:
    result = 0
    for bit, column in enumerate(columns):
        if register >> bit & 1:
            result ^= column
    return result


@cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table
