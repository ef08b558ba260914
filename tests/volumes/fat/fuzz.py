"""A fuzz target for FAT12, FAT16 and FAT32."""

from __future__ import annotations

import struct

from aipimage.volumes.filesystems.fat import PARSER
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.support.surveyed import check_ranges
from tests.volumes.fat.built import fat12, fat16, fat32

SIZE = 4 << 20
"""Bytes of the volume that an input is the head of; the rest is zero."""

FOLDER = struct.pack("<11sB14xHI", b"FOLDER     ", 0x10, 3, 0) + struct.pack(
    "<11sB14xHI", b"FILE    TXT", 0x20, 9, 2000
)
"""Entries that a volume in use may have before its table has their clusters."""


def fuzz_fat(data: bytes) -> None:
    """Probe and read the map of a volume that begins with ``data``, as it is and repaired."""
    for attempt in {data, repair(data)}:
        _survey(attempt)


def _survey(data: bytes) -> None:
    source = SparseSource(max(SIZE, len(data)), {0: data})
    view = VolumeView(source, 0, source.size)
    filesystem = PARSER.probe(view)
    assert source.bytes_read <= 256 << 10
    if filesystem is None:
        return
    assert PARSER.allocation is not None
    try:
        allocation = PARSER.allocation(view, filesystem, SurveyOptions())
    except LayoutError:
        return
    check_ranges(allocation, source.size)
    assert allocation.free.total < filesystem.size <= source.size
    assert allocation.used_end <= filesystem.size


def seeds() -> list[bytes]:
    """One volume of each type, and a few of their variants."""
    label = b"A LABEL    \x08".ljust(32, b"\0")
    return [
        volume.head_bytes()
        for volume in (
            fat12(root=label),
            fat16(root=label),
            fat32(root=label),
            fat16(clusters=4085),
            fat32(flags=0x81),
            fat12(sector=4096, root_entries=128, per_cluster=2),
            fat12(root=FOLDER, boot=((0x25, b"\1"),)),
            fat16(root=FOLDER, first=0x7FFF),
            fat32(root=FOLDER, boot=((0x41, b"\1"),)),
        )
    ]


def repair(data: bytes) -> bytes:
    """The boot sector's signature, and a copy of the first table over the second, so that what
    lies behind these checks is reached.
    """
    changed = bytearray(data)
    changed[510:512] = b"\x55\xaa"
    sector, reserved = int.from_bytes(data[11:13], "little"), int.from_bytes(data[14:16], "little")
    size = int.from_bytes(data[22:24], "little") or int.from_bytes(data[36:40], "little")
    start, length = sector * reserved, sector * size
    if length and start + 2 * length <= len(changed):
        changed[start + length : start + 2 * length] = changed[start : start + length]
    return bytes(changed)
