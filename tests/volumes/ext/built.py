"""A small volume of four groups, written from the specification without any tool.

All structures lie at the start of group 0, as flex_bg allows, so that the volume is zeros but for
a few pieces. Group 2 has no bitmap of its own (BLOCK_UNINIT) where descriptors have checksums; the
last group is cut. Checksums are computed byte by byte, as
nowhere else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache

from aipimage.volumes.filesystems.ext import layout
from tests.support.sources import SparseSource

BLOCK, PER_GROUP, GROUPS, BLOCKS = 1024, 1024, 4, 3900
DESCRIPTORS, BITMAPS, INODE_BITMAPS, TABLES, JOURNAL, MMP = 2, 3, 7, 11, 19, 27
INODE_SIZE, INODES = 128, 16
SIZE = 4 << 20
UUID = bytes(range(1, 17))
JOURNAL_INODE_AT = TABLES * BLOCK + 7 * INODE_SIZE
PIECES = (
    (1024, 1024),
    (DESCRIPTORS * BLOCK, GROUPS * 64),
    (BITMAPS * BLOCK, PER_GROUP // 8),
    ((BITMAPS + 1) * BLOCK, PER_GROUP // 8),
    ((BITMAPS + 2) * BLOCK, PER_GROUP // 8),
    ((BITMAPS + 3) * BLOCK, PER_GROUP // 8),
    (JOURNAL_INODE_AT, INODE_SIZE),
    (JOURNAL * BLOCK, 8 * BLOCK),
    (MMP * BLOCK, 1024),
)
"""(offset, bytes) of all that a parser may look at."""


def crc(data: bytes, register: int, polynomial: int) -> int:
    """A reflected CRC, byte by byte."""
    table = _table(polynomial)
    for byte in data:
        register = (register >> 8) ^ table[(register ^ byte) & 0xFF]
    return register


@cache
def _table(polynomial: int) -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [(value >> 1) ^ (polynomial if value & 1 else 0) for value in table]
    return table


def crc32c(data: bytes, register: int = 0xFFFFFFFF) -> int:
    return crc(data, register, 0x82F63B78)


@dataclass
class Built:
    """A volume that can be changed, and its checksums put right again.

    Args:
        csum: ``"crc32c"``, ``"crc16"`` or ``""``. is_64bit, uses_mmp: features.
    """

    csum: str = "crc32c"
    is_64bit: bool = True
    uses_mmp: bool = True
    data: bytearray = field(default_factory=lambda: bytearray(32 * BLOCK))

    def __post_init__(self) -> None:
        self.free = set(range(1, BLOCKS))
        # Superblock, descriptors and all that follows; copies in groups 1 and 3; some files.
        for used in (range(1, MMP + 1), range(1025, 1027), range(3073, 3075), range(40, 3800, 7)):
            self.free -= set(used)
        if self.csum:
            # Group 2 was never written to.
            self.free |= set(range(2049, 3073))
        self._superblock()
        self._descriptors()
        self._journal()
        self.data[MMP * BLOCK : MMP * BLOCK + 8] = struct.pack(
            "<II", layout.MMP_MAGIC, layout.MMP_SEQ_CLEAN
        )
        self.repair()

    @property
    def desc_size(self) -> int:
        return 64 if self.is_64bit else 32

    def set(self, **fields: int) -> Built:
        """Write fields of the superblock and repair the checksums."""
        for name, value in fields.items():
            self._field(name, value)
        return self.repair()

    def put(self, form: str, offset: int, *values: int) -> Built:
        """Write numbers anywhere and repair the checksums."""
        struct.pack_into(form, self.data, offset, *values)
        return self.repair()

    def descriptor(self, group: int) -> int:
        """The offset of a descriptor."""
        return DESCRIPTORS * BLOCK + group * self.desc_size

    def source(self, size: int = SIZE) -> SparseSource:
        return SparseSource(size, {0: bytes(self.data[:size])})

    def repair(self) -> Built:
        """Recompute every checksum that the superblock's features ask for."""
        repair(self.data)
        return self

    def _field(self, name: str, value: int) -> None:
        form, offset = layout.SUPERBLOCK.fields[name][:2]  # type: ignore[index]
        at = 1024 + offset
        self.data[at : at + form.itemsize] = value.to_bytes(form.itemsize, "little")

    def _superblock(self) -> None:
        ro = {"crc32c": layout.RO_METADATA_CSUM, "crc16": layout.RO_GDT_CSUM, "": 0}[self.csum]
        incompat = layout.INCOMPAT_FLEX_BG | layout.INCOMPAT_EXTENTS | layout.INCOMPAT_FILETYPE
        incompat |= layout.INCOMPAT_64BIT if self.is_64bit else 0
        incompat |= layout.INCOMPAT_MMP if self.uses_mmp else 0
        fields = {
            "s_inodes_count": GROUPS * INODES, "s_blocks_count_lo": BLOCKS,
            "s_free_blocks_count_lo": len(self.free), "s_first_data_block": 1,
            "s_blocks_per_group": PER_GROUP, "s_clusters_per_group": PER_GROUP,
            "s_inodes_per_group": INODES, "s_magic": layout.MAGIC, "s_state": 1, "s_rev_level": 1,
            "s_inode_size": INODE_SIZE, "s_feature_compat": layout.COMPAT_HAS_JOURNAL,
            "s_feature_incompat": incompat, "s_feature_ro_compat": ro | layout.RO_SPARSE_SUPER,
            "s_uuid": int.from_bytes(UUID, "little"), "s_journal_inum": 8,
            "s_desc_size": self.desc_size, "s_mmp_block": MMP, "s_checksum_type": 1,
        }  # fmt: skip
        for name, value in fields.items():
            self._field(name, value)

    def _descriptors(self) -> None:
        for group in range(GROUPS):
            first, end = 1 + group * PER_GROUP, min(1 + (group + 1) * PER_GROUP, BLOCKS)
            bits = bytearray(b"\xff" * BLOCK)
            for block in self.free.intersection(range(first, end)):
                bits[(block - first) // 8] ^= 1 << (block - first) % 8
            is_uninit = bool(self.csum) and group == 2
            if not is_uninit:
                at = (BITMAPS + group) * BLOCK
                self.data[at : at + BLOCK] = bits
            free = len(self.free.intersection(range(first, end)))
            struct.pack_into(
                "<IIIHHHH",
                self.data,
                self.descriptor(group),
                BITMAPS + group,
                INODE_BITMAPS + group,
                TABLES + 2 * group,
                free,
                INODES,
                0,
                2 if is_uninit else 0,
            )

    def _journal(self) -> None:
        inode = struct.pack("<H30xI4x", 0x8180, layout.EXTENTS_FL)
        extents = struct.pack("<HHHHI", layout.EXTENT_MAGIC, 1, 4, 0, 0)
        extents += struct.pack("<IHHI", 0, 8, 0, JOURNAL)
        self.data[JOURNAL_INODE_AT : JOURNAL_INODE_AT + 40] = inode
        self.data[JOURNAL_INODE_AT + 40 : JOURNAL_INODE_AT + 64] = extents
        at = JOURNAL * BLOCK
        head = struct.pack(">III6I", layout.JOURNAL_MAGIC, 4, 0, BLOCK, 8, 1, 1, 0, 0)
        self.data[at : at + len(head)] = head


def repair(data: bytearray) -> None:
    """Recompute the checksums of a volume whose structures lie where ``Built`` puts them."""
    ro_compat, incompat = (int.from_bytes(data[at : at + 4], "little") for at in (0x464, 0x460))
    seed = crc32c(bytes(data[0x468:0x478]))
    if incompat & layout.INCOMPAT_CSUM_SEED:
        seed = int.from_bytes(data[0x670:0x674], "little")
    size = 64 if incompat & layout.INCOMPAT_64BIT else 32
    for group in range(GROUPS):
        at = DESCRIPTORS * BLOCK + group * size
        if ro_compat & layout.RO_METADATA_CSUM:
            _repair_bitmap(data, at, (BITMAPS + group) * BLOCK, size, seed)
            covered = bytes(data[at : at + 30]) + bytes(2) + bytes(data[at + 32 : at + size])
            found = crc32c(struct.pack("<I", group) + covered, seed) & 0xFFFF
        elif ro_compat & layout.RO_GDT_CSUM:
            covered = bytes(data[at : at + 30]) + bytes(data[at + 32 : at + size])
            before = bytes(data[0x468:0x478]) + struct.pack("<I", group)
            found = crc(before + covered, 0xFFFF, 0xA001)
        else:
            continue
        struct.pack_into("<H", data, at + 30, found)
    if ro_compat & layout.RO_METADATA_CSUM:
        at = MMP * BLOCK
        struct.pack_into("<I", data, at + 0x3FC, crc32c(bytes(data[at : at + 0x3FC]), seed))
        struct.pack_into("<I", data, 0x7FC, crc32c(bytes(data[0x400:0x7FC])))


def _repair_bitmap(data: bytearray, at: int, bitmap: int, size: int, seed: int) -> None:
    found = crc32c(bytes(data[bitmap : bitmap + PER_GROUP // 8]), seed)
    struct.pack_into("<H", data, at + 0x18, found & 0xFFFF)
    if size == 64:
        struct.pack_into("<H", data, at + 0x38, found >> 16)


def compacted(volume: bytearray) -> bytes:
    """Only the pieces of a volume that a parser may look at, one after the other."""
    return b"".join(bytes(volume[offset : offset + length]) for offset, length in PIECES)


def expanded(data: bytes) -> bytearray:
    """The start of a volume from its pieces; what is missing is zeros."""
    volume = bytearray(32 * BLOCK)
    at = 0
    for offset, length in PIECES:
        piece = data[at : at + length]
        volume[offset : offset + len(piece)] = piece
        at += length
    return volume
