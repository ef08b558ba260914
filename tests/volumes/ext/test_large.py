"""A map of 4 TiB takes less than 2 s of CPU and little memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from aipimage.volumes.crc32c import crc32c_rows
from tests.support.soon import SOON
from tests.support.tools import require_programs, run
from tests.volumes.ext.made import TOOLS, free_by_dumpe2fs, free_ranges, look, make

SIZE = 4 << 40
MADE = {
    "untouched": "-t ext4 -J size=8 -E nodiscard,lazy_itable_init=1",
    # Every group has a bitmap, each of them alone; its few inodes keep the file small.
    "written": "-t ext2 -b 4096 -O ^resize_inode -i 67108864",
    "meta-bg": "-t ext4 -J size=8 -O meta_bg,^resize_inode,^flex_bg -E lazy_itable_init=1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_four_terabytes(name: str, tmp_path: Path) -> None:
    require_programs(*TOOLS)
    path = make(tmp_path / "volume", SIZE, *MADE[name].split())
    start = time.process_time()
    _, allocation = look(path)
    total = allocation.free.total
    taken = time.process_time() - start
    fields = run(["dumpe2fs", "-h", path])
    assert f"Free blocks:              {total // 4096}\n" in fields
    assert taken < SOON
    wanted, _ = free_by_dumpe2fs(path)
    assert np.array_equal(free_ranges(allocation, SIZE), wanted)
    tracemalloc.start()
    try:
        look(path)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_checksums_of_all_bitmaps_of_four_terabytes() -> None:
    """What the maps above do not have to verify: 128 MiB of bitmaps with metadata_csum."""
    rows = np.random.default_rng(1).integers(0, 256, (1024, 4096), np.uint8)
    crc32c_rows(rows, 0)
    start = time.process_time()
    for _ in range(32):
        crc32c_rows(rows, 1)
    assert time.process_time() - start < SOON
