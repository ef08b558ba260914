"""Single volumes restored to files, devices and partitions of other sizes, and grown to fit."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import RequestError, TargetError
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.restoring import expanding, tools
from aipimage.volumes.restoring.volume import restore_volume
from tests.support import loop_device
from tests.support.tools import require_programs, run
from tests.volumes.restoring.made import (
    MIB,
    Wanted,
    check_volume,
    content_of,
    contents_of,
    copy_range,
    make_disk,
    partitions_of,
)
from tests.volumes.restoring.test_disks import Made, garbage, hidden_sectors

KINDS = [
    Wanted("ext4", 40),
    Wanted("ntfs", 24),
    Wanted("fat32", 40),
    Wanted("exfat", 16),
    Wanted("xfs", 64),
    Wanted("btrfs", 128),
    Wanted("swap", 8),
    Wanted("unknown", 2),
    Wanted("ext2", 12),
]
GROWN = {"ext4", "ntfs", "xfs", "btrfs", "swap", "ext2"}


def more_of(kind: str) -> int:
    """MiB that a target has more than the volume: the kernel resizes no Btrfs to under 256 MiB."""
    return 140 if kind == "btrfs" else 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A disk with a volume of each kind."""
    directory = tmp_path_factory.mktemp("volumes")
    disk = make_disk(directory, "gpt", KINDS)
    contents = contents_of(disk, KINDS)
    aipimage.create(directory / "d.aiv", [disk], compress="zstd:1")
    yield Made(disk, directory / "d.aiv", KINDS, contents)
    shutil.rmtree(directory)


def restored(made: Made, target: Path | str, number: int, **options: object) -> RestoreResult:
    """Restore a volume of the disk."""
    with aipimage.open(made.image) as image:
        return restore_volume(image, target, volume=number, **options)  # type: ignore[arg-type]


def check(made: Made, number: int, path: Path) -> None:
    """The file system is in order, and all files are there."""
    kind = KINDS[number - 1].kind
    check_volume(kind, path)
    assert content_of(kind, path) == made.contents[number - 1]


def file_system_size(kind: str, path: Path) -> int:
    """Bytes that the file system covers, as its own tools say."""
    if kind == "swap":
        last = path.read_bytes()[1028:1032]
        return (int.from_bytes(last, "little") + 1) * 4096
    if kind == "ntfs":
        text = run(["ntfsresize", "-i", "-f", path])
        return int(text.split("Current volume size: ")[1].split()[0])
    if kind == "xfs":
        text = run(["xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", path])
        blocks, size = (int(line.split("=")[1]) for line in text.splitlines())
        return blocks * size
    if kind == "btrfs":
        text = run(["btrfs", "inspect-internal", "dump-super", path])
        return int(text.split("\ntotal_bytes")[1].split()[0])
    text = run(["dumpe2fs", "-h", path])
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields["Block count"]) * int(fields["Block size"])


@pytest.mark.parametrize("number", range(1, len(KINDS) + 1), ids=[each.kind for each in KINDS])
def test_each_kind_to_files(made: Made, tmp_path: Path, number: int) -> None:
    """A new file has the volume's size; a larger one keeps its own, and the file system grows."""
    kind, size = KINDS[number - 1].kind, KINDS[number - 1].mib * MIB
    result = restored(made, tmp_path / "new", number)
    assert (tmp_path / "new").stat().st_size == size == result.size
    assert (result.volume, result.device) == (number, 0)
    check(made, number, tmp_path / "new")
    more = more_of(kind)
    target = garbage(tmp_path / "larger", size + more * MIB)
    result = restored(made, target, number, force=True, expand=True)
    assert target.stat().st_size == size + more * MIB
    assert (result.expanded is not None) == (kind in GROWN), result
    if kind in GROWN:
        assert not result.warnings
        assert file_system_size(kind, target) > size + (more - 1) * MIB
        check(made, number, target)
    else:
        assert result.warnings[0].endswith("it was left as it is")
        copy_range(target, 0, size, tmp_path / "cut")
        check(made, number, tmp_path / "cut")


