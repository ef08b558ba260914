"""The header of a hosted sparse extent: each field, and where it says that things are.

Source: the note, "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents".
"""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.errors import FormatError
from aipimage.vmdk.layout import (
    CAPACITY_MAX,
    GD_AT_END,
    GRAIN_MAX,
    INCOMPATIBLE_FLAGS,
    KNOWN_FLAGS,
    NEWLINES,
    SECTOR,
    TABLE_ENTRIES,
    SparseFlags,
    SparseHeader,
    unpack_sparse_header,
)
from aipimage.vmdk.linting.codes import Severity
from aipimage.vmdk.linting.findings import CheckedFile

AT = {
    "version": 4, "flags": 8, "capacity": 12, "grain_size": 20, "descriptor": 28, "entries": 44,
    "rgd": 48, "gd": 56, "overhead": 64, "unclean": 72, "newlines": 73, "compression": 77,
    "reserved": 79,
}  # fmt: skip
"""Byte offsets of the fields."""
TABLES_MAX = 1 << 22
"""Grain tables of an extent at most: 128 TiB in grains of 64 KiB."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of an extent with 32-bit grain tables is known and can be relied on.

    Attributes:
        capacity, grain: sectors. entries: of a table. tables: how many. zeroed: entry 1 has a
            meaning. overhead: sectors before the grains. stream: grains are deflate streams.
        aligned: grains begin at multiples of the grain size.
    """

    capacity: int
    grain: int
    entries: int
    tables: int
    zeroed: bool = False
    overhead: int = 0
    stream: bool = False
    aligned: bool = True

    @property
    def table_sectors(self) -> int:
        """Sectors of a grain table."""
        return -(-self.entries * 4 // SECTOR)

    @property
    def directory_sectors(self) -> int:
        """Sectors of the grain directory."""
        return -(-self.tables * 4 // SECTOR)

    @property
    def grains(self) -> int:
        """Grains of the extent; the last may be short."""
        return -(-self.capacity // self.grain)

    @property
    def last_sectors(self) -> int:
        """Sectors of the last grain."""
        return self.capacity - (self.grains - 1) * self.grain


def check_header(checked: CheckedFile) -> SparseHeader | None:
    """Check the fields of the header one by one; ``None`` where the file has none."""
    data = checked.read(0, SECTOR)
    try:
        header = unpack_sparse_header(data, checked.path)
    except FormatError:
        checked.add("extent-kind", "no VMDK sparse extent begins here", 0)
        return None
    _check_flags(checked, header)
    if data[AT["unclean"]]:
        checked.add("header-unclean", "the file was not closed after the last write", AT["unclean"])
    if header.newlines != NEWLINES:
        checked.add(
            "header-newlines",
            "was changed by a transfer as text: fetch it again, as binary",
            AT["newlines"],
        )
    if any(data[AT["reserved"] :]):
        at = AT["reserved"] + next(i for i, byte in enumerate(data[AT["reserved"] :]) if byte)
        checked.add("header-reserved", "reserved bytes of the header are not zero", at)
    _check_numbers(checked, header)
    return header


def _check_flags(checked: CheckedFile, header: SparseHeader) -> None:
    flags = header.flags
    if unknown := flags & ~KNOWN_FLAGS:
        severity: Severity | None = "error" if unknown & INCOMPATIBLE_FLAGS else None
        checked.add("header-flags", f"unknown flags {unknown:#x}", AT["flags"], severity=severity)
    if not flags & SparseFlags.NEWLINE_TEST:
        checked.add("header-flags", "the flag for the newline test is not set", AT["flags"])
    if flags & SparseFlags.ZEROED_GRAINS and header.version < 2:
        checked.add("header-flags", "zeroed grains need version 2", AT["flags"])
    redundant = bool(flags & SparseFlags.REDUNDANT_TABLE)
    if redundant != bool(header.rgd_offset):
        what = "is set" if redundant else "is not set"
        checked.add(
            "redundant-flag",
            f"the flag for redundant tables {what}, rgdOffset is {header.rgd_offset}",
            AT["rgd"],
        )
    if header.compression != int(header.compressed):
        checked.add(
            "header-compression",
            f"compressAlgorithm is {header.compression}, the flag for "
            f"compressed grains {'set' if header.compressed else 'not set'}",
            AT["compression"],
        )
    markers = bool(flags & SparseFlags.MARKERS)
    if markers != header.compressed:
        checked.add("header-markers", "compressed grains and markers go together", AT["flags"])
    if header.version not in (1, 2, 3) or (header.compressed and header.version != 3):
        what = "; a compressed extent has 3" if header.compressed else ""
        checked.add("header-version", f"version {header.version}{what}", AT["version"])


def _check_numbers(checked: CheckedFile, header: SparseHeader) -> None:
    grain = header.grain_size
    if grain & (grain - 1) or not 8 <= grain <= GRAIN_MAX:
        checked.add("grain-size", f"grains of {grain} sectors", AT["grain_size"])
    elif grain > 128:
        # Only qemu and libvmdk take them.
        checked.add("grain-size", f"grains of {grain} sectors, over 128", AT["grain_size"])
    elif header.capacity % grain:
        checked.add(
            "capacity-unaligned",
            f"{header.capacity} sectors are not a multiple of the grain, {grain}",
            AT["capacity"],
        )
    if not 0 < header.capacity <= CAPACITY_MAX:
        checked.add("capacity-limit", f"{header.capacity} sectors", AT["capacity"])
    if header.table_entries != TABLE_ENTRIES:
        checked.add(
            "table-entries", f"grain tables of {header.table_entries} entries", AT["entries"]
        )
    _check_descriptor_place(checked, header)
    if not 1 <= header.overhead <= checked.size // SECTOR:
        checked.add(
            "overhead",
            f"overHead is {header.overhead}, the file has {checked.size // SECTOR} sectors",
            AT["overhead"],
        )


def _check_descriptor_place(checked: CheckedFile, header: SparseHeader) -> None:
    start, size = header.descriptor_offset, header.descriptor_size
    if not start and not size:
        return
    if not start or not size or start + size > header.overhead:
        checked.add(
            "descriptor-place",
            f"a descriptor of {size} sectors at sector {start}; overHead is {header.overhead}",
            AT["descriptor"],
        )


def shape_of(checked: CheckedFile, header: SparseHeader) -> Shape | None:
    """Return what the tables are to be read with; ``None`` where numbers forbid to."""
    grain, entries = header.grain_size, header.table_entries
    good = (
        1 <= grain <= GRAIN_MAX
        and not grain & (grain - 1)
        and 1 <= entries <= TABLE_ENTRIES
        and 0 < header.capacity <= CAPACITY_MAX
    )
    if not good:
        return None
    if header.tables > TABLES_MAX:
        checked.add("directory-limit", f"{header.tables} grain tables, over {TABLES_MAX}", 12)
        return None
    return Shape(
        header.capacity,
        grain,
        entries,
        header.tables,
        bool(header.flags & SparseFlags.ZEROED_GRAINS),
        header.overhead,
        header.compressed,
    )


def at_end(header: SparseHeader) -> bool:
    """Whether the directory's place is in the footer."""
    return header.gd_offset == GD_AT_END
