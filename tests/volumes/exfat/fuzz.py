"""A fuzz target for exFAT."""

from __future__ import annotations

import struct

from aipimage.volumes.filesystems.exfat import PARSER
from aipimage.volumes.filesystems.exfat.layout import boot_checksum
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.support.surveyed import check_ranges
from tests.volumes.exfat.built import END, ExfatVolume, two_fats

SIZE = 4 << 20
"""Bytes of the volume that an input is the head of; the rest is zero."""


def fuzz_exfat(data: bytes) -> None:
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
    """A volume, one with two FATs, one with 4 KiB sectors and one with scattered chains;
    and one that is in use, with a file and a directory.
    """
    scattered = ExfatVolume(
        6000, chains=(7, END, 6, 0, END, END), used=(2, 3, 4, 6, 7), root_clusters=(4, 6)
    )
    volumes = [
        ExfatVolume(),
        two_fats(),
        scattered,
        ExfatVolume(12, sector_shift=10, used=(2, 3, 4, 9)),
        ExfatVolume(flags=2, root=(*ExfatVolume().entries(), _file(0x20, 60), _file(0x10, 4))),
    ]
    return [volume.head_bytes() for volume in volumes]


def _file(attributes: int, cluster: int) -> bytes:
    """A file or directory of one piece."""
    head = bytes([0x85, 2, 0, 0, attributes]).ljust(32, b"\0")
    return head + struct.pack("<BB18xIQ", 0xC0, 3, cluster, 600) + b"\xc1".ljust(32, b"\0")


def repair(data: bytes) -> bytes:
    """Make both boot regions one with a right checksum, so that what lies behind is reached."""
    shift = data[108] if len(data) > 108 and 9 <= data[108] <= 12 else 9
    size = 12 << shift
    if len(data) < 2 * size:
        return data
    region = bytearray(data[:size])
    region[0:64] = b"\xeb\x76\x90EXFAT   ".ljust(64, b"\0")
    region[510:512] = b"\x55\xaa"
    checked = 11 << shift
    region[checked:] = boot_checksum(bytes(region[:checked])).to_bytes(4, "little") * (
        (size - checked) // 4
    )
    return bytes(region) * 2 + data[2 * size :]
