"""XFS volumes in use: what is kept is all that a mount of the copy needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aipimage.volumes.model import SurveyOptions
from tests.support import require_loop_devices
from tests.support.tools import mounted, require_programs, run
from tests.volumes.journals.judge import hashes, replayed, without_free
from tests.volumes.xfs.aged import age
from tests.volumes.xfs.judge import MIB, TOOLS, look, make, reason

FROZEN = "in use: it was frozen or idle, and its log holds nothing but its superblock"


def require() -> None:
    require_programs("mount", "umount", "xfs_freeze", "xfs_io", *TOOLS)
    require_loop_devices()


def same_after_replay(copy: Path, tmp_path: Path, wanted: dict[str, str]) -> None:
    """Without what is free, a copy replays, has all files, and is accepted by xfs_repair."""
    _, allocation = look(copy)
    volume = without_free(copy, allocation, tmp_path / "without free")
    found = replayed(volume, tmp_path / "replayed", "-o", "nouuid")
    assert {name: found.get(name) for name in wanted} == wanted
    run(["xfs_repair", "-n", "-f", volume])


@pytest.mark.parametrize("options", ["", "-m rmapbt=1", "-m reflink=0,finobt=0 -i sparse=0"])
def test_class_50_a_frozen_volume(tmp_path: Path, options: str) -> None:
    """Aged and frozen: used blocks only, with a note; deleted files that are open keep theirs."""
    require()
    volume, copy = make(tmp_path / "volume", 48 * MIB, *options.split()), tmp_path / "copy"
    for number, step in enumerate(("create", "churn", "delete", "scatter", "attributes", "delete")):
        age(volume, tmp_path / "mounted", step, number)
    with mounted(volume, tmp_path / "mounted") as at:
        age_now = [at / f"new{number}" for number in range(20)]
        for path in age_now:
            path.write_bytes(os.urandom(70_000))
        descriptor = os.open(at / "open", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, bytes(1_000_000))
        (at / "open").unlink()
        run(["xfs_freeze", "-f", at])
        wanted = hashes(at)
        shutil.copyfile(volume, copy)
        run(["xfs_freeze", "-u", at])
        os.close(descriptor)
    filesystem, allocation = look(copy)
    assert allocation.notes == (FROZEN,)
    later = look(volume)[1].free.total
    assert 0 < allocation.free.total <= later - 1_000_000
    assert allocation.used_end == filesystem.size
    same_after_replay(copy, tmp_path, wanted)


def test_class_50_what_may_change_is_taken_whole(tmp_path: Path) -> None:
    """An idle volume looks like a frozen one; where it is mounted, that says nothing."""
    require()
    volume = make(tmp_path / "volume", 40 * MIB)
    with mounted(volume, tmp_path / "mounted") as at:
        run(["xfs_freeze", "-f", at])
        found = reason(volume, SurveyOptions(changing=lambda: "it is mounted at /there"))
        frozen = reason(volume)
        run(["xfs_freeze", "-u", at])
    assert found is not None
    assert "it is mounted at /there" in found
    assert frozen is None
    assert reason(volume, SurveyOptions(changing=lambda: "it is mounted at /there")) is None
