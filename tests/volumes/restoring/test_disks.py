"""Disks restored to files of the same size, larger and smaller ones, and to devices; compared by
sfdisk, sgdisk, each file system's own check, and every file's digest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import RequestError, TargetError
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.restoreoptions import RestoreOptions
from aipimage.volumes.restoring import shrinking
from aipimage.volumes.restoring.disk import restore_disk
from tests.support import loop_device
from tests.support.tools import require_programs, run
from tests.volumes.restoring.made import (
    MIB,
    Wanted,
    check_disk,
    check_volume,
    content_of,
    contents_of,
    copy_range,
    make_disk,
    make_volume,
    partitions_of,
    tree_of,
    verify_table,
)

GPT = [
    Wanted("bios", 1),
    Wanted("fat32", 40),
    Wanted("ext4", 64),
    Wanted("ntfs", 40),
    Wanted("exfat", 16),
    Wanted("xfs", 64),
    Wanted("btrfs", 128),
    Wanted("swap", 8),
    Wanted("unknown", 4),
]
MBR = [
    Wanted("ntfs", 20),
    Wanted("fat16", 16, gap=5),
    Wanted("ext2", 12, gap=9, logical=True),
    Wanted("fat12", 4, logical=True),
    Wanted("exfat", 8, gap=3, logical=True),
]


@dataclass(frozen=True)
class Made:
    """A disk, an image of its used clusters, and what lies in its volumes."""

    disk: Path
    image: Path
    wanted: list[Wanted]
    contents: list[dict[str, str]]

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.disk.stat().st_size

    def restored(self, target: Path | str, **options: object) -> RestoreResult:
        """Restore it."""
        with aipimage.open(self.image) as image:
            return restore_disk(image, target, RestoreOptions(**options))  # type: ignore[arg-type]

    def check(self, disk: Path, work: Path) -> None:
        """The table, the file systems and the files are in order."""
        check_disk(disk, self.wanted, self.contents, work)


def make(directory: Path, label: str, wanted: list[Wanted], **more: int) -> Made:
    """Make a disk and its image."""
    disk = make_disk(directory, label, wanted, **more)
    contents = contents_of(disk, wanted)
    made = aipimage.create(directory / "d.aiv", [disk], compress="zstd:1")
    assert not made.warnings
    for path in directory.glob("volume*"):
        if path.is_file():
            path.unlink()
    return Made(disk, directory / "d.aiv", wanted, contents)


@pytest.fixture(scope="module")
def gpt_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A GPT with volumes of all kinds."""
    directory = tmp_path_factory.mktemp("gpt")
    yield make(directory, "gpt", GPT)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def mbr_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """An MBR with logical partitions and gaps."""
    directory = tmp_path_factory.mktemp("mbr")
    yield make(directory, "dos", MBR)
    shutil.rmtree(directory)


@pytest.fixture(params=["gpt", "mbr"])
def any_disk(request: pytest.FixtureRequest) -> Made:
    """Both of them."""
    found = request.getfixturevalue(f"{request.param}_disk")
    assert isinstance(found, Made)
    return found


def garbage(path: Path, size: int) -> Path:
    """A file of 0xA5."""
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            file.write(b"\xa5" * min(MIB, size - at))
    return path


def hidden_sectors(disk: Path, offset: int, kind: str) -> int:
    """The place of its partition that a boot sector names, in bytes."""
    with open(disk, "rb") as file:
        file.seek(offset)
        head = file.read(512)
    return int.from_bytes(head[64:72] if kind == "exfat" else head[28:32], "little") * 512


def test_same_size_over_garbage(any_disk: Made, tmp_path: Path) -> None:
    """Used clusters alone are enough; the rest is holes."""
    target = garbage(tmp_path / "t.raw", any_disk.size)
    result = any_disk.restored(target, force=True)
    assert result.unused > 0
    assert not result.changes
    assert target.stat().st_blocks * 512 < 2 * result.written
    any_disk.check(target, tmp_path / "check")


