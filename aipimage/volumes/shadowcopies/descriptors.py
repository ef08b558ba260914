"""What a shadow copy keeps: descriptors of blocks, one after the other ("Successive block
descriptors").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.shadowcopies.blocks import chain
from aipimage.volumes.shadowcopies.catalogue import Entry
from aipimage.volumes.view import LayoutError, VolumeView

DESCRIPTORS_MAX = 1 << 22
"""Of all copies together: 64 GiB of blocks that were overwritten; some 400 MB of memory at most."""
Numbers = npt.NDArray[np.int64]
Structures = list[tuple[int, int]]
"""Ranges of the volume: first byte, and bytes."""


class Kept(NamedTuple):
    """The blocks of one copy that do not lie where the volume has them; arrays with an element
    each, in bytes of the volume; -1 stands for none.

    Attributes:
        blocks: their places in the copy, ascending. places: where they are kept. forwards: where
            the next newer copy has them. overlays: where some of their sectors are kept, and
            sectors: which, a bit each.
        renamed: places to which a copy of them led and nothing followed.
        structures: where the list itself lies, and all that it names.
    """

    blocks: Numbers
    places: Numbers
    forwards: Numbers
    overlays: Numbers
    sectors: npt.NDArray[np.uint32]
    renamed: frozenset[int]
    structures: Numbers

    def find(self, block: int) -> int | None:
        """The number of a block's element, or ``None``."""
        index = int(np.searchsorted(self.blocks, block))
        return index if index < len(self.blocks) and self.blocks[index] == block else None


def read_all_kept(view: VolumeView, entries: list[Entry]) -> list[Kept]:
    """Read the descriptors of all copies of a volume.

    Raises:
        LayoutError: they are not understood, or too many.
    """
    found, left = [], DESCRIPTORS_MAX
    for entry in entries:
        rows, structures = _rows(view, entry, left)
        left -= len(rows)
        found.append(_Sequence(rows).kept(structures))
    return found


def _rows(view: VolumeView, entry: Entry, left: int) -> tuple[npt.NDArray[np.void], Numbers]:
    """The descriptors of a copy, and all places that they name.

    Raises:
        LayoutError: they are not understood, or too many.
    """
    if not entry.descriptors:
        raise LayoutError("one of them has no list of its blocks")
    lists, parts, count = [], [], 0
    most = left * layout.DESCRIPTOR.itemsize // layout.BLOCK + 1
    for at, data in chain(view, entry.descriptors, layout.DESCRIPTORS, most):
        lists.append(at)
        whole = len(data) // layout.DESCRIPTOR.itemsize * layout.DESCRIPTOR.itemsize
        rows = data[:whole].view(layout.DESCRIPTOR)
        rows = rows[(rows["original"] | rows["relative"] | rows["place"]) != 0]
        parts.append(_verified(view, rows))
        count += len(rows)
        if count > left:
            raise LayoutError(f"they have more than {DESCRIPTORS_MAX:,} blocks")
    rows = np.concatenate(parts)
    named = [rows["original"], rows["relative"][rows["flags"] & layout.FORWARDER != 0]]
    named.append(rows["place"][rows["flags"] & layout.FORWARDER == 0])
    places = np.concatenate([np.array(lists, np.uint64), *named])
    return rows, np.unique(places).astype(np.int64)


def _verified(view: VolumeView, rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Descriptors in use, all of whose places are inside of the volume."""
    flags = rows["flags"]
    if (flags & ~np.uint32(layout.FLAGS_KNOWN)).any():
        raise LayoutError("a block of one of them has unknown flags")
    both = layout.FORWARDER | layout.OVERLAY
    rows, flags = (each[flags & layout.NOT_USED == 0] for each in (rows, flags))
    if (flags & both == both).any():
        raise LayoutError("a block of one of them leads elsewhere and is kept too")
    end = max(0, view.size - layout.BLOCK)
    forwards = flags & layout.FORWARDER != 0
    targets = np.where(forwards, rows["relative"], rows["place"])
    outside = (rows["original"] > end) | (targets > end)
    if outside.any() or (rows["original"] % np.uint64(layout.BLOCK)).any():
        raise LayoutError("a block of one of them lies outside of the volume")
    if (rows["relative"][forwards] % np.uint64(layout.BLOCK)).any():
        raise LayoutError("a block of one of them leads into another one")
    return rows


class _Sequence:
    """The state of the blocks while descriptors are taken in their order."""

    def __init__(self, rows: npt.NDArray[np.void]) -> None:
        self._rows = rows
        self._base: dict[int, int] = {}
        self._overlay: dict[int, int] = {}
        self._bits: dict[int, int] = {}
        self._reverse: dict[int, int] = {}
        columns = (rows[name].tolist() for name in ("original", "relative", "flags", "sectors"))
        for number, row in enumerate(zip(*columns, strict=True)):
            self._take(number, *row)

    def _take(self, number: int, block: int, relative: int, flags: int, sectors: int) -> None:
        if flags & layout.OVERLAY:
            self._overlay.setdefault(block, number)
            self._bits[block] = self._bits.get(block, 0) | sectors
            return
        forwards = bool(flags & layout.FORWARDER)
        if block in self._reverse:
            block = self._reverse.pop(block)
            if forwards and block == relative:
                return
        self._base[block] = number
        if forwards:
            self._reverse[relative] = block

    def kept(self, structures: Numbers) -> Kept:
        """The blocks as they are after the last descriptor."""
        blocks = sorted(self._base.keys() | self._overlay.keys())
        base = np.array([self._base.get(block, -1) for block in blocks], np.int64)
        over = np.array([self._overlay.get(block, -1) for block in blocks], np.int64)
        rows = self._rows
        forwards = np.zeros(len(blocks), np.bool_)
        forwards[base >= 0] = rows["flags"][base[base >= 0]] & layout.FORWARDER != 0
        return Kept(
            np.array(blocks, np.int64),
            _column(rows, "place", base, (base >= 0) & ~forwards),
            _column(rows, "relative", base, forwards),
            _column(rows, "place", over, over >= 0),
            np.array([self._bits.get(block, 0) for block in blocks], np.uint32),
            frozenset(self._reverse),
            structures,
        )


def _column(
    rows: npt.NDArray[np.void], name: str, numbers: Numbers, where: npt.NDArray[np.bool_]
) -> Numbers:
    found = np.full(len(numbers), -1, np.int64)
    found[where] = rows[name][numbers[where]].astype(np.int64)
    return found
