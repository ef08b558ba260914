"""Btrfs: walking a tree, many nodes at a time ("Trees"; struct btrfs_header and what follows it).

Every level descends by one, every node begins with the key that its parent gives for it, and the
keys of each level ascend from one end of the tree to the other. So no node is met twice, whatever
the pointers say, and no more nodes are held than a batch for each level.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.btrfs import checksums, layout
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView

Records = npt.NDArray[Any]
"""Of a structured dtype of ``layout``."""
_BATCH_BYTES = 4 << 20


class Root(NamedTuple):
    """Where a tree begins: its number, the logical address of its root node, and what that node
    says of itself."""

    tree: int
    block: int
    level: int
    generation: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"its {layout.TREE_NAMES[self.tree]}"


class Items(NamedTuple):
    """Items of some leaves, in the order of their keys.

    Attributes:
        keys: of ``layout.ITEM``, one an item. places: where the body of each begins in ``data``.
        data: the leaves, one after the other.
    """

    keys: Records
    places: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Items:
        """Only the items for which ``mask`` is true."""
        return Items(self.keys[mask], self.places[mask], self.data)

    def of_type(self, kind: int) -> Items:
        """Only the items of one type."""
        return self.chosen(self.keys["type"] == kind)

    def bodies(self, form: np.dtype[Any]) -> Records:
        """The beginnings of all bodies, as records of a form; ``LayoutError`` if one is shorter."""
        size = form.itemsize
        if (self.keys["size"] < size).any():
            raise LayoutError("an item of a tree is cut off")
        if not len(self.keys):
            return np.empty(0, form)
        gathered = self.data[self.places[:, None] + np.arange(size)]
        return np.ascontiguousarray(gathered).view(form).reshape(-1)

    def body(self, index: int) -> bytes:
        """The whole body of one item."""
        start = int(self.places[index])
        return self.data[start : start + int(self.keys["size"][index])].tobytes()


class NodeReader:
    """Reads nodes where the chunks say they are.

    Args:
        newest: the latest generation that a node may have; at first that of the superblock.

    Attributes:
        seen: logical addresses of all nodes that were read, in arrays.
    """

    def __init__(
        self, view: VolumeView, superblock: Superblock, chunks: ChunkMap, newest: int | None = None
    ) -> None:
        self._view, self._superblock, self._chunks = view, superblock, chunks
        self._newest = superblock.generation if newest is None else newest
        self.seen: list[npt.NDArray[np.uint64]] = []

    def walk(self, root: Root) -> Iterator[Items]:
        """Yield the items of a tree, leaf by leaf, some MiB at a time.

        Raises:
            LayoutError: a node is damaged, out of order, or not the one that is wanted.
        """
        pointer = np.zeros(1, layout.POINTER)
        pointer["block"], pointer["generation"] = root.block, root.generation
        yield from _Walk(self, root).below(pointer, root.level)

    def node_size(self) -> int:
        """Bytes."""
        return self._superblock.nodesize

    def nodes(self, pointers: Records, level: int, root: Root) -> npt.NDArray[np.uint8]:
        """Return the nodes at ``pointers``, verified: shape (n, bytes of a node)."""
        size = self._superblock.nodesize
        blocks = pointers["block"].astype(np.uint64)
        if (blocks % np.uint64(self._superblock.sectorsize)).any():
            raise LayoutError(f"{root.name} points between sectors")
        nodes = np.empty((len(blocks), size), np.uint8)
        for row, place in enumerate(self._chunks.first_places(blocks, size).tolist()):
            nodes[row] = self._view.read_array(place, size)
        self._verify(nodes, pointers, level, root)
        self.seen.append(blocks)
        return nodes

    def _verify(
        self, nodes: npt.NDArray[np.uint8], pointers: Records, level: int, root: Root
    ) -> None:
        if not checksums.all_match(self._superblock.csum_type, nodes):
            raise LayoutError(f"a node of {root.name} does not have the checksum that it bears")
        heads = _heads(nodes)
        fsid = np.frombuffer(self._superblock.node_fsid, np.uint8)
        place = layout.HEADER.fields
        assert place is not None
        at = place["fsid"][1]
        if (nodes[:, at : at + len(fsid)] != fsid).any():
            raise LayoutError(f"a node of {root.name} belongs to another file system")
        if (
            (heads["bytenr"] != pointers["block"]).any()
            or (heads["owner"] != root.tree).any()
            or (heads["level"] != level).any()
        ):
            raise LayoutError(f"a node of {root.name} is not the one that is wanted there")
        generation = heads["generation"]
        if (generation != pointers["generation"]).any() or (generation > self._newest).any():
            raise LayoutError(f"a node of {root.name} is of another generation")
        if not (heads["flags"] & np.uint64(layout.HEADER_WRITTEN)).all():
            raise LayoutError(f"a node of {root.name} was never written")


class _Walk:
    """One walk down a tree: remembers the last key of each level."""

    def __init__(self, reader: NodeReader, root: Root) -> None:
        self._reader, self._root = reader, root
        self._last: dict[int, tuple[int, int, int]] = {}

    def below(self, pointers: Records, level: int) -> Iterator[Items]:
        """Yield the items of all leaves below nodes of one level."""
        batch = max(1, _BATCH_BYTES // self._reader.node_size())
        for low in range(0, len(pointers), batch):
            some = pointers[low : low + batch]
            nodes = self._reader.nodes(some, level, self._root)
            if level:
                yield from self.below(self._pointers(nodes, some, level), level - 1)
            else:
                yield self._items(nodes, some)

    def _pointers(self, nodes: npt.NDArray[np.uint8], parents: Records, level: int) -> Records:
        rows, there = self._rows(nodes, layout.POINTER, level)
        self._verify_keys(rows, there, parents, level)
        return rows[there]

    def _items(self, nodes: npt.NDArray[np.uint8], parents: Records) -> Items:
        rows, there = self._rows(nodes, layout.ITEM, 0)
        self._verify_keys(rows, there, parents, 0)
        head, size = layout.HEADER.itemsize, nodes.shape[1]
        # Bodies lie at the end of a leaf, in the opposite order, without gaps.
        begins = rows["data"].astype(np.int64)
        ends = np.empty_like(begins)
        ends[:, :1] = size - head
        ends[:, 1:] = begins[:, :-1]
        after_items = there.sum(axis=1, keepdims=True) * layout.ITEM.itemsize
        wrong = (begins + rows["size"] != ends) | (begins < after_items)
        if (wrong & there).any():
            raise LayoutError(f"{self._root.name} has items that overlap")
        places = begins + head + np.arange(len(nodes))[:, None] * size
        return Items(rows[there], places[there], nodes.reshape(-1))

    def _rows(
        self, nodes: npt.NDArray[np.uint8], form: np.dtype[Any], level: int
    ) -> tuple[Records, npt.NDArray[np.bool_]]:
        """The records of each node, shape (n, most of a node), and which of them are there."""
        counts = _heads(nodes)["nritems"].astype(np.int64)
        head = layout.HEADER.itemsize
        if (counts > (nodes.shape[1] - head) // form.itemsize).any():
            raise LayoutError(f"a node of {self._root.name} has more items than it can hold")
        # Only a tree without any items has an empty node: its root, a leaf.
        if (counts == 0).any() and (level or self._root.level):
            raise LayoutError(f"{self._root.name} has an empty node")
        most = int(counts.max())
        rows = np.ascontiguousarray(nodes[:, head : head + most * form.itemsize]).view(form)
        rows = rows.reshape(len(nodes), most)
        return rows, np.arange(most) < counts[:, None]

    def _verify_keys(
        self, rows: Records, there: npt.NDArray[np.bool_], parents: Records, level: int
    ) -> None:
        if level != self._root.level and any(
            (rows[:, 0][name] != parents[name]).any() for name, _ in layout.KEY
        ):
            raise LayoutError(f"{self._root.name} has a node with another first key than its own")
        keys = rows[there]
        if not len(keys):
            return
        first, last = _key(keys[0]), _key(keys[-1])
        before = self._last.get(level)
        if not _ascend(keys) or (before is not None and before >= first):
            raise LayoutError(f"the keys of {self._root.name} do not ascend")
        self._last[level] = last


def _heads(nodes: npt.NDArray[np.uint8]) -> Records:
    heads = np.ascontiguousarray(nodes[:, : layout.HEADER.itemsize])
    return heads.view(layout.HEADER).reshape(-1)


def _key(record: Any) -> tuple[int, int, int]:
    return int(record["objectid"]), int(record["type"]), int(record["offset"])


def _ascend(keys: Records) -> bool:
    """Whether keys ascend strictly: by object, then by type, then by offset."""
    smaller = np.zeros(max(0, len(keys) - 1), np.bool_)
    equal = ~smaller
    for name, _ in layout.KEY:
        column = np.ascontiguousarray(keys[name])
        smaller |= equal & (column[:-1] < column[1:])
        equal &= column[:-1] == column[1:]
    return bool(smaller.all())
