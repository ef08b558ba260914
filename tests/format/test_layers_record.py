"""Block digest layers and their leaves: what goes in comes out, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from aipimage.errors import FormatError, LimitError
from aipimage.format import constants as c
from aipimage.format.layers import (
    BLOCKS_MAX,
    DIGEST_DTYPE,
    Layer,
    LayerLeaf,
    decode_layer,
    decode_layer_leaf,
    encode_layer,
    encode_layer_leaf,
)
from aipimage.format.record import NO_REFERENCE
from tests.format import samples
from tests.format import strategies as own
from tests.format.markdown import TIMES, sections


@given(own.layers())
def test_layer(layer: Layer) -> None:
    encoded = encode_layer(layer)
    assert len(encoded) == 152 + len(layer.base_name)
    assert decode_layer(encoded) == layer


@given(own.layer_leaves())
def test_layer_leaf(leaf: LayerLeaf) -> None:
    encoded = encode_layer_leaf(leaf)
    assert len(encoded) == 16 + 24 * len(leaf.blocks)
    found = decode_layer_leaf(encoded)
    assert found.blocks.tolist() == leaf.blocks.tolist()
    assert found.digests.tobytes() == leaf.digests.tobytes()
    assert found.blocks.dtype == np.uint64
    assert found.digests.dtype == DIGEST_DTYPE


def test_largest_leaf() -> None:
    """4096 entries that begin and end where blocks begin and end; one more is refused."""
    for count, error in ((c.LAYER_ENTRIES, None), (c.LAYER_ENTRIES + 1, LimitError)):
        blocks = np.arange(count, dtype=np.uint64)
        blocks[-1] = BLOCKS_MAX - 1
        encoded = encode_layer_leaf(LayerLeaf(blocks, np.zeros(count, DIGEST_DTYPE)))
        if error is None:
            assert len(decode_layer_leaf(encoded).blocks) == count
        else:
            with pytest.raises(error):
                decode_layer_leaf(encoded)


def test_big_endian_numbers_are_written_little_endian() -> None:
    swapped = LayerLeaf(samples.LAYER_LEAF.blocks.astype(">u8"), samples.LAYER_LEAF.digests)
    assert encode_layer_leaf(swapped) == encode_layer_leaf(samples.LAYER_LEAF)


def test_entries_and_tree_come_together() -> None:
    """A layer may only cut, with no entries; the count and the tree tell the same."""
    only_cuts = samples.LAYER._replace(entries=0, tree=NO_REFERENCE)
    assert decode_layer(encode_layer(only_cuts)) == only_cuts
    for wrong in (samples.LAYER._replace(entries=0), samples.LAYER._replace(tree=NO_REFERENCE)):
        with pytest.raises(FormatError):
            decode_layer(encode_layer(wrong))


def test_layers_below_need_a_reference() -> None:
    """Depth 1 may lie over zeros, a greater one over another layer only."""
    lowest = samples.LAYER._replace(base=NO_REFERENCE, depth=1)
    assert decode_layer(encode_layer(lowest)) == lowest
    with pytest.raises(FormatError):
        decode_layer(encode_layer(lowest._replace(depth=2)))


def test_text_names_the_columns_of_a_leaf() -> None:
    """Section 8.1, behind the 16 bytes that it shares with the other leaves."""
    said = f"`count` {TIMES} u64 block numbers, `count` {TIMES} 16 bytes digests"
    assert said in sections()["8.1"]
