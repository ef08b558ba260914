"""Writing the block digests of an increment as a layer over its parent's (docs/format.md, section
8.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.layers import DIGEST_DTYPE, Layer, LayerLeaf, encode_layer, encode_layer_leaf
from aipimage.format.origins import encode_name
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.tables import IndexEntry
from aipimage.io.index.digests import DigestView
from aipimage.io.index.trees import IndexBuilder
from aipimage.io.records.records import RecordWriter

ENTRY_DTYPE = np.dtype([("block", "<u8"), ("digest", DIGEST_DTYPE)])
MEMORY = 8 << 20
_LEAF_BYTES = c.LAYER_ENTRIES * ENTRY_DTYPE.itemsize

Entries = npt.NDArray[np.void]


def layers_to_join(entries: int, layers: Sequence[Layer]) -> int:
    """How many of ``layers`` (uppermost first) ``entries`` new digests are joined with.

    Each layer that stays has at least twice the entries of what is laid over it, so that a digest
    is written again only as often as its layer doubles. Where there would be over 16 layers, the
    uppermost is joined whatever its size.
    """
    joined = 0
    for layer in layers:
        too_deep = len(layers) - joined >= c.LAYERS_MAX
        if not too_deep and layer.entries >= 2 * max(1, entries):
            break
        entries += layer.entries
        joined += 1
    return joined


class LayerBuilder:
    """Takes the digests that an increment changes, and writes the layer; from one thread.

    What is set is held until it is known how much there is, so that it can be joined with layers of
    the parent. Beyond ``memory`` bytes that is decided by what came so far, and leaves are written
    as they fill. Joining merges streams of leaves and holds one of each layer.

    Args:
        base: the digests of the parent's device; with root :data:`NO_REFERENCE` where all is zeros.
        blocks: how many blocks the device has now. Where that is less than the parent's had, it is
            the layer's ``limit``: what lies beyond is never seen again, even if the device grows.
        memory: bytes of digests and block numbers (24 a block) to hold at most.
    """

    def __init__(
        self, writer: RecordWriter, base: DigestView, blocks: int, memory: int = MEMORY
    ) -> None:
        self._writer, self._base, self._blocks, self._memory = writer, base, blocks, memory
        self._held = bytearray()
        self._joined: _JoinedLayers | None = None
        self._last = -1

    def set(self, blocks: npt.ArrayLike, digests: object) -> None:
        """Say what the digests of some blocks are now; zeros for a block that became zeros.

        Args:
            blocks: block numbers, strictly ascending within a call and from call to call.
            digests: any contiguous buffer of 16 bytes a block, such as an array of ``V16``.
        """
        entries = self._entries(blocks, digests)
        if not len(entries):
            return
        if self._joined is not None:
            self._joined.add(entries)
            return
        self._held += entries.tobytes()
        if len(self._held) > self._memory:
            self._join()

    def _entries(self, blocks: npt.ArrayLike, digests: object) -> Entries:
        numbers = np.asarray(blocks, "<u8")
        entries = np.empty(len(numbers), ENTRY_DTYPE)
        entries["block"] = numbers
        entries["digest"] = np.frombuffer(digests, DIGEST_DTYPE)  # type: ignore[call-overload]
        if len(numbers):
            if numbers[0] <= self._last or (numbers[:-1] >= numbers[1:]).any():
                raise RuntimeError("internal error: block digests are not set in ascending order")
            if numbers[-1] >= self._blocks:
                raise RuntimeError("internal error: a digest of a block past the device's end")
            self._last = int(numbers[-1])
        return entries

    def _join(self) -> _JoinedLayers:
        """Decide what to join with, and hand on what was held."""
        own = np.frombuffer(bytes(self._held), ENTRY_DTYPE)
        self._held = bytearray()
        count = layers_to_join(len(own), self._base.layers)
        joined = self._joined = _JoinedLayers(self._writer, self._base, count, self._blocks)
        for at in range(0, len(own), c.LAYER_ENTRIES):
            joined.add(own[at : at + c.LAYER_ENTRIES])
        return joined

    def finish(self) -> Reference:
        """Write what is left and return the new ``digest_root``: the base's own one where nothing
        was set and the device did not become shorter.
        """
        if self._joined is None:
            cut = self._blocks < self._base.blocks
            if not self._held and not cut:
                return self._base.root
            self._join()
        assert self._joined is not None
        return self._joined.finish()


class _JoinedLayers:
    """One layer out of new entries and the first ``count`` layers of ``base``."""

    def __init__(self, writer: RecordWriter, base: DigestView, count: int, blocks: int) -> None:
        self._writer, self._base, self._count = writer, base, count
        self._leaves = _LeafWriter(writer)
        self._limit = min(blocks, base.blocks)
        below: Iterator[Entries] = iter(())
        for index in range(count):
            # What a layer says of blocks beyond the limits above it counts no more.
            below = _overlaid(below, _layer_entries(base, index, self._limit))
            self._limit = min(self._limit, base.layers[index].limit)
        self._overlay = _Overlay(below)

    def add(self, entries: Entries) -> None:
        """Add new entries, and those of the joined layers that come before them."""
        for merged in self._overlay.over(entries):
            self._leaves.add(merged)

    def finish(self) -> Reference:
        """Write the rest and the layer."""
        for merged in self._overlay.rest():
            self._leaves.add(merged)
        base, count = self._base, self._count
        below = (*base.layer_refs, base.base_root)[count]
        tree, entries = self._leaves.finish(), self._leaves.count
        if not entries and below == NO_REFERENCE:
            return NO_REFERENCE
        depth = len(base.layers) - count + 1
        name = base.file_of(below)
        layer = Layer(below, tree, self._limit, entries, depth, encode_name(name))
        return self._writer.write(RecordType.DIGEST_LAYER, encode_layer(layer))


class _LeafWriter:
    """Writes ascending entries as layer leaves, as they fill, and the tree over them."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer, self._index = writer, IndexBuilder(writer)
        self._pending = bytearray()
        self.count = 0

    def add(self, entries: Entries) -> None:
        """Add entries that come after all that were added."""
        self.count += len(entries)
        self._pending += entries.tobytes()
        while len(self._pending) >= _LEAF_BYTES:
            self._flush()

    def _flush(self) -> None:
        entries = np.frombuffer(bytes(self._pending[:_LEAF_BYTES]), ENTRY_DTYPE)
        del self._pending[:_LEAF_BYTES]
        leaf = encode_layer_leaf(LayerLeaf(entries["block"], entries["digest"]))
        ref = self._writer.write(RecordType.LAYER_LEAF, leaf)
        self._index.add(IndexEntry(int(entries["block"][0]), ref))

    def finish(self) -> Reference:
        """Write what is left and return the root, :data:`NO_REFERENCE` where nothing was added."""
        if self._pending:
            self._flush()
        return self._index.finish()


