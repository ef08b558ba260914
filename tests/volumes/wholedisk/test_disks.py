"""Whole disks through the command, as a user has it: imaged, looked at, restored, checked.

Each file system's own check, blkid, sfdisk, sgdisk and the digest of every file say whether it is
right.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipimage
from aipimage.io.blocks.sources import open_source
from tests.cli.running import Ran, done, invoke
from tests.support import loop_device
from tests.support.tools import run
from tests.volumes.wholedisk.made import (
    BLKID_TYPES,
    MIB,
    OLD,
    PATTERN,
    Disk,
    Part,
    Unreadable,
    attached,
    blkid,
    check_copy,
    check_volume,
    free_sectors,
    garbage,
    make_disk,
    mounted,
    not_zero_in_free,
    pattern_in,
    pattern_in_image,
    pieces_of,
    sectors_with,
    surveyed,
)

GPT = [
    Part("ntfs", 256),
    Part("fat32", 128),
    Part("exfat", 64),
    Part("ext4", 400),
    Part("xfs", 512),
    Part("btrfs", 512),
    Part("swap", 64),
    Part("unknown", 8),
]
MBR = [
    Part("ntfs", 64),
    Part("fat32", 64),
    Part("ext4", 64, logical=True),
    Part("exfat", 32, logical=True),
    Part("swap", 16, logical=True),
    Part("unknown", 4, True),
]
KINDS = [part.kind for part in GPT]
NUMBERS = range(1, len(GPT) + 1)
WITH_FREE = [kind for kind in KINDS if kind != "unknown"]


@dataclass(frozen=True)
class Imaged:
    """A disk, the image of it, and what the command said."""

    disk: Disk
    image: Path
    ran: Ran

    def info(self) -> list[dict[str, Any]]:
        """The volumes of the image."""
        found = done("info", self.image, "--json").json["volumes"]
        assert isinstance(found, list)
        return found


def imaged(directory: Path, label: str, parts: list[Part], tail: int) -> Imaged:
    """Make a disk, and an image of it through the command."""
    disk = make_disk(directory, label, parts, tail)
    image = directory / "d.aiv"
    return Imaged(disk, image, done("createimage", "-o", image, disk.path, "--json"))


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imaged]:
    """A GPT disk with all that the issue names."""
    directory = tmp_path_factory.mktemp("gpt")
    yield imaged(directory, "gpt", GPT, tail=64)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def mbr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imaged]:
    """An MBR disk with logical partitions."""
    directory = tmp_path_factory.mktemp("mbr")
    yield imaged(directory, "dos", MBR, tail=8)
    shutil.rmtree(directory)


@pytest.fixture(params=["gpt", "mbr"])
def either(request: pytest.FixtureRequest) -> Imaged:
    """Both of them."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Imaged)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for large files, which go at once."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_only_used_clusters_are_kept(either: Imaged) -> None:
    """What was freed is on the disk and in no data of the image; all that is used is there."""
    disk = either.disk
    freed = pattern_in(disk.path, disk.places)
    for number, part in disk.parts.items():
        assert (freed[number] > 300) == (part.kind in WITH_FREE), part
    assert not either.ran.err
    assert either.ran.json["warnings"] == []
    assert pattern_in_image(either.image) == 0
    assert_used_is_equal(disk, either.image)
    for volume in either.info():
        part = disk.parts[volume["number"]]
        if part.kind == "unknown":
            assert volume["kept_bytes"] == volume["used"] == part.mib * MIB
            continue
        assert volume["kept_bytes"] <= volume["used"] * 1.02 + 65_536, volume
        # Tables and journals are mostly zeros, which are not kept; files are not.
        assert volume["kept_bytes"] >= (1 if part.kind == "swap" else 300_000), volume
    assert either.image.stat().st_size < 45 * MIB


