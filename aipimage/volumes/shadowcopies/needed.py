"""Which bytes of a volume a shadow copy needs: its store, and what it still reads in place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.shadowcopies.blocks import chain
from aipimage.volumes.shadowcopies.catalogue import Entry
from aipimage.volumes.view import LayoutError, VolumeView

_BITS = (layout.BLOCK - layout.HEAD_BYTES) * 8
"""Blocks of the volume for which a block of a bitmap stands."""
_RUNS_AT_ONCE = 1 << 16
Ranges = npt.NDArray[np.uint64]
"""Shape (n, 2): first byte of the volume, and bytes."""


def unused_bits(view: VolumeView, entry: Entry) -> npt.NDArray[np.uint8]:
    """Return a bit for each block of the volume, set where a copy reads nothing ("Store bitmap"):
    what its bitmap marks, and that of the copy before, if there is one.
    """
    found = _bitmap(view, entry.size, entry.bitmap)
    return found & _bitmap(view, entry.size, entry.before) if entry.before else found


def _bitmap(view: VolumeView, size: int, first: int) -> npt.NDArray[np.uint8]:
    count = -(-size // layout.BLOCK)
    blocks = -(-count // _BITS)
    parts = [data for _, data in chain(view, first, layout.BITMAP, blocks + 1)]
    if len(parts) < blocks:
        raise LayoutError("the bitmap of one of them is too short")
    return np.concatenate(parts)[: -(-count // 8)]


def read_in_place(view: VolumeView, entry: Entry) -> Iterator[Ranges]:
    """Yield what a copy may read where the volume has it, whether or not it keeps it too."""
    count = -(-entry.size // layout.BLOCK)
    used = ~unused_bits(view, entry)
    for runs in _core.iter_bitmap_extents(used, count, _RUNS_AT_ONCE):
        yield runs * np.uint64(layout.BLOCK)


def occupied(view: VolumeView, entry: Entry) -> Ranges:
    """Return where the store of a copy lies, apart from its descriptors and what these name.

    Raises:
        LayoutError: its structures are not understood, or not inside of the volume.
    """
    most = view.size // layout.BLOCK + 1
    rows = []
    firsts = [(entry.header, layout.STORE), (entry.ranges, layout.RANGES)]
    firsts += [(first, layout.BITMAP) for first in (entry.bitmap, entry.before) if first]
    for first, kind in firsts:
        for at, data in chain(view, first, kind, most):
            rows.append(np.array([(at, layout.BLOCK)], np.uint64))
            if kind == layout.RANGES:
                rows.append(_ranges(view, data))
    if not entry.header or not entry.bitmap:
        raise LayoutError("one of them has no header or bitmap")
    return np.concatenate(rows)


def _ranges(view: VolumeView, data: npt.NDArray[np.uint8]) -> Ranges:
    whole = len(data) // layout.RANGE.itemsize * layout.RANGE.itemsize
    rows = data[:whole].view(layout.RANGE)
    rows = rows[rows["size"] != 0]
    places, sizes = (rows[name].astype(np.uint64) for name in ("place", "size"))
    if (places > view.size).any() or (sizes > np.uint64(view.size) - places).any():
        raise LayoutError("the store of one of them lies outside of the volume")
    return np.column_stack((places, sizes))
