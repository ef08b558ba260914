"""Leaves of block digests below a root, in ascending order and in little memory (docs/format.md,
sections 6.3, 8 and 8.1).

:class:`~aipimage.io.index.trees.IndexReader` keeps many decoded pages and finds one leaf at a
time; here up to seventeen trees are read side by side, each along one path from root to leaf.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aipimage.errors import FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.layers import BLOCKS_MAX, Digests, LayerLeaf
from aipimage.format.record import (
    NO_REFERENCE,
    Reference,
    decode_record_header,
    decode_reference,
    encode_reference,
)
from aipimage.format.tables import decode_index
from aipimage.io.records.codec import BytesLike
from aipimage.io.records.records import RecordReader

_EVERY_KEY = 1 << 64


class _Page(NamedTuple):
    """An index page, its references encoded: decoded ones would take ten times the memory."""

    ref: Reference
    level: int
    keys: array[int]
    refs: bytes

    def row(self, key: int) -> int:
        """The entry below which ``key`` can be; the first one where all keys are greater."""
        return max(0, bisect_right(self.keys, key) - 1)


def record_type(records: RecordReader, ref: Reference) -> int:
    """The type that the record at ``ref`` says it has, to be confirmed by fetching it as such."""
    head = bytes(records.read(ref.origin, ref.offset, c.RECORD_HEADER))
    return decode_record_header(head, records.tag).type


class LeafTree:
    """The leaves below a root; from one thread. Keeps an index page a level and one leaf.

    Args:
        root: a leaf, an index page of any level, or :data:`NO_REFERENCE` for no leaves.
        kind, decode: of the leaves.
        end: what no block may reach.
        reach: how many blocks a leaf can have, from its first on.
    """

    def __init__(
        self,
        records: RecordReader,
        root: Reference,
        kind: RecordType,
        decode: Callable[[BytesLike], LayerLeaf],
        end: int,
        reach: int = BLOCKS_MAX,
    ) -> None:
        self._records, self._root, self._kind, self._decode = records, root, kind, decode
        self._end, self._reach = end, reach
        self._pages: dict[int, _Page] = {}
        self._kept: tuple[Reference, LayerLeaf] | None = None
        self._leaf_root = root != NO_REFERENCE and record_type(records, root) == kind

    def leaves(self, first: int = 0, end: int = _EVERY_KEY) -> Iterator[LayerLeaf]:
        """Yield in ascending order each leaf that has, or might have, blocks of ``first`` to
        ``end`` (without it).

        Raises:
            FormatError: keys, levels or blocks are not in order.
            IntegrityError: a leaf is not the one of its place, or has blocks that its device
                does not have.
        """
        if self._kept is not None:
            blocks = self._kept[1].blocks
            if blocks[0] <= first and end - 1 <= blocks[-1]:
                yield self._kept[1]
                return
        last = -1
        for key, ref in self._references(first, end):
            leaf = self._leaf(key, ref)
            if leaf.blocks[0] <= last:
                raise FormatError("the leaves of block digests do not ascend")
            last = int(leaf.blocks[-1])
            yield leaf

    def lay_over(self, out: Digests, first: int) -> None:
        """Put the digests that the leaves have of the blocks from ``first`` on into ``out``."""
        end = first + len(out)
        for blocks, digests in self.leaves(first, end):
            low, high = blocks.searchsorted(first), blocks.searchsorted(end)
            out[blocks[low:high] - first] = digests[low:high]

    def _references(self, first: int, end: int) -> Iterator[tuple[int | None, Reference]]:
        """Yield (key, reference) of the leaves; a root that is a leaf has no key."""
        if self._root == NO_REFERENCE:
            return
        if self._leaf_root:
            yield None, self._root
            return
        page = self._page(self._root, None, c.INDEX_LEVELS + 1)
        stack = [(page, page.row(first))]
        while stack:
            page, row = stack.pop()
            if row == len(page.keys):
                continue
            key = page.keys[row]
            if key >= end:
                return
            stack.append((page, row + 1))
            ref = decode_reference(page.refs, row * c.REFERENCE)
            if page.level > 1:
                below = self._page(ref, key, page.level)
                stack.append((below, below.row(first)))
            elif key + self._reach > first:
                yield key, ref

    def _page(self, ref: Reference, key: int | None, above: int) -> _Page:
        """The page that ``key`` leads to from a page of level ``above``, kept or read."""
        page = self._pages.get(above)
        if page is None or page.ref != ref:
            level, entries = decode_index(self._records.fetch(ref, RecordType.INDEX).plain)
            keys = array("Q", [entry.key for entry in entries])
            page = _Page(ref, level, keys, b"".join(encode_reference(e.ref) for e in entries))
            self._pages[above] = page
        if key is not None and page.level != above - 1:
            raise FormatError("the levels of an index do not descend")
        if key is not None and page.keys[0] != key:
            raise FormatError("an index page does not begin with the key that leads to it")
        return page

    def _leaf(self, key: int | None, ref: Reference) -> LayerLeaf:
        """The leaf that ``key`` leads to, kept or read."""
        if self._kept is None or self._kept[0] != ref:
            leaf = self._decode(self._records.fetch(ref, self._kind).plain)
            if leaf.blocks[-1] >= self._end:
                raise IntegrityError("a leaf of block digests goes beyond the end of its device")
            self._kept = ref, leaf
        leaf = self._kept[1]
        if key is not None and leaf.blocks[0] != key:
            raise IntegrityError("a leaf of block digests is not the one that its place needs")
        return leaf
