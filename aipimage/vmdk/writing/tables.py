"""Grain tables while a disk is written, and how a checkpoint keeps them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.vmdk.feed import Numbers
from aipimage.vmdk.layout import TABLE_ENTRIES
from aipimage.vmdk.pieces import runs_between

Entries = npt.NDArray[np.uint32]
"""Sector numbers, little-endian."""


def no_entries(count: int = TABLE_ENTRIES) -> Entries:
    """Return a table, or directory, in which nothing is stored."""
    return np.zeros(count, "<u4")


def table_runs(numbers: Numbers) -> Iterator[tuple[int, int, int]]:
    """Yield (table, low, high) for ascending grains: ``numbers[low:high]`` are of that table."""
    tables = numbers // TABLE_ENTRIES
    for low, high in runs_between(np.diff(tables) != 0):
        yield int(tables[low]), low, high


def entries_text(entries: Entries) -> str:
    """Return entries as a checkpoint keeps them."""
    return base64.b64encode(zlib.compress(entries.tobytes())).decode()


def verified_entries(state: dict[str, Any], name: str, count: int) -> Entries:
    """Return ``count`` entries of a checkpoint; no more is inflated than these have."""
    text = state.get(name)
    try:
        packed = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        data = zlib.decompressobj().decompress(packed, count * 4 + 1)
    except (ValueError, zlib.error) as error:
        raise FormatError(f"its {name} cannot be read") from error
    if len(data) != count * 4:
        raise FormatError(f"its {name} has another size")
    return np.frombuffer(data, "<u4").copy()


def verified_number(state: dict[str, Any], name: str, low: int, high: int) -> int:
    """Return a number of a checkpoint; ``FormatError`` where it cannot be right."""
    value = state.get(name)
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"its {name} is not possible")
    return value


def verified_table(state: dict[str, Any], tables: int) -> int | None:
    """Return the number of the table that was begun, or ``None``; ``FormatError`` likewise."""
    if state.get("table") is None:
        return None
    return verified_number(state, "table", 0, tables - 1)
