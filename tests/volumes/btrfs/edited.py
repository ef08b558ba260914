"""Give a new Btrfs volume a block group tree, as newer tools do than those that tests can count on:
items move to a leaf of their own (compat_ro flag BLOCK_GROUP_TREE). For volumes that mkfs.btrfs
made and nobody used: all their trees are single leaves, of which the kernel then judges.
"""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import NamedTuple

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.btrfs import PARSER
from aipimage.volumes.filesystems.btrfs.chunks import ChunkMap
from aipimage.volumes.filesystems.btrfs.superblock import Superblock, read_superblock
from aipimage.volumes.filesystems.btrfs.trees import read_chunks
from aipimage.volumes.view import VolumeView
from tests.volumes.btrfs.built import Item, sealed


class Leaf(NamedTuple):
    """A leaf apart from its checksum: the header, and items by key."""

    head: bytes
    items: dict[tuple[int, int, int], bytes]

    @classmethod
    def parse(cls, data: bytes) -> Leaf:
        """The leaf of a node's bytes."""
        count, level = struct.unpack_from("<IB", data, 0x60)
        assert level == 0
        items: list[Item] = []
        for at in range(count):
            *key, place, size = struct.unpack_from("<QBQII", data, 101 + 25 * at)
            items.append(((key[0], key[1], key[2]), data[101 + place : 101 + place + size]))
        return cls(data[:0x60], dict(items))

    def packed(self, size: int) -> bytes:
        """The bytes of the node."""
        table, bodies, end = b"", b"", size - 101
        for key, body in sorted(self.items.items()):
            end -= len(body)
            table += struct.pack("<QBQII", *key, end, len(body))
            bodies = body + bodies
        head = self.head + struct.pack("<IB", len(self.items), 0) + table
        return sealed(head + bytes(size - len(head) - len(bodies)) + bodies)


class Editor:
    """Reads and writes leaves of a volume in a file, at all places where they are kept."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        with contextlib.closing(open_source(volume)) as source:
            view = VolumeView(source, 0, source.size)
            found = PARSER.probe(view)
            assert found is not None
            assert isinstance(found.details, bytes)
            self.superblock: Superblock = read_superblock(view, found.details)
            self.chunks: ChunkMap = read_chunks(view, self.superblock)

    def places(self, address: int) -> list[int]:
        """Bytes of the device of a logical address."""
        chunk = next(
            row for row in self.chunks.chunks if row.start <= address < row.start + row.length
        )
        return [place + address - chunk.start for place in chunk.places]

    def read(self, address: int) -> Leaf:
        """The leaf at a logical address."""
        with self.volume.open("rb") as file:
            file.seek(self.places(address)[0])
            return Leaf.parse(file.read(self.superblock.nodesize))

    def write(self, address: int, leaf: Leaf) -> None:
        """Write a leaf with its checksum."""
        with self.volume.open("r+b") as file:
            for place in self.places(address):
                file.seek(place)
                file.write(leaf.packed(self.superblock.nodesize))

    def patch_superblocks(self, **fields: tuple[int, bytes]) -> None:
        """Write (offset, bytes) over all superblocks, and their checksums."""
        with self.volume.open("r+b") as file:
            for offset in (64 << 10, 64 << 20):
                file.seek(offset)
                block = bytearray(file.read(4096))
                for place, value in fields.values():
                    block[place : place + len(value)] = value
                file.seek(offset)
                file.write(sealed(bytes(block)))

    def root_of(self, tree: int) -> int:
        """The logical address of a tree's root."""
        body = self.read(self.superblock.root).items[tree, 132, 0]
        return int.from_bytes(body[176:184], "little")


def add_block_group_tree(volume: Path) -> None:
    """Convert a volume; nothing else of it changes."""
    edit = Editor(volume)
    size, generation = edit.superblock.nodesize, edit.superblock.generation
    extent, free = edit.root_of(2), edit.root_of(10)
    extents, space = edit.read(extent), edit.read(free)
    # The last free range of the metadata gives the node.
    group = next(key for key, body in extents.items.items() if key[1] == 192 and body[16] & 4)
    start, length = max(
        (key[0], key[2])
        for key in space.items
        if key[1] == 199 and group[0] <= key[0] < group[0] + group[2]
    )
    del space.items[start, 199, length]
    space.items[start + size, 199, length - size] = b""
    groups = {key: body for key, body in extents.items.items() if key[1] == 192}
    used = int.from_bytes(groups[group][:8], "little") + size
    groups[group] = struct.pack("<Q", used) + groups[group][8:]
    for key in groups:
        del extents.items[key]
    body = struct.pack("<QQQBQ", 1, generation, 2, 176, 11)
    extents.items[start, 169, 0] = body
    head = bytearray(extents.head)
    struct.pack_into("<Q", head, 0x30, start)
    struct.pack_into("<QQ", head, 0x50, generation, 11)
    roots = edit.read(edit.superblock.root)
    root = bytearray(roots.items[2, 132, 0])
    struct.pack_into("<Q", root, 160, generation)
    struct.pack_into("<Q", root, 176, start)
    struct.pack_into("<Q", root, 239, generation)
    roots.items[11, 132, 0] = bytes(root)
    for address, leaf in ((extent, extents), (free, space), (edit.superblock.root, roots)):
        edit.write(address, leaf)
    edit.write(start, Leaf(bytes(head), groups))
    edit.patch_superblocks(
        bytes_used=(0x78, struct.pack("<Q", edit.superblock.bytes_used + size)),
        compat_ro_flags=(0xB4, struct.pack("<Q", 0b1011)),
    )
