"""Btrfs: maps of volumes that mkfs.btrfs and the kernel made, compared with btrfs-progs, and proved
by filling all that is free with garbage.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes import btrfs_truth as truth
from tests.volumes.btrfs_ageing import KINDS, Kind, age, in_use, make


def kernel_knows_btrfs() -> None:
    """Skip where the driver is missing."""
    require_loop_devices()
    require_programs("mkfs.btrfs", "btrfs", "partclone.btrfs", "blkid", "losetup")
    run(["sh", "-c", "grep -q btrfs /proc/filesystems || modprobe btrfs"])


def compare(volume: Path) -> None:
    """The map against the trees as btrfs-progs and partclone read them; then garbage into all that
    is free, and a check of everything."""
    found, allocation = truth.survey(volume)
    wanted, _ = truth.used_by_tools(volume)
    used = truth.used_by_parser(allocation, found.size)
    # What is no whole sector at the end, or behind the file system, is in use.
    assert (used[: len(wanted)] == wanted).all()
    assert used[len(wanted) :].all()
    assert allocation.free.total == 4096 * int((~wanted).sum())
    fields = truth.superblock(volume)
    assert found.size == allocation.used_end == int(fields["dev_item.total_bytes"])
    assert found.cluster_size == int(fields["sectorsize"])
    told = dict(
        line.split("=", 1)
        for line in run(["blkid", "-p", "-o", "export", volume]).splitlines() if "=" in line
    )  # fmt: skip
    assert found.uuid == told["UUID"]
    assert found.label == told.get("LABEL", "").replace("\\ ", " ")
    truth.fill_with_garbage(volume, allocation)
    truth.check(volume)


def history(kind: Kind, tmp_path: Path, seed: int) -> int:
    """Make a volume and let it age, with a comparison behind every step; return how many."""
    volume, at = tmp_path / "volume", tmp_path / "mounted"
    make(kind, volume, seed)
    compare(volume)
    steps, before = kind.steps.split(), None
    for number, step in enumerate(steps):
        with in_use(volume, at, kind):
            assert before is None or truth.contents(at) == before
            age(step, volume, at, kind, seed * 100 + number)
            before = truth.contents(at)
        compare(volume)
    with mounted(volume, at, "-o", "ro"):
        assert before is None or truth.contents(at) == before
    return 1 + len(steps)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_map_is_what_the_tools_say_and_all_that_is_free_can_be_garbage(
    kind: Kind, tmp_path: Path
) -> None:
    kernel_knows_btrfs()
    assert history(kind, tmp_path, 1) == 1 + len(kind.steps.split())


def test_at_least_sixty_volumes_are_compared() -> None:
    assert sum(1 + len(kind.steps.split()) for kind in KINDS) >= 60
