"""What is used of a built volume, or why it is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from aipimage.volumes.filesystems.exfat import PARSER
from aipimage.volumes.view import LayoutError
from tests.support.surveyed import surveyed, used_of
from tests.volumes.exfat.built import END, ExfatVolume, bitmap_entry, label_entry, upcase_entry

FILE = b"\x85".ljust(32, b"\0")


PLAIN = ExfatVolume()


OWN = (label_entry("L"), bitmap_entry(2, 25), upcase_entry(3, 100))


def used(volume: ExfatVolume) -> list[int]:
    """Numbers of the clusters that are in use."""
    return (np.flatnonzero(used_of(surveyed(PARSER, volume.source())[1])) + 2).tolist()


def refused(volume: ExfatVolume, reason: str) -> None:
    """The volume is told to be exFAT, and taken whole for that reason."""
    with pytest.raises(LayoutError, match=reason):
        surveyed(PARSER, volume.source())


def stream_entry(cluster: int, length: int, flags: int = 1) -> bytes:
    """The stream extension of a file; flags: 1 has clusters, 2 they follow each other."""
    return struct.pack("<BB18xIQ", 0xC0, flags, cluster, length)


def file_set(stream: bytes, directory: bool = False, kind: int = 0x85) -> bytes:
    """A file's entries: the file, its stream, its name."""
    head = bytes([kind, 2, 0, 0, 0x10 if directory else 0x20]).ljust(32, b"\0")
    return head + stream + b"\xc1\0x\0".ljust(32, b"\0")


def with_files(*sets: bytes, **changes: object) -> ExfatVolume:
    """A volume with clusters of a sector whose root directory, in two of them, has these files."""
    root = (*OWN, *sets)
    base = PLAIN.but(root=root, root_clusters=(4, 5), chains=(END, END, 5, END, 7, END, END, END))
    return base.but(**{"used": (2, 3, 4, 5, *range(6, 12))} | changes)


CONTIGUOUS, CHAINED = stream_entry(100, 1500, 3), stream_entry(6, 700)
