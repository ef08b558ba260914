"""Virtual disks by hand, from the records alone: good ones, and ones with a single thing wrong."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from aipimage.vmdk.descriptor import NO_PARENT, Descriptor, ExtentLine, format_descriptor
from aipimage.vmdk.layout import (
    GD_AT_END,
    GRAIN,
    SECTOR,
    TABLE_ENTRIES,
    MarkerType,
    SparseFlags,
    SparseHeader,
    encode_marker,
    encode_sparse_header,
)

GRAIN_BYTES = GRAIN * SECTOR
TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
PLAIN = int(SparseFlags.NEWLINE_TEST)
STREAM = int(SparseFlags.NEWLINE_TEST | SparseFlags.COMPRESSED | SparseFlags.MARKERS)


def noise(count: int, seed: int = 0) -> bytes:
    """Bytes that look like nothing."""
    return random.Random(seed).randbytes(count)


def text(*lines: ExtentLine, kind: str = "monolithicSparse", parent: int = NO_PARENT) -> str:
    """A descriptor."""
    return format_descriptor(Descriptor(0x1234_5678, kind, lines, parent))


def own_text(sectors: int, kind: str) -> str:
    """The descriptor of a disk in one file."""
    return text(ExtentLine("RW", sectors, "SPARSE", "other-name.vmdk"), kind=kind)


@dataclass
class Plain:
    """A plain sparse extent: header, descriptor, directory, tables, grains.

    Attributes:
        capacity: sectors. grains: content by number; an ``int`` is put into the table as it is.
        changes: fields of the header to set. directory: entries to set, by number.
    """

    capacity: int
    grains: Mapping[int, bytes | int] = field(default_factory=dict)
    flags: int = PLAIN
    changes: dict[str, int | bytes | bool] = field(default_factory=dict)
    directory: dict[int, int] = field(default_factory=dict)
    descriptor: str | None = ""

    def build(self) -> bytes:
        tables = -(-self.capacity // (GRAIN * TABLE_ENTRIES))
        directory_at = 21
        first_table = directory_at + -(-tables * 4 // SECTOR)
        overhead = -(-(first_table + tables * TABLE_SECTORS) // GRAIN) * GRAIN
        header = SparseHeader(
            1, self.flags, self.capacity, GRAIN, 1, 20, TABLE_ENTRIES, 0, directory_at, overhead
        )
        if self.descriptor is None:
            header = replace(header, descriptor_offset=0, descriptor_size=0)
        entries = [0] * (tables * TABLE_ENTRIES)
        data = bytearray()
        for number, content in self.grains.items():
            if isinstance(content, int):
                entries[number] = content
            else:
                entries[number] = overhead + len(data) // SECTOR
                data += content.ljust(GRAIN_BYTES, b"\0")
        names = [first_table + TABLE_SECTORS * number for number in range(tables)]
        for number, place in self.directory.items():
            names[number] = place
        head = bytearray(overhead * SECTOR)
        head[:SECTOR] = encode_sparse_header(replace(header, **self.changes))
        told = self.descriptor or own_text(self.capacity, "monolithicSparse")
        if self.descriptor is not None:
            head[SECTOR : SECTOR + len(told)] = told.encode()
        struct.pack_into(f"<{tables}I", head, directory_at * SECTOR, *names)
        struct.pack_into(f"<{len(entries)}I", head, first_table * SECTOR, *entries)
        return bytes(head + data)


def zlib_stream(data: bytes) -> bytes:
    return zlib.compress(data, 1)


def raw_stream(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@dataclass
class Stream:
    """A streamOptimized disk, as the note draws it.

    Attributes:
        marker: what makes a grain's 12 bytes of marker out of its first sector and the size of its
            stream. entry: what is put into the table for a grain, given its sector in the file.
        footer, eos: whether they are written. behind: bytes appended at the very end.
        footer_changes: fields of the footer alone.
    """

    capacity: int
    grains: Mapping[int, bytes] = field(default_factory=dict)
    compress: Callable[[bytes], bytes] = zlib_stream
    marker: Callable[[int, int], bytes] = lambda sector, size: encode_marker(sector, size)[:12]
    entry: Callable[[int], int] = lambda place: place
    eos: bool = True
    footer: bool = True
    behind: bytes = b""
    flags: int = STREAM
    changes: dict[str, int | bytes | bool] = field(default_factory=dict)
    footer_changes: dict[str, int | bytes | bool] = field(default_factory=dict)

    def build(self) -> bytes:
        header = SparseHeader(
            3, self.flags, self.capacity, GRAIN, 1, 20, TABLE_ENTRIES, 0, GD_AT_END, GRAIN,
            compression=1,
        )  # fmt: skip
        header = replace(header, **self.changes)
        out = bytearray(GRAIN_BYTES)
        out[:SECTOR] = encode_sparse_header(header)
        told = own_text(self.capacity, "streamOptimized").encode()
        out[SECTOR : SECTOR + len(told)] = told
        tables = -(-self.capacity // (GRAIN * TABLE_ENTRIES))
        entries = [0] * (tables * TABLE_ENTRIES)
        for number in sorted(self.grains):
            stream = self.compress(self.grains[number])
            entries[number] = self.entry(len(out) // SECTOR)
            out += _filled(self.marker(number * GRAIN, len(stream)) + stream)
        directory = []
        for number in range(tables):
            out += _metadata(TABLE_SECTORS, MarkerType.GRAIN_TABLE)
            directory.append(len(out) // SECTOR)
            out += struct.pack("<512I", *entries[number * 512 : number * 512 + 512])
        out += _metadata(-(-tables * 4 // SECTOR), MarkerType.GRAIN_DIRECTORY)
        place = len(out) // SECTOR
        out += _filled(struct.pack(f"<{tables}I", *directory))
        if self.footer:
            out += _metadata(1, MarkerType.FOOTER)
            footer = replace(header, gd_offset=place)
            out += encode_sparse_header(replace(footer, **self.footer_changes))
        else:
            out[:SECTOR] = encode_sparse_header(replace(header, gd_offset=place))
        return bytes(out + (bytes(SECTOR) if self.eos else b"") + self.behind)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % SECTOR)


def _metadata(sectors: int, kind: MarkerType) -> bytes:
    return _filled(encode_marker(sectors, 0, kind))


def content(capacity: int, grains: Mapping[int, bytes | int]) -> bytes:
    """What a disk of so many sectors with such grains reads as."""
    result = bytearray(-(-capacity // GRAIN) * GRAIN_BYTES)
    for number, data in grains.items():
        if isinstance(data, bytes):
            result[number * GRAIN_BYTES : number * GRAIN_BYTES + len(data)] = data
    return bytes(result[: capacity * SECTOR])


def written(path: Path, data: bytes | str) -> Path:
    """Write a file; the path of it."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
