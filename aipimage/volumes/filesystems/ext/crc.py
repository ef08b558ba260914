"""Reflected cyclic redundancy checks of many equally long rows at a time.

A CRC is linear over GF(2): the register after some words is the sum (exclusive or) of what each of
them becomes when it is moved through all bytes behind it. So the halves of a row are folded into
each other until one word is left, with one table for each distance, and no loop goes over bytes.

Polynomials: ext4 Data Structures, "Checksums": crc32c for metadata_csum, crc16 for uninit_bg.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.unsignedinteger[Any]]
ROWS_BYTES = 1 << 17
"""Bytes that are folded at a time, so that they stay in the processor's cache."""


class RowCrc:
    """A CRC without a final inversion.

    Args:
        polynomial: in its reflected form. width: 16 or 32, bits.
    """

    def __init__(self, polynomial: int, width: int) -> None:
        self.polynomial, self.width = polynomial, width
        self._word = np.dtype(f"<u{width // 8}")

    def __call__(self, rows: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint32]:
        """Return the CRC of each row of an array of shape (n, bytes), all from register ``seed``;
        shape (n,).
        """
        count, length = rows.shape
        found = np.empty(count, np.uint32)
        step = max(1, ROWS_BYTES // max(1, length))
        for first in range(0, count, step):
            found[first : first + step] = self._folded(rows[first : first + step])
        before: Words = np.array([[seed]], self._word)
        after = _moved(before, self.polynomial, self.width, length)
        found ^= np.uint32(after[0, 0])
        return found

    def one(self, data: bytes, seed: int) -> int:
        """The CRC of one row."""
        return int(self(np.frombuffer(data, np.uint8)[None, :], seed)[0])

    def _folded(self, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        """The same for the register 0, which leading zeros leave as it is."""
        size = self._word.itemsize
        words = 1 << max(0, (-(-rows.shape[1] // size) - 1).bit_length())
        if rows.shape[1] < words * size:
            padded = np.zeros((len(rows), words * size), np.uint8)
            padded[:, words * size - rows.shape[1] :] = rows
            rows = padded
        now: Words = np.ascontiguousarray(rows).view(self._word)
        while (half := now.shape[1] // 2) > 0:
            left = np.ascontiguousarray(now[:, :half])
            now = _moved(left, self.polynomial, self.width, half * size) ^ now[:, half:]
        return _moved(now, self.polynomial, self.width, size)[:, 0].astype(np.uint32)


def _moved(registers: Words, polynomial: int, width: int, zeros: int) -> Words:
    """What registers become when so many zero bytes go through them."""
    tables = _tables(polynomial, width, zeros)
    halves = registers.view("<u2").reshape(*registers.shape, len(tables))
    moved: Words = tables[0].take(halves[..., 0])
    for number, table in enumerate(tables[1:], 1):
        moved ^= table.take(halves[..., number])
    return moved


@lru_cache(maxsize=64)
def _tables(polynomial: int, width: int, zeros: int) -> tuple[Words, ...]:
    """For each 16 bits of a register, what its 2^16 values add to the moved one."""
    columns = _columns(polynomial, width, zeros)
    tables = []
    for first in range(0, width, 16):
        table = np.zeros(1 << 16, np.dtype(f"<u{width // 8}"))
        for bit in range(16):
            table[1 << bit : 2 << bit] = table[: 1 << bit] ^ table.dtype.type(columns[first + bit])
        tables.append(table)
    return tuple(tables)


def _columns(polynomial: int, width: int, zeros: int) -> list[int]:
    """What each single bit of a register becomes, by repeated squaring."""
    # The move through 1, 2, 4, … bytes.
    power = [_through_a_byte(1 << bit, polynomial) for bit in range(width)]
    columns = [1 << bit for bit in range(width)]
    while zeros:
        if zeros & 1:
            columns = [_applied(power, column) for column in columns]
        power = [_applied(power, column) for column in power]
        zeros >>= 1
    return columns


def _through_a_byte(register: int, polynomial: int) -> int:
    for _ in range(8):
        register = (register >> 1) ^ (polynomial if register & 1 else 0)
    return register


def _applied(columns: list[int], value: int) -> int:
    result = 0
    for bit, column in enumerate(columns):
        if value >> bit & 1:
            result ^= column
    return result


crc32c = RowCrc(0x82F63B78, 32)
crc16 = RowCrc(0xA001, 16)
