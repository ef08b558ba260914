"""Small FAT volumes from code, so that each mistake can be made alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

from tests.support.sources import SparseSource

CLEAN = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFF_FFFF}
END = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFF_FFFF}


@dataclass(frozen=True)
class FatVolume:
    """A volume by its fields; ``entries`` are those of the table from cluster 2 on, the others are
    free. ``boot`` overwrites bytes of the boot sector, and ``tables`` those of each table.
    """

    bits: int = 16
    clusters: int = 5000
    entries: tuple[int, ...] = (END[16], 4, END[16])
    per_cluster: int = 1
    sector: int = 512
    fats: int = 2
    reserved: int = 4
    root_entries: int = 512
    fat_sectors: int = 0
    media: int = 0xF8
    flags: int = 0
    backup: int = 0
    head: int | None = None
    first: int | None = None
    tail: int = 0
    boot: tuple[tuple[int, bytes], ...] = ()
    tables: tuple[tuple[int, int, bytes], ...] = ()
    root: bytes = field(default=b"", repr=False)

    def but(self, **changes: object) -> FatVolume:
        """The same volume with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def table_sectors(self) -> int:
        return self.fat_sectors or -(-(self.clusters + 2) * self.bits // 8 // self.sector) + 1

    @property
    def data_start(self) -> int:
        root = 0 if self.bits == 32 else self.root_entries * 32
        return (self.reserved + self.fats * self.table_sectors) * self.sector + root

    @property
    def size(self) -> int:
        """Bytes of the file system."""
        return self.data_start + self.clusters * self.per_cluster * self.sector

    def table(self) -> bytes:
        """The bytes of a table."""
        head = self.media | 0x0FFFFF00 & END[self.bits] if self.head is None else self.head
        first = CLEAN[self.bits] if self.first is None else self.first
        values = [head, first, *self.entries]
        if self.bits == 12:
            packed = sum(value << 12 * at for at, value in enumerate(values))
            data = packed.to_bytes(-(-len(values) * 3 // 2), "little")
        else:
            data = struct.pack(f"<{len(values)}{'H' if self.bits == 16 else 'I'}", *values)
        return data.ljust(self.table_sectors * self.sector, b"\0")

    def boot_sector(self) -> bytes:
        wide = self.bits == 32
        sectors = self.size // self.sector
        small = sectors if sectors < 1 << 16 and not wide else 0
        data = bytearray(struct.pack(
            "<3s8sHBHBHHBHHHII", b"\xeb\x58\x90", b"MSDOS5.0", self.sector, self.per_cluster,
            self.reserved, self.fats, 0 if wide else self.root_entries, small, self.media,
            0 if wide else self.table_sectors, 32, 64, 0, 0 if small else sectors,
        ))  # fmt: skip
        if wide:
            data += struct.pack("<IHHIHH12x", self.table_sectors, self.flags, 0, 2, 1, self.backup)
        name = f"FAT{self.bits}   ".encode()
        data += struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 0x1234ABCD, b"NO NAME    ", name)
        data = data.ljust(510, b"\0") + b"\x55\xaa"
        return bytes(data)

    def head_bytes(self) -> bytes:
        """Everything from the start up to the end of the root directory, or of cluster 2."""
        boot = bytearray(self.boot_sector())
        data = bytearray(self.data_start + self.per_cluster * self.sector)
        if self.backup:
            data[self.backup * self.sector : self.backup * self.sector + 512] = boot
        for at, value in self.boot:
            boot[at : at + len(value)] = value
        data[:512] = boot
        for number in range(self.fats):
            table = bytearray(self.table())
            for which, at, value in self.tables:
                if which == number:
                    table[at : at + len(value)] = value
            start = (self.reserved + number * self.table_sectors) * self.sector
            data[start : start + len(table)] = table
        root = self.data_start if self.bits == 32 else self.data_start - self.root_entries * 32
        data[root : root + len(self.root)] = self.root
        return bytes(data)

    def source(self) -> SparseSource:
        """The volume, zero behind its head."""
        return SparseSource(self.size + self.tail, {0: self.head_bytes()})


def fat12(**changes: object) -> FatVolume:
    """A FAT12 volume of 60 clusters, three of them in use."""
    base = FatVolume(12, 60, (3, END[12], END[12]), reserved=1, root_entries=128)
    return base.but(**changes)


def fat16(**changes: object) -> FatVolume:
    """A FAT16 volume of 5,000 clusters, three of them in use."""
    return FatVolume().but(**changes)


def fat32(**changes: object) -> FatVolume:
    """A FAT32 volume of 300 clusters, four of them in use."""
    base = FatVolume(32, 300, (END[32], 4, END[32], 0, END[32]), reserved=8, backup=6)
    return base.but(**changes)