@pytest.mark.parametrize("number", [1, 5, 6], ids=["ext4", "xfs", "btrfs"])
def test_grown_on_a_partition(
    made: Made, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An existing partition; its neighbour stays as it is, and no place it was mounted on."""
    require_programs("partx")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tools.tempfile, "tempdir", str(tmp_path / "temporary"))
    kind, size = KINDS[number - 1].kind, KINDS[number - 1].mib * MIB
    more = more_of(kind)
    target = make_disk(
        tmp_path / "t", "dos", [Wanted("swap", size // MIB + more), Wanted("ext2", 4)]
    )
    neighbour = contents_of(target, [Wanted("swap", 1), Wanted("ext2", 4)])[1]
    first, second = partitions_of(target)
    with loop_device(target) as device:
        subprocess.run(["partx", "-a", device], check=True)
        try:
            result = restored(made, f"{device}p1", number, expand=True)
        finally:
            subprocess.run(["partx", "-d", device], check=True)
    assert result.expanded == first.size
    copy_range(target, first.start, first.size, tmp_path / "one")
    assert file_system_size(kind, tmp_path / "one") > size + (more - 1) * MIB
    check(made, number, tmp_path / "one")
    copy_range(target, second.start, second.size, tmp_path / "two")
    assert content_of("ext2", tmp_path / "two") == neighbour
    assert not os.listdir(tmp_path / "temporary")


@pytest.mark.parametrize("number", [2, 3], ids=["ntfs", "fat32"])
def test_boot_sectors_name_the_new_partition(made: Made, tmp_path: Path, number: int) -> None:
    """On a partition; a file is none, and keeps what was there."""
    require_programs("partx")
    kind, size = KINDS[number - 1].kind, KINDS[number - 1].mib
    target = make_disk(tmp_path / "t", "dos", [Wanted("swap", 3), Wanted("swap", size)])
    start = partitions_of(target)[1].start
    with loop_device(target) as device:
        subprocess.run(["partx", "-a", device], check=True)
        try:
            restored(made, f"{device}p2", number)
        finally:
            subprocess.run(["partx", "-d", device], check=True)
    assert hidden_sectors(target, start, kind) == start
    copy_range(target, start, size * MIB, tmp_path / "v")
    check(made, number, tmp_path / "v")
    restored(made, tmp_path / "file", number)
    old = partitions_of(made.disk)[number - 1].start
    assert hidden_sectors(tmp_path / "file", 0, kind) == old


@pytest.mark.parametrize(
    ("number", "size"),
    [(1, 20), (2, 12), (3, 36), (7, 3), (9, 6)],
    ids=["ext4", "ntfs", "fat32", "swap", "ext2"],
)
def test_to_a_smaller_file(made: Made, tmp_path: Path, number: int, size: int) -> None:
    """The file system becomes smaller; too small is refused with what is needed."""
    target = garbage(tmp_path / "t", size * MIB)
    result = restored(made, target, number, force=True)
    assert result.notes
    assert target.stat().st_size == size * MIB
    check(made, number, target)
    with pytest.raises(TargetError, match="too small: it has 524288 bytes"):
        restored(made, tmp_path / "new", number, size=MIB // 2)
    assert sorted(os.listdir(tmp_path)) in (["t"], ["t", "t.mnt"], ["t", "t.out"])


def test_what_cannot_grow_here_is_left(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing tool or right is told; the volume is restored all the same."""
    monkeypatch.setattr(tools, "find_tool", lambda name: None)
    result = restored(made, tmp_path / "t", 1, size=60 * MIB, expand=True)
    assert result.expanded is None
    assert result.warnings == (
        "ext4 was restored, and left as large as it was: e2fsck is not installed",
    )
    monkeypatch.setattr(expanding, "may_mount", lambda: False)
    result = restored(made, tmp_path / "x", 5, size=80 * MIB, expand=True)
    assert "only root can mount xfs to let it grow" in result.warnings[0]
    check(made, 5, tmp_path / "x")


def test_a_mounted_btrfs_is_not_taken_for_its_copy(made: Made, tmp_path: Path) -> None:
    """The kernel knows file systems by their UUID, and would resize the one that is mounted."""
    original, place = tmp_path / "original", tmp_path / "mnt"
    restored(made, original, 6)
    place.mkdir()
    with loop_device(original) as device:
        run(["mount", device, place])
        try:
            result = restored(made, tmp_path / "copy", 6, size=300 * MIB, expand=True)
        finally:
            run(["umount", place])
    assert result.expanded is None
    assert "a Btrfs of the same UUID" in result.warnings[0]
    assert file_system_size("btrfs", original) == 128 * MIB


def test_a_disk_that_is_one_volume(tmp_path: Path) -> None:
    """Number 0; as a disk it becomes smaller too."""
    from aipimage.volumes.restoreoptions import RestoreOptions
    from aipimage.volumes.restoring.disk import restore_disk
    from tests.volumes.restoring.made import make_volume, tree_of

    make_volume("ext4", tmp_path / "v", 40 * MIB, tree_of(tmp_path / "tree"))
    content = content_of("ext4", tmp_path / "v")
    aipimage.create(tmp_path / "v.aiv", [tmp_path / "v"])
    with aipimage.open(tmp_path / "v.aiv") as image:
        assert restore_volume(image, tmp_path / "a").volume == 0
        restore_disk(image, tmp_path / "b", RestoreOptions(size=20 * MIB))
        grown = restore_volume(image, tmp_path / "c", size=90 * MIB, expand=True)
    assert grown.expanded == 90 * MIB
    for name in "abc":
        check_volume("ext4", tmp_path / name)
        assert content_of("ext4", tmp_path / name) == content
    assert (tmp_path / "b").stat().st_size == 20 * MIB


def test_a_volume_that_was_left_out(made: Made, tmp_path: Path) -> None:
    """It is none of those that can be restored."""
    aipimage.create(tmp_path / "v.aiv", [made.disk], volumes=[2])
    with aipimage.open(tmp_path / "v.aiv") as image:
        assert restore_volume(image, tmp_path / "t").volume == 2
        with pytest.raises(RequestError, match=r"no volume 1, which was left out.* volume 2 of"):
            restore_volume(image, tmp_path / "u", volume=1)