def assert_used_is_equal(disk: Disk, image: Path, device: int = 0) -> None:
    """Of the disk's bytes an image has those that are in use, and zeros for the others."""
    found = surveyed(disk.path)
    unused = 0
    with aipimage.open(image) as opened:
        entry = opened.devices[device]
        for begin, data in pieces_of(disk.path):
            wanted = np.frombuffer(data, np.uint8).copy()
            for rows in found.free.ranges(begin, begin + len(data)):
                for offset, length in rows.tolist():
                    wanted[offset - begin : offset - begin + length] = 0
            buffer = bytearray(len(data))
            entry.read_into(buffer, begin)
            assert buffer == wanted.data, begin
        unused = sum(extent.length for extent in entry.extents(aipimage.Kind.UNUSED))
    assert unused == found.free.total


def test_info_of_the_image_and_of_the_disk(either: Imaged) -> None:
    """Number, file system, label, UUID, size, used, cluster size, first sector, kept bytes."""
    disk = either.disk
    of_image, of_disk = either.info(), done("info", disk.path, "--json").json["volumes"]
    assert [volume["number"] for volume in of_image] == list(disk.parts)
    for seen, volume in zip(of_disk, of_image, strict=True):
        number = volume["number"]
        part, about = disk.parts[number], disk.blkid[number]
        kind = volume["filesystem"]
        assert BLKID_TYPES.get(kind or "unknown", kind) == about.get("TYPE", ""), volume
        assert (kind or "unknown") == part.kind
        assert (volume["label"], volume["uuid"]) == (about.get("LABEL", ""), about.get("UUID", ""))
        assert (volume["start"], volume["size"]) == disk.places[number]
        assert volume["first_sector"] == int(about["PART_ENTRY_OFFSET"])
        assert volume["guid"] == (
            about["PART_ENTRY_UUID"] if "gpt" in disk.path.parent.name else ""
        )
        assert (volume["whole_because"] == "") == (part.kind != "unknown"), volume
        assert {name: volume[name] for name in seen} == seen
        assert set(volume) - set(seen) == {"kept_bytes"}
        check_used(disk, volume)
    check_text(done("info", either.image).out, of_image, kept=True)
    check_text(done("info", disk.path).out, of_disk, kept=False)


def check_used(disk: Disk, volume: dict[str, Any]) -> None:
    """Bytes in use and the size of clusters against what drivers and tools say."""
    kind, number = volume["filesystem"], volume["number"]
    clusters = {"ntfs": 4096, "exfat": 4096, "xfs": 4096, "btrfs": 4096, "swap": 4096}
    assert kind in ("ext4", "fat32", "") or volume["cluster_size"] == clusters[kind], volume
    if kind in ("ntfs", "fat32", "exfat", "ext4"):
        assert volume["used"] == volume["size"] - disk.free[number]
    elif kind == "xfs":
        # The driver counts blocks as used that it sets aside for its trees.
        more = volume["size"] - disk.free[number] - volume["used"]
        assert 0 <= more < MIB
    elif kind == "swap":
        assert volume["used"] == 4096
    elif kind == "":
        assert volume["used"] == volume["size"]


def check_text(text: str, volumes: list[dict[str, Any]], kept: bool) -> None:
    """The table for people has a line for each volume, under a head."""
    lines = text[text.index("\nvolumes\n") :].splitlines()[2:]
    head, rows = lines[0], lines[1:]
    assert ("kept" in head) == kept
    for name in ("file system", "size", "used", "cluster", "first sector", "label", "UUID"):
        assert name in head
    for volume, row in zip(volumes, rows, strict=False):
        assert row.split()[0] == str(volume["number"])
        wanted = (volume["filesystem"] or "unknown", str(volume["first_sector"]))
        for word in (*wanted, volume["label"], volume["uuid"]):
            assert word in row, (word, row)


def test_the_image_is_whole(either: Imaged) -> None:
    assert ": whole (" in done("verify", either.image).out
    assert done("verify", either.image, "--json").json["ok"] is True


def test_to_a_larger_disk(either: Imaged, place: Path) -> None:
    """Over what another disk held: every check, every file, and zeros where nothing is."""
    disk, target = either.disk, place / "larger.raw"
    garbage(target, disk.size + 96 * MIB)
    assert "not empty" in invoke("restoredisk", either.image, target).error
    ran = done("restoredisk", either.image, target, "--force")
    assert not ran.err
    assert target.stat().st_size == disk.size + 96 * MIB
    check_restored(disk, target)


