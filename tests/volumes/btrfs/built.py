"""A small Btrfs volume made by hand, from the structures' definitions alone ("On-disk Format" and
"Trees" of the Btrfs documentation): readable, changeable before it is sealed, and kept as little
more than its nodes. It has the trees that allocation needs and no files.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aipimage.volumes.crc32c import crc32c

if TYPE_CHECKING:
    from typing_extensions import Buffer

NODE = SECTOR = 4096
MIB = 1 << 20
SIZE = 80 * MIB
FSID, DEVICE, CHUNKS_UUID = (hashlib.md5(name).digest() for name in (b"fs", b"device", b"chunks"))
GENERATION = 9
LOG = 2**64 - 6
LOG_AT = 34 * MIB
"""Logical address of the log root tree, where there is one; its log tree lies 8 KiB after it."""
SYSTEM, METADATA, DATA = 16 * MIB, 32 * MIB, 48 * MIB
"""Logical addresses of the chunks."""
LOG_EXTENTS = [(DATA + 14 * MIB + MIB // 4, 256 << 10), (DATA + 15 * MIB + MIB // 2, SECTOR)]
"""(address, length) of the extents that the log names; the commit calls them free."""
DUP = 1 << 5
OWNERS = {"root": 1, "device": 4, "low": 2, "high": 2, "extent": 2, "free": 10, "groups": 11}
"""The nodes beside the chunk tree's, and the trees to which they belong."""
Key = tuple[int, int, int]
Item = tuple[Key, bytes]


@dataclass
class Chunk:
    """One chunk and its block group."""

    start: int
    length: int
    kind: int
    places: list[int]
    used: int = 0

    def item(self) -> bytes:
        """Its item in the chunk tree."""
        head = struct.pack(
            "<QQQQIIIHH",
            self.length,
            2,
            65536,
            self.kind,
            65536,
            65536,
            SECTOR,
            len(self.places),
            0,
        )
        return head + b"".join(struct.pack("<QQ", 1, place) + DEVICE for place in self.places)


@dataclass
class Node:
    """One node: items where its level is 0, else (key, address) of its children."""

    address: int
    owner: int
    level: int = 0
    items: list[Item] = field(default_factory=list)
    children: list[tuple[Key, int]] = field(default_factory=list)
    generation: int = GENERATION

    def packed(self) -> bytes:
        """The node with its checksum."""
        count = len(self.children) if self.level else len(self.items)
        head = FSID + struct.pack("<QQ", self.address, 1 | 1 << 56) + CHUNKS_UUID
        head += struct.pack("<QQIB", self.generation, self.owner, count, self.level)
        table, bodies, end = b"", b"", NODE - 101
        for key, body in self.items:
            end -= len(body)
            table += struct.pack("<QBQII", *key, end, len(body))
            bodies = body + bodies
        for key, child in self.children:
            table += struct.pack("<QBQQQ", *key, child, self.generation)
        rest = head + table
        return sealed(bytes(32) + rest + bytes(NODE - 32 - len(rest) - len(bodies)) + bodies)


def root_item(node: Node) -> bytes:
    """What a tree of trees says of one of them."""
    body = bytearray(439)
    struct.pack_into("<Q", body, 160, node.generation)
    struct.pack_into("<Q", body, 176, node.address)
    struct.pack_into("<IQBQB", body, 216, 1, 0, 0, 0, 0)
    body[238] = node.level
    return bytes(body)


def file_extent(kind: int, address: int, length: int) -> bytes:
    """An item of a file: 0 inline, 1 regular, 2 preallocated."""
    head = struct.pack("<QQBBHB", GENERATION + 1, length, 0, 0, 0, kind)
    return head + struct.pack("<QQQQ", address, length, 0, length)


def sealed(block: bytes) -> bytes:
    """A superblock or node with its CRC-32C."""
    return struct.pack("<I", crc32c(block[32:]) ^ 0xFFFFFFFF) + bytes(28) + block[32:]


