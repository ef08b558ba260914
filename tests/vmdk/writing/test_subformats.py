"""Each sub-format as qemu and libvmdk see it; matrix/test_writers.py asks about more disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage.vmdk.model import SUBFORMATS
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run
from tests.vmdk.writing.made import GRAIN, disk, raw_file, write

DISKS = {
    "one sector": SparseSource(512, {0: b"x" * 512}),
    "empty": disk("." * 40),
    "full": disk("tr" * 60),
    "alternating": disk("t." * 200),
    "odd": disk("t..r", tail=7 * 512),
    "incompressible": disk("r" * 20),
    "sparse, 5 GiB": SparseSource(
        5 << 30, {0: b"a" * 600, (2 << 30) - 512: b"b" * 100_000, (5 << 30) - 512: b"c" * 512}
    ),
}


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("name", DISKS)
def test_qemu_reads_the_same(name: str, subformat: str, tmp_path: Path) -> None:
    require_programs("qemu-img", "vmdkinfo")
    source = DISKS[name]
    raw = raw_file(source, tmp_path / "source.raw")
    result = write(tmp_path / "d.vmdk", source, subformat=subformat, adapter="ide")
    path = tmp_path / "d.vmdk"
    text = run(["qemu-img", "check", "-f", "vmdk", path], timeout=120)
    assert "No errors were found" in text
    text = run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", raw, path], timeout=60)
    assert "Images are identical" in text
    text = run(["vmdkinfo", path], timeout=120)
    assert f"({result.capacity} bytes)" in text
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(
        ["source.raw", *(Path(each).name for each in result.files)]
    )


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized", "monolithicFlat"])
def test_three_tebibytes_take_little(subformat: str, tmp_path: Path) -> None:
    """A capacity over 2 TiB is no obstacle while the file stays small."""
    require_programs("qemu-img")
    size = 3 << 40
    source = SparseSource(size, {512: b"a", (2 << 40) + GRAIN: b"b" * 9000, size - 1: b"c"})
    result = write(tmp_path / "d.vmdk", source, subformat=subformat)
    used = sum(each.stat().st_blocks * 512 for each in tmp_path.iterdir())
    assert used < 4 << 20
    run(["qemu-img", "check", "-f", "vmdk", tmp_path / "d.vmdk"], timeout=60)
    assert result.grains == 3
