"""Btrfs: chunks, which give logical addresses their places on the device ("Trees", Chunk tree;
struct btrfs_chunk).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.ranges import are_disjoint
from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.view import LayoutError

Numbers = npt.NDArray[np.uint64]
Runs = npt.NDArray[np.uint64]
"""Shape (n, 2): first byte of the device, and bytes."""


class Chunk(NamedTuple):
    """A range of logical addresses.

    Attributes:
        start, length: bytes of logical addresses. kind: its type flags. places: bytes of the device
            at which it lies, one, or two where everything is kept twice (DUP).
    """

    start: int
    length: int
    kind: int
    places: tuple[int, ...]


def verified_chunk(superblock: Superblock, start: int, data: bytes) -> Chunk:
    """Return the chunk of one item of the chunk tree, ``data``, whose key's offset is ``start``.

    Raises:
        LayoutError: it is not possible, or not on this one device.
    """
    if len(data) < layout.CHUNK.itemsize + layout.CHUNK_STRIPE.itemsize:
        raise LayoutError("a chunk is cut off")
    raw = np.frombuffer(data, layout.CHUNK, 1)[0]
    length, kind, count = int(raw["length"]), int(raw["type"]), int(raw["num_stripes"])
    if layout.STRIPES.get(kind & ~layout.GROUP_KINDS) != count or not kind & layout.GROUP_KINDS:
        raise LayoutError("a chunk is of a kind that one device cannot hold")
    if len(data) != layout.CHUNK.itemsize + count * layout.CHUNK_STRIPE.itemsize:
        raise LayoutError("a chunk has another number of stripes than it says")
    if int(raw["stripe_len"]) != layout.STRIPE:
        raise LayoutError("a chunk has stripes of another length than 64 KiB")
    stripes = np.frombuffer(data, layout.CHUNK_STRIPE, count, layout.CHUNK.itemsize)
    for stripe in stripes:
        if (
            int(stripe["devid"]) != superblock.devid
            or stripe["dev_uuid"].tobytes() != superblock.device_uuid
        ):
            raise LayoutError("a chunk lies on another device")
    places = tuple(stripes["offset"].tolist())
    unaligned = any(value % superblock.sectorsize for value in (start, length, *places))
    # Logical addresses have no bound of their own; below 2**63 no sum of two wraps around.
    if not length or unaligned or max(start, length) >= 1 << 63:
        raise LayoutError("a chunk begins or ends inside of a sector")
    if any(place + length > superblock.device_bytes for place in places):
        raise LayoutError("a chunk ends past the end of the device")
    return Chunk(start, length, kind, places)


def system_chunks(superblock: Superblock) -> list[Chunk]:
    """Return the chunks that the superblock itself names (``sys_chunk_array``: keys and items
    in turn)."""
    data, found = superblock.system_chunks, []
    key = np.dtype(layout.KEY)
    while data:
        body = data[key.itemsize :]
        if len(body) < layout.CHUNK.itemsize:
            raise LayoutError("the superblock's system chunks are cut off")
        name = np.frombuffer(data, key, 1)[0]
        if (int(name["objectid"]), int(name["type"])) != (
            layout.FIRST_CHUNK_TREE,
            layout.CHUNK_ITEM,
        ):
            raise LayoutError("the superblock's system chunks have something else among them")
        stripes = int(np.frombuffer(body, layout.CHUNK, 1)[0]["num_stripes"])
        size = layout.CHUNK.itemsize + stripes * layout.CHUNK_STRIPE.itemsize
        found.append(verified_chunk(superblock, int(name["offset"]), body[:size]))
        data = body[size:]
    return sorted(found)


class ChunkMap:
    """The chunks of a device, by their logical addresses.

    Raises:
        LayoutError: two of them overlap, or none is there.

    Attributes:
        chunks: ascending. starts, lengths, kinds: of each of them, ``uint64``.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        if not chunks:
            raise LayoutError("it has no chunks")
        self.chunks = sorted(chunks)
        self.starts = np.array([chunk.start for chunk in self.chunks], np.uint64)
        self.lengths = np.array([chunk.length for chunk in self.chunks], np.uint64)
        self.kinds = np.array([chunk.kind for chunk in self.chunks], np.uint64)
        places = [(chunk.places[0], chunk.places[-1]) for chunk in self.chunks]
        self._places = np.array(places, np.uint64)
        self._doubled = np.array([len(chunk.places) > 1 for chunk in self.chunks], np.bool_)
        self.device_ranges = self.device_runs(
            np.arange(len(self.chunks)), self.starts, self.lengths
        )
        logical = np.column_stack((self.starts, self.lengths))
        if not are_disjoint(logical) or not are_disjoint(self.device_ranges):
            raise LayoutError("two chunks overlap")

    def find(self, starts: Numbers, lengths: Numbers) -> tuple[npt.NDArray[np.intp], bool]:
        """Return the chunk in which each range of logical addresses begins, by its index (0 where
        there is none), and whether all ranges lie within one chunk each.
        """
        index = np.searchsorted(self.starts, starts, "right") - 1
        before = bool((index < 0).any())
        index = np.maximum(index, 0)
        inside = starts - self.starts[index]
        size = self.lengths[index]
        fits = (inside < size) & (lengths <= size - np.minimum(inside, size))
        return index, not before and bool(fits.all())

    def device_runs(self, index: npt.NDArray[np.intp], starts: Numbers, lengths: Numbers) -> Runs:
        """Return where ranges of logical addresses lie on the device, all copies of them; each is
        within the chunk of that index.
        """
        inside = starts - self.starts[index]
        first = np.column_stack((self._places[index, 0] + inside, lengths))
        twice = self._doubled[index]
        second = np.column_stack((self._places[index, 1] + inside, lengths))[twice]
        return np.concatenate((first, second))

    def first_places(self, starts: Numbers, length: int) -> Numbers:
        """Return the byte of the device of each logical address, from which ``length`` are wanted;
        of two copies the first.
        """
        index, fit = self.find(starts, np.full(len(starts), length, np.uint64))
        if not fit:
            raise LayoutError("a tree node lies outside of all chunks")
        places: Numbers = self._places[index, 0] + (starts - self.starts[index])
        return places
