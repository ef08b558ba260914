"""File systems that the system's tools made larger or smaller: their own check finds them whole,
and every file is there; or the volume stays as it was, and the tool's own complaint is quoted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import TargetError
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.filesystems import swap
from aipimage.volumes.filesystems.fat import headers as fat_headers
from aipimage.volumes.restoring import expanding, extresizing, shrinking, tools
from tests.support import loop_device
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ntfs import aged as ntfs_ageing
from tests.volumes.ntfs.made import make as make_ntfs
from tests.volumes.ntfs.made import ntfs_3g, require_ntfs
from tests.volumes.restoring.made import CHECKS, MIB, content_of, hashes_in, make_volume, tree_of
from tests.volumes.xfs import aged as xfs_ageing

GIB = 1 << 30
EXT = ("mke2fs", "e2fsck", "resize2fs", "tune2fs", "dumpe2fs")


def ext(path: Path, mib: int, *options: str, kind: str = "ext4", files: bool = True) -> Path:
    """A file system with some files in it."""
    require_programs(*EXT)
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    tree = ["-d", tree_of(path.with_suffix(".tree"), most=20_000)] if files else []
    run(["mke2fs", "-q", "-F", "-t", kind, *options, *tree, path])
    # mke2fs counts no quota for the files that it copies.
    run(["e2fsck", "-f", "-y", path], codes=(0, 1))
    return path


def imaged(volume: Path) -> Path:
    image = volume.with_suffix(".aiv")
    aipimage.create(image, [volume], compress="zstd:1")
    return image


def restored(image: Path, target: Path, size: int, *, expand: bool = True) -> RestoreResult:
    with aipimage.open(image) as opened:
        return opened.restore_volume(target, size=size, expand=expand)


def check(kind: str, volume: Path, files: dict[str, str] | None = None) -> None:
    """Its check is content, and it can be mounted."""
    run([*CHECKS[kind], volume])
    found = content_of(kind, volume)
    assert files is None or found == files


def ext_features(volume: Path) -> set[str]:
    text = run(["dumpe2fs", "-h", volume])
    return set(text.split("Filesystem features:")[1].splitlines()[0].split())


def ext_size(volume: Path) -> int:
    text = run(["dumpe2fs", "-h", volume])
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return int(fields["Block count"]) * int(fields["Block size"])


@pytest.mark.parametrize(
    ("mib", "size", "options"),
    [
        (64, 65 * GIB, ("-b", "4096")),
        (8, 33 * GIB, ("-b", "1024")),
        (100, 2 * GIB, ("-b", "1024", "-O", "^resize_inode,orphan_file")),
        (32, 33 * GIB, ("-O", "orphan_file")),
        (200, 333 * MIB, ("-b", "1024", "-O", "sparse_super2", "-E", "num_backup_sb=1")),
        (200, 333 * MIB, ("-b", "1024", "-O", "sparse_super2", "-E", "num_backup_sb=2")),
        (16, 100_000_768, ("-b", "1024")),
    ],
    ids=[
        "over 1024 times",
        "over 4096 times",
        "no room for descriptors",
        "an orphan file, far",
        "one backup",
        "two backups",
        "an odd size",
    ],
)
def test_ext_grows_to_a_whole_file_system(
    tmp_path: Path, mib: int, size: int, options: Sequence[str]
) -> None:
    image = imaged(ext(tmp_path / "a.img", mib, *options))
    features, files = ext_features(tmp_path / "a.img"), content_of("ext4", tmp_path / "a.img")
    target = tmp_path / "a.new"
    result = restored(image, target, size)
    assert (result.expanded, result.warnings) == (size, ())
    assert target.stat().st_size == size
    assert size - 32 * MIB <= ext_size(target) <= size
    assert ext_features(target) == features
    check("ext4", target, files)


FORMS = {
    "ext2": ("ext2",),
    "ext3": ("ext3",),
    "1k": ("ext4", "-b", "1024"),
    "no 64bit": ("ext4", "-O", "^64bit,^metadata_csum"),
    "meta_bg": ("ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"),
    "flex_bg of 1": ("ext4", "-b", "1024", "-G", "1"),
    "no flex_bg": ("ext4", "-b", "1024", "-O", "^flex_bg"),
    "flex_bg of 256": ("ext4", "-b", "1024", "-G", "256"),
    "orphan_file": ("ext4", "-b", "1024", "-O", "orphan_file"),
    "quota": ("ext4", "-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"),
    "seed": ("ext4", "-O", "metadata_csum_seed"),
    "casefold": ("ext4", "-E", "encoding=utf8"),
    "encrypt": ("ext4", "-O", "encrypt"),
    "verity": ("ext4", "-O", "verity"),
    "inline_data": ("ext4", "-I", "256", "-O", "inline_data"),
    "small inodes": ("ext4", "-I", "128"),
    "ea_inode": ("ext4", "-O", "ea_inode,large_dir"),
    "no journal": ("ext4", "-O", "^has_journal"),
    "fast commit": ("ext4", "-O", "fast_commit"),
    "mmp": ("ext4", "-O", "mmp", "-E", "mmp_update_interval=1"),
    "packed": ("ext4", "-E", "packed_meta_blocks=1"),
    "stride": ("ext4", "-E", "stride=16,stripe_width=64"),
    "uninit_bg": ("ext4", "-O", "^metadata_csum,uninit_bg"),
    "few inodes": ("ext4", "-N", "64"),
    "small groups": ("ext4", "-b", "1024", "-g", "1024"),
}
UNMOUNTABLE = {"encrypt", "verity", "casefold", "quota"}
"""Whether the kernel mounts these depends on how it was built."""


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_ext_grows_and_shrinks(tmp_path: Path, form: str) -> None:
    kind, *options = FORMS[form]
    volume = ext(tmp_path / "a.img", 100, *options, kind=kind)
    image, features = imaged(volume), ext_features(volume)
    run(["e2fsck", "-fn", volume])
    kind_of_check = "ext2" if kind == "ext2" else "ext4"
    files = None if form in UNMOUNTABLE else content_of(kind_of_check, volume)
    for name, size in (("more", 270 * MIB), ("less", 61 * MIB)):
        result = restored(image, tmp_path / name, size)
        assert not result.warnings
        assert ext_features(tmp_path / name) == features
        assert size - 9 * MIB <= ext_size(tmp_path / name) <= size
        if files is None:
            run(["e2fsck", "-fn", tmp_path / name])
        else:
            check(kind_of_check, tmp_path / name, files)


@pytest.mark.slow
def test_ext_shrinks_though_its_orphan_file_gets_another_inode(tmp_path: Path) -> None:
    """Its inode is above the number of those that are left, and the superblock names it."""
    volume, at = ext(tmp_path / "a.img", 200, "-b", "1024", "-N", "2500", files=False), "mnt"
    with mounted(volume, tmp_path / at) as place:
        made = []
        try:
            for number in range(2489):
                made.append(place / f"f{number}")
                made[-1].touch()
        except OSError:
            made.pop()
        for path in sorted(made, key=lambda path: path.stat().st_ino)[-20:]:
            path.unlink()
    run(["tune2fs", "-O", "orphan_file", volume])
    with mounted(volume, tmp_path / at) as place:
        for path in place.glob("f*"):
            path.unlink()
        (place / "kept").write_bytes(b"kept" * 9999)
    run(["e2fsck", "-fn", volume])
    restored(imaged(volume), tmp_path / "a.new", 120 * MIB)
    assert "orphan_file" in ext_features(tmp_path / "a.new")
    check("ext4", tmp_path / "a.new", content_of("ext4", volume))


def test_what_a_tool_refuses_is_reported_in_its_own_words(tmp_path: Path) -> None:
    volume = ext(tmp_path / "a.img", 100, "-O", "stable_inodes")
    image = imaged(volume)
    with pytest.raises(TargetError, match=r"Cannot shrink this filesystem because it has the stab"):
        restored(image, tmp_path / "a.new", 60 * MIB)
    assert not (tmp_path / "a.new").exists()
    volume = ext(tmp_path / "b.img", 100, "-O", "bigalloc")
    result = restored(imaged(volume), tmp_path / "b.new", 200 * MIB)
    assert result.expanded is None
    assert "Resizing bigalloc file systems has not been fully tested" in result.warnings[0]
    check("ext4", tmp_path / "b.new", content_of("ext4", volume))


def _spoil(kind: str, path: str) -> None:
    """Damage a file system so that its check must see it."""
    place = {"ext4": 4096, "ntfs": 0, "xfs": 4096, "btrfs": 64 << 10}[kind]
    if kind == "ntfs":
        text = run(["ntfsinfo", "-m", path])
        cluster = int(text.split("LCN of Data Attribute for FILE_MFT:")[1].split()[0])
        place = cluster * 4096 + 6 * 1024
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * 1024)


KINDS = {"ext4": 40, "ntfs": 24, "xfs": 64, "btrfs": 300}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tool_damages_is_restored_again(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Growing: the volume is as large as it was, and a warning has what the check says."""
    volume = tmp_path / "a.img"
    make_volume(kind, volume, KINDS[kind] * MIB, tree_of(tmp_path / "tree"))
    image, tried = imaged(volume), []

    def damaging(info: object, size: int, storage: object) -> None:
        tried.append(size)
        _spoil(kind, str(tmp_path / "a.new"))

    monkeypatch.setitem(expanding._WAYS, kind, (damaging, damaging))
    size = (KINDS[kind] + 50) * MIB
    result = restored(image, tmp_path / "a.new", size)
    assert (result.expanded, tried) == (None, [size, size])
    assert result.warnings[0].startswith(f"{kind} was restored, and left as large as it was: ")
    assert " failed: " in result.warnings[0]
    assert (tmp_path / "a.new").stat().st_size == size
    with open(tmp_path / "a.new", "rb") as file:
        assert file.read(KINDS[kind] * MIB) == _as_restored(image, tmp_path)
    check(kind, tmp_path / "a.new", content_of(kind, volume))


