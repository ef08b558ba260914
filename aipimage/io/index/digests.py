"""A device's block digests as they are: leaves, and layers laid over them (docs/format.md, sections
8 and 8.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from aipimage.errors import FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.layers import (
    BLOCKS_MAX,
    DIGEST_DTYPE,
    Digests,
    Layer,
    LayerLeaf,
    decode_layer,
    decode_layer_leaf,
)
from aipimage.format.origins import decode_name
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.tables import decode_digest_leaf
from aipimage.io.index.digesttree import LeafTree, record_type
from aipimage.io.records.codec import BytesLike
from aipimage.io.records.records import RecordReader


class DigestView:
    """The block digests below a device's ``digest_root``; from one thread.

    Memory is bounded whatever the size of the disk: a path of index pages and one leaf for each of
    at most 17 trees, about 150 KiB a tree. Reading in ascending order fetches each leaf once.

    Args:
        root: ``digest_root`` of the device, :data:`NO_REFERENCE` where it has none.
        blocks: how many blocks of 65,536 bytes the device has.
        stripe_shift: of the header; the same in all images of a chain.

    Attributes:
        layers: uppermost first, with the references that lead to them in ``layer_refs``.
        base_root: root of the tree over leaves below all layers, or :data:`NO_REFERENCE`.

    Raises:
        FormatError: the layers contradict each other, or the root leads to something else.
        IntegrityError: a record is not the one that was sealed.
    """

    def __init__(
        self, records: RecordReader, root: Reference, blocks: int, stripe_shift: int
    ) -> None:
        self.root, self.blocks = root, blocks
        self._records, self._stripe_shift = records, stripe_shift
        found, self.base_root = _layers_below(records, root)
        self.layer_refs = tuple(ref for ref, _ in found)
        self.layers = tuple(layer for _, layer in found)
        if self.layers and self.layers[0].limit > blocks:
            raise FormatError("the limit of a block digest layer is beyond the end of its device")
        # From below, each with the limit of what lies below it.
        self._trees = [(self.base_tree(), BLOCKS_MAX)]
        for index in reversed(range(len(self.layers))):
            self._trees.append((self.layer_tree(index), self.layers[index].limit))

    def base_tree(self) -> LeafTree:
        """A new reader of the leaves below all layers. Under a layer they may go beyond the
        device's end, because it was longer once.
        """
        blocks = 1 << (self._stripe_shift - 16)
        decode = partial(_base_leaf, stripe_shift=self._stripe_shift)
        end = BLOCKS_MAX if self.layers else self.blocks
        return LeafTree(self._records, self.base_root, RecordType.DIGEST_LEAF, decode, end, blocks)

    def layer_tree(self, index: int) -> LeafTree:
        """A new reader of the leaves of one layer; 0 is the uppermost."""
        end = BLOCKS_MAX if index else self.blocks
        tree = self.layers[index].tree
        return LeafTree(self._records, tree, RecordType.LAYER_LEAF, decode_layer_leaf, end)

    def described(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (first, count) of runs among ``count`` blocks that any leaf has: all others
        have zero digests. A run may come more than once.
        """
        end = first + count
        for tree, _ in self._trees:
            for leaf in tree.leaves(first, end):
                blocks = leaf.blocks[(leaf.blocks >= first) & (leaf.blocks < end)]
                cuts = np.flatnonzero(np.diff(blocks) != 1) + 1
                for run in np.split(blocks, cuts) if len(blocks) else ():
                    yield int(run[0]), len(run)

    def file_of(self, ref: Reference) -> str:
        """The name of the file that holds one of the records here, for a hint (section 8.1)."""
        return self._records.name_of(ref.origin) if ref != NO_REFERENCE else ""

    def read(self, first: int, count: int) -> Digests:
        """Return the digests of ``count`` blocks from ``first`` on, of dtype ``V16``.

        They are zero for blocks of zeros, and for blocks that the device does not have: a device
        that grew is compared with nothing there.

        Raises:
            FormatError, IntegrityError: what is stored is not as it was sealed, or never was valid.
        """
        out = np.zeros(count, DIGEST_DTYPE)
        for tree, limit in self._trees:
            out[max(0, limit - first) :] = bytes(c.BLOCK_DIGEST)
            tree.lay_over(out, first)
        return out


def _layers_below(
    records: RecordReader, root: Reference
) -> tuple[list[tuple[Reference, Layer]], Reference]:
    """The layers, uppermost first, and what lies below the last of them."""
    found: list[tuple[Reference, Layer]] = []
    # Depths descend from at most 16 to 1, so that this ends.
    while root != NO_REFERENCE and record_type(records, root) == RecordType.DIGEST_LAYER:
        layer = decode_layer(records.fetch(root, RecordType.DIGEST_LAYER).plain)
        if found and layer.depth != found[-1][1].depth - 1:
            raise FormatError("the depths of block digest layers do not descend by one")
        found.append((root, layer))
        records.hint(layer.base.origin, decode_name(layer.base_name))
        root = layer.base
    if found and found[-1][1].depth != 1:
        raise FormatError("a block digest layer counts layers below it that are not there")
    return found, root


def check_digests(
    records: RecordReader, root: Reference, blocks: int, stripe_shift: int
) -> DigestView:
    """Walk every layer, index page and leaf below ``root`` as a full verification does (section
    13), and return the view of them; the arguments are those of :class:`DigestView`.

    Raises:
        FormatError, IntegrityError: order, keys, counts, limits or digests are wrong.
    """
    view = DigestView(records, root, blocks, stripe_shift)
    for index, layer in enumerate(view.layers):
        found = sum(len(leaf.blocks) for leaf in view.layer_tree(index).leaves())
        if found != layer.entries:
            raise IntegrityError("a block digest layer has another number of entries than it says")
    for _ in view.base_tree().leaves():
        pass
    return view


def _base_leaf(data: BytesLike, stripe_shift: int) -> LayerLeaf:
    """A leaf of section 8 as one of a layer: it has every block from its first on."""
    first, digests = decode_digest_leaf(memoryview(data), stripe_shift)
    found = np.frombuffer(digests, DIGEST_DTYPE)
    return LayerLeaf(np.arange(first, first + len(found), dtype=np.uint64), found)