@pytest.mark.parametrize("more", [512, 7 * MIB + 512, 1 << 30])
def test_larger(any_disk: Made, tmp_path: Path, more: int) -> None:
    """Partitions stay where they are; the backup of a GPT lies at the new end, and at no other."""
    target = tmp_path / "t.raw"
    result = any_disk.restored(target, size=any_disk.size + more)
    assert not result.changes
    assert not result.warnings
    assert target.stat().st_size == any_disk.size + more
    assert partitions_of(target) == [*partitions_of(any_disk.disk)]
    any_disk.check(target, tmp_path / "check")
    with open(target, "rb") as file:
        file.seek(any_disk.size - 512)
        assert file.read(512) == bytes(512)


def test_larger_file_that_is_there(any_disk: Made, tmp_path: Path) -> None:
    """It keeps its size, and is refused without force."""
    target = garbage(tmp_path / "t.raw", any_disk.size + MIB)
    with pytest.raises(TargetError, match=r"\(force=True\)"):
        any_disk.restored(target)
    any_disk.restored(target, force=True)
    assert target.stat().st_size == any_disk.size + MIB
    verify_table(target)


def test_what_lies_behind_the_last_partition_is_dropped(mbr_disk: Made, tmp_path: Path) -> None:
    """Nothing moves for that."""
    target = tmp_path / "t.raw"
    result = mbr_disk.restored(target, size=mbr_disk.size - 2 * MIB)
    assert not result.changes
    assert partitions_of(target) == partitions_of(mbr_disk.disk)
    mbr_disk.check(target, tmp_path / "check")


@pytest.mark.parametrize("less", [3, 8, 14, 19])
def test_partitions_move_into_gaps(mbr_disk: Made, tmp_path: Path, less: int) -> None:
    """Logical ones with their records; boot sectors name the new place."""
    target = tmp_path / "t.raw"
    result = mbr_disk.restored(target, size=mbr_disk.size - less * MIB)
    assert result.changes
    assert all(change.size == change.old_size for change in result.changes)
    assert all(change.start % MIB == 0 for change in result.changes)
    parts = partitions_of(target, volumes_only=True)
    for each, part in zip(MBR, parts, strict=True):
        if each.kind in ("ntfs", "fat16", "fat12"):
            assert hidden_sectors(target, part.start, each.kind) == part.start
    mbr_disk.check(target, tmp_path / "check")


def test_volumes_become_smaller(mbr_disk: Made, tmp_path: Path) -> None:
    """Where gaps are not enough."""
    require_programs("ntfsresize")
    target = tmp_path / "t.raw"
    result = mbr_disk.restored(target, size=mbr_disk.size - 24 * MIB)
    assert [change for change in result.changes if change.size < change.old_size]
    assert any("made smaller" in note for note in result.notes)
    mbr_disk.check(target, tmp_path / "check")
    with pytest.raises(TargetError, match="more bytes are needed; partition"):
        mbr_disk.restored(tmp_path / "u.raw", size=20 * MIB)
    assert sorted(os.listdir(tmp_path)) == ["check", "t.raw"]


@pytest.mark.parametrize("kind", ["ext2", "ext4", "ntfs", "fat12", "fat16", "fat32", "swap"])
@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_each_kind_becomes_smaller(tmp_path: Path, kind: str, label: str) -> None:
    """Cut to about what is in use; its own check has nothing against it, and all files are there.

    Behind it lies a partition that has to move.
    """
    size = {"fat32": 60, "fat12": 6}.get(kind, 48)
    wanted = [Wanted(kind, size), Wanted("exfat", 8)]
    made = make(tmp_path / "d", label, wanted, tail=1)
    less = {"fat12": 4, "fat32": 20}.get(kind, 28)
    result = made.restored(tmp_path / "t.raw", size=made.size - less * MIB)
    first = result.changes[0]
    assert first.size <= (size - less + 2) * MIB
    assert result.changes[1].start < result.changes[1].old_start
    made.check(tmp_path / "t.raw", tmp_path / "check")
    moved = partitions_of(tmp_path / "t.raw")[1]
    assert moved.start == result.changes[1].start
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".aipimage")]


