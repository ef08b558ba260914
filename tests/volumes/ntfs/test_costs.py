"""What an NTFS map costs, and what becomes of sectors that cannot be read."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from aipimage.errors import SourceError
from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.ntfs import PARSER
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap
from aipimage.volumes.filesystems.ntfs.boot import decode_geometry
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.volumes.ntfs import small as ntfs_small
from tests.volumes.ntfs.fuzz import seeds, source_of
from tests.volumes.ntfs.judge import surveyed
from tests.volumes.ntfs.made import make, require_ntfs

CLUSTERS = 1 << 30
"""Of 4 KiB: 4 TiB."""


def _scatter(volume: Path) -> int:
    """Use half of the free clusters, in runs of about two hundred; return how many are free."""
    source = open_source(volume)
    view = VolumeView(source, 0, source.size)
    mft = Mft(view, decode_geometry(view.read(0, 512)))
    (run,) = open_bitmap(mft).runs
    source.close()
    there = np.memmap(volume, np.uint8, "r+", run.cluster * 4096, (CLUSTERS // 8,))
    there |= np.repeat(np.random.default_rng(1).integers(0, 2, CLUSTERS // 96 + 1) * 255, 12)[
        : len(there)
    ].astype(np.uint8)
    there.flush()
    return CLUSTERS - int(np.bitwise_count(there).sum())


def test_four_terabytes_take_less_than_two_seconds(tmp_path: Path) -> None:
    require_ntfs()
    volume = make(tmp_path / "volume", CLUSTERS * 4096, "-c", "4096")
    wanted = _scatter(volume)
    start = time.process_time()
    _, allocation = surveyed(volume)
    assert allocation.free.total == wanted * 4096
    assert time.process_time() - start < SOON
    volume.unlink()


def _allocation(source: SparseSource) -> Allocation:
    view = VolumeView(source, 0, source.size)
    found = PARSER.probe(view)
    assert found is not None
    assert PARSER.allocation is not None
    return PARSER.allocation(view, found, SurveyOptions())


def test_little_is_read() -> None:
    source = source_of(seeds()[0])
    _allocation(source)
    # The first pages of the journal, and all records of the MFT about once.
    assert source.bytes_read < (256 + 3 * 99 + 64) << 10


@pytest.mark.parametrize(
    "offset",
    [
        ntfs_small.MFT,
        ntfs_small.MFT + 6 * ntfs_small.RECORD,
        ntfs_small.BITMAP,
        ntfs_small.MIRROR,
        ntfs_small.JOURNAL,
        ntfs_small.LEAF,
        2119 * 512,
    ],
)
def test_sectors_that_cannot_be_read(offset: int) -> None:
    source = source_of(seeds()[0])
    source.bad = ((offset, 512),)
    with pytest.raises(LayoutError, match="cannot be read"):
        _allocation(source)


def test_a_boot_sector_that_cannot_be_read_is_no_find() -> None:
    source = source_of(seeds()[0])
    source.bad = ((0, 512),)
    assert PARSER.probe(VolumeView(source, 0, source.size)) is None


def test_a_source_that_fails_is_an_error_of_its_own() -> None:
    class Gone(SparseSource):
        def read_into(self, buffer: object, offset: int) -> None:
            raise SourceError("gone")

    source = Gone(ntfs_small.SIZE, {})
    with pytest.raises(SourceError, match="gone"):
        PARSER.probe(VolumeView(source, 0, source.size))
