"""FAT volumes that were not unmounted: what is kept is all that a driver, or a repair, finds."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.fat import PARSER
from aipimage.volumes.filesystems.fat import inuse as fat_in_use
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.surveyed import surveyed, surveyed_file, used_of, wipe_free, write_files
from tests.support.tools import require_programs, run
from tests.support.torn import torn
from tests.volumes.fat.built import END, FatVolume, fat12, fat16, fat32
from tests.volumes.fat.test_made import FORMATS, formatted, mtool

TORN = (
    "fat12-4-tables", "fat12-64k", "fat16", "fat16-3-tables", "fat16-sector-4096", "fat32",
    "fat32-512", "fat32-one-table",
)  # fmt: skip


@pytest.mark.parametrize("name", TORN)
def test_class_50_torn_volumes(name: str, tmp_path: Path) -> None:
    """A repair finds the same in a volume and in one without what is free."""
    kept = torn_volumes(name, tmp_path, 1, 3)
    assert len(kept) == 3
    # A small table is in one sector, which is written as a whole.
    assert any(kept) or not name.startswith("fat32")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 22))
@pytest.mark.parametrize("name", TORN)
def test_class_50_many_torn_volumes(name: str, seed: int, tmp_path: Path) -> None:
    assert len(torn_volumes(name, tmp_path, seed, 10)) == 10


def torn_volumes(name: str, tmp_path: Path, seed: int, number: int) -> list[int]:
    """Use a volume, and compare states between two moments; return for each the bytes that only
    directories kept.
    """
    require_programs("mkfs.fat", "fsck.fat", "mcopy", "mdel", "mdeltree")
    size, options = FORMATS[name]
    rng = random.Random(seed)
    before = formatted(tmp_path / "before", size, options)
    room = min(size // 4, 2 << 20)
    fill(before, tmp_path / "one", rng, room)
    after = Path(shutil.copyfile(before, tmp_path / "after"))
    mtool("mdeltree", after, "::one/sub")
    mtool("mdel", after, *(f"::one/{path.name}" for path in (tmp_path / "one").glob("*1*.bin")))
    fill(after, tmp_path / "two", rng, room)
    kept = []
    for index in range(number):
        path = tmp_path / "torn"
        assert torn(before, after, path, 512, seed * 1000 + index)
        kept.append(compare(path, tmp_path))
    return kept


def fill(volume: Path, folder: Path, rng: random.Random, room: int) -> None:
    """Copy a folder of new files into a volume."""
    write_files(folder, rng, "a", 20, room // 30)
    write_files(folder / "sub", rng, "a long name of a file ", 40, room // 90)
    mtool("mcopy", volume, folder, "::")


def compare(path: Path, tmp_path: Path) -> int:
    """Mark a volume as dirty, and repair it as it is and without what is free; return the bytes
    that only directories kept.
    """
    mark(path)
    _, allocation = surveyed_file(PARSER, path)
    (note,) = allocation.notes
    assert note.startswith("in use: it was not unmounted; its FATs and directories were read, and ")
    left = Path(shutil.copyfile(path, tmp_path / "left"))
    wipe_free(left, allocation)
    assert repaired(path) == repaired(left)
    same_but_free(path, left)
    return int(note.split(", and ")[1].split()[0].replace(",", ""))


def mark(path: Path) -> None:
    """Set the bit that Linux sets on a mount."""
    with open(path, "r+b") as file:
        boot = file.read(512)
        at = 0x25 if int.from_bytes(boot[22:24], "little") else 0x41
        file.seek(at)
        file.write(bytes([boot[at] | 1]))


def repaired(path: Path) -> str:
    """Let fsck.fat repair a volume, chains without a name too; return what it says."""
    return run(["fsck.fat", "-y", path], codes=(0, 1)).replace(str(path), "")


def same_but_free(one: Path, other: Path) -> None:
    """Two volumes have the same bytes in all that the table of the first calls used."""
    _, allocation = surveyed_file(PARSER, one)
    data, others = bytearray(one.read_bytes()), bytearray(other.read_bytes())
    for rows in allocation.free.ranges(0, len(data)):
        for offset, length in rows.tolist():
            data[offset : offset + length] = others[offset : offset + length] = bytes(length)
    assert data == others


# By hand.

DIRTY = {12: 0x25, 16: 0x25, 32: 0x41}
ALL = (fat12(), fat16(), fat32())


def entry(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    """An entry of a directory."""
    return struct.pack("<11sB8xH4xHI", name, attributes, cluster >> 16, cluster & 0xFFFF, size)


def folder(cluster: int, *entries: bytes) -> bytes:
    """The bytes of a directory that lies in a cluster."""
    own = entry(b".".ljust(11), 0x10, cluster, 0) + entry(b"..".ljust(11), 0x10, 0, 0)
    return (own + b"".join(entries)).ljust(512, b"\0")


def dirty(volume: FatVolume, **changes: object) -> FatVolume:
    """The same volume, mounted."""
    return volume.but(boot=((DIRTY[volume.bits], b"\1"),), **changes)


def used(volume: FatVolume, *clusters: tuple[int, bytes]) -> list[int]:
    """Which clusters are in use, where some of them have content."""
    source = volume.source()
    for number, data in clusters:
        source.pieces[volume.data_start + (number - 2) * volume.sector] = data
    return [at + 2 for at, bit in enumerate(used_of(surveyed(PARSER, source)[1])) if bit]


@pytest.mark.parametrize("volume", ALL, ids=["fat12", "fat16", "fat32"])
def test_class_50_what_either_table_calls_used_is_kept(volume: FatVolume) -> None:
    """Tables differ where a write was lost; either may be the newer one."""
    wide = {12: 1.5, 16: 2, 32: 4}[volume.bits]
    for number in (0, 1):
        changed = dirty(volume, tables=((number, int(40 * wide), b"\x55\x05"),))
        assert used(changed) == sorted([*used(volume), 40])
    (note,) = surveyed(PARSER, dirty(volume).source())[1].notes
    assert note.endswith("0 bytes are kept beyond its map")


@pytest.mark.parametrize("volume", ALL, ids=["fat12", "fat16", "fat32"])
def test_class_50_a_file_that_no_table_has_yet(volume: FatVolume) -> None:
    """Its entry has a first cluster and a size; and so has one in a directory that is as new."""
    root = (
        entry(b"FILE    TXT", 0x20, 20, 512 * 3 - 1)
        + entry(b"\xe5ONE    TXT", 0x20, 25, 512)
        + entry(b"A LABEL    ", 0x08, 26, 512)
        + entry(b"EMPTY   TXT", 0x20, 0, 0)
        + entry(b"FAR     TXT", 0x20, volume.clusters + 2, 512)
        + entry(b"LONG    TXT", 0x20, volume.clusters + 1, 1 << 30)
        + entry(b"FOLDER     ", 0x10, 30, 0)
    )
    inside = folder(30, entry(b"INSIDE  TXT", 0x20, 40, 100), entry(b"AGAIN      ", 0x10, 30, 0))
    wanted = sorted([*used(volume), 20, 21, 22, 30, 40, volume.clusters + 1])
    changed = dirty(volume, root=root)
    assert used(changed, (30, inside)) == wanted
    # Without its own entry at its start a directory was not written yet.
    assert used(changed, (30, bytes(512))) == [number for number in wanted if number != 40]


@pytest.mark.parametrize("volume", ALL, ids=["fat12", "fat16", "fat32"])
def test_class_50_directories_are_followed_in_each_table(volume: FatVolume) -> None:
    """The second table has a cluster more of a directory, and a file in that is in none."""
    values = [*volume.entries, *[0] * (6 - len(volume.entries))]
    values[-1] = END[volume.bits]
    wide = {12: 1.5, 16: 2, 32: 4}[volume.bits]
    # Of the directory in cluster 10, whose entry is an even one, by 12 bits too.
    end, more = (number.to_bytes(2, "little") for number in (END[volume.bits] & 0xFFF, 12))
    tables = ((0, int(10 * wide), end), (1, int(10 * wide), more), (1, int(12 * wide), end))
    root = entry(b"FOLDER     ", 0x10, 10, 0)
    changed = dirty(volume, root=root, tables=tables)
    found = used(
        changed, (10, folder(10)), (12, entry(b"INSIDE  TXT", 0x20, 44, 1).ljust(512, b"\0"))
    )
    assert found == sorted([*used(volume), 10, 12, 44])


def test_class_50_the_marks_of_the_table() -> None:
    for volume in (fat16(first=0x7FFF), fat32(first=0x07FF_FFFF)):
        assert surveyed(PARSER, volume.source())[1].notes


def test_class_50_what_may_change_is_taken_whole() -> None:
    options = SurveyOptions(changing=lambda: "it is mounted at /there")
    for volume, is_whole in ((dirty(fat16()), True), (fat16(), False)):
        source = volume.source()
        view = VolumeView(source, 0, source.size)
        found = PARSER.probe(view)
        assert found is not None
        assert PARSER.allocation is not None
        if is_whole:
            with pytest.raises(LayoutError, match="it is mounted at /there"):
                PARSER.allocation(view, found, options)
        else:
            PARSER.allocation(view, found, options)


def test_class_50_directories_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that leads in a circle is looked at once; too many of them are too many."""
    root = entry(b"FOLDER     ", 0x10, 10, 0)
    volume = dirty(fat16(), root=root, tables=((0, 20, b"\x0a\0"), (1, 20, b"\x0a\0")))
    assert used(volume, (10, folder(10))) == sorted([*used(fat16()), 10])
    monkeypatch.setattr(fat_in_use, "DIRECTORIES_MAX", 1000)
    with pytest.raises(LayoutError, match="larger than can be looked at"):
        used(volume)
