"""Images of volumes in use: full ones and increments, at times in use and at others not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import aipimage
from tests.cli.running import done
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ext import made as ext
from tests.volumes.journals.busy import Load, host, snapshot
from tests.volumes.journals.judge import replayed
from tests.volumes.xfs import judge as xfs

MIB = 1 << 20
CHECKS = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n", "-f")}
OPTIONS = {"ext4": ("-o", "commit=1"), "xfs": ("-o", "nouuid")}


def make(kind: str, path: Path) -> Path:
    """A volume of its kind."""
    if kind == "ext4":
        return ext.make(path, 128 * MIB, "-t", "ext4", "-b", "4096")
    return xfs.make(path, 300 * MIB)


def states(kind: str, there: Path, at: Path, chance: random.Random) -> list[Path]:
    """Copies of a volume: unmounted, in use, in use, frozen, in use, and unmounted."""
    volume, found = make(kind, there / "volume"), []

    def copy() -> None:
        found.append(snapshot(volume, there / f"state{len(found)}"))

    with mounted(volume, at, *OPTIONS[kind]) as place, Load(place, 1) as load:
        load.wait(0.5)
    copy()
    with mounted(volume, at, *OPTIONS[kind]) as place, Load(place, 2) as load:
        for _ in range(2):
            load.wait(chance.uniform(0.2, 1))
            copy()
        run(["fsfreeze", "-f", place])
        try:
            copy()
        finally:
            run(["fsfreeze", "-u", place])
        load.wait(chance.uniform(0.2, 1))
        copy()
    copy()
    return found


def same(kind: str, restored: Path, state: Path, at: Path) -> None:
    """A restored volume has the files of what was imaged, once each was replayed."""
    plain = snapshot(state, state.with_name("plain"))
    wanted = replayed(plain, at, *OPTIONS[kind])
    assert replayed(restored, at, *OPTIONS[kind]) == wanted
    assert len(wanted) > 10
    run([*CHECKS[kind], restored])


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_points_in_time(tmp_path: Path, kind: str) -> None:
    """A chain over all of these states: each is restored as it was, and none is taken whole."""
    require_programs("mount", "umount", "fsfreeze", *ext.TOOLS, *xfs.TOOLS)
    with host(tmp_path) as there:
        disk, parent, images = there / "disk", None, []
        found = states(kind, there, tmp_path / "at", random.Random(3))
        for number, state in enumerate(found):
            disk.unlink(missing_ok=True)
            snapshot(state, disk)
            images.append(there / f"image{number}.aiv")
            result = aipimage.create(images[-1], [disk], parent=parent)
            assert result.warnings == ()
            parent = images[-1]
        notes = []
        for number, (image, state) in enumerate(zip(images, found, strict=True)):
            with aipimage.open(image) as opened:
                (volume,) = opened.volumes
                assert volume.whole_because == ""
                assert volume.used < volume.size
                notes.append(volume.notes)
                target = there / f"restored{number}"
                opened.restore(target)
            same(kind, target, state, tmp_path / "at")
        in_use = [bool(each) and each[0].startswith("in use: ") for each in notes]
        # A frozen ext4 has nothing in its journal.
        assert in_use == [False, True, True, kind == "xfs", True, False]
        assert notes[1][0] in str(done("info", images[1]))


def _first_in_use(found: list[Path]) -> list[Path]:
    return found[1:2] + found[5:]


def _first_clean(found: list[Path]) -> list[Path]:
    return found[:1] + found[4:5]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("order", [_first_in_use, _first_clean])
def test_what_became_used_is_taken_whatever_a_tracker_says(
    tmp_path: Path, kind: str, order: Callable[[list[Path]], list[Path]]
) -> None:
    """What was kept of a volume in use and what is kept of one that is not need not be the same: an
    increment takes what its parent left out, though nothing was written there.
    """
    require_programs("mount", "umount", "fsfreeze", *ext.TOOLS, *xfs.TOOLS)
    with host(tmp_path) as there:
        disk = there / "disk"
        first, second = order(states(kind, there, tmp_path / "at", random.Random(5)))
        snapshot(first, disk)
        aipimage.create(there / "first.aiv", [disk])
        changed = differing(first, second)
        disk.unlink()
        snapshot(second, disk)
        aipimage.create(there / "second.aiv", [disk], parent=there / "first.aiv", changed=changed)
        with aipimage.open(there / "second.aiv") as opened:
            opened.restore(there / "restored")
        same(kind, there / "restored", second, tmp_path / "at")


def differing(one: Path, other: Path) -> npt.NDArray[np.uint64]:
    """The blocks of 64 KiB in which two files differ, as (offset, length)."""
    found, step = [], 1 << 16
    with open(one, "rb") as first, open(other, "rb") as second:
        at = 0
        while data := first.read(step):
            if data != second.read(step):
                found.append((at, len(data)))
            at += len(data)
    return np.array(found, np.uint64).reshape(-1, 2)