def check_restored(disk: Disk, target: Path, but: Sequence[int] = ()) -> None:
    """A restored disk is in order, and nothing old is on it."""
    assert sectors_with(target, OLD * 512) == sectors_with(target, PATTERN) == 0
    found = surveyed(target)
    assert [volume.whole_because for volume in found.volumes].count(None) == len(disk.parts) - 1
    assert not_zero_in_free(target, found, but) == 0
    check_copy(disk, target)


@pytest.mark.parametrize("less", [60, 700])
def test_to_a_smaller_disk(gpt: Imaged, place: Path, less: int) -> None:
    """Without what lies behind the last partition; and with partitions that move and shrink."""
    disk, target = gpt.disk, place / "smaller.raw"
    size = disk.size - less * MIB
    ran = done("restoredisk", gpt.image, target, "--size", size, "--json")
    assert target.stat().st_size == size
    changes = {change["number"]: change for change in ran.json["changes"]}
    smaller = [n for n, change in changes.items() if change["size"] < change["old_size"]]
    assert bool(smaller) == (less == 700)
    assert [note.split()[1] for note in ran.json["notes"]] == [f"{number}:" for number in smaller]
    if 1 in smaller:
        settle_ntfs(target)
    # Tools that move clusters leave what was in them; it is none of what was free before.
    check_restored(disk, target, but=smaller)


def settle_ntfs(target: Path) -> None:
    """ntfsresize asks Windows for a check by a mark, with which a volume is taken whole."""
    with attached(target) as device:
        run(["ntfsfix", "--clear-dirty", f"{device}p1"])


def test_too_small(gpt: Imaged, place: Path) -> None:
    """Said in bytes, before anything is written."""
    target = place / "t.raw"
    ran = invoke("restoredisk", gpt.image, target, "--size", "600M")
    assert ran.code == 1
    assert "too small" in ran.error
    assert "more bytes are needed" in ran.error
    assert not list(place.iterdir())


@pytest.mark.parametrize("number", NUMBERS, ids=KINDS)
def test_a_volume_to_a_new_file(gpt: Imaged, place: Path, number: int) -> None:
    """It has the volume's size, passes its check, and has every file."""
    disk, target = gpt.disk, place / "v"
    ran = done("restorevolume", gpt.image, target, "--volume", number)
    assert not ran.err
    assert target.stat().st_size == disk.places[number][1]
    with loop_device(target, "--read-only") as device:
        check_volume(disk, number, device)
    if disk.parts[number].kind == "unknown":
        assert target.read_bytes() == disk.bytes_of(number)
    assert sectors_with(target, PATTERN) == 0


@pytest.mark.parametrize("number", NUMBERS, ids=KINDS)
def test_a_volume_to_a_larger_file_and_expanded(gpt: Imaged, place: Path, number: int) -> None:
    """The file system grows where there is a way; else it is told, and left as it was."""
    disk, target = gpt.disk, place / "v"
    kind, size = disk.parts[number].kind, disk.places[number][1]
    garbage(target, size + 64 * MIB)
    ran = done(
        "restorevolume", gpt.image, target, "--volume", number, "--expand", "--force", "--json"
    )
    with loop_device(target, "--read-only") as device:
        check_volume(disk, number, device)
    found = surveyed(target).volumes[0]
    if kind in ("ntfs", "ext4", "xfs", "btrfs", "swap"):
        assert ran.json["expanded"] == size + 64 * MIB, ran
        assert not ran.err
        assert found.filesystem is not None
        assert size + 62 * MIB < found.filesystem.size <= size + 64 * MIB
        # ntfsresize asks Windows for a check.
        assert found.whole_because == ("it is marked as dirty" if kind == "ntfs" else None)
    else:
        assert ran.json["expanded"] is None
        name = "what is not known" if kind == "unknown" else kind
        assert ran.err == f"aipimage: warning: {name} cannot grow: it was left as it is\n"
    assert sectors_with(target, OLD * 512) == 0