class Volume:
    """The parts of a volume, to be changed at will before ``blocks`` packs them.

    Attributes:
        chunks: by name. data: (address, length) of extents of data. nodes: by name. log: those of
            log trees, by name, which the extent tree does not have.
        free: of the free space tree, by the chunk's name: (address, length), in bitmaps for the
            chunks in ``bitmaps``.
        superblock: fields by name, written over what is right.
    """

    def __init__(self, block_group_tree: bool = False, free_space_tree: bool = True) -> None:
        self.chunks = {
            "system": Chunk(SYSTEM, MIB, 2 | DUP, [2 * MIB, 3 * MIB]),
            "metadata": Chunk(METADATA, 4 * MIB, 4 | DUP, [4 * MIB, 8 * MIB]),
            # The superblock's copy at 64 MiB lies within its place.
            "data": Chunk(DATA, 16 * MIB, 1, [56 * MIB]),
        }
        self.data = [(DATA + at * 64 * SECTOR, at * SECTOR) for at in range(1, 40)]
        self.data += [(DATA + 12 * MIB, 2 * MIB)]
        self.superblock: dict[str, int] = {}
        self.log: dict[str, Node] = {}
        self.compat_ro = 3 * free_space_tree | 8 * block_group_tree
        self.nodes = {"chunk": Node(SYSTEM + 2 * NODE, 3)}
        missing = {"free": not free_space_tree, "groups": not block_group_tree}
        for place, (name, owner) in enumerate(OWNERS.items()):
            if not missing.get(name):
                self.nodes[name] = Node(METADATA + (3 * place + 1) * NODE, owner)
        self._fill_extents()
        self._fill_others()

    def chunk_of(self, address: int) -> Chunk:
        """The chunk that has a logical address."""
        return next(
            chunk
            for chunk in self.chunks.values()
            if chunk.start <= address < chunk.start + chunk.length
        )

    def _fill_extents(self) -> None:
        items: list[Item] = []
        for node in self.nodes.values():
            body = struct.pack("<QQQBQ", 1, GENERATION, 2, 176, node.owner)
            items.append(((node.address, 169, 1 if node is self.nodes["extent"] else 0), body))
            self.chunk_of(node.address).used += NODE
        for address, length in self.data:
            body = struct.pack("<QQQBQQQI", 1, GENERATION, 1, 178, 5, 257, 0, 1)
            items.append(((address, 168, length), body))
            self.chunk_of(address).used += length
        groups = [
            ((chunk.start, 192, chunk.length), struct.pack("<QQQ", chunk.used, 256, chunk.kind))
            for chunk in self.chunks.values()
        ]
        if "groups" in self.nodes:
            self.nodes["groups"].items = groups
        else:
            items += groups
        items.sort()
        self.nodes["low"].items, self.nodes["high"].items = items[:20], items[20:]
        self.nodes["extent"].level = 1
        self.point("extent", "low", "high")

    def point(self, parent: str, *children: str) -> None:
        """Let a node have these children, under their own first keys."""
        self.nodes[parent].children = [
            (self.nodes[name].items[0][0], self.nodes[name].address) for name in children
        ]

    def _fill_others(self) -> None:
        device = struct.pack("<QQQIIIQQQIBB", 1, SIZE, 0, SECTOR, SECTOR, SECTOR, *[0] * 6)
        self.nodes["chunk"].items = [((1, 216, 1), device + DEVICE + FSID)]
        self.nodes["chunk"].items += [
            ((256, 228, chunk.start), chunk.item()) for chunk in self.chunks.values()
        ]
        self.nodes["device"].items = sorted(
            ((1, 204, place), struct.pack("<QQQQ", 3, 256, chunk.start, chunk.length) + CHUNKS_UUID)
            for chunk in self.chunks.values()
            for place in chunk.places
        )
        for name in ("extent", "device", "free", "groups"):
            if name in self.nodes:
                self.add_root(self.nodes[name])
        if "free" in self.nodes:
            self.nodes["free"].items = list(self._free_items())

    def add_root(self, node: Node) -> None:
        """Put a tree into the root tree."""
        self.nodes["root"].items.append(((node.owner, 132, 0), root_item(node)))
        self.nodes["root"].items.sort()

    def add_log(self) -> None:
        """Let the superblock name a log: one tree, with a file of some extents."""
        address, length = LOG_EXTENTS[0]
        items = [
            ((258, 1, 0), bytes(160)),
            ((258, 108, 0), file_extent(1, address, length)),
            ((258, 108, length), file_extent(1, 0, 0)),
            ((258, 108, 2 * length), file_extent(1, address, length)),
            ((258, 108, 3 * length), file_extent(2, *LOG_EXTENTS[1])),
            ((259, 108, 0), file_extent(0, 0, 0)[:21] + b"inline"),
        ]
        tree = Node(LOG_AT + 2 * NODE, LOG, items=items, generation=GENERATION + 1)
        top = Node(LOG_AT, LOG, items=[((LOG, 132, 5), root_item(tree))], generation=GENERATION + 1)
        self.log = {"log root": top, "log": tree}
        self.superblock["log_root"] = LOG_AT

    def used(self) -> list[tuple[int, int]]:
        """All extents, (address, length), ascending."""
        return sorted(self.data + [(node.address, NODE) for node in self.nodes.values()])

    def _free_items(self) -> Iterator[Item]:
        # What mkfs.btrfs leaves of a block group that it removed.
        yield (MIB, 198, MIB), struct.pack("<II", 1, 0)
        yield (MIB, 199, MIB), b""
        for chunk in self.chunks.values():
            runs, at, end = [], chunk.start, chunk.start + chunk.length
            for address, length in self.used():
                if chunk.start <= address < end:
                    runs += [(at, address - at)] if address > at else []
                    at = address + length
            runs += [(at, end - at)] if end > at else []
            as_bits = chunk.kind & 4 != 0
            yield (chunk.start, 198, chunk.length), struct.pack("<II", len(runs), int(as_bits))
            yield from (
                self._bitmaps(chunk, runs)
                if as_bits
                else (((address, 199, length), b"") for address, length in runs)
            )

    def _bitmaps(self, chunk: Chunk, runs: list[tuple[int, int]]) -> Iterator[Item]:
        """A bit a sector, 2,048 a bitmap, least significant first."""
        bits = 0
        for address, length in runs:
            bits |= ((1 << length // SECTOR) - 1) << (address - chunk.start) // SECTOR
        data = bits.to_bytes(chunk.length // SECTOR // 8, "little")
        for at in range(0, len(data), 256):
            some = data[at : at + 256]
            start = chunk.start + at * 8 * SECTOR
            yield (start, 200, len(some) * 8 * SECTOR), some

    def packed_superblock(self, offset: int = 65536) -> bytes:
        """The superblock that lies at a byte of the device."""
        block = bytearray(4096)
        block[0x20:0x30] = block[0x11B:0x12B] = FSID
        block[0x40:0x48] = b"_BHRfS_M"
        block[0x10B:0x11B] = DEVICE
        block[0x12B:0x130] = b"built"
        system = struct.pack("<QBQ", 256, 228, SYSTEM) + self.chunks["system"].item()
        block[0x32B : 0x32B + len(system)] = system
        right = {
            "bytenr": offset, "flags": 1, "generation": GENERATION,
            "root": self.nodes["root"].address, "chunk_root": self.nodes["chunk"].address,
            "total_bytes": SIZE, "bytes_used": sum(length for _, length in self.used()),
            "num_devices": 1, "sectorsize": SECTOR, "nodesize": NODE,
            "sys_chunk_array_size": len(system), "chunk_root_generation": GENERATION,
            "compat_ro_flags": self.compat_ro, "incompat_flags": 0x341, "devid": 1,
            "device_bytes": SIZE,
        }  # fmt: skip
        for name, value in (right | self.superblock).items():
            place, form = FIELDS[name]
            struct.pack_into(form, block, place, value)
        return sealed(bytes(block))

    def blocks(self) -> list[bytes]:
        """The superblock and all nodes, packed."""
        return [self.packed_superblock(), *(node.packed() for node in self.all_nodes())]

    def all_nodes(self) -> list[Node]:
        """Those of the commit, and then those of the log."""
        return [*self.nodes.values(), *self.log.values()]

    def source(self, blocks: list[bytes] | None = None) -> Pieces:
        """The volume; its superblock's copy at 64 MiB is made from the superblock."""
        head, *nodes = blocks or self.blocks()
        copy = sealed(head[:0x30] + struct.pack("<Q", 64 * MIB) + head[0x38:])
        pieces = {65536: head, 64 * MIB: copy}
        for node, data in zip(self.all_nodes(), nodes, strict=True):
            chunk = self.chunk_of(node.address)
            for place in chunk.places:
                pieces[place + node.address - chunk.start] = data
        return Pieces(pieces)


FIELDS = {
    "bytenr": (0x30, "<Q"), "flags": (0x38, "<Q"), "generation": (0x48, "<Q"),
    "root": (0x50, "<Q"), "chunk_root": (0x58, "<Q"), "log_root": (0x60, "<Q"),
    "total_bytes": (0x70, "<Q"), "bytes_used": (0x78, "<Q"), "num_devices": (0x88, "<Q"),
    "sectorsize": (0x90, "<I"), "nodesize": (0x94, "<I"), "sys_chunk_array_size": (0xA0, "<I"),
    "chunk_root_generation": (0xA4, "<Q"), "compat_flags": (0xAC, "<Q"),
    "compat_ro_flags": (0xB4, "<Q"), "incompat_flags": (0xBC, "<Q"), "csum_type": (0xC4, "<H"),
    "root_level": (0xC6, "<B"), "chunk_root_level": (0xC7, "<B"), "log_root_level": (0xC8, "<B"),
    "devid": (0xC9, "<Q"),
    "device_bytes": (0xD1, "<Q"),
}  # fmt: skip


class Pieces:
    """A block source that is zero but for some blocks."""

    name, size, sector_size = "pieces", SIZE, 512

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self.pieces = pieces

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource``."""
        view = memoryview(buffer).cast("B")
        view[:] = bytes(len(view))
        for start, data in self.pieces.items():
            low, high = max(start, offset), min(start + len(data), offset + len(view))
            if low < high:
                view[low - offset : high - offset] = data[low - start : high - start]

    def fingerprint(self) -> dict[str, int | str]:
        """See ``BlockSource``."""
        return {}

    def close(self) -> None:
        """See ``BlockSource``."""

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource``."""
        yield start, end - start
