"""A smaller disk: where a file system cannot become as small as one plan wants it, another plan is
tried; and only where there is none the restore is refused, for the first reason.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import TargetError
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.restoring import attempts, shrinking
from aipimage.volumes.restoring.shrinking import CannotShrinkError, Smaller
from tests.support.tools import require_programs, run
from tests.volumes.restoring.made import (
    LINUX,
    MIB,
    check_volume,
    content_of,
    copy_range,
    make_volume,
    partitions_of,
    tree_of,
    verify_table,
)


def volume(path: Path, mib: int, kind: str, options: Sequence[str] = ()) -> Path:
    if options:
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
        run(["mke2fs", "-q", "-F", "-t", kind, *options, "-d", path.parent / "tree", path])
    else:
        make_volume(kind, path, mib * MIB, path.parent / "tree")
    return path


class Disk:
    """A GPT disk with volumes of (kind, MiB, options of mke2fs) one behind the other."""

    def __init__(self, directory: Path, *wanted: tuple[str, int, Sequence[str]]) -> None:
        require_programs("sfdisk", "sgdisk")
        tree_of(directory / "tree", most=10_000)
        self.directory, self.kinds = directory, [kind for kind, _, _ in wanted]
        lines, at, disk = ["label: gpt", "unit: sectors"], 1, directory / "d.img"
        for _, mib, _ in wanted:
            lines.append(f"start={at * 2048}, size={mib * 2048}, type={LINUX}")
            at += mib
        self.size = (at + 1) * MIB
        with open(disk, "wb") as file:
            file.truncate(self.size)
        subprocess.run(["sfdisk", "-q", disk], input="\n".join(lines).encode(), check=True)
        self.contents = []
        for number, (kind, mib, options) in enumerate(wanted, 1):
            made = volume(directory / f"v{number}", mib, kind, options)
            self.contents.append(content_of(kind, made))
            copy_range(made, 0, mib * MIB, disk, partitions_of(disk)[number - 1].start)
        aipimage.create(directory / "d.aiv", [disk], compress="zstd:1")

    def restored(self, less: int) -> RestoreResult:
        """To a disk that many MiB smaller; its table and all of its files are looked at."""
        target = self.directory / "t.raw"
        with aipimage.open(self.directory / "d.aiv") as image:
            result = image.restore(target, size=self.size - less * MIB)
        verify_table(target)
        for kind, part, content in zip(
            self.kinds, partitions_of(target), self.contents, strict=True
        ):
            copy = self.directory / f"c{part.number}-less-{less}"
            copy_range(target, part.start, part.size, copy)
            check_volume(kind, copy)
            assert content_of(kind, copy) == content
        assert not list(self.directory.glob(".aipimage-*"))
        return result

    def refused(self, less: int, match: str) -> None:
        with pytest.raises(TargetError, match=match):
            self.restored(less)
        assert not list(self.directory.glob("t.raw*"))
        assert not list(self.directory.glob(".aipimage-*"))


def shrunk(result: RestoreResult) -> set[int]:
    return {change.number for change in result.changes if change.size < change.old_size}


@pytest.mark.parametrize("order", [0, 1], ids=["at the end", "at the start"])
@pytest.mark.parametrize("option", ["stable_inodes", "bigalloc"])
def test_another_volume_becomes_smaller(tmp_path: Path, option: str, order: int) -> None:
    """The one that was to become so is of a form that resize2fs does not make smaller."""
    plain, stubborn = ("ext4", 90, ()), ("ext4", 91, ("-O", option))
    disk = Disk(tmp_path, *([plain, stubborn] if not order else [stubborn, plain]))
    result = disk.restored(30)
    assert shrunk(result) == {1 + order}
    assert not result.warnings


def test_the_others_share_what_one_cannot_give(tmp_path: Path) -> None:
    disk = Disk(
        tmp_path, ("ext4", 60, ()), ("ntfs", 60, ()), ("ext4", 120, ("-O", "stable_inodes"))
    )
    assert shrunk(disk.restored(70)) == {1, 2}


def test_without_a_plan_the_first_refusal_is_the_reason(tmp_path: Path) -> None:
    disk = Disk(
        tmp_path,
        ("xfs", 64, ()),
        ("ext4", 60, ("-O", "stable_inodes")),
        ("ext4", 61, ("-O", "stable_inodes")),
    )
    disk.refused(20, r"volume 3 .ext4. cannot become as small as .*stable_inodes feature flag")


def test_a_missing_tool_leads_to_another_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, ("ext4", 60, ()), ("ntfs", 100, ()))
    monkeypatch.setattr(
        shrinking, "missing_of", lambda names: [name for name in names if name == "ntfsresize"]
    )
    assert shrunk(disk.restored(20)) == {1}
    (tmp_path / "t.raw").unlink()
    monkeypatch.setattr(shrinking, "missing_of", list)
    disk.refused(20, r"volume 2 .ntfs. has to become smaller, and ntfsresize is not installed")


def test_a_header_that_cannot_be_changed_leads_to_another_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT32 and swap are changed by their headers."""
    disk = Disk(tmp_path, ("ext4", 50, ()), ("fat32", 200, ()))
    real = attempts.header_patches

    def refusing(source: object, smaller: Smaller) -> object:
        raise CannotShrinkError("volume 2 (fat32) cannot become smaller: no", 2)

    monkeypatch.setattr(shrinking, "find_tool", lambda name: None)
    monkeypatch.setattr(attempts, "header_patches", refusing)
    assert shrunk(disk.restored(10)) == {1}
    (tmp_path / "t.raw").unlink()
    monkeypatch.setattr(attempts, "header_patches", real)
    assert shrunk(disk.restored(11)) == {2}


def test_a_tool_that_needs_more_gets_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much; then the other one gives the rest. A copy that fits is used again."""
    disk = Disk(tmp_path, ("ext4", 80, ()), ("ext4", 100, ()))
    made, real = [], attempts.shrink_copy

    def needing(job: object, smaller: Smaller, directory: str) -> object:
        made.append((smaller.volume.number, smaller.size // MIB))
        if smaller.volume.number == 2 and smaller.size < 60 * MIB:
            raise CannotShrinkError("volume 2 needs more", 2, 60 * MIB)
        return real(job, smaller, directory)  # type: ignore[arg-type]

    monkeypatch.setattr(attempts, "shrink_copy", needing)
    result = disk.restored(80)
    sizes = {change.number: change.size for change in result.changes}
    assert sizes[2] >= 60 * MIB
    assert sizes[1] <= 40 * MIB
    assert len(made) == len(set(made))