class _Overlay:
    """Merges ascending entries with a stream of ascending entries that lie below them."""

    def __init__(self, below: Iterator[Entries]) -> None:
        self._below = below
        self._lower: Entries = np.empty(0, ENTRY_DTYPE)

    def over(self, upper: Entries) -> Iterator[Entries]:
        """Yield all up to the last of ``upper``, in pieces of about a leaf."""
        while len(upper):
            if not self._fill():
                yield upper
                return
            end = min(upper["block"][-1], self._lower["block"][-1])
            above, upper = _split(upper, end)
            below, self._lower = _split(self._lower, end)
            yield _merged(above, below)

    def rest(self) -> Iterator[Entries]:
        """Yield what lies after the last of the upper entries."""
        while self._fill():
            lower, self._lower = self._lower, self._lower[:0]
            yield lower

    def _fill(self) -> bool:
        while not len(self._lower):
            following = next(self._below, None)
            if following is None:
                return False
            self._lower = following
        return True


def _overlaid(upper: Iterator[Entries], lower: Iterator[Entries]) -> Iterator[Entries]:
    overlay = _Overlay(lower)
    for entries in upper:
        yield from overlay.over(entries)
    yield from overlay.rest()


def _layer_entries(base: DigestView, index: int, limit: int) -> Iterator[Entries]:
    """The entries of a layer before ``limit``, leaf by leaf."""
    for blocks, digests in base.layer_tree(index).leaves(0, limit):
        entries = np.empty(int(blocks.searchsorted(limit)), ENTRY_DTYPE)
        entries["block"], entries["digest"] = blocks[: len(entries)], digests[: len(entries)]
        yield entries


def _split(entries: Entries, last: np.uint64) -> tuple[Entries, Entries]:
    """Cut after the block ``last``."""
    at = entries["block"].searchsorted(last, side="right")
    return entries[:at], entries[at:]


def _merged(upper: Entries, lower: Entries) -> Entries:
    """Both in one; of a block that both have the upper entry."""
    both = np.concatenate((upper, lower))
    # A stable sort leaves the upper entry of two in front.
    both = both[np.argsort(both["block"], kind="stable")]
    kept = np.ones(len(both), bool)
    kept[1:] = both["block"][1:] != both["block"][:-1]
    return both[kept]
