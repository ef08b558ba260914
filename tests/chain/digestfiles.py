"""Block digests as records in memory: what the tests of layers build and read."""

from __future__ import annotations

import io

import numpy as np

from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.layers import DIGEST_DTYPE, Digests, LayerLeaf, encode_layer_leaf
from aipimage.format.record import Reference
from aipimage.format.tables import IndexEntry, encode_digest_leaf
from aipimage.io.index.trees import IndexBuilder
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import RecordReader, RecordWriter
from aipimage.io.stream.outstream import PipeStream


class Files:
    """Files of a chain, one an origin; :attr:`records` reads them all.

    Attributes:
        fetched: the references that were followed.
    """

    def __init__(self) -> None:
        self._files: dict[bytes, io.BytesIO] = {}
        self.fetched: list[Reference] = []
        self.records = RecordReader(self._read, None)
        self.records.on_fetch = self.fetched.append

    def _read(self, origin: bytes, offset: int, length: int) -> bytearray:
        return bytearray(self._files[origin].getbuffer()[offset : offset + length])

    def writer(self) -> RecordWriter:
        """A writer of a new file, behind something as long as the shortest header."""
        numbers = RecordNumbers()
        target = self._files[numbers.origin] = io.BytesIO()
        stream = PipeStream(target)
        stream.append([bytes(c.CORE_MIN)])
        return RecordWriter(stream, numbers, None, 3)


def some_digests(rng: np.random.Generator, count: int, zeros: float = 0.1) -> Digests:
    """Random digests, some of them zero."""
    digests = np.frombuffer(rng.bytes(16 * count), DIGEST_DTYPE).copy()
    digests[rng.random(count) < zeros] = bytes(16)
    return digests


def write_base(writer: RecordWriter, digests: Digests, stripe_shift: int) -> Reference:
    """Write leaves as section 8 tells: none for stripes of zeros, no zeros at a leaf's end."""
    index = IndexBuilder(writer)
    blocks = 1 << (stripe_shift - 16)
    for first in range(0, len(digests), blocks):
        leaf = digests[first : first + blocks].tobytes()
        used = -(-len(leaf.rstrip(b"\0")) // 16)
        if used:
            plain = encode_digest_leaf(first, leaf[: 16 * used])
            index.add(IndexEntry(first, writer.write(RecordType.DIGEST_LEAF, plain)))
    return index.finish()


def write_leaf(writer: RecordWriter, blocks: list[int]) -> Reference:
    """Write a layer leaf with any blocks, in whatever order."""
    digests = np.full(len(blocks), b"\x55" * 16, DIGEST_DTYPE)
    leaf = LayerLeaf(np.array(blocks, np.uint64), digests)
    return writer.write(RecordType.LAYER_LEAF, encode_layer_leaf(leaf))
