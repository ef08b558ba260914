"""Disks of every size and kind of content for all writers: sparse raw files, and their pieces."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
SECTOR, GRAIN = 512, 64 * KIB
TABLE = 512 * GRAIN
"""Bytes of disk that a grain table of 512 entries covers."""
EXTENT = 4_192_256 * SECTOR
"""Bytes of a split extent, 2047 MiB (the note, "Virtual Disks")."""
WHOLE = 20 * MIB
"""Disks up to this size are compared byte by byte, larger ones where they hold data, and beside."""

Pieces = Iterator[tuple[int, bytes]]


@dataclass(frozen=True)
class Disk:
    """A disk: its name in the table, its size in bytes, and what lies where."""

    name: str
    size: int
    pieces: Callable[[int], Pieces]

    def make(self, path: Path) -> Path:
        """Write it as a sparse raw file."""
        with path.open("wb", buffering=0) as file:
            file.truncate(self.size)
            for offset, data in self.pieces(self.size):
                assert offset + len(data) <= self.size, "a piece behind the end of its disk"
                os.pwrite(file.fileno(), data, offset)
        return path


def _random(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def _text(seed: int, length: int) -> bytes:
    """Bytes that can be compressed to about a fourth, without a zero among them."""
    words = [f"{number:06x}".encode() for number in random.Random(seed).choices(range(4096), k=256)]
    line = b" ".join(words) + b"\n"
    return (line * (length // len(line) + 1))[:length]


def _nothing(_: int) -> Pieces:
    return iter(())


def _few(size: int) -> Pieces:
    """A boot sector, something in the middle, and a grain of which only the last byte is set."""
    yield 0, _text(1, min(SECTOR, size))
    if size >= 4 * GRAIN:
        yield size // 2 // SECTOR * SECTOR, _random(2, 3 * SECTOR)
        yield 2 * GRAIN - 1, b"\1"


def _full(size: int) -> Pieces:
    for offset in range(0, size, GRAIN):
        yield offset, _text(offset, min(GRAIN, size - offset))


def _alternating(size: int) -> Pieces:
    for offset in range(GRAIN, size, 2 * GRAIN):
        yield offset, _text(offset, min(GRAIN, size - offset))


def _incompressible(size: int) -> Pieces:
    yield 0, _random(3, size)


def _last(size: int) -> Pieces:
    yield size - SECTOR, _random(4, SECTOR)


def _tables(size: int) -> Pieces:
    """Both sides of the borders of grain tables, and a table between them with nothing."""
    for offset in (TABLE - GRAIN, 2 * TABLE, size - GRAIN):
        yield offset, _text(offset, GRAIN)


def _borders(size: int) -> Pieces:
    """Both sides of each border of split extents up to the sixth, and the ends of the disk."""
    yield 0, _text(5, GRAIN)
    for offset in range(EXTENT, min(size - MIB, 6 * EXTENT), EXTENT):
        yield offset - SECTOR, _random(offset, 2 * SECTOR)
    for border in (2 * TIB, 4 * GIB):
        if border < size:
            yield border - GRAIN, _text(border, 2 * GRAIN)
    yield size - SECTOR, _random(6, SECTOR)


SMALL = (
    Disk("1 MiB", MIB, _few),
    Disk("one sector", SECTOR, _full),
    Disk("a grain less a sector", GRAIN - SECTOR, _full),
    Disk("a grain and a sector", GRAIN + SECTOR, _incompressible),
    Disk("1 MiB and a sector", MIB + SECTOR, _last),
    Disk("odd, 20 MiB and 3 sectors", 20 * MIB + 3 * SECTOR, _alternating),
    Disk("empty, 40 MiB", 40 * MIB, _nothing),
    Disk("full, 8 MiB", 8 * MIB, _full),
    Disk("alternating grains, 16 MiB", 16 * MIB, _alternating),
    Disk("incompressible, 4 MiB", 4 * MIB, _incompressible),
    Disk("last sector only, 100 MiB", 100 * MIB, _last),
    Disk("borders of tables, 97 MiB", 97 * MIB, _tables),
)
LARGE = (
    Disk("5 GiB", 5 * GIB, _borders),
    Disk("odd, 4094 MiB and a sector", 2 * EXTENT + SECTOR, _borders),
)
HUGE = (Disk("2 TiB less a sector", 2 * TIB - SECTOR, _borders), Disk("3 TiB", 3 * TIB, _borders))


def ranges_to_compare(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is compared of a raw file: all of it, or its data with a MiB
    of each hole. Each begins with a grain and is 1 MiB at most.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            length = min(MIB, size - offset)
            yield offset, length
            offset += length
            if size > WHOLE and not any(_read(file.fileno(), offset - length, length)):
                offset = _next_data(file.fileno(), offset, size)


def _next_data(handle: int, offset: int, size: int) -> int:
    try:
        return os.lseek(handle, offset, os.SEEK_DATA) // GRAIN * GRAIN if offset < size else size
    except OSError:
        return size


def _read(handle: int, offset: int, length: int) -> bytes:
    return os.pread(handle, length, offset)
