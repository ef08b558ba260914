"""Btrfs: what the chunk, root, device and block group trees say ("Trees")."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.btrfs import layout
from aipimage.volumes.filesystems.btrfs.chunks import (
    Chunk,
    ChunkMap,
    Numbers,
    system_chunks,
    verified_chunk,
)
from aipimage.volumes.filesystems.btrfs.superblock import Superblock
from aipimage.volumes.filesystems.btrfs.tree import Items, NodeReader, Records, Root
from aipimage.volumes.view import LayoutError, VolumeView


def read_chunks(view: VolumeView, superblock: Superblock) -> ChunkMap:
    """Return all chunks: those of the superblock lead to the chunk tree, which has them all."""
    system = ChunkMap(system_chunks(superblock))
    view.allow(min(int(system.lengths.sum()), superblock.bytes_used))
    reader = NodeReader(view, superblock, system)
    root = Root(
        layout.CHUNK_TREE,
        superblock.chunk_root,
        superblock.chunk_root_level,
        superblock.chunk_root_generation,
    )
    chunks: list[Chunk] = []
    devices = 0
    for items in reader.walk(root):
        _only(items, layout.CHUNK_TREE, layout.DEV_ITEM, layout.CHUNK_ITEM)
        devices += _verified_devices(items.of_type(layout.DEV_ITEM), superblock)
        some = items.of_type(layout.CHUNK_ITEM)
        if (some.keys["objectid"] != layout.FIRST_CHUNK_TREE).any():
            raise LayoutError("its chunk tree has a chunk of another kind")
        chunks += [
            verified_chunk(superblock, start, some.body(index))
            for index, start in enumerate(some.keys["offset"].tolist())
        ]
    if devices != 1:
        raise LayoutError(f"its chunk tree knows of {devices} devices")
    if not set(system.chunks) <= set(chunks):
        raise LayoutError("its superblock and its chunk tree disagree")
    return ChunkMap(chunks)


def _verified_devices(items: Items, superblock: Superblock) -> int:
    for device in items.bodies(layout.DEVICE):
        if (
            int(device["devid"]) != superblock.devid
            or int(device["total_bytes"]) != superblock.device_bytes
            or device["uuid"].tobytes() != superblock.device_uuid
        ):
            raise LayoutError("its superblock and its chunk tree disagree about the device")
    return len(items.keys)


class Roots:
    """The root tree: where the other trees begin.

    Attributes:
        blocks: logical addresses of the root nodes of all trees.
    """

    def __init__(self, reader: NodeReader, superblock: Superblock) -> None:
        self._roots: dict[int, Root] = {}
        blocks = []
        root = Root(layout.ROOT_TREE, superblock.root, superblock.root_level, superblock.generation)
        for items in reader.walk(root):
            some = items.of_type(layout.ROOT_ITEM)
            bodies = some.bodies(layout.ROOT)
            blocks.append(bodies["bytenr"].astype(np.uint64))
            # Trees of the file system itself have no offset; those of snapshots are not needed.
            own = np.isin(some.keys["objectid"], np.array(list(layout.TREE_NAMES), np.uint64))
            own &= some.keys["offset"] == 0
            for key, body in zip(some.keys[own], bodies[own], strict=True):
                self._add(int(key["objectid"]), body)
        self.blocks = np.concatenate(blocks)

    def _add(self, tree: int, body: Records) -> None:
        level = int(body["level"])
        if level >= layout.LEVELS_MAX:
            raise LayoutError("its root tree has a root of an impossible level")
        self._roots[tree] = Root(tree, int(body["bytenr"]), level, int(body["generation"]))

    def of(self, tree: int) -> Root:
        """The root of a tree; ``LayoutError`` where there is none."""
        if tree not in self._roots:
            raise LayoutError(f"it has no {layout.TREE_NAMES[tree]}")
        return self._roots[tree]


def verify_device_extents(items: Iterable[Items], chunks: ChunkMap, superblock: Superblock) -> None:
    """Compare the device tree, which says what of the device chunks have, with the chunks."""
    found = []
    for some in items:
        extents = some.of_type(layout.DEV_EXTENT)
        if (extents.keys["objectid"] != superblock.devid).any():
            raise LayoutError("its device tree names another device")
        lengths = extents.bodies(layout.DEVICE_EXTENT)["length"].astype(np.uint64)
        found.append(np.column_stack((extents.keys["offset"].astype(np.uint64), lengths)))
    wanted = chunks.device_ranges[np.argsort(chunks.device_ranges[:, 0])]
    if not np.array_equal(np.concatenate(found), wanted):
        raise LayoutError("its device tree and its chunk tree disagree")


class BlockGroups:
    """How much of each chunk is used, as block group items say, and as extents do."""

    def __init__(self, chunks: ChunkMap) -> None:
        self._chunks = chunks
        self._said = np.zeros(len(chunks.starts), np.uint64)
        self._found = np.zeros(len(chunks.starts), np.uint64)
        self._groups = 0

    def add(self, items: Items) -> None:
        """Take block group items: of the extent tree, or of the block group tree."""
        groups = items.of_type(layout.BLOCK_GROUP_ITEM)
        starts, lengths = (groups.keys[name].astype(np.uint64) for name in ("objectid", "offset"))
        bodies = groups.bodies(layout.BLOCK_GROUP)
        index, fit = self._chunks.find(starts, lengths)
        if (
            not fit
            or (self._chunks.starts[index] != starts).any()
            or (self._chunks.lengths[index] != lengths).any()
            or ((self._chunks.kinds[index] ^ bodies["flags"]) & np.uint64(layout.GROUP_KINDS)).any()
        ):
            raise LayoutError("its block groups and its chunks disagree")
        self._said[index] = bodies["used"]
        self._groups += len(starts)

    def count(self, index: npt.NDArray[np.intp], lengths: Numbers) -> None:
        """Take extents: the chunk of each, by index, and bytes."""
        np.add.at(self._found, index, lengths)

    def verify(self, superblock: Superblock) -> None:
        """Compare both, chunk by chunk, and with what the superblock says of all together."""
        if self._groups != len(self._said):
            raise LayoutError("its block groups and its chunks disagree")
        wrong = np.flatnonzero(self._said != self._found)
        if len(wrong):
            said, found = int(self._said[wrong[0]]), int(self._found[wrong[0]])
            raise LayoutError(
                f"a block group says that {said:,} of its bytes are used, and its extents {found:,}"
            )
        if int(self._found.sum()) != superblock.bytes_used:
            raise LayoutError("its superblock gives another number of used bytes than its extents")


def _only(items: Items, tree: int, *kinds: int) -> None:
    if not np.isin(items.keys["type"], kinds).all():
        raise LayoutError(f"its {layout.TREE_NAMES[tree]} has items of an unknown kind")
