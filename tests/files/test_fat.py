"""Files of FAT and exFAT equal what mtools, exfat-fuse and the Sleuth Kit read."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aipimage import files
from aipimage.errors import AipImageError
from aipimage.files.fat.sets import decode_set, set_checksum
from aipimage.files.fat.times import dos_time, exfat_time
from tests.files.judge import digest_of, of_sleuthkit, of_volume
from tests.support import SAMPLES, loop_device, require
from tests.support.tools import require_programs, run

MIB = 1 << 20
FATS = {
    "fat12": (4, ("-F", "12")),
    "fat12, large sectors": (8, ("-F", "12", "-S", "4096")),
    "fat16": (32, ("-F", "16", "-s", "1")),
    "fat16, clusters of 16 KiB": (128, ("-F", "16", "-s", "32")),
    "fat32": (64, ("-F", "32", "-s", "1")),
}


def tree(at: Path, more: tuple[str, ...] = ()) -> Path:
    """Files with names that need long entries, and names that do not."""
    chance = random.Random(1)
    for size in (0, 1, 511, 512, 513, 4096, 100_000, 700_000):
        (at / "sizes").mkdir(parents=True, exist_ok=True)
        (at / "sizes" / f"size{size}.bin").write_bytes(chance.randbytes(size))
    (at / "many").mkdir()
    for number in range(300):
        (at / "many" / f"a long name for file number {number}").write_text(str(number))
    names = (
        "SHORT.TXT", "lower.txt", "Mixed.Txt", "NOEXT", "two.dots.txt", "n" * 200, "ünïcode.txt",
        "文件", "a" * 13, "b" * 26, "with space", "thirteen chars",
    )  # fmt: skip
    (at / "names").mkdir()
    for name in names + more:
        (at / "names" / name).write_text(name)
        os.utime(at / "names" / name, (1_700_000_000, 1_700_000_001))
    deep = at.joinpath(*(f"level{level}" for level in range(12)))
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")
    return at


def said(volume: files.Files) -> dict[str, Any]:
    """Kind, and content of files."""
    return {path: (each["kind"], each["content"]) for path, each in of_volume(volume).items()}


def told(root: Path) -> dict[str, Any]:
    """The same of a directory here."""
    return {
        f"/{path.relative_to(root)}": ("directory", "")
        if path.is_dir()
        else ("file", digest_of(open(path, "rb")))
        for path in root.rglob("*")
    }


@pytest.mark.parametrize(("size", "options"), FATS.values(), ids=FATS.keys())
def test_fat_equals_what_was_written(tmp_path: Path, size: int, options: tuple[str, ...]) -> None:
    require_programs("mkfs.fat", "mcopy", "mdel")
    wanted, path = tree(tmp_path / "tree"), tmp_path / "volume"
    with open(path, "wb") as file:
        file.truncate(size * MIB)
    run(["mkfs.fat", *options, path])
    (tmp_path / "gap").write_bytes(bytes(200_000))
    run(["mcopy", "-i", path, tmp_path / "gap", "::gap"])
    utf8 = os.environ | {"LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(
        ["mcopy", "-Q", "-m", "-s", "-i", path, *sorted(wanted.iterdir()), "::"],
        check=True, env=utf8, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    run(["mdel", "-i", path, "::gap"])
    (tmp_path / "tree/later").write_bytes(random.Random(2).randbytes(500_000))
    run(["mcopy", "-i", path, tmp_path / "tree/later", "::later"])
    with files.open(path) as volume:
        assert volume.kind == options[1].join(("fat", ""))
        assert said(volume) == told(wanted)
        assert volume.open("/NAMES/SHORT.txt").read() == b"SHORT.TXT"
        by_identity = volume.stat(volume.stat("/names/two.dots.txt").identity)
        assert volume.open(by_identity).read() == b"two.dots.txt"
        mine = of_volume(volume)
    theirs = of_sleuthkit(path)
    # It shows no letters of a code page, and cuts long names.
    assert len({*theirs} - {*mine}) <= 2
    for name, facts in ((name, theirs[name]) for name in {*theirs} & {*mine}):
        assert mine[name]["content"] == facts["content"], name
        modified = mine[name]["modified"]
        assert modified is not None
        assert modified // 10**9 == facts["modified"], name


@pytest.mark.parametrize("options", [(), ("-c", "4096"), ("-c", "131072")])
def test_exfat_equals_the_mount(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Written by exfat-fuse; what it reads is what was written."""
    require_programs("mkfs.exfat", "mount.exfat-fuse")
    require(os.path.exists("/dev/fuse"), "/dev/fuse")
    path = tmp_path / "volume"
    with open(path, "wb") as file:
        file.truncate(256 * MIB)
    run(["mkfs.exfat", *options, path])
    at = tmp_path / "at"
    at.mkdir()
    with loop_device(path) as device:
        run(["mount.exfat-fuse", device, at])
        try:
            tree(at / "tree", ("😀 smile",))
            holes = at / "holes"
            with open(holes, "wb") as file:
                file.write(b"start")
                file.truncate(3 * MIB)
            one, other = at / "one", at / "other"
            for _ in range(40):
                for each in (one, other):
                    with open(each, "ab") as file:
                        file.write(os.urandom(50_000))
            (at / "tree/gone").write_text("x")
            (at / "tree/gone").unlink()
            wanted = told(at)
            times = {name: (at / name.lstrip("/")).stat() for name in wanted}
        finally:
            run(["umount", at])
    with files.open(path) as volume:
        assert volume.warnings == ()
        assert said(volume) == wanted
        assert volume.open("/TREE/names/ÜNÏCODE.TXT").read().decode() == "ünïcode.txt"
        for name, info in times.items():
            entry = volume.stat(name)
            assert entry.modified is not None
            assert entry.modified.ns // 10**9 == info.st_mtime, name
            assert volume.stat(entry.identity) == volume.stat(entry.identity)
            if entry.kind == "file":
                assert entry.size == info.st_size
    assert of_sleuthkit(path).keys() >= wanted.keys()


