"""Small exFAT volumes from code, so that each mistake can be made alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from aipimage.volumes.filesystems.exfat.layout import boot_checksum
from tests.support.sources import SparseSource

END = 0xFFFF_FFFF
Patches = tuple[tuple[int, bytes], ...]


def bitmap_entry(cluster: int, length: int, flags: int = 0) -> bytes:
    """An entry of an allocation bitmap in the root directory."""
    return struct.pack("<BB18xIQ", 0x81, flags, cluster, length)


def upcase_entry(cluster: int, length: int) -> bytes:
    """An entry of an up-case table."""
    return struct.pack("<B19xIQ", 0x82, cluster, length)


def label_entry(text: str, count: int | None = None) -> bytes:
    """An entry of a volume label."""
    coded = text.encode("utf-16-le").ljust(22, b"\0")[:22]
    return bytes([0x83, len(text) if count is None else count]) + coded + bytes(8)


@dataclass(frozen=True)
class ExfatVolume:
    """A volume by its fields.

    Attributes:
        chains: the FAT from cluster 2 on. used: clusters whose bits are set. root: the entries of
            the root directory, in the clusters of its chain as they follow each other; ``None``
            for bitmap, up-case table and label.
        boot: bytes of the boot sector to overwrite, before the checksum is made; main: after it,
            of the main region only; backup: of the backup only.
    """

    clusters: int = 200
    sector_shift: int = 9
    cluster_shift: int = 0
    fats: int = 1
    flags: int = 0
    root_cluster: int = 4
    chains: tuple[int, ...] = (END, END, END)
    used: tuple[int, ...] = (2, 3, 4, 9, 100)
    second_used: tuple[int, ...] = ()
    root: tuple[bytes, ...] | None = None
    root_clusters: tuple[int, ...] = (4,)
    bitmap_length: int | None = None
    tail: int = 0
    boot: Patches = ()
    main: Patches = ()
    backup: Patches = ()

    def but(self, **changes: object) -> ExfatVolume:
        """The same volume with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def sector(self) -> int:
        return 1 << self.sector_shift

    @property
    def cluster(self) -> int:
        return self.sector << self.cluster_shift

    @property
    def fat_sectors(self) -> int:
        return -(-4 * (self.clusters + 2) // self.sector)

    @property
    def heap(self) -> int:
        """First sector of the clusters."""
        return 24 + self.fats * self.fat_sectors

    @property
    def size(self) -> int:
        """Bytes of the file system."""
        return (self.heap + (self.clusters << self.cluster_shift)) * self.sector

    def bits(self, used: tuple[int, ...]) -> bytes:
        """A bitmap."""
        packed = sum(1 << number - 2 for number in used)
        return packed.to_bytes(-(-self.clusters // 8), "little")

    def entries(self) -> tuple[bytes, ...]:
        """What the root directory holds."""
        length = -(-self.clusters // 8) if self.bitmap_length is None else self.bitmap_length
        found = [label_entry("ÄB"), bitmap_entry(2, length), upcase_entry(3, 100)]
        if self.fats == 2:
            found.insert(2, bitmap_entry(5, length, 1))
        return tuple(found)

    def region(self, patches: Patches) -> bytes:
        """A boot region of 12 sectors."""
        fields = struct.pack(
            "<3s8s53xQQIIIIIIHHBBBBB", b"\xeb\x76\x90", b"EXFAT   ", 0, self.size // self.sector,
            24, self.fat_sectors, self.heap, self.clusters, self.root_cluster, 0x00C0FFEE, 0x100,
            self.flags, self.sector_shift, self.cluster_shift, self.fats, 0x80, 7,
        )  # fmt: skip
        boot = bytearray(fields.ljust(510, b"\0") + b"\x55\xaa")
        for at, value in self.boot:
            boot[at : at + len(value)] = value
        data = boot.ljust(self.sector, b"\0")
        for _ in range(8):
            data += b"\x55\xaa".rjust(self.sector, b"\0")
        data += bytes(2 * self.sector)
        data += boot_checksum(bytes(data)).to_bytes(4, "little") * (self.sector // 4)
        for at, value in patches:
            data[at : at + len(value)] = value
        return bytes(data)

    def head_bytes(self) -> bytes:
        """Everything from the start up to the end of the clusters that hold something."""
        data = bytearray(self.heap * self.sector + 8 * self.cluster)
        head = self.region(self.main) + self.region(self.backup)
        data[: len(head)] = head
        table = struct.pack(f"<{2 + len(self.chains)}I", 0xFFFF_FFF8, END, *self.chains)
        for number in range(self.fats):
            self._put(data, (24 + number * self.fat_sectors) * self.sector, table)
        self._put(data, self._start(2), self.bits(self.used))
        if self.fats == 2:
            self._put(data, self._start(5), self.bits(self.second_used))
        self._put(data, self._start(3), b"upcase table".ljust(100, b"U"))
        root = b"".join(self.entries() if self.root is None else self.root)
        for number, cluster in enumerate(self.root_clusters):
            part = root[number * self.cluster : (number + 1) * self.cluster]
            self._put(data, self._start(cluster), part)
        return bytes(data)

    def source(self) -> SparseSource:
        """The volume, zero behind its head."""
        return SparseSource(self.size + self.tail, {0: self.head_bytes()})

    def _start(self, cluster: int) -> int:
        return (self.heap << self.sector_shift) + (cluster - 2) * self.cluster

    @staticmethod
    def _put(data: bytearray, at: int, value: bytes) -> None:
        data[at : at + len(value)] = value


def two_fats(**changes: object) -> ExfatVolume:
    """A volume with two FATs and bitmaps, as TexFAT makes them."""
    base = ExfatVolume(
        fats=2, chains=(END, END, END, END), used=(2, 3, 4, 5, 9), second_used=(2, 3, 4, 5, 11)
    )
    return base.but(**changes)