def test_btrfs_becomes_smaller(tmp_path: Path) -> None:
    """Through a mount."""
    made = make(tmp_path / "d", "gpt", [Wanted("btrfs", 400), Wanted("swap", 2)])
    result = made.restored(tmp_path / "t.raw", size=made.size - 100 * MIB)
    assert result.changes[0].size < 310 * MIB
    made.check(tmp_path / "t.raw", tmp_path / "check")


@pytest.mark.parametrize("kind", ["xfs", "exfat"])
def test_what_cannot_become_smaller(tmp_path: Path, kind: str) -> None:
    """It is said, and nothing is written."""
    made = make(tmp_path / "d", "gpt", [Wanted(kind, 64)])
    with pytest.raises(TargetError, match=f"partition 1 cannot become smaller: .*shrink {kind}"):
        made.restored(tmp_path / "t.raw", size=made.size - 8 * MIB)
    target = garbage(tmp_path / "there.raw", 8 * MIB)
    before = target.read_bytes()
    with pytest.raises(TargetError, match=r"set_size=True\)"):
        made.restored(target, force=True)
    assert target.read_bytes() == before
    assert not (tmp_path / "t.raw").exists()


@pytest.mark.parametrize(
    ("kind", "tool"), [("ext4", "resize2fs"), ("ntfs", "ntfsresize"), ("btrfs", "btrfs")]
)
def test_a_missing_tool_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tool: str
) -> None:
    """Before anything is written."""
    made = make(tmp_path / "d", "gpt", [Wanted(kind, 400 if kind == "btrfs" else 48)])
    monkeypatch.setattr(shrinking, "missing_of", lambda names: [n for n in names if n == tool])
    with pytest.raises(TargetError, match=f"volume 1 .{kind}. has to become smaller, and {tool}"):
        made.restored(tmp_path / "t.raw", size=made.size - 10 * MIB)
    assert os.listdir(tmp_path) == ["d"]


def test_a_tool_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No target, no temporary files, and the tool's own words."""
    made = make(tmp_path / "d", "gpt", [Wanted("ext4", 48)])
    monkeypatch.setitem(
        shrinking._WAYS, "ext4", (lambda path, *_: shrinking.run_tool("resize2fs", path, "1K"),)
    )
    with pytest.raises(TargetError, match=r"cannot become as small as .*: resize2fs failed: "):
        made.restored(tmp_path / "t.raw", size=made.size - 10 * MIB)
    assert os.listdir(tmp_path) == ["d"]


def test_new_ids(any_disk: Made, tmp_path: Path) -> None:
    """All ids differ, and nothing else does; said in the notes."""
    target = tmp_path / "t.raw"
    result = any_disk.restored(target, new_ids=True)
    before, after = partitions_of(any_disk.disk), partitions_of(target)
    if any_disk.wanted is GPT:
        assert all(a.uuid != b.uuid for a, b in zip(before, after, strict=True))
        assert any("new disk GUID" in note for note in result.notes)
    else:
        assert any("new disk signature" in note for note in result.notes)
    assert [(p.start, p.size) for p in before] == [(p.start, p.size) for p in after]
    ids = [run(["blkid", "-p", "-s", "PTUUID", "-o", "value", d]) for d in (any_disk.disk, target)]
    assert ids[0] != ids[1]
    any_disk.check(target, tmp_path / "check")


def test_volumes_that_were_left_out(any_disk: Made, tmp_path: Path) -> None:
    """A warning names them."""
    aipimage.create(tmp_path / "v.aiv", [any_disk.disk], volumes=[2])
    with aipimage.open(tmp_path / "v.aiv") as image:
        for size in (None, any_disk.size + MIB):
            result = restore_disk(image, tmp_path / "t.raw", RestoreOptions(size=size, force=True))
            assert "were left out when the image was made" in result.warnings[0]


