"""Other readers read the disks made by hand as we do, so that the tests do not judge themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.vmdk.descriptor import ExtentLine
from aipimage.vmdk.layout import GRAIN, SECTOR, SparseFlags
from tests.support.tools import require_programs, run
from tests.support.virtual.judge import PYTHON, READ_BACK
from tests.vmdk.reading.built import GRAIN_BYTES, PLAIN, Plain, Stream, noise, text, written
from tests.vmdk.reading.made import read_whole

CAPACITY = 600 * GRAIN
GRAINS = {number: noise(GRAIN_BYTES, number) for number in (0, 1, 2, 9, 511, 512, 599)}
ZEROED = PLAIN | SparseFlags.ZEROED_GRAINS


def build(folder: Path, kind: str) -> Path:
    disk = folder / "d.vmdk"
    if kind == "vmfs":
        written(folder / "d-flat.vmdk", noise(1 << 20))
        line = ExtentLine("RW", 2048, "VMFS", "d-flat.vmdk")
        return written(disk, text(line, kind="vmfs"))
    if kind == "mixed":
        written(folder / "d-f1.vmdk", noise(3 * GRAIN_BYTES))
        written(folder / "d-s2.vmdk", Plain(CAPACITY, GRAINS, descriptor=None).build())
        lines = (
            ExtentLine("RW", GRAIN, "FLAT", "d-f1.vmdk", GRAIN),
            ExtentLine("RW", CAPACITY, "SPARSE", "d-s2.vmdk"),
        )
        return written(disk, text(*lines, kind="twoGbMaxExtentSparse"))
    made: dict[str, Plain | Stream] = {
        "plain": Plain(CAPACITY, GRAINS),
        "zeroed": Plain(CAPACITY, {**GRAINS, 4: 1}, flags=ZEROED, changes={"version": 2}),
        "stream": Stream(CAPACITY, GRAINS),
        "header only": Stream(CAPACITY, GRAINS, footer=False, eos=False),
    }
    return written(disk, made[kind].build())


@pytest.mark.parametrize("kind", ["plain", "zeroed", "stream", "header only", "vmfs", "mixed"])
def test_qemu_reads_the_same(tmp_path: Path, kind: str) -> None:
    require_programs("qemu-img")
    disk, raw = build(tmp_path, kind), tmp_path / "raw"
    run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", disk, raw], timeout=60)
    with vmdk.open(disk) as source:
        assert read_whole(source) == raw.read_bytes()


@pytest.mark.parametrize("kind", ["plain", "stream", "header only", "vmfs"])
def test_libvmdk_reads_the_same(tmp_path: Path, kind: str) -> None:
    require_programs(PYTHON)
    disk = build(tmp_path, kind)
    if kind != "vmfs":
        # Unlike us and qemu, libvmdk goes by the name in the embedded descriptor.
        disk = disk.rename(tmp_path / "other-name.vmdk")
    with vmdk.open(disk) as source:
        raw = written(tmp_path / "raw", read_whole(source))
        step = 1 << 16
        ranges = [(at, min(step, source.size - at)) for at in range(0, source.size, step)]
        size = source.size
    listed = written(tmp_path / "ranges", "".join(f"{at} {length}\n" for at, length in ranges))
    assert int(run([PYTHON, READ_BACK, disk, raw, listed], timeout=60)) == size
    assert size % SECTOR == 0
