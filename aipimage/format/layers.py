"""Block digest layers and their leaves: docs/format.md, section 8.1."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError
from aipimage.format import constants as c
from aipimage.format.gates import verified_equal, verified_length, verified_limit, verified_range
from aipimage.format.record import NO_REFERENCE, Reference, decode_reference, encode_reference

BLOCKS_MAX = c.DEVICE_SIZE_MAX // c.BLOCK
"""Blocks of the largest device (section 15)."""

DIGEST_DTYPE = np.dtype(f"V{c.BLOCK_DIGEST}")

_LAYER = struct.Struct("<QQII")
_LAYER_LENGTH = 2 * c.REFERENCE + _LAYER.size
_LEAF = struct.Struct("<QII")
_NUMBER = 8

Blocks = npt.NDArray[np.uint64]
Digests = npt.NDArray[np.void]


class Layer(NamedTuple):
    """One layer; field names as in section 8.1, ``limit`` counts blocks."""

    base: Reference
    tree: Reference
    limit: int
    entries: int
    depth: int
    base_name: bytes = b""


class LayerLeaf(NamedTuple):
    """Block numbers (uint64, strictly ascending, at least one) and as many digests (``V16``)."""

    blocks: Blocks
    digests: Digests


def encode_layer(layer: Layer) -> bytes:
    """Return a layer: 152 bytes and the hint."""
    fields = _LAYER.pack(layer.limit, layer.entries, layer.depth, len(layer.base_name))
    references = encode_reference(layer.base) + encode_reference(layer.tree)
    return references + fields + layer.base_name


def decode_layer(data: bytes | memoryview) -> Layer:
    """Decode a layer and check all that can be checked without what it refers to."""
    if len(data) < _LAYER_LENGTH:
        raise FormatError("a block digest layer is cut short")
    base, tree = decode_reference(data), decode_reference(data, c.REFERENCE)
    limit, entries, depth, name_length = _LAYER.unpack_from(data, 2 * c.REFERENCE)
    verified_limit(name_length, c.NAME_MAX, "name length of a block digest layer")
    verified_length(data, _LAYER_LENGTH + name_length, "block digest layer")
    verified_range(depth, 1, c.LAYERS_MAX, "depth of a block digest layer")
    verified_limit(limit, BLOCKS_MAX, "limit of a block digest layer")
    verified_limit(entries, BLOCKS_MAX, "entries of a block digest layer")
    if (entries == 0) != (tree == NO_REFERENCE):
        raise FormatError("a block digest layer counts entries without a tree, or has one for none")
    if depth > 1 and base == NO_REFERENCE:
        raise FormatError("a block digest layer counts layers below it and refers to none")
    name = bytes(data[_LAYER_LENGTH:])
    return Layer(base, tree, limit, entries, depth, name)


def encode_layer_leaf(leaf: LayerLeaf) -> bytes:
    """Return a layer leaf of 1 to 4096 blocks."""
    head = _LEAF.pack(int(leaf.blocks[0]), len(leaf.blocks), 0)
    return head + leaf.blocks.astype("<u8", copy=False).tobytes() + leaf.digests.tobytes()


def decode_layer_leaf(data: bytes | memoryview) -> LayerLeaf:
    """Return the leaf; its arrays are views of ``data``."""
    if len(data) < _LEAF.size:
        raise FormatError("a layer leaf is cut short")
    first, count, reserved = _LEAF.unpack_from(data)
    verified_range(count, 1, c.LAYER_ENTRIES, "count of a layer leaf")
    verified_equal(reserved, 0, "reserved field of a layer leaf")
    verified_length(data, _LEAF.size + count * (_NUMBER + c.BLOCK_DIGEST), "layer leaf")
    blocks = np.frombuffer(data, "<u8", count, _LEAF.size)
    digests = np.frombuffer(data, DIGEST_DTYPE, count, _LEAF.size + count * _NUMBER)
    if (blocks[:-1] >= blocks[1:]).any():
        raise FormatError("the blocks of a layer leaf do not ascend")
    verified_equal(first, int(blocks[0]), "first block of a layer leaf")
    verified_limit(int(blocks[-1]), BLOCKS_MAX - 1, "last block of a layer leaf")
    return LayerLeaf(blocks, digests)
