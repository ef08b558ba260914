"""Deltas of all kinds, written from their layouts by plain code: one grain after the other.

A disk's expected content is a ``bytearray``; ``Grains`` are what a delta has of it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aipimage.vmdk.cowdlayout import CowdHeader, encode_cowd_header
from aipimage.vmdk.descriptor import NO_PARENT, Descriptor, ExtentLine, format_descriptor
from aipimage.vmdk.layout import SparseFlags, SparseHeader, encode_sparse_header
from aipimage.vmdk.sesparselayout import SeHeader, encode_se_header, encode_se_volatile

SECTOR = 512
ENTRIES = 4096


@dataclass
class Grains:
    """What a delta has: data by the number of the grain, and grains that it calls zero."""

    size: int
    data: dict[int, bytes] = field(default_factory=dict)
    zeros: set[int] = field(default_factory=set)
    unmapped: set[int] = field(default_factory=set)

    def onto(self, disk: bytearray) -> bytearray:
        """Apply the delta to a copy of what was there before."""
        disk = bytearray(disk)
        for number in self.zeros | self.unmapped:
            self._put(disk, number, bytes(self.size))
        for number, data in self.data.items():
            self._put(disk, number, data)
        return disk

    def _put(self, disk: bytearray, number: int, data: bytes) -> None:
        start = number * self.size
        length = min(self.size, len(disk) - start)
        disk[start : start + length] = data[:length]


def random_grains(
    chance: random.Random, disk: int, size: int, *, count: int = 20, zeros: int = 0
) -> Grains:
    """Runs of grains at random places of a disk of ``disk`` bytes, the last grain among them."""
    last = -(-disk // size) - 1
    grains = Grains(size)
    for _ in range(count):
        first = chance.randint(0, last)
        for number in range(first, min(first + chance.randint(1, 5), last + 1)):
            grains.data[number] = chance.randbytes(size)
    grains.data[last] = chance.randbytes(size)
    taken = list(grains.data)
    for number in chance.sample(taken[:-1], min(zeros, len(taken) - 1)):
        del grains.data[number]
        (grains.zeros if number % 2 else grains.unmapped).add(number)
    return grains


def _shuffled(numbers: Iterable[int]) -> list[int]:
    """An order in which some neighbours stay neighbours, as on a disk that was in use."""
    listed = sorted(numbers)
    blocks = [listed[at : at + 3] for at in range(0, len(listed), 3)]
    random.Random(len(listed)).shuffle(blocks)
    return [number for block in blocks for number in block]


def write_cowd(path: Path, sectors: int, grains: Grains, **changes: Any) -> None:
    """Write a vmfsSparse extent: tables and grains in the order in which they came to be."""
    grain = grains.size // SECTOR
    tables = -(-sectors // (grain * ENTRIES))
    free = 4 + -(-tables * 4 // SECTOR)
    directory = [0] * tables
    with path.open("wb") as file:
        for number in _shuffled(grains.data):
            table, entry = divmod(number, ENTRIES)
            if not directory[table]:
                directory[table] = free
                free += ENTRIES * 4 // SECTOR
            file.seek(directory[table] * SECTOR + entry * 4)
            file.write(struct.pack("<I", free))
            file.seek(free * SECTOR)
            file.write(grains.data[number])
            free += grain
        file.truncate(free * SECTOR)
        file.seek(4 * SECTOR)
        file.write(struct.pack(f"<{tables}I", *directory))
        file.seek(0)
        header = CowdHeader(3, sectors, grain, 4, tables, free)
        file.write(encode_cowd_header(replace(header, **changes)))


def write_sesparse(path: Path, sectors: int, grains: Grains, *, replay: bool = False) -> None:
    """Write an seSparse extent of grains of 4 KiB."""
    tables = -(-sectors // (8 * ENTRIES))
    directory_sectors = -(-tables * 8 // SECTOR)
    at = {"volatile": (1, 1), "journal_header": (2, 2), "journal": (4, 4)}
    end = 8
    for name, size in (
        ("directory", directory_sectors),
        ("tables", tables * 64),
        ("free_bitmap", 8),
        ("backmap", 8),
    ):
        at[name] = (end, size)
        end += size
    end = -(-end // 8) * 8
    at["grains"] = (end, sectors)
    directory: dict[int, int] = {}
    with path.open("wb") as file:
        file.write(encode_se_header(SeHeader(sectors, **at)))
        file.write(encode_se_volatile(0, 1, replay))
        entries = _se_entries(grains)
        for number in _shuffled(entries):
            table, entry = divmod(number, ENTRIES)
            place = directory.setdefault(table, len(directory))
            file.seek(at["tables"][0] * SECTOR + place * 32768 + entry * 8)
            file.write(struct.pack("<Q", entries[number]))
        for table, place in directory.items():
            file.seek(at["directory"][0] * SECTOR + table * 8)
            file.write(struct.pack("<Q", 0x1000_0000_0000_0000 | place))
        for place, number in enumerate(_shuffled(grains.data)):
            file.seek(at["grains"][0] * SECTOR + place * 4096)
            file.write(grains.data[number])
        file.truncate(max(file.tell(), at["grains"][0] * SECTOR))


def _se_entries(grains: Grains) -> dict[int, int]:
    """Entries by number of grain: the low 12 bits of a place stand above the other 48."""
    entries = dict.fromkeys(grains.unmapped, 1 << 60)
    entries |= dict.fromkeys(grains.zeros, 2 << 60)
    for place, number in enumerate(_shuffled(grains.data)):
        entries[number] = 3 << 60 | (place & 0xFFF) << 48 | place >> 12
    return entries


def write_hosted(path: Path, sectors: int, grains: Grains, text: Descriptor) -> None:
    """Write a hosted sparse extent, descriptor embedded; of version 2 with zeroed grains."""
    grain = grains.size // SECTOR
    tables = -(-sectors // (grain * 512))
    directory, first = 21, 21 + -(-tables * 4 // SECTOR)
    overhead = -(-(first + tables * 4) // 128) * 128
    entries = [0] * (tables * 512)
    with path.open("wb") as file:
        free = overhead
        for number in _shuffled(grains.data):
            entries[number] = free
            file.seek(free * SECTOR)
            file.write(grains.data[number])
            free += grain
        for number in grains.zeros | grains.unmapped:
            entries[number] = 1
        file.truncate(free * SECTOR)
        file.seek(directory * SECTOR)
        file.write(struct.pack(f"<{tables}I", *(first + 4 * table for table in range(tables))))
        file.seek(first * SECTOR)
        file.write(struct.pack(f"<{len(entries)}I", *entries))
        zeroed = SparseFlags.ZEROED_GRAINS if grains.zeros | grains.unmapped else 0
        header = SparseHeader(
            2 if zeroed else 1,
            SparseFlags.NEWLINE_TEST | zeroed,
            sectors,
            grain,
            1,
            20,
            512,
            0,
            directory,
            overhead,
        )
        file.seek(0)
        file.write(encode_sparse_header(header))
        file.write(format_descriptor(text).encode())


def text_of(
    create_type: str, line: ExtentLine, cid: int, parent: int = NO_PARENT, hint: str | None = None
) -> Descriptor:
    """A descriptor of one extent."""
    ddb = {"adapterType": "lsilogic", "geometry.heads": "255", "geometry.sectors": "63"}
    return Descriptor(cid, create_type, (line,), parent, hint, ddb=ddb)


def disk(
    path: Path,
    kind: str,
    sectors: int,
    grains: Grains,
    cid: int,
    parent: int = NO_PARENT,
    hint: str | None = None,
) -> Path:
    """Write a disk: ``kind`` is "hosted", "cowd", "sesparse" or "flat"; return its descriptor."""
    if kind == "hosted":
        line = ExtentLine("RW", sectors, "SPARSE", path.name)
        write_hosted(path, sectors, grains, text_of("monolithicSparse", line, cid, parent, hint))
        return path
    extent = path.with_name(f"{path.stem}-{'flat' if kind == 'flat' else 'delta'}.vmdk")
    if kind == "flat":
        extent.write_bytes(grains.onto(bytearray(sectors * SECTOR)))
    else:
        writer = {"cowd": write_cowd, "sesparse": write_sesparse}[kind]
        writer(extent, sectors, grains)
    names: Mapping[str, tuple[str, str]] = {
        "flat": ("vmfs", "VMFS"),
        "cowd": ("vmfsSparse", "VMFSSPARSE"),
        "sesparse": ("seSparse", "SESPARSE"),
    }
    create_type, word = names[kind]
    line = ExtentLine("RW", sectors, word, extent.name)
    text = format_descriptor(text_of(create_type, line, cid, parent, hint))
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path
