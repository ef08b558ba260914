"""Small XFS volumes written from the format's description alone: what free space depends on.

Numbers are those of "XFS Algorithms & Data Structures". There are no files: blocks that would be
theirs are just not free.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from aipimage.io.blocks.sources import BlockSource, open_source

Run = tuple[int, int]
BB = 512
UUID = bytes(range(1, 17))
NULL = 0xFFFFFFFF
LOG_BLOCKS = 64
TREE_BLOCKS = 60
AGFL_COUNT = 4


def _shifted(register: int, bits: int = 8) -> int:
    for _ in range(bits):
        register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register


_TABLE = [_shifted(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """One byte at a time, as the polynomial says it."""
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 255]
    return register ^ 0xFFFFFFFF


@dataclass
class Volume:
    """A volume of two groups, the second shorter, whose parts can be changed before it is used.

    Attributes:
        fanout: records of a leaf, and pointers of a node. runs: free runs of the groups, made up
            where they are not given. image: all bytes, once built.
        places: of the structures: name -> (offset, length, offset of the checksum in it).
    """

    version: int = 5
    blocklog: int = 10
    agblocks: int = 512
    last: int = 400
    fanout: int = 5
    lazy: bool = True
    cycle: int = 3
    head: int = 20
    runs: list[list[Run]] = field(default_factory=list)
    image: bytearray = field(default_factory=bytearray, repr=False)
    places: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.block = 1 << self.blocklog
        self.headers = -(-4 * BB // self.block)
        self.lengths = [self.agblocks, self.last]
        if not self.runs:
            start = self.reserved
            self.runs = [made_up(start, length) for length in self.lengths]
        self.image = bytearray(sum(self.lengths) * self.block)
        self._fill()

    @property
    def lsn(self) -> int:
        """When the structures were written last, by the log."""
        return (self.cycle - 1) << 32 | 7

    @property
    def log_start(self) -> int:
        """Block of group 0."""
        return self.headers + 6 + AGFL_COUNT

    @property
    def reserved(self) -> int:
        """The first block that may be free."""
        return self.log_start + LOG_BLOCKS + TREE_BLOCKS

    @property
    def free(self) -> list[Run]:
        """All free runs in blocks of the volume."""
        return [
            (group * self.agblocks + start, count)
            for group, runs in enumerate(self.runs)
            for start, count in runs
        ]

    def source(self) -> BlockSource:
        """The volume with its checksums as they are."""
        return open_source(io.BytesIO(bytes(self.image)))

    def put(self, name: str, offset: int, form: str, *values: int | bytes) -> Volume:
        """Overwrite fields of a structure, and make its checksum right again."""
        start, length, _ = self.places[name]
        assert offset + struct.calcsize(form) <= length
        struct.pack_into(form, self.image, start + offset, *values)
        self.seal(name)
        return self

    def get(self, name: str, offset: int, form: str) -> int:
        """A field of a structure."""
        return int(struct.unpack_from(form, self.image, self.places[name][0] + offset)[0])

    def seal(self, name: str) -> None:
        """Make a checksum right."""
        start, length, crc = self.places[name]
        if self.version == 5 and crc:
            struct.pack_into("<I", self.image, start + crc, 0)
            value = crc32c(bytes(self.image[start : start + length]))
            struct.pack_into("<I", self.image, start + crc, value)

    def _fill(self) -> None:
        free = 0
        for group, runs in enumerate(self.runs):
            levels, blocks = {}, {}
            spare = self.log_start + LOG_BLOCKS
            for tree, rows in (
                ("bno", runs),
                ("cnt", sorted(runs, key=lambda run: (run[1], run[0]))),
            ):
                root = self.headers + (tree == "cnt")
                levels[tree], used = self._tree(group, tree, rows, root, spare)
                blocks[tree] = used
                spare += used
            extra = sum(blocks.values())
            self._headers(group, runs, levels, extra)
            free += sum(count for _, count in runs) + AGFL_COUNT + extra
        for group in range(2):
            self._superblock(group, free)
        self._log()

    def _place(self, name: str, offset: int, data: bytes, crc: int = 0) -> None:
        self.places[name] = offset, len(data), crc
        self.image[offset : offset + len(data)] = data
        self.seal(name)

    def _superblock(self, group: int, free: int) -> None:
        sector = bytearray(BB)
        bits = (self.agblocks - 1).bit_length()
        struct.pack_into(
            ">4sIQQQ16sQQ", sector, 0, b"XFSB", self.block, sum(self.lengths), 0, 0, UUID,
            self.log_start, (self.reserved - 1) << 1,
        )  # fmt: skip
        struct.pack_into(">IIII", sector, 84, self.agblocks, 2, 0, LOG_BLOCKS)
        versionnum = 0xB4B0 | self.version
        struct.pack_into(">HHHH", sector, 100, versionnum, BB, self.block // 2, 2)
        sector[108:120] = b"label".ljust(12, b"\0")
        struct.pack_into(">7B", sector, 120, self.blocklog, 9, self.blocklog - 1, 1, bits, 0, group)
        struct.pack_into(">Q", sector, 144, free)
        features2 = 0x180 * (self.version == 5) | 2 * self.lazy | 8
        struct.pack_into(">II", sector, 200, features2, features2)
        if self.version == 5:
            struct.pack_into(">IIII", sector, 208, 0, 7, 3, 0)
            struct.pack_into(">Q", sector, 240, self.lsn)
        self._place(f"sb {group}", group * self.agblocks * self.block, bytes(sector), 224)

    def _headers(self, group: int, runs: list[Run], levels: dict[str, int], extra: int) -> None:
        start = group * self.agblocks * self.block
        sectors = [bytearray(BB) for _ in range(4)]
        _, agf, agi, agfl = sectors
        struct.pack_into(
            ">4s15I", agf, 0, b"XAGF", 1, group, self.lengths[group],
            self.headers, self.headers + 1, self.headers + 4, levels["bno"], levels["cnt"], 1,
            0, AGFL_COUNT - 1, AGFL_COUNT, sum(count for _, count in runs),
            max((count for _, count in runs), default=0), extra * self.lazy,
        )  # fmt: skip
        struct.pack_into(
            ">4s8I", agi, 0, b"XAGI", 1, group, self.lengths[group],
            64, self.headers + 2, 1, 60, NULL,
        )  # fmt: skip
        listed = range(self.headers + 6, self.headers + 6 + AGFL_COUNT)
        if self.version == 5:
            struct.pack_into(">16sIIII", agf, 64, UUID, 1, 1, self.headers + 5, 1)
            struct.pack_into(">Q", agf, 208, self.lsn)
            struct.pack_into(">16sIIQII", agi, 296, UUID, 0, 0, self.lsn, self.headers + 3, 1)
            struct.pack_into(">4sI16sQI", agfl, 0, b"XAFL", group, UUID, self.lsn, 0)
        struct.pack_into(f">{AGFL_COUNT}I", agfl, 36 * (self.version == 5), *listed)
        for index, (name, crc) in enumerate((("agf", 216), ("agi", 312), ("agfl", 32)), 1):
            self._place(f"{name} {group}", start + index * BB, bytes(sectors[index]), crc)

    def _tree(
        self, group: int, tree: str, rows: Sequence[Run], root: int, spare: int
    ) -> tuple[int, int]:
        """Write a tree; its levels, and how many blocks behind ``spare`` it took."""
        level, begin = 0, spare
        entries: list[tuple[Run, int]] = [(row, 0) for row in rows]
        while True:
            parts = [
                entries[at : at + self.fanout] for at in range(0, len(entries), self.fanout)
            ] or [[]]
            numbers = [root] if len(parts) == 1 else list(range(spare, spare + len(parts)))
            spare += len(parts) * (len(parts) > 1)
            assert spare - self.log_start - LOG_BLOCKS < TREE_BLOCKS
            for index, part in enumerate(parts):
                left = numbers[index - 1] if index else NULL
                right = numbers[index + 1] if index + 1 < len(parts) else NULL
                data = self._node(group, tree, level, part, numbers[index], left, right)
                offset = (group * self.agblocks + numbers[index]) * self.block
                self._place(f"{tree} {group} {level} {index}", offset, data, 52)
            if len(parts) == 1:
                return level + 1, spare - begin
            entries = [(part[0][0], number) for part, number in zip(parts, numbers, strict=True)]
            level += 1

    def _node(
        self,
        group: int,
        tree: str,
        level: int,
        part: list[tuple[Run, int]],
        number: int,
        left: int,
        right: int,
    ) -> bytes:
        letter = b"B" if tree == "bno" else b"C"
        magic = (b"AB3" if self.version == 5 else b"ABT") + letter
        data = struct.pack(">4sHHII", magic, level, len(part), left, right)
        if self.version == 5:
            address = (group * self.agblocks + number) * (self.block // BB)
            data += struct.pack(">QQ16sII", address, self.lsn, UUID, group, 0)
        most = (self.block - len(data)) // 12
        keys = b"".join(struct.pack(">II", *run) for run, _ in part)
        if level:
            pointers = b"".join(struct.pack(">I", child) for _, child in part)
            keys = keys.ljust(8 * most, b"\0") + pointers
        return (data + keys).ljust(self.block, b"\0")

    def _log(self) -> None:
        """Blocks of this cycle before the head, of the one before behind it."""
        count = LOG_BLOCKS * self.block // BB
        start = self.log_start * self.block
        for index in range(count):
            cycle = self.cycle if index < self.head else self.cycle - 1
            self._place(f"log {index}", start + index * BB, struct.pack(">I", cycle).ljust(BB))
        at = (self.head - 2) % count
        cycle = self.cycle if at < self.head else self.cycle - 1
        record = bytearray(BB)
        struct.pack_into(
            ">IIIIQQIII", record, 0, 0xFEEDBABE, cycle, 2, BB, cycle << 32 | at, 0, 0, 0, 1
        )
        struct.pack_into(">I16sI", record, 300, 1, UUID, 32768)
        self._place(f"log {at}", start + at * BB, bytes(record))
        operation = bytearray(BB)
        at = (at + 1) % count
        cycle = self.cycle if at < self.head else self.cycle - 1
        struct.pack_into(">IIBBHHHI", operation, 0, cycle, 8, 0xAA, 0x20, 0, 0x6E55, 0, 0)
        self._place(f"log {at}", start + at * BB, bytes(operation))


def made_up(start: int, length: int) -> list[Run]:
    """Runs of many lengths, with a block in use behind each."""
    runs = []
    size = 1
    while start + size < length:
        runs.append((start, size))
        start += size + 1
        size = size % 9 + 1
    return runs