def test_a_choice_of_volumes(gpt: Imaged, place: Path) -> None:
    """Only these are there; the others are unused, called so, and the restore warns."""
    disk, image = gpt.disk, place / "v.aiv"
    done("createimage", "-o", image, disk.path, "--volume", 2, "--volume", 4)
    info = done("info", image, "--json").json
    assert [volume["number"] for volume in info["volumes"] if volume["kept"]] == [2, 4]
    for volume in info["volumes"]:
        assert bool(volume["kept_bytes"]) == (volume["number"] in (2, 4))
    sizes = [size for number, (_, size) in disk.places.items() if number not in (2, 4)]
    assert info["devices"][0]["unused"] > sum(sizes)
    assert "volume 1: left out on request" in done("info", image).out
    ran = done("restoredisk", image, place / "t.raw", "--size", disk.size + 8 * MIB)
    assert ran.err == (
        "aipimage: warning: volumes 1, 3, 5, 6, 7, 8 were left out when the image was made: each "
        "is empty in a file, and what it was before on a device\n"
    )
    with attached(place / "t.raw", "--read-only") as device:
        for number in disk.parts:
            if number in (2, 4):
                check_volume(disk, number, f"{device}p{number}")
            else:
                assert "TYPE" not in blkid(f"{device}p{number}")
    again = invoke("restorevolume", image, place / "w", "--volume", 1)
    assert again.code == 1
    assert "has no volume 1, which was left out when it was made; there is" in again.error


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--volume", "9"], 1, "has no volume 9; it has 1, 2, 3, 4, 5, 6, 7, 8"),
        (["--volume", "0"], 1, "has no volume 0; it has 1"),
        (["--volume", "2", "--volume", "12"], 1, "has no volume 12;"),
        (["--volume", "x"], 2, "'x' is not N or DISK:N"),
        (["--volume", "-1"], 2, "'-1' is not N or DISK:N"),
        (["--volume", "1:2"], 2, "the disks are numbered from 0"),
    ],
)
def test_a_wrong_volume_is_refused(
    gpt: Imaged, place: Path, words: list[str], code: int, text: str
) -> None:
    """In one line, before anything is written."""
    ran = invoke("createimage", "-o", place / "v.aiv", gpt.disk.path, *words)
    assert ran.code == code
    assert text in ran.err
    assert "Traceback" not in ran.err
    assert not list(place.iterdir())


def test_with_free_space(mbr: Imaged, place: Path) -> None:
    """It has the disk byte for byte, what was freed too."""
    disk, image = mbr.disk, place / "v.aiv"
    done("createimage", "-o", image, disk.path, "--include-free")
    assert pattern_in_image(image) == sum(pattern_in(disk.path, disk.places).values()) > 0
    done("restoredisk", image, place / "t.raw")
    run(["cmp", disk.path, place / "t.raw"])
    volumes = done("info", image, "--json").json["volumes"]
    assert [v["used"] for v in volumes] == [v["used"] for v in mbr.info()]
    assert all(volume["kept"] for volume in volumes)


def test_two_disks_and_a_volume_of_the_second(gpt: Imaged, mbr: Imaged, place: Path) -> None:
    """The first one is kept as it is."""
    image = place / "v.aiv"
    done(
        "createimage",
        "-o",
        image,
        gpt.disk.path,
        mbr.disk.path,
        "--volume",
        "1:2",
        "--volume",
        "1:5",
    )
    volumes = done("info", image, "--json").json["volumes"]
    kept = [(volume["device"], volume["number"]) for volume in volumes if volume["kept"]]
    assert kept == [*((0, number) for number in gpt.disk.parts), (1, 2), (1, 5)]
    text = done("info", image).out
    assert "volumes of device 0\n" in text
    assert "volumes of device 1\n" in text
    assert_used_is_equal(gpt.disk, image)
    assert "has several volumes, choose one" in invoke("restorevolume", image, place / "v").error
    done("restorevolume", image, place / "v", "--disk", 1, "--volume", 5)
    with loop_device(place / "v", "--read-only") as device:
        check_volume(mbr.disk, 5, device)
    ran = done("restoredisk", image, place / "t.raw", "--disk", 1)
    assert "volumes 1, 6, 7, 8 were left out" in ran.err
    assert (place / "t.raw").stat().st_size == mbr.disk.size


