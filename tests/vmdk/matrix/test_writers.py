"""Every writer x every disk x every checker.

With AIPIMAGE_VMDK_MATRIX=FILE the counts are written to FILE as a table, sub-format x checker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.io.blocks.sources import open_source
from aipimage.vmdk.model import SUBFORMATS
from tests.support.tools import require_programs
from tests.support.virtual import judge as checkers
from tests.support.virtual.disks import HUGE, LARGE, SMALL, TIB, Disk
from tests.support.virtual.judge import Case, Tally


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Counts of this process; written down when its last test here is done."""
    counts = Tally()
    yield counts
    if file := os.environ.get("AIPIMAGE_VMDK_MATRIX"):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        Path(file + (f".{worker}" if worker else "")).write_text(counts.table())


def written(
    disk: Disk, subformat: str, folder: Path, seconds: float = 60, split: int | None = None
) -> Case:
    """Make a disk, and a virtual disk of it."""
    raw = disk.make(folder / "source.raw")
    path = folder / "disk.vmdk"
    source = open_source(raw)
    try:
        vmdk.write(path, source, subformat=subformat, split=split)
    finally:
        source.close()
    return Case(subformat, disk, raw, path, seconds)


def judged(case: Case, tally: Tally, names: tuple[str, ...] = ()) -> None:
    """Ask all checkers, or those of ``names``."""
    for name, check in {**checkers.OTHERS, **checkers.OURS}.items():
        if not names or name in names:
            tally.add(case.subformat, name, check(case))


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("disk", SMALL, ids=lambda disk: disk.name)
def test_small_disks(disk: Disk, subformat: str, tmp_path: Path, tally: Tally) -> None:
    require_programs(*checkers.PROGRAMS)
    judged(written(disk, subformat, tmp_path), tally)


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("disk", LARGE, ids=lambda disk: disk.name)
def test_large_disks(disk: Disk, subformat: str, tmp_path: Path, tally: Tally) -> None:
    require_programs(*checkers.PROGRAMS)
    judged(written(disk, subformat, tmp_path), tally)


QUICK = ("qemu-img info", "vmdkinfo", "libvmdk read-back", "lint", "reader")
"""Those that look at a disk of terabytes in a second or two."""


@pytest.mark.parametrize("subformat", [each for each in SUBFORMATS if not each.startswith("twoGb")])
def test_a_disk_of_three_tebibytes(subformat: str, tmp_path: Path, tally: Tally) -> None:
    require_programs(*checkers.PROGRAMS)
    judged(written(HUGE[-1], subformat, tmp_path), tally, QUICK)


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_three_tebibytes_in_few_extents(subformat: str, tmp_path: Path, tally: Tally) -> None:
    """In extents of 2047 MiB it would be 1537 files, each of them synced: see the long test. Lint
    is not asked, since it warns of larger extents.
    """
    require_programs(*checkers.PROGRAMS)
    case = written(HUGE[-1], subformat, tmp_path, split=TIB // 2)
    judged(case, tally, tuple(name for name in QUICK if name != "lint"))


@pytest.mark.long
@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("disk", HUGE, ids=lambda disk: disk.name)
def test_huge_disks_by_all_checkers(
    disk: Disk, subformat: str, tmp_path: Path, tally: Tally
) -> None:
    require_programs(*checkers.PROGRAMS)
    judged(written(disk, subformat, tmp_path, seconds=900), tally)
