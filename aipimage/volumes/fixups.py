"""Update sequence arrays, by which NTFS knows a record that was not written as a whole."""

from __future__ import annotations

import struct
from typing import Final

from aipimage.volumes.view import LayoutError

STRIDE = 512
"""Bytes that one word protects, whatever the sector size is."""
HEADER: Final = struct.Struct("<4sHH")
"""Magic, offset and words of the update sequence array."""


def fixed_up(data: bytes, magic: bytes, what: str) -> bytes:
    """Return a record with the words put back that its update sequence array keeps ("Fixup").

    Raises:
        LayoutError: another magic, an array that does not fit the record, or a sector that was
            written at another time than the others.
    """
    found, offset, words = HEADER.unpack_from(data)
    if found != magic:
        raise LayoutError(f"{what} does not begin with {magic.decode()}")
    sectors = len(data) // STRIDE
    end = offset + 2 * words
    # The array must end before the first word that it protects, or it would change itself.
    if words != sectors + 1 or offset % 2 or not 8 <= offset <= end <= STRIDE - 2:
        raise LayoutError(f"the fix-ups of {what} do not fit it")
    fixed = bytearray(data)
    for sector in range(sectors):
        at = (sector + 1) * STRIDE - 2
        if fixed[at : at + 2] != data[offset : offset + 2]:
            raise LayoutError(f"{what} was not written as a whole")
        kept = offset + 2 + 2 * sector
        fixed[at : at + 2] = data[kept : kept + 2]
    return bytes(fixed)