def test_names_and_their_checksums(tmp_path: Path) -> None:
    """A long name whose checksum is not that of the short one belongs to another file."""
    require_programs("mkfs.fat", "mcopy")
    path = tmp_path / "volume"
    with open(path, "wb") as file:
        file.truncate(4 * MIB)
    run(["mkfs.fat", "-F", "12", path])
    (tmp_path / "a long name.text").write_text("x")
    run(["mcopy", "-i", path, tmp_path / "a long name.text", "::"])
    data = bytearray(path.read_bytes())
    at = data.index(b"ALONGN~1TEX")
    data[at] = ord("B")
    path.write_bytes(data)
    with files.open(path) as volume:
        assert [each.name for each in volume.entries()] == ["BLONGN~1.TEX"]
    data[at] = 0x05
    data[at + 12] = 0x18
    path.write_bytes(data)
    with files.open(path, code_page="cp437") as volume:
        assert [each.name for each in volume.entries()] == ["\u03c3longn~1.tex"]
    with pytest.raises(ValueError, match="code_page"):
        files.open(path, code_page="none")


def test_chains_that_are_damaged(tmp_path: Path) -> None:
    """A circle, an end before the end, a way out: errors, and nothing else is read."""
    require_programs("mkfs.fat", "mcopy")
    path = tmp_path / "volume"
    with open(path, "wb") as file:
        file.truncate(32 * MIB)
    run(["mkfs.fat", "-F", "16", "-s", "1", path])
    (tmp_path / "file").write_bytes(os.urandom(5000))
    run(["mcopy", "-i", path, tmp_path / "file", "::"])
    good = path.read_bytes()
    with files.open(path) as volume:
        assert volume.open("/file").read() == (tmp_path / "file").read_bytes()
    reserved = int.from_bytes(good[14:16], "little") * 512
    for value in (0, 2, 0xFFF7, 0xFFFF, 60_000, 65_520):
        data = bytearray(good)
        data[reserved + 2 * 4 : reserved + 2 * 5] = value.to_bytes(2, "little")
        path.write_bytes(data)
        with files.open(path) as volume, pytest.raises(files.DamagedVolumeError):
            volume.open("/file")


def test_times_of_all_forms() -> None:
    at = dos_time(0x5A21, 0x6000, 150)
    assert at is not None
    assert (str(at.datetime), at.resolution) == ("2025-01-01 12:00:01.500000", 10_000_000)
    assert dos_time(0, 0) is None
    assert dos_time(0x5A21, 0xFFFF) is None
    east = exfat_time(0x5A216000, 0, 0x80 | 8)
    assert east is not None
    assert (str(east.datetime), east.offset) == ("2025-01-01 12:00:00+02:00", 120)
    west = exfat_time(0x5A216000, 0, 0x80 | 0x7F)
    assert west is not None
    assert west.offset == -15
    unknown = exfat_time(0x5A216000, 0, 8)
    assert unknown is not None
    assert unknown.offset is None


def test_a_set_with_a_wrong_checksum() -> None:
    data = bytearray(96)
    data[0], data[1], data[32], data[35], data[64] = 0x85, 2, 0xC0, 1, 0xC1
    data[66] = ord("n")
    data[2:4] = set_checksum(bytes(data)).to_bytes(2, "little")
    assert decode_set(bytes(data)).name == "n"
    for at in range(96):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(files.DamagedVolumeError):
            decode_set(bytes(damaged))


DIFFER = {"exfat_encrypted": {"/usual_dir/0.bin.PFILE"}, "fat_lfn_test": {"/SHORT.TXT"}}
"""The Sleuth Kit shows what lies past ValidDataLength, which reads as zeros; and a long name whose
checksum is that of another file.
"""


ERRORS = {"exfat_lin_part": {"/"}}
"""A set with 18 entries of a name whose length is said to be 0."""


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")
def test_samples(tmp_path: Path) -> None:
    """Volumes that others made: content equals that of the Sleuth Kit, or an error says why not."""
    compared, refused = 0, {}
    for packed in sorted((SAMPLES / "dfir_ntfs").rglob("*fat*.raw.gz")):
        path, name = tmp_path / "sample", packed.name.removesuffix(".raw.gz")
        path.write_bytes(gzip.decompress(packed.read_bytes()))
        errors: dict[str, AipImageError] = {}
        try:
            with files.open(path) as volume:
                mine = _found(volume, errors)
                start = volume._window.offset
        except AipImageError as error:
            refused[name] = str(error)
            continue
        try:
            theirs = {name: each["content"] for name, each in of_sleuthkit(path, start).items()}
        except OSError:
            continue  # it knows no such volume
        differ = {path for path, content in mine.items() if theirs.get(path) != content}
        assert differ <= DIFFER.get(name, set()), name
        assert {*errors} <= ERRORS.get(name, set()), errors
        compared += 1
    assert refused.keys() == {"fat64"}
    assert compared > 12


def _found(volume: files.Files, errors: dict[str, AipImageError]) -> dict[str, str]:
    """The content of every file, empty for directories; what is damaged is put aside."""
    found = {}
    for entry in volume.walk(on_error=errors.__setitem__):
        try:
            is_file = entry.kind == "file"
            found[entry.path] = digest_of(volume.open(entry)) if is_file else ""
        except AipImageError as error:
            errors[entry.path] = error
    return found
