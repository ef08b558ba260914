"""Chains of blocks of structures ("Catalog block header", "Store block header")."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.volumes.shadowcopies import layout
from aipimage.volumes.view import LayoutError, VolumeView


def chain(
    view: VolumeView, first: int, kind: int, most: int
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield (byte of the volume, what follows the header) of each block of a chain.

    Args:
        kind: record type of the blocks. most: blocks.

    Raises:
        LayoutError: a block is not one of the chain, lies outside of the volume or comes twice, or
            there are too many.
    """
    at, seen = first, set[int]()
    while at:
        if at in seen or len(seen) >= most:
            raise LayoutError("a chain of blocks of its shadow copies does not end")
        seen.add(at)
        view.allow(layout.BLOCK)
        data = view.read_array(at, layout.BLOCK)
        identifier, version, found, _, place, following = layout.BLOCK_HEAD.unpack_from(data.data)
        if identifier != layout.IDENTIFIER or version not in layout.VERSIONS or found != kind:
            raise LayoutError(
                "a block of its shadow copies is not of the kind that is wanted there"
            )
        if place != at:
            raise LayoutError("a block of its shadow copies is that of another place")
        yield at, data[layout.HEAD_BYTES :]
        at = following
