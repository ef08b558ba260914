"""Small VMDK files, right in everything, and the parts to make them wrong in one.

Written from the note "Virtual Disk Format 5.0" alone, with no code of the library: a mistake that
the library's writers and its checker share would be seen here. A disk is a ``Disk``: files by their
names, the first being the one that is opened. Positions are sectors where a name does not say more.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR = 512
CAPACITY = 2048
GRAIN = 128
CID = 0x1234ABCD
OVERHEAD = 128
AT_END = 0xFFFF_FFFF_FFFF_FFFF
HEADER = {
    "version": (4, "I"), "flags": (8, "I"), "capacity": (12, "Q"), "grain": (20, "Q"),
    "descriptor": (28, "Q"), "descriptor_size": (36, "Q"), "entries": (44, "I"),
    "rgd": (48, "Q"), "gd": (56, "Q"), "overhead": (64, "Q"), "unclean": (72, "B"),
    "newlines": (73, "4s"), "compression": (77, "H"), "reserved": (79, "B"),
}  # fmt: skip
"""Fields of a sparse header: byte and type."""


@dataclass
class Disk:
    """Files of a virtual disk, the one that is opened first."""

    files: dict[str, bytearray] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the files; return the path of the first."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder / next(iter(self.files))

    @property
    def first(self) -> bytearray:
        """The bytes of the first file."""
        return next(iter(self.files.values()))


def put(data: bytearray, at: int, form: str, *values: object) -> None:
    """Write little-endian values at a byte."""
    struct.pack_into("<" + form, data, at, *values)


def set_header(data: bytearray, at: int = 0, **values: object) -> None:
    """Write fields of a sparse header that begins at a byte."""
    for name, value in values.items():
        offset, form = HEADER[name]
        put(data, at + offset, form, value)


def sparse_header(**values: object) -> bytearray:
    """The header of a plain extent with its descriptor inside, as changed by ``values``."""
    data = bytearray(SECTOR)
    data[:4] = b"KDMV"
    plain = {
        "version": 1,
        "flags": 3,
        "capacity": CAPACITY,
        "grain": GRAIN,
        "descriptor": 1,
        "descriptor_size": 20,
        "entries": 512,
        "rgd": 21,
        "gd": 26,
        "overhead": OVERHEAD,
        "newlines": b"\n \r\n",
    }
    set_header(data, **(plain | values))
    return data


def content(number: int) -> bytes:
    """A grain of data that compresses to about a third."""
    rng = Random(number)
    return b"".join(rng.randbytes(40) + bytes([number % 251 + 1]) * 88 for _ in range(512))


def descriptor(
    create_type: str,
    extents: list[str],
    *,
    sectors: int = CAPACITY,
    drop: str = "",
    add: str = "",
    **changes: str,
) -> bytearray:
    """The text of a descriptor.

    Args:
        drop: a line that begins so is left out. add: a line more. changes: values of settings, dots
            in their names written as two underscores.
    """
    settings = {
        "version": "1",
        "encoding": '"UTF-8"',
        "CID": f"{CID:08x}",
        "parentCID": "ffffffff",
        "createType": f'"{create_type}"',
    }
    ddb = {
        "ddb.adapterType": "lsilogic",
        "ddb.geometry.cylinders": str(sectors // 1008),
        "ddb.geometry.heads": "16",
        "ddb.geometry.sectors": "63",
        "ddb.longContentID": f"0123456789abcdef01234567{CID:08x}",
        "ddb.virtualHWVersion": "11",
        "ddb.toolsVersion": "2147483647",
    }
    for name, value in changes.items():
        key = name.replace("__", ".")
        (ddb if key in ddb else settings)[key] = value
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines += ["", "# Extent description", *extents, "", "# The Disk Data Base", "#DDB", ""]
    lines += [f'{key} = "{value}"' for key, value in ddb.items()] + ([add] if add else [])
    kept = [line for line in lines if not drop or not line.startswith(drop)]
    return bytearray(("# Disk DescriptorFile\n" + "\n".join(kept) + "\n").encode())


# Plain extents


@dataclass
class Plain:
    """A plain extent; ``entries`` are (number of a grain, sector), in table 0."""

    tables: int = 1
    entries: dict[int, int] = field(default_factory=lambda: {1: 128, 5: 256})
    capacity: int = CAPACITY
    embedded: bool = True

    @property
    def directory(self) -> int:
        """Sectors of a directory."""
        return -(-self.tables * 4 // SECTOR)

    @property
    def rgt(self) -> int:
        """The first redundant table."""
        return (21 if self.embedded else 1) + self.directory

    @property
    def gd(self) -> int:
        """The primary directory."""
        return self.rgt + 4 * self.tables

    @property
    def gt(self) -> int:
        """The first primary table."""
        return self.gd + self.directory

    @property
    def overhead(self) -> int:
        """Sectors before the grains."""
        return -(-(self.gt + 4 * self.tables) // GRAIN) * GRAIN

    def build(self, end: int = 0, text: bytearray | None = None) -> bytearray:
        """The file; ``end``: its sectors, behind the last grain by default."""
        shift = self.overhead - OVERHEAD
        places = {number: sector + shift for number, sector in self.entries.items()}
        last = max(places.values(), default=self.overhead - GRAIN) + GRAIN
        data = bytearray((end or last) * SECTOR)
        where = {} if self.embedded else {"descriptor": 0, "descriptor_size": 0}
        data[:SECTOR] = sparse_header(
            capacity=self.capacity,
            rgd=self.rgt - self.directory,
            gd=self.gd,
            overhead=self.overhead,
            **where,
        )
        if self.embedded:
            text = text or descriptor("monolithicSparse", [f'RW {self.capacity} SPARSE "a.vmdk"'])
            data[SECTOR : SECTOR + len(text)] = text
        for directory, first in ((self.rgt - self.directory, self.rgt), (self.gd, self.gt)):
            for number in range(self.tables):
                put(data, directory * SECTOR + 4 * number, "I", first + 4 * number)
        for number, sector in places.items():
            self.entry(data, number, sector)
            grain = content(number)
            room = len(data) - sector * SECTOR
            if room >= len(grain):
                data[sector * SECTOR : sector * SECTOR + len(grain)] = grain
        return data

    def entry(self, data: bytearray, number: int, sector: int) -> None:
        """Set an entry in both tables."""
        for table in (self.rgt, self.gt):
            put(data, table * SECTOR + 4 * number, "I", sector)


def plain(**header: object) -> Disk:
    """A good monolithicSparse disk of two grains, with fields of its header changed."""
    data = Plain().build()
    set_header(data, **header)
    return Disk({"a.vmdk": data})


def plain_text(text: bytearray, capacity: int = CAPACITY) -> Disk:
    """The same with another descriptor."""
    return Disk({"a.vmdk": Plain(capacity=capacity).build(text=text)})


# Streams


def marker(value: int, size: int, kind: int) -> bytes:
    """The sector of a marker of metadata."""
    return struct.pack("<QII", value, size, kind).ljust(SECTOR, b"\0")


def stored(lba: int, data: bytes) -> bytes:
    """A grain marker, and compressed data padded to whole sectors."""
    record = struct.pack("<QI", lba, len(data)) + data
    return record.ljust(-(-len(record) // SECTOR) * SECTOR, b"\0")


@dataclass
class Stream:
    """A streamOptimized file.

    Attributes:
        grains: (number, compressed data), in the order of the file. entries: overrides those of the
            table. Sectors that ``build`` found: of the grains' markers, of the markers of table,
            directory and footer.
    """

    grains: list[tuple[int, bytes]] = field(
        default_factory=lambda: [(number, zlib.compress(content(number))) for number in (1, 5)]
    )
    entries: dict[int, int] = field(default_factory=dict)
    capacity: int = CAPACITY
    tables: int = 1
    create_type: str = "streamOptimized"
    footer: bool = True
    spare_table: bool = False
    places: dict[int, int] = field(default_factory=dict)
    table_marker: int = 0
    directory_marker: int = 0
    footer_marker: int = 0

    def build(self) -> bytearray:
        """The file."""
        text = descriptor(
            self.create_type, [f'RW {self.capacity} SPARSE "a.vmdk"'], sectors=self.capacity
        )
        header = sparse_header(
            version=3, flags=0x3_0001, capacity=self.capacity, rgd=0, gd=AT_END, compression=1
        )
        data = bytearray(OVERHEAD * SECTOR)
        data[:SECTOR] = header
        data[SECTOR : SECTOR + len(text)] = text
        for number, packed in self.grains:
            self.places[number] = len(data) // SECTOR
            data += stored(number * GRAIN, packed)
        table = bytearray(4 * SECTOR)
        for number, sector in (self.places | self.entries).items():
            put(table, 4 * number, "I", sector)
        if self.spare_table:
            data += marker(4, 0, 1) + table
        self.table_marker = len(data) // SECTOR
        data += marker(4, 0, 1) + table
        self.directory_marker = len(data) // SECTOR
        sectors = -(-self.tables * 4 // SECTOR)
        directory = struct.pack("<I", self.table_marker + 1).ljust(sectors * SECTOR, b"\0")
        data += marker(sectors, 0, 2) + directory
        if self.footer:
            self.footer_marker = len(data) // SECTOR
            set_header(header, gd=self.directory_marker + 1)
            data += marker(1, 0, 3) + header
        return data + marker(0, 0, 0)


def stream(built: Stream | None = None) -> Disk:
    """A good streamOptimized disk of two grains."""
    return Disk({"a.vmdk": (built or Stream()).build()})


# Disks of several files


def flat(text: bytearray | None = None, size: int = CAPACITY * SECTOR) -> Disk:
    """A monolithicFlat disk."""
    text = text or descriptor("monolithicFlat", ['RW 2048 FLAT "a-flat.vmdk" 0'])
    return Disk({"a.vmdk": text, "a-flat.vmdk": bytearray(size)})


def split(text: bytearray | None = None, **header: object) -> Disk:
    """A twoGbMaxExtentSparse disk of two extents."""
    lines = ['RW 2048 SPARSE "a-s001.vmdk"', 'RW 2048 SPARSE "a-s002.vmdk"']
    text = text or descriptor("twoGbMaxExtentSparse", lines, sectors=2 * CAPACITY)
    one, two = Plain(embedded=False).build(), Plain(embedded=False).build()
    set_header(one, **header)
    return Disk({"a.vmdk": text, "a-s001.vmdk": one, "a-s002.vmdk": two})


# Extents of ESX


def cowd_extent(capacity: int = CAPACITY) -> bytearray:
    """A COWD extent of two grains of a sector: directory at 4, table at 5 to 36."""
    data = bytearray(39 * SECTOR)
    put(data, 0, "4s7I", b"COWD", 1, 3, capacity, 1, 4, 1, 39)
    put(data, 4 * SECTOR, "I", 5)
    put(data, 5 * SECTOR + 4 * 10, "I", 37)
    put(data, 5 * SECTOR + 4 * 11, "I", 38)
    return data


def cowd(data: bytearray | None = None) -> Disk:
    """A vmfsSparse disk."""
    text = descriptor("vmfsSparse", ['RW 2048 VMFSSPARSE "a-delta.vmdk"'])
    return Disk({"a.vmdk": text, "a-delta.vmdk": data or cowd_extent()})


SE_REGIONS = {
    "volatile": (1, 1),
    "journal_header": (2, 2),
    "journal": (8, 8),
    "directory": (16, 8),
    "tables": (24, 64),
    "bitmap": (88, 1),
    "backmap": (96, 8),
    "grains": (104, 16),
}
SE_AT = {name: 80 + 16 * number for number, name in enumerate(SE_REGIONS)}
"""Byte of the header where a region's first sector stands; its size follows."""


def sesparse_extent(capacity: int = CAPACITY) -> bytearray:
    """A seSparse extent of two grains."""
    data = bytearray(120 * SECTOR)
    put(data, 0, "5Q", 0xCAFEBABE, 0x2_0000_0001, capacity, 8, 64)
    for name, (start, size) in SE_REGIONS.items():
        put(data, SE_AT[name], "2Q", start, size)
    put(data, SECTOR, "Q", 0xCAFECAFE)
    put(data, 16 * SECTOR, "Q", 0x1000_0000_0000_0000)
    put(data, 24 * SECTOR + 8 * 3, "Q", 0x3000_0000_0000_0000)
    put(data, 24 * SECTOR + 8 * 4, "Q", 0x3001_0000_0000_0000)
    return data


def sesparse(data: bytearray | None = None) -> Disk:
    """A seSparse disk."""
    text = descriptor("seSparse", ['RW 2048 SESPARSE "a-sesparse.vmdk"'])
    return Disk({"a.vmdk": text, "a-sesparse.vmdk": data or sesparse_extent()})