def _as_restored(image: Path, work: Path) -> bytes:
    with aipimage.open(image) as opened:
        opened.restore_volume(work / "plain")
    return (work / "plain").read_bytes()


@pytest.mark.parametrize("kind", ["ext4", "ntfs", "btrfs"])
def test_a_smaller_copy_that_is_damaged_is_thrown_away(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another way is tried on a new copy; without one nothing is written."""
    volume, mib = tmp_path / "a.img", 400 if kind == "btrfs" else 48
    make_volume(kind, volume, mib * MIB, tree_of(tmp_path / "tree"))
    image, sound = imaged(volume), shrinking._WAYS[kind][0]

    def damaging(path: str, size: int, storage: object) -> None:
        _spoil(kind, path)

    monkeypatch.setitem(shrinking._WAYS, kind, (damaging, damaging))
    with pytest.raises(TargetError, match=f"{kind} cannot become as small as .* failed: "):
        restored(image, tmp_path / "a.new", (mib - 20) * MIB)
    assert not (tmp_path / "a.new").exists()
    assert not list(tmp_path.glob(".aipimage-*"))
    monkeypatch.setitem(shrinking._WAYS, kind, (damaging, sound))
    restored(image, tmp_path / "a.new", (mib - 20) * MIB)
    check(kind, tmp_path / "a.new", content_of(kind, volume))


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-c", "512"), ("-c", "65536"), ("-s", "4096")])
def test_aged_ntfs_grows_and_shrinks(tmp_path: Path, options: Sequence[str]) -> None:
    require_ntfs()
    volume = make_ntfs(tmp_path / "a.img", 24 * MIB, *options)
    for number, step in enumerate(
        ("many", "create", "fragment", "delete", "sparse", "fill", "thin")
    ):
        ntfs_ageing.age(volume, tmp_path / "mount", step, number)
    with ntfs_3g(volume, tmp_path / "mount") as place:
        files = hashes_in(place)
    image = imaged(volume)
    sizes = [("more", 90 * MIB), ("odd", 41 * MIB + 512 * 7)]
    for name, size in [*sizes, ("less", 23 * MIB)]:
        try:
            result = restored(image, tmp_path / name, size)
        except TargetError as error:
            # It was filled up: there may be no room for less.
            if name == "less" and "are needed" in str(error):
                continue
            raise
        assert not result.warnings
        run([*CHECKS["ntfs"], tmp_path / name])
        with ntfs_3g(tmp_path / name, tmp_path / "mount") as place:
            assert hashes_in(place) == files


@pytest.mark.slow
@pytest.mark.parametrize("size", [110 * MIB, 3 * GIB, 33 * GIB])
def test_aged_xfs_grows(tmp_path: Path, size: int) -> None:
    volume = tmp_path / "a.img"
    make_volume("xfs", volume, 64 * MIB, tree_of(tmp_path / "tree"))
    for number, step in enumerate(("create", "scatter", "delete")):
        xfs_ageing.age(volume, tmp_path / "mount", step, number)
    result = restored(imaged(volume), tmp_path / "a.new", size)
    assert (result.expanded, result.warnings) == (size, ())
    check("xfs", tmp_path / "a.new", content_of("xfs", volume))


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32"])
def test_fat_that_becomes_smaller_is_checked(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By fsck.fat, where it is there; and by what reads its map in any case."""
    mib = {"fat12": 8, "fat16": 32, "fat32": 80}[kind]
    volume, less = tmp_path / "have.img", mib - mib // 8
    make_volume(kind, volume, mib * MIB, tree_of(tmp_path / "tree", most=10_000))
    image, real = imaged(volume), fat_headers.shrunk
    restored(image, tmp_path / "a.new", less * MIB)
    check(kind, tmp_path / "a.new", content_of(kind, volume))

    def wrong(*arguments: object) -> list[tuple[int, bytes]]:
        # Reserved sectors that are not there: the tables seem to lie elsewhere.
        return [*real(*arguments), (14, b"\x03\0")]  # type: ignore[arg-type]

    monkeypatch.setattr(fat_headers, "shrunk", wrong)
    for there in (True, False):
        with monkeypatch.context() as patched:
            if not there:
                patched.setattr(shrinking, "find_tool", lambda name: None)
            with pytest.raises(TargetError, match="cannot become"):
                restored(image, tmp_path / "b.new", less * MIB)
        assert not (tmp_path / "b.new").exists()


def test_swap_that_is_resized_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = tmp_path / "a.img"
    make_volume("swap", volume, 8 * MIB, tmp_path)
    image = imaged(volume)
    monkeypatch.setattr(swap, "resized", lambda *_: [(1028, b"\xff\xff\xff\x7f")])
    result = restored(image, tmp_path / "a.new", 9 * MIB)
    assert result.expanded is None
    assert "it is larger than its volume" in result.warnings[0]
    assert (tmp_path / "a.new").read_bytes()[: 8 * MIB] == volume.read_bytes()


COMPLAINTS = [
    ("resize2fs", "resize2fs 1.47.0 (5-Feb-2023)\nResizing the filesystem on a to 17039360 (4k)",
     "resize2fs: Illegal indirect block found while trying to resize a\n"
     "Please run 'e2fsck -fy a' to fix the filesystem\nafter the aborted resize operation.\n",
     "resize2fs: Illegal indirect block found while trying to resize a"),
    ("e2fsck", "Resize inode not valid.  Recreate? no\n\nPass 1: Checking inodes, blocks, and sizes"
     "\nBlock bitmap differences: -(8193--8196)\nFix? no\n\na: ********** WARNING: Filesystem still"
     " has errors **********\n", "e2fsck 1.47.0 (5-Feb-2023)\n",
     "Resize inode not valid.  Recreate? no"),
    ("ntfsresize", "ntfsresize v2022.10.3 (libntfs-3g)\nDevice name        : a\n"
     "  0.00 percent completed\r100.00 percent completed\n"
     "ERROR: Cluster accounting failed at 27 (0x1b): extra cluster in $Bitmap\n", "",
     "ERROR: Cluster accounting failed at 27 (0x1b): extra cluster in $Bitmap"),
    ("btrfs", "Opening filesystem to check...\n", "ERROR: superblock checksum mismatch\n",
     "ERROR: superblock checksum mismatch"),
    ("mount", "", "mount: /mnt: wrong fs type, bad option, bad superblock on /dev/loop0.\n"
     "       dmesg(1) may have more information after failed mount system call.\n",
     "mount: /mnt: wrong fs type, bad option, bad superblock on /dev/loop0."),
    ("tool", "", "", ""),
    ("tool", "tool 1.2.3 (1-Jan-2026)\n", "something else\n", "something else"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "output", "errors", "wanted"), COMPLAINTS)
def test_the_line_that_is_quoted(name: str, output: str, errors: str, wanted: str) -> None:
    assert tools.complaint(name, output, errors) == wanted


def test_steps_of_growth() -> None:
    """None is more than 1,024 times; shrinking is one step."""
    assert extresizing._steps(100, 40) == [40]
    assert extresizing._steps(MIB, 512 * MIB) == [512 * MIB]
    assert extresizing._steps(MIB, 600 * GIB) == [512 * MIB, 256 * GIB, 600 * GIB]


def test_on_a_device_it_is_restored_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = ext(tmp_path / "a.img", 40)
    image, target = imaged(volume), tmp_path / "t.img"
    target.write_bytes(b"\xa5" * (90 * MIB))
    with loop_device(target) as device:

        def damaging(info: object, size: int, storage: object) -> None:
            _spoil("ext4", device)

        monkeypatch.setitem(expanding._WAYS, "ext4", (damaging,))
        with aipimage.open(image) as opened:
            result = opened.restore_volume(device, expand=True)
        subprocess.run(["blockdev", "--flushbufs", device], check=False, env=os.environ)
    assert result.expanded is None
    check("ext4", target, content_of("ext4", volume))


def test_btrfs_grows_far(tmp_path: Path) -> None:
    volume = tmp_path / "a.img"
    make_volume("btrfs", volume, 120 * MIB, tree_of(tmp_path / "tree"))
    result = restored(imaged(volume), tmp_path / "a.new", 40 * GIB)
    assert (result.expanded, result.warnings) == (40 * GIB, ())
    check("btrfs", tmp_path / "a.new", content_of("btrfs", volume))