@pytest.fixture
def paging(place: Path) -> Disk:
    """A disk with an NTFS volume that holds a paging file."""
    disk = make_disk(place, "dos", [Part("ntfs", 48)])
    data = random.Random(3).randbytes(8 * MIB)
    with attached(disk.path) as device, mounted("ntfs", f"{device}p1", place / "mnt") as there:
        (there / "pagefile.sys").write_bytes(data)
        (there / "d0" / "pagefile.sys").write_bytes(data[:MIB])
    return disk


def test_paging_files_are_left_out_on_request(paging: Disk, place: Path) -> None:
    """The file of the root stays, with zeros in it; one of that name elsewhere is kept."""
    plain, image = place / "plain.aiv", place / "v.aiv"
    done("createimage", "-o", plain, paging.path)
    ran = done("createimage", "-o", image, paging.path, "--leave-out-paging")
    assert "without the content of pagefile.sys" in ran.err
    [before] = done("info", plain, "--json").json["volumes"]
    [after] = done("info", image, "--json").json["volumes"]
    assert before["left_out"] == []
    assert after["left_out"] == ["pagefile.sys"]
    assert before["kept_bytes"] - after["kept_bytes"] == 8 * MIB
    assert before["used"] - after["used"] == 8 * MIB
    assert "without the content of pagefile.sys" in done("info", image).out
    done("restoredisk", image, place / "t.raw")
    with attached(place / "t.raw", "--read-only") as device:
        run(["ntfsfix", "-n", f"{device}p1"])
        with mounted("ntfs", f"{device}p1", place / "mnt", "ro") as there:
            assert (there / "pagefile.sys").read_bytes() == bytes(8 * MIB)
            expected = random.Random(3).randbytes(8 * MIB)[:MIB]
            assert (there / "d0" / "pagefile.sys").read_bytes() == expected


def test_unreadable_sectors_never_make_used_clusters_free(either: Imaged) -> None:
    """Anywhere in what is in use: the same is free, or less."""
    disk = either.disk
    whole = free_sectors(open_source(str(disk.path)))
    chance = random.Random(11)
    used = np.flatnonzero(~whole)
    first = [start // 512 + chance.randrange(24) for start, _ in disk.places.values()]
    less = 0
    for sector in [0, 1, 2, *first, *chance.sample(used.tolist(), 12)]:
        found = free_sectors(Unreadable(disk.path, [sector]))
        assert not (found & ~whole).any(), sector
        less += bool(found.sum() < whole.sum())
    assert less


def test_why_a_disk_is_taken_whole_is_told(mbr: Imaged, place: Path) -> None:
    """Where there is no table to be trusted, and where its first sector cannot be read."""
    path = place / "d.raw"
    run(["cp", "--sparse=always", mbr.disk.path, path])
    ran = aipimage.create(place / "a.aiv", [Unreadable(path, [0])])
    assert any("all of it was taken: its first sector cannot be read" in w for w in ran.warnings)
    with open(path, "r+b") as file:
        file.seek(446 + 4)
        file.write(b"\xee")
    text = "all of it was taken: its MBR announces a GPT, and neither copy can be used"
    assert text in done("createimage", "-o", place / "b.aiv", path).err
    assert pattern_in_image(place / "b.aiv") == sum(pattern_in(path, mbr.disk.places).values())
    assert text in done("info", path).err


def test_partitions_that_overlap_are_taken_whole(mbr: Imaged, place: Path) -> None:
    """Nobody knows whose clusters are there; the others are as ever."""
    path, disk = place / "d.raw", mbr.disk
    run(["cp", "--sparse=always", disk.path, path])
    start, size = disk.places[1]
    with open(path, "r+b") as file:
        file.seek(446 + 48 + 4)
        file.write(b"\x83\0\0\0" + (start // 512 + 9).to_bytes(4, "little"))
        file.write((size // 1024).to_bytes(4, "little"))
    ran = done("createimage", "-o", place / "d.aiv", path, "--json")
    assert [warning.partition(": ")[2] for warning in ran.json["warnings"][:1]] == [
        "volume 1 was taken whole: it overlaps partition 4"
    ]
    freed = pattern_in(disk.path, {1: disk.places[1]})[1]
    assert pattern_in_image(place / "d.aiv") == freed