def test_to_a_larger_device(gpt_disk: Made, tmp_path: Path) -> None:
    """What is free is left alone or discarded; what is zeros is zeros; what lay at the end of the
    device is not taken for the new disk's. Partitions of it that are mounted refuse it.
    """
    require_programs("partx")
    target = garbage(tmp_path / "t.raw", gpt_disk.size + 64 * MIB)
    with loop_device(target) as device:
        result = gpt_disk.restored(device)
        assert result.target == device
        subprocess.run(["partx", "-u", device], check=False)
        place = tmp_path / "mnt"
        place.mkdir()
        run(["mount", "-o", "ro", f"{device}p3", place])
        try:
            with pytest.raises(TargetError, match="shares sectors with it, is mounted"):
                gpt_disk.restored(device, force=True)
            with pytest.raises(TargetError, match="mounted"):
                gpt_disk.restored(device, force=True, boot_code=True)
        finally:
            run(["umount", place])
        with pytest.raises(RequestError, match="is a device, whose size is fixed"):
            gpt_disk.restored(device, size=MIB)
        subprocess.run(["partx", "-d", device], check=False)
    gpt_disk.check(target, tmp_path / "check")


def test_to_a_smaller_device(mbr_disk: Made, tmp_path: Path) -> None:
    """Copies of volumes that become smaller lie in the directory that was given."""
    target = garbage(tmp_path / "t.raw", mbr_disk.size - 24 * MIB)
    (tmp_path / "scratch").mkdir()
    with loop_device(target) as device:
        result = mbr_disk.restored(device, scratch=str(tmp_path / "scratch"))
    assert result.changes
    assert not os.listdir(tmp_path / "scratch")
    mbr_disk.check(target, tmp_path / "check")


def test_sectors_of_4096_bytes(tmp_path: Path) -> None:
    """A GPT in such sectors is found and rewritten in a file, too; to a device with others it is
    restored with a warning.
    """
    require_programs("sgdisk")
    disk, volume = tmp_path / "d.raw", tmp_path / "v"
    make_volume("ext4", volume, 20 * MIB, tree_of(tmp_path / "tree"))
    content = content_of("ext4", volume)
    disk.touch()
    os.truncate(disk, 100 * MIB)
    with loop_device(disk, "--sector-size", "4096") as device:
        run(["sgdisk", "-n", "1:256:+20M", "-n", "2:10240:+30M", device])
    for at in (1, 40):
        copy_range(volume, 0, 20 * MIB, disk, at * MIB)
    aipimage.create(tmp_path / "d.aiv", [disk])
    for size, start in ((200, 40), (72, 40), (60, 29)):
        target = tmp_path / f"{size}.raw"
        with aipimage.open(tmp_path / "d.aiv") as image:
            restore_disk(image, target, RestoreOptions(size=size * MIB, new_ids=size == 200))
        with loop_device(target, "--sector-size", "4096") as device:
            assert "No problems found" in run(["sgdisk", "-v", device])
            row = run(["sgdisk", "-p", device]).splitlines()[-1].split()
        assert [int(row[1]) * 4096, row[0]] == [start * MIB, "2"]
        copy_range(target, start * MIB, 20 * MIB, tmp_path / "found")
        check_volume("ext4", tmp_path / "found")
        assert content_of("ext4", tmp_path / "found") == content
        (tmp_path / "found").unlink()
    target = garbage(tmp_path / "t", 110 * MIB)
    with loop_device(target) as device, aipimage.open(tmp_path / "d.aiv") as image:
        result = restore_disk(image, device, RestoreOptions())
    assert "the disk had sectors of 4096 bytes" in result.warnings[0]


def test_boot_code_to_a_device(mbr_disk: Made, tmp_path: Path) -> None:
    """Nothing else of the device changes."""
    other = make_disk(tmp_path / "other", "dos", [Wanted("swap", 2)])
    before = other.read_bytes()
    with loop_device(other) as device:
        mbr_disk.restored(device, signature=True)
    after = other.read_bytes()
    assert after[440:444] == mbr_disk.disk.read_bytes()[440:444] != before[440:444]
    assert (after[:440], after[444:]) == (before[:440], before[444:])
