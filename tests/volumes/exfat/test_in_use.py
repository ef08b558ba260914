"""exFAT volumes that were not unmounted: what is kept is all that a driver, or a repair, finds."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.exfat import PARSER
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support import loop_device, require
from tests.support.surveyed import surveyed, surveyed_file, used_of, wipe_free
from tests.support.tools import require_programs, run
from tests.support.torn import torn
from tests.volumes.exfat import checked as by_hand
from tests.volumes.exfat.built import END, ExfatVolume, two_fats
from tests.volumes.exfat.test_made import FORMATS, fill, formatted, fuse_mounted

TORN = ("default", "cluster-512", "cluster-1k", "cluster-8k", "cluster-32k", "packed")
PLAIN = ExfatVolume()
DIRTY = 2


def require_tools() -> None:
    require_programs("mkfs.exfat", "dump.exfat", "fsck.exfat", "mount.exfat-fuse")
    require(os.path.exists("/dev/fuse"), "/dev/fuse")


@pytest.mark.parametrize("name", TORN)
def test_class_50_torn_volumes(name: str, tmp_path: Path) -> None:
    """A driver and a repair find the same in a volume and in one without what is free."""
    kept = torn_volumes(name, tmp_path, 1, 3)
    assert len(kept) == 4
    assert any(kept)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("name", TORN)
def test_class_50_many_torn_volumes(name: str, seed: int, tmp_path: Path) -> None:
    assert len(torn_volumes(name, tmp_path, seed, 10)) == 11


def torn_volumes(name: str, tmp_path: Path, seed: int, number: int) -> list[int]:
    """Use a volume, and compare states between two moments, and a copy of it while it is mounted;
    return for each the bytes that the bitmap alone would not keep.
    """
    require_tools()
    size, sector, options = FORMATS[name]
    rng = random.Random(seed)
    before = formatted(tmp_path / "before", size, sector, options)
    room = min(size // 4, 2 << 20)
    with fuse_mounted(before, sector) as at:
        fill(at, tmp_path / "content", rng, 2, room)
    after = Path(shutil.copyfile(before, tmp_path / "after"))
    path, kept = tmp_path / "torn", []
    with fuse_mounted(after, sector) as at:
        fill(at / "more", tmp_path / "more", rng, 2, room)
        shutil.rmtree(at / "r1")
        shutil.copyfile(after, path)
    kept.append(compare(path, tmp_path))
    for index in range(number):
        assert torn(before, after, path, 512, seed * 1000 + index)
        mark(path)
        kept.append(compare(path, tmp_path))
    return kept


def compare(path: Path, tmp_path: Path) -> int:
    """Compare a volume with one without what is free, in the eyes of a driver and of a repair;
    return the bytes that its bitmap alone would not keep.
    """
    _, allocation = surveyed_file(PARSER, path)
    (note,) = allocation.notes
    assert note.startswith("in use: it was not unmounted; its FAT and directories were read, and ")
    left = Path(shutil.copyfile(path, tmp_path / "left"))
    wipe_free(left, allocation)
    found = files_of(path)
    assert found
    assert files_of(left) == found
    assert repaired(path) == repaired(left)
    assert files_of(left) == files_of(path)
    return int(note.split(", and ")[1].split()[0].replace(",", ""))


def mark(path: Path) -> None:
    """Set the bit that a driver sets on a mount."""
    with open(path, "r+b") as file:
        file.seek(106)
        flags = file.read(1)[0]
        file.seek(106)
        file.write(bytes([flags | DIRTY]))


def files_of(path: Path) -> dict[str, str]:
    """Digests of all files as exfat-fuse reads them, or the number of the error."""
    at, found = path.with_suffix(".mnt"), {}
    at.mkdir(exist_ok=True)
    with loop_device(path) as device:
        if "ERROR" in run(["mount.exfat-fuse", "-o", "ro", device, at], codes=(0, 1)):
            return {"": "not mounted"}
        try:
            for folder, _, names in os.walk(at):
                for name in names:
                    file = Path(folder, name)
                    try:
                        digest = hashlib.sha256(file.read_bytes()).hexdigest()
                    except OSError as error:
                        digest = str(error.errno)
                    found[str(file.relative_to(at))] = digest
        finally:
            run(["umount", at])
    return found


def repaired(path: Path) -> str:
    """Let fsck.exfat repair a volume, which may end by a signal; return what it says."""
    return run(["fsck.exfat", "-y", path], codes=(0, 1, 4, -6, -11)).replace(str(path), "")


# By hand.


def test_class_50_what_files_lie_in_is_kept() -> None:
    """In one piece, along the FAT, in directories, and what only the FAT has."""
    inside = by_hand.file_set(by_hand.stream_entry(120, 600, 3))
    volume = by_hand.with_files(
        by_hand.file_set(by_hand.CONTIGUOUS),
        by_hand.file_set(by_hand.CHAINED),
        by_hand.file_set(by_hand.stream_entry(50, 512, 3), directory=True),
        used=(2, 3, 60),
        flags=DIRTY,
        chains=(END, END, 5, END, 7, END, 0, END),
    )
    source = volume.source()
    source.pieces[(volume.heap + 48) * 512] = inside.ljust(512, b"\0")
    wanted = [2, 3, 4, 5, 6, 7, 9, 50, 60, 100, 101, 102, 120, 121]
    found = surveyed(PARSER, source)[1]
    assert [at + 2 for at, bit in enumerate(used_of(found)) if bit] == wanted
    kept = 512 * (len(wanted) - 3)
    assert found.notes[0].endswith(f" {kept:,} bytes are kept beyond its map")


def test_class_50_a_large_fat_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipimage.volumes.filesystems.exfat.inuse._STEP", 7)
    chains = [END, END, END, *[0] * 197]
    for at in (20, 21, 28, 29, 30, 199):
        chains[at] = 5
    volume = PLAIN.but(chains=tuple(chains), flags=DIRTY)
    assert by_hand.used(volume) == sorted({*PLAIN.used, 22, 23, 30, 31, 32, 201})


def test_class_50_what_stays_whole() -> None:
    by_hand.refused(two_fats(flags=DIRTY), "not unmounted, and has two FATs")
    by_hand.refused(PLAIN.but(flags=DIRTY | 4), "its medium failed")
    by_hand.refused(PLAIN.but(flags=DIRTY, chains=(END, END, 500)), "chain of clusters leads to")


def test_class_50_entries_past_the_mark_of_an_end_and_of_unknown_kinds() -> None:
    """Drivers disagree about the first; the second may be of what was never written."""
    unknown = struct.pack("<B3xB15xIQ", 0x88, 3, 150, 700)
    late = by_hand.file_set(by_hand.stream_entry(160, 512, 3), directory=True)
    volume = by_hand.with_files(unknown, bytes(32), late, flags=DIRTY, used=(2, 3, 4, 5))
    source = volume.source()
    inside = bytes(32) + by_hand.file_set(by_hand.stream_entry(170, 512, 3))
    source.pieces[(volume.heap + 158) * 512] = inside.ljust(512, b"\0")
    found = surveyed(PARSER, source)[1]
    used = {at + 2 for at, bit in enumerate(used_of(found)) if bit}
    assert {150, 151, 160, 170} <= used
    assert not used & {149, 152, 161, 171}


def test_class_50_a_root_directory_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aipimage.volumes.filesystems.exfat.inuse.SEARCH_MOST", 512)
    by_hand.refused(PLAIN.but(flags=DIRTY), "root directory is too large to be read")


def test_class_50_what_may_change_is_taken_whole() -> None:
    options = SurveyOptions(changing=lambda: "it is mounted at /there")
    for volume in (PLAIN, PLAIN.but(flags=DIRTY)):
        source = volume.source()
        view = VolumeView(source, 0, source.size)
        found = PARSER.probe(view)
        assert found is not None
        assert PARSER.allocation is not None
        if volume.flags:
            with pytest.raises(LayoutError, match="it is mounted at /there"):
                PARSER.allocation(view, found, options)
        else:
            PARSER.allocation(view, found, options)
