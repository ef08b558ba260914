"""Physical volumes made by LVM's own tools, compared with what ``pvs`` says of their extents."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.registry import Found
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run
from tests.volumes.containers import built as build
from tests.volumes.containers.lvm import Group, age, volume_group
from tests.volumes.containers.made import Ranges, free_of, joined, looked_at, looked_at_file, wipe

_MIB = 1 << 20


def found_in(group: Group, disk: int = 0) -> tuple[Found, Ranges]:
    found = looked_at_file(group.files[disk])
    filesystem, allocation, because = found
    assert because is None
    assert filesystem is not None
    assert filesystem.kind == "lvm2"
    identity = group.report("pvs", "-o", "pv_uuid", group.devices[disk])[0]["pv_uuid"]
    assert filesystem.uuid == identity
    return found, free_of(allocation, group.files[disk].stat().st_size)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--metadatasize", "64k"),
        ("--metadatacopies", "2"),
        ("--dataalignment", "4m"),
        ("--bootloaderareasize", "2m"),
        ("--labelsector", "3"),
        ("--dataalignmentoffset", "7s"),
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_extents_without_a_volume_are_free(options: tuple[str, ...], tmp_path: Path) -> None:
    rng = random.Random(str(options))
    with volume_group(tmp_path, 48 * _MIB, *options) as group:
        assert found_in(group)[1] == group.free_extents()
        for _ in age(group, rng, 12):
            assert found_in(group)[1] == group.free_extents()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_long_ages(seed: int, tmp_path: Path) -> None:
    with volume_group(tmp_path, 64 * _MIB, extent="256k") as group:
        for _ in age(group, random.Random(seed), 60):
            assert found_in(group)[1] == group.free_extents()


def test_a_physical_volume_without_a_group_is_free(tmp_path: Path) -> None:
    with volume_group(tmp_path, 16 * _MIB) as group:
        group.lvm("vgremove", "-f", "vg")
        (_, allocation, _), free = found_in(group)
        assert free == [(_MIB, 15 * _MIB)]
        assert allocation.notes == ("it belongs to no volume group",)


def test_a_group_of_two_disks(tmp_path: Path) -> None:
    """Volumes on the other disk do not matter, striped ones and those on both are taken whole."""
    with volume_group(tmp_path, 24 * _MIB, disks=2) as group:
        first, second = group.devices
        create = ("lvcreate", "-an", "-Zn", "-Wn")
        group.lvm(*create, "-n", "here", "-l", 7, "vg", first)
        group.lvm(*create, "-n", "there", "-l", 9, "vg", second)
        group.lvm(*create, "-n", "striped", "-l", 8, "-i", 2, "-I", "16k", "vg")
        group.lvm("lvextend", "-l", "+5", "vg/here", second)
        group.lvm(*create, "--type", "zero", "-n", "nothing", "-l", 3, "vg")
        for disk in range(2):
            (_, allocation, _), free = found_in(group, disk)
            assert free == group.free_extents(disk)
            assert any("vg/striped" in note and "striped" in note for note in allocation.notes)
            assert any("vg/here" in note and "other disks" in note for note in allocation.notes)


def test_metadata_on_the_other_disk_only(tmp_path: Path) -> None:
    with volume_group(tmp_path, 16 * _MIB, disks=2) as group:
        group.lvm("pvchange", "--metadataignore", "y", group.devices[0])
        assert looked_at_file(group.files[0])[2] == "its metadata lies on other disks"
        assert looked_at_file(group.files[1])[2] is None


def test_volumes_are_looked_into(tmp_path: Path) -> None:
    """What their own file systems call free is free, in all segments; what is not, stays."""
    require_programs("mke2fs", "e2fsck", "mkswap")
    with volume_group(tmp_path, 64 * _MIB) as group:
        contents = _three_volumes(group, tmp_path)
        (_, allocation, _), free = found_in(group)
        wanted = group.free_extents()
        for name, content in contents.items():
            inner = looked_at_file(content)
            assert inner[2] is None, name
            wanted += _moved(free_of(inner[1], content.stat().st_size), group.places(name))
        assert free == joined(wanted)
        assert allocation.notes == ()
        wipe(group.files[0], free)
        for name in ("root", "home"):
            group.read(name, tmp_path / "back")
            run(["e2fsck", "-fn", tmp_path / "back"])
            run(["debugfs", "-R", f"dump proof {tmp_path / 'proof'}", tmp_path / "back"])
            assert (tmp_path / "proof").read_bytes() == (tmp_path / "tree/proof").read_bytes()


def _three_volumes(group: Group, at: Path) -> dict[str, Path]:
    """Two of ext4 and one of swap, in segments between each other."""
    create = ("lvcreate", "-an", "-Zn", "-Wn")
    for name in ("root", "home", "swap"):
        group.lvm(*create, "-n", name, "-l", 20, "vg")
    for count in (3, 5, 11):
        for name in ("swap", "root", "home"):
            group.lvm("lvextend", "-l", f"+{count}", f"vg/{name}")
    (at / "tree").mkdir()
    (at / "tree" / "proof").write_bytes(random.Random(1).randbytes(3 * _MIB))
    contents = {}
    for name in ("root", "home", "swap"):
        content = contents[name] = at / name
        assert len(group.places(name)) >= 3
        with open(content, "wb") as file:
            file.truncate(sum(length for _, length in group.places(name)))
        if name == "swap":
            run(["mkswap", content])
        else:
            run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", at / "tree", content])
        group.write(name, content)
    return contents


def _moved(ranges: Ranges, places: Ranges) -> Ranges:
    """Ranges of a logical volume, as ranges of the physical one."""
    found, start = [], 0
    for place, length in places:
        for offset, size in ranges:
            low, high = max(offset, start), min(offset + size, start + length)
            if low < high:
                found.append((place + low - start, high - low))
        start += length
    return found


def test_a_table_within_a_volume_is_not_looked_over(tmp_path: Path) -> None:
    """A guest's disk may still bear the superblock of what it was before."""
    require_programs("mke2fs", "sfdisk")
    with volume_group(tmp_path, 32 * _MIB) as group:
        group.lvm("lvcreate", "-an", "-Zn", "-Wn", "-n", "guest", "-l", 80, "vg")
        content = tmp_path / "guest"
        with open(content, "wb") as file:
            file.truncate(80 * 256 << 10)
        run(["mke2fs", "-q", "-F", "-t", "ext4", content])
        run(["sh", "-c", 'echo "start=2048, type=83" | sfdisk --wipe never "$1"', "sh", content])
        group.write("guest", content)
        (_, allocation, _), free = found_in(group)
        assert free == group.free_extents()
        assert "partition table" in allocation.notes[0]


def test_a_large_group_takes_little_time() -> None:
    """4 TiB with a thousand segments; the tools would take minutes to make as many."""
    count = 1 << 20
    runs = [(first, 900) for first in range(0, count, 1024)]
    volumes = {f"lv{at}": build.linear(*runs[at::64], number=at) for at in range(64)}
    text = build.group_text(volumes, count, extent=4 * _MIB, first=_MIB)
    size = _MIB + count * 4 * _MIB
    made = build.PhysicalVolume(text, size, _MIB, [(4096, _MIB - 4096)])
    start = time.process_time()
    _, allocation, because = looked_at(SparseSource(size, made.pieces()))
    assert time.process_time() - start < SOON
    assert because is None
    assert allocation.free.total == len(runs) * 124 * 4 * _MIB
