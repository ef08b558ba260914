"""The fuzz target of the ext parser: volumes of ``ext_builder`` in their compact form."""

from __future__ import annotations

import numpy as np

from aipimage.volumes.filesystems.ext import PARSER
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.ext.built import (
    BITMAPS,
    BLOCK,
    DESCRIPTORS,
    JOURNAL,
    SIZE,
    Built,
    compacted,
    expanded,
    repair,
)
from tests.volumes.journals.built import Built as Journal


def in_use(csum: int) -> Built:
    """A volume with an open journal, in which are a copy of a bitmap and the descriptors."""
    volume, ring = Built(), Journal(csum, blocks=8)
    volume.set(s_feature_incompat=0x3C6)
    ring.transaction(
        [(at, bytes(volume.data[at * BLOCK : (at + 1) * BLOCK])) for at in (DESCRIPTORS, BITMAPS)]
    )
    volume.data[JOURNAL * BLOCK : (JOURNAL + 8) * BLOCK] = ring.data
    return volume


SEEDS = [
    compacted(Built(csum, is_64bit, uses_mmp).data)
    for csum, is_64bit, uses_mmp in (
        ("crc32c", True, True),
        ("crc32c", False, False),
        ("crc16", True, False),
        ("", False, True),
    )
] + [compacted(in_use(csum).data) for csum in (0, 3)]


def fuzz_ext(data: bytes) -> None:
    """Probe and read the map, with the checksums as they are and repaired."""
    volume = expanded(data)
    drive(volume)
    repaired = bytearray(volume)
    repair(repaired)
    if repaired != volume:
        drive(repaired)


def drive(volume: bytearray) -> Allocation | None:
    """What is accepted keeps the superblock, and lies ascending inside of the file system."""
    view = VolumeView(SparseSource(SIZE, {0: bytes(volume)}), 0, SIZE)
    filesystem = PARSER.probe(view)
    if filesystem is None:
        return None
    assert 0 <= filesystem.size <= SIZE
    assert PARSER.allocation is not None
    try:
        allocation = PARSER.allocation(view, filesystem, SurveyOptions())
    except LayoutError:
        return None
    end, total = 2048, 0
    for rows in allocation.free.ranges(0, SIZE):
        for offset, length in rows.astype(np.int64).tolist():
            assert end <= offset
            assert length > 0
            end, total = offset + length, total + length
    assert end <= allocation.used_end == filesystem.size
    assert total == allocation.free.total
    return allocation
