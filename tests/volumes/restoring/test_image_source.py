"""A device of an image as a source that is surveyed."""

from __future__ import annotations

from pathlib import Path

import pytest

import aipimage
from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError
from aipimage.volumes.restoring.imagesource import ImageSource
from tests.support.sources import SparseSource

MIB = 1 << 20


def test_an_image_as_a_source(tmp_path: Path) -> None:
    """It reads like the disk; what could not be read then cannot be read now either."""
    source = SparseSource(
        4 * MIB + 100, {0: b"a" * 5000, 2 * MIB: b"b" * 9000}, bad=((3 * MIB, 4096),)
    )
    aipimage.create(tmp_path / "s.aiv", [source])
    with aipimage.open(tmp_path / "s.aiv") as image:
        seen = ImageSource(image.devices[0])
        assert isinstance(seen, BlockSource)
        assert (seen.size, seen.sector_size) == (4 * MIB + 100, 512)
        buffer = bytearray(3 * MIB)
        seen.read_into(buffer, 0)
        assert bytes(buffer) == source.content(0, 3 * MIB)
        ranges = list(seen.data_ranges(4096, seen.size))
        assert ranges[0][0] == 4096
        assert [row for row in ranges if row[0] <= 3 * MIB < sum(row)]
        assert not [row for row in ranges if row[0] <= MIB < sum(row)]
        assert not list(seen.data_ranges(seen.size, seen.size))
        with pytest.raises(UnreadableRangeError):
            seen.read_into(bytearray(8192), 3 * MIB - 4096)
        tail = bytearray(200)
        seen.read_into(tail, seen.size - 200)
        with pytest.raises(RuntimeError, match="internal error"):
            seen.read_into(bytearray(200), seen.size - 100)
        assert seen.fingerprint()["digest"] == image.digest
        seen.close()
