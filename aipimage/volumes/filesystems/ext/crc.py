"""The checksum of group descriptors before metadata_csum: CRC-16 (ext4 Data Structures, "Block
Group Descriptors", bg_checksum of uninit_bg). All other checksums are those of ``volumes.crc32c``.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0xA001
"""x^16 + x^15 + x^2 + 1, bits reflected."""


def crc16(data: bytes, seed: int) -> int:
    """Return the register after ``data``; it is not inverted at the end."""
    return int(crc16_rows(np.frombuffer(data, np.uint8)[None], seed)[0])


def crc16_rows(rows: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint16]:
    """The same for each row of an array of shape (n, k), all from register ``seed``; shape (n,).

    The loop runs over the bytes of a row, of which a descriptor has at most 68, for all rows at
    once.
    """
    registers = np.full(len(rows), seed, np.uint16)
    for column in rows.T:
        registers = _table()[(registers ^ column) & np.uint16(255)] ^ registers >> np.uint16(8)
    return registers


@cache
def _table() -> npt.NDArray[np.uint16]:
    """What each value of a register's lower byte adds to its upper one."""
    table = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1).astype(np.uint16)
    return table
