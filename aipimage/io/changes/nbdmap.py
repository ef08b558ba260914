"""Maps of a dirty bitmap, as ``nbdinfo --map=qemu:dirty-bitmap:NAME --json`` prints them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from aipimage.errors import FormatError, IncompleteError, RequestError
from aipimage.format.constants import DEVICE_SIZE_MAX
from aipimage.format.gates import verified_limit
from aipimage.io.changes.changeset import Changes
from aipimage.io.system.storage import File
from aipimage.ranges import joined

TEXT_MAX = 256 << 20
"""Bytes of a map: some three million extents."""

_TYPES = {"clean": 0, "dirty": 1}
_MEMBERS = ("offset", "length", "type", "description")


def read_nbd_map(file: File) -> Changes:
    """Read a map whole; its extents must follow one another from 0 on, without gaps.

    Raises:
        FormatError: not such a map. RequestError: a map of something else than changes.
    """
    text = file.pread(verified_limit(file.size(), TEXT_MAX, "length of the map"), 0)
    rows = _loaded(text)
    descriptions = [row["description"] for row in rows]
    _refuse_other_maps(set(descriptions))
    if [row["type"] for row in rows] != [_TYPES[each] for each in descriptions]:
        raise FormatError("type and description of an extent of the map contradict each other")
    extents = _extents(rows)
    size = int(extents[-1].sum())
    dirty = np.array([each == "dirty" for each in descriptions])
    return Changes(size, joined(extents[dirty]))


def _loaded(text: bytes) -> list[dict[str, Any]]:
    """Return the rows, each with the four members of the right types."""
    try:
        # A shell may have put a mark in front (utf-8-sig), or have written UTF-16.
        rows = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise IncompleteError("not whole JSON; let nbdinfo write the map again") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError("not a map as nbdinfo --map --json prints it: no list of extents")
    if not rows:
        raise IncompleteError("the map is empty; let nbdinfo write it again")
    if any("offset" not in row and "size" in row for row in rows):
        raise FormatError("totals say nothing about places; run nbdinfo without --totals")
    for name in _MEMBERS:
        kind = str if name == "description" else int
        if any(type(row.get(name)) is not kind for row in rows):
            raise FormatError(f"an extent of the map has no {name}, or a wrong one")
    return rows


def _refuse_other_maps(descriptions: set[str]) -> None:
    others = sorted(descriptions - _TYPES.keys())
    if others:
        raise RequestError(
            f"a map of {ascii(others[0])[:80]} extents says nothing about changes; "
            "make it with nbdinfo --map=qemu:dirty-bitmap:NAME --json"
        )


def _extents(rows: list[dict[str, Any]]) -> np.typing.NDArray[np.uint64]:
    """Return (offset, length) of all rows, which fill the disk from 0 on."""
    at = 0
    for row in rows:
        if row["offset"] != at or row["length"] < 1:
            raise FormatError(f"the map has a gap or an overlap at byte {at}")
        at += row["length"]
        verified_limit(at, DEVICE_SIZE_MAX, "size of the map's disk")
    return np.array([(row["offset"], row["length"]) for row in rows], np.uint64)
