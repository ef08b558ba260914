"""Every file of volumes that the kernel's own ext4 wrote equals what a mount of them says."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from aipimage import files
from aipimage.errors import AipImageError
from aipimage.io.blocks.sources import open_source
from tests.files.judge import Facts, of_mount, of_sleuthkit, of_volume
from tests.files.made import populate
from tests.support import SAMPLES
from tests.support.tools import mounted, require_programs, run
from tests.volumes.ext.made import MIB, make, some_files

OPTIONS = {
    "ext2": ("-t", "ext2", "-b", "1024"),
    "ext2 of revision 0": ("-t", "ext2", "-r", "0", "-b", "4096"),
    "ext3": ("-t", "ext3", "-b", "2048"),
    "ext4": ("-t", "ext4"),
    "ext4, 1 KiB": ("-t", "ext4", "-b", "1024", "-I", "256"),
    "no checksums": ("-t", "ext4", "-O", "^metadata_csum,^64bit"),
    "inodes of 128 bytes": ("-t", "ext4", "-I", "128"),
    "large inodes, inline data": ("-t", "ext4", "-I", "1024", "-O", "inline_data"),
    "inline data": ("-t", "ext4", "-O", "inline_data,ea_inode,large_dir"),
    "bigalloc": ("-t", "ext4", "-O", "bigalloc", "-C", "16384"),
    "no hashes, no types": ("-t", "ext4", "-O", "^dir_index,^filetype"),
    "meta_bg": ("-t", "ext4", "-O", "meta_bg,^resize_inode"),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_equals_the_mount(tmp_path: Path, options: tuple[str, ...]) -> None:
    require_programs("mke2fs")
    path = make(tmp_path / "volume", 64 * MIB, *options)
    with mounted(path, tmp_path / "at") as at:
        populate(at)
    with mounted(path, tmp_path / "at", "-o", "ro") as at:
        wanted = of_mount(at)
    with files.open(path) as volume:
        assert volume.warnings == ()
        found = of_volume(volume)
    assert found.keys() == wanted.keys()
    assert len(found) > 500
    for name, facts in wanted.items():
        assert found[name] == facts, name


@pytest.mark.parametrize("block", ["4096", "65536"])
def test_filled_by_mke2fs(tmp_path: Path, block: str) -> None:
    """Blocks of 64 KiB, which not every kernel mounts."""
    require_programs("mke2fs")
    tree = some_files(tmp_path / "tree")
    path = make(tmp_path / "volume", 64 * MIB, "-t", "ext4", "-b", block, content=tree)
    wanted, names = of_mount(tree), ("kind", "size", "mode", "target", "content")
    with files.open(path) as volume:
        found = of_volume(volume)
    assert {*found} - {"/lost+found"} == {*wanted}
    for name, facts in wanted.items():
        folder = facts["kind"] == "directory"
        said = {key: found[name][key] for key in names if not (folder and key == "size")}
        assert said == {key: facts[key] for key in said}, name


def test_open_journal_is_replayed(tmp_path: Path) -> None:
    """The volume as it is while mounted, its changes in the journal alone."""
    require_programs("mke2fs")
    path = make(tmp_path / "volume", 64 * MIB, "-t", "ext4")
    copy = tmp_path / "copy"
    with mounted(path, tmp_path / "at", "-o", "commit=300") as at:
        for number in range(50):
            (at / f"file{number}").write_text(f"content {number}")
        run(["sync", "-f", at])
        (at / "file7").unlink()
        (at / "later").mkdir()
        (at / "later/file").write_text("later")
        run(["sync", "-f", at])
        copy.write_bytes(path.read_bytes())
        wanted = of_mount(at)
    with files.open(copy) as volume:
        assert volume.warnings == ()
        found = of_volume(volume)
    assert found.keys() == wanted.keys()
    for name, facts in wanted.items():
        assert found[name]["content"] == facts["content"], name
    assert "file7" not in {name.strip("/") for name in found}


def test_by_identity_and_errors(tmp_path: Path) -> None:
    require_programs("mke2fs", "debugfs")
    tree = some_files(tmp_path / "tree")
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4", content=tree)
    with files.open(path) as volume:
        entry = volume.stat("/folder0/file0")
        with volume.open(entry.identity) as file:
            assert file.read() == (tree / "folder0/file0").read_bytes()
        for wrong in ("/none", "folder0/none", "link/none", "/folder0/file0/x"):
            with pytest.raises(files.NoFileError):
                volume.stat(wrong)
        with pytest.raises(ValueError, match=r"\.\."):
            volume.stat("/folder0/../link")
        with pytest.raises(files.NoFileError, match="is a directory"):
            volume.open("/folder0")
        with pytest.raises(files.NoFileError, match="is a symbolic link"):
            volume.open("/link")
        for number in (0, -1, 1 << 40, entry.identity + 10_000_000):
            with pytest.raises(files.NoFileError):
                volume.stat(number)
        names = [each.path for each in volume.glob("/folder[01]/file*")]
        assert sorted(names) == sorted(
            f"/{each.relative_to(tree)}" for each in tree.glob("folder[01]/file*")
        )
        assert {each.path for each in volume.glob("**/file1*")} == {
            f"/{each.relative_to(tree)}" for each in tree.glob("**/file1*")
        }
        file = volume.open("/sparse")
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_a_file_is_a_block_source(tmp_path: Path) -> None:
    """Its holes are known, and a volume in it opens without a copy."""
    require_programs("mke2fs")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("inner")
    inner = make(tmp_path / "inner", 8 * MIB, "-t", "ext2", content=tree)
    (tmp_path / "outer.d").mkdir()
    run(["cp", "--sparse=always", inner, tmp_path / "outer.d/disk"])
    outer = make(tmp_path / "outer", 64 * MIB, "-t", "ext4", content=tmp_path / "outer.d")
    with files.open(outer) as volume, volume.open("/disk") as disk:
        assert open_source(disk) is disk
        extents = list(disk.extents())
        assert sum(each.length for each in extents) == disk.size == 8 * MIB
        assert any(each.is_hole for each in extents)
        kept = sum(length for _, length in disk.data_ranges(0, disk.size))
        assert 0 < kept < disk.size
        with files.open(disk) as within:
            assert within.open("/a").read() == b"inner"


def test_encrypted_content_is_refused(tmp_path: Path) -> None:
    """A flag in the inode is enough: what lies there is never given out as the content."""
    require_programs("mke2fs", "debugfs")
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "file").write_bytes(b"x" * 10_000)
    (tree / "folder/name").write_text("y")
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4", "-O", "encrypt", content=tree)
    for name in ("file", "folder"):
        run(["debugfs", "-w", "-R", f"set_inode_field /{name} flags 0x80800", path])
    with files.open(path) as volume:
        entry = volume.stat("/file")
        assert "encrypted" in entry.flags
        with pytest.raises(files.UnreadableFileError, match="encrypted") as caught:
            volume.open(entry)
        assert caught.value.cause == "encrypted"
        assert [each.name for each in volume.entries("/folder")] == ["bmFtZQ"]


def test_case_does_not_count_where_it_is_folded(tmp_path: Path) -> None:
    require_programs("mke2fs", "debugfs")
    tree = tmp_path / "tree"
    (tree / "folded").mkdir(parents=True)
    (tree / "folded/Größe").write_text("1")
    (tree / "plain").mkdir()
    (tree / "plain/Name").write_text("2")
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4", "-O", "casefold", content=tree)
    run(["debugfs", "-w", "-R", "set_inode_field /folded flags 0x40080000", path])
    with files.open(path) as volume:
        assert volume.open("/folded/GRÖSSE").read() == b"1"
        assert "casefold" in volume.stat("/folded").flags
        with pytest.raises(files.NoFileError):
            volume.stat("/plain/NAME")


def test_damage_is_an_error(tmp_path: Path) -> None:
    """Each structure on the way has a checksum; a flipped bit is never another content."""
    require_programs("mke2fs")
    tree = some_files(tmp_path / "tree", count=3)
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4", content=tree)
    data = bytearray(path.read_bytes())
    with files.open(path) as volume:
        wanted = of_volume(volume)
    at = data.index(b"\x05\x01file0") + 2
    for where in (at, at - 3, at - 5):
        data[where] ^= 1
        path.write_bytes(data)
        errors: dict[str, AipImageError] = {}
        with files.open(path) as volume:
            names = {each.path for each in volume.walk(on_error=errors.__setitem__)}
            with pytest.raises(files.DamagedVolumeError):
                volume.stat("/folder0/file0")
        data[where] ^= 1
        assert names < {*wanted}
        assert errors.keys() == {"/folder0"}
        assert "wrong checksum" in str(errors["/folder0"])


DAMAGED = {
    "f_extents2": "its extents overlap",
    "f_htree_bad_csum": "wrong checksum",
    "f_journal": "inode 2 is not in use",
    "f_uninit_dir": "a part of the directory is missing",
    "f_uninit_enable": "wrong checksum",
    "f_zero_inode_size": "inodes of 0 bytes",
}
"""What is damaged in samples of a checker, each as the checker says it."""


def shared(facts: Facts) -> dict[str, Any]:
    """What both say of files and directories: kind, content, size."""
    return {
        path: (each["kind"], each["content"], each["size"])
        for path, each in facts.items()
        if each["kind"] in ("file", "directory")
    }


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_samples_equal_the_sleuth_kit(tmp_path: Path) -> None:
    """Volumes that others made: the same, or an error that says what is damaged."""
    compared, refused = 0, {}
    for packed in sorted((SAMPLES / "e2fsprogs").rglob("*.gz")):
        path, name = tmp_path / "sample", packed.parent.name
        data = gzip.decompress(packed.read_bytes())
        path.write_bytes(data)
        if data[1080:1082] != b"\x53\xef":
            continue
        try:
            with files.open(path) as volume:
                found, has_warnings = of_volume(volume), bool(volume.warnings)
        except AipImageError as error:
            refused[name] = str(error)
            continue
        if has_warnings or data[1120] & 4 or name == "d_inline_dump":
            # The Sleuth Kit reads no journal, and of data in an inode the first 60 bytes.
            continue
        assert shared(found) == shared(of_sleuthkit(path)), name
        compared += 1
    assert refused.keys() == DAMAGED.keys()
    assert all(DAMAGED[name] in why for name, why in refused.items()), refused
    assert compared > 8


def test_a_directory_in_itself_is_entered_once(tmp_path: Path) -> None:
    require_programs("mke2fs", "debugfs")
    tree = some_files(tmp_path / "tree")
    path = make(tmp_path / "volume", 16 * MIB, "-t", "ext4", content=tree)
    for name in ("/folder0/again", "/folder1/also"):
        run(["debugfs", "-w", "-R", f"link /folder0 {name}", path])
    errors: dict[str, AipImageError] = {}
    with files.open(path) as volume:
        paths = [each.path for each in volume.walk(on_error=errors.__setitem__)]
        with pytest.raises(files.DamagedVolumeError, match="not entered again"):
            list(volume.walk())
    assert len(errors) == 2
    assert {"/folder0/again", "/folder1/also"} <= {*paths}
    assert len(paths) == len(list(tree.rglob("*"))) + 3  # with lost+found
