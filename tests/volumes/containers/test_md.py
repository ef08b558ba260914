"""Members of arrays: looked through where they hold all of it in order, else taken whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aipimage.volumes.filesystems.md import PARSER
from tests.support.sources import SparseSource
from tests.support.tools import require_programs, run
from tests.volumes.containers import built as build
from tests.volumes.containers.built import Superblock1
from tests.volumes.containers.made import allocation_of, free_of, looked_at_file, why_whole, wipe

_MIB = 1 << 20
SIZE = 8 * _MIB
SECTORS = SIZE // 512
END_AT = (SECTORS - 16) & ~7
VERSIONS = {"1.0": (END_AT, 0, END_AT - 64), "1.1": (0, 2048, 12_000), "1.2": (8, 2048, 14_000)}
UUID = bytes(range(16))


def superblock(version: str, **more: object) -> Superblock1:
    at, data, size = VERSIONS[version]
    return Superblock1(at, data, size, **more)  # type: ignore[arg-type]


def placed(made: Superblock1, pieces: dict[int, bytes] | None = None) -> dict[int, bytes]:
    return {made.at * 512: made.encode(), made.data * 512: build.swap(4)} | (pieces or {})


def free_in(pieces: dict[int, bytes], size: int = SIZE) -> list[tuple[int, int]]:
    _, allocation = allocation_of(PARSER, SparseSource(size, pieces))
    assert allocation.notes == ("its array holds swap",)
    return free_of(allocation, size)


# What is exact


@pytest.mark.parametrize("version", list(VERSIONS))
def test_mirrors_are_looked_through(version: str) -> None:
    made = superblock(version)
    assert free_in(placed(made)) == [(made.data * 512 + 4096, 3 * 4096)]


def test_arrays_of_one_disk_are_looked_through() -> None:
    for level in (0, -1):
        made = superblock("1.2", level=level, disks=1, roles=(0,))
        made.size, made.data_size = 0, 14_000
        assert free_in(placed(made)) == [(made.data * 512 + 4096, 3 * 4096)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_version_0_90(order: str) -> None:
    """In the byte order of the machine that made it; the array's size may be a little smaller."""
    size = SIZE + 5 * 512
    at = (size // 512 & ~127) * 512 - 65_536
    for kib in (at // 1024, at // 1024 - 64):
        pieces = {at: build.superblock_90(kib, order=order), 0: build.swap(4)}
        assert free_in(pieces, size) == [(4096, 3 * 4096)]


def test_a_bitmap_without_marks() -> None:
    """Bits behind the last region may be set: they mean nothing."""
    made = superblock("1.2", features=1, bitmap=8)
    bits = bytearray(b"\xff" * 64)
    bits[:13], bits[13] = bytes(13), 0b11100000
    bitmap = build.bitmap(made.size, 65_536, UUID, bytes(bits))
    assert made.size // 128 + 1 == 110
    bits[13] = 0b11000000
    assert free_in(placed(made, {16 * 512: build.bitmap(made.size, 65_536, UUID, bytes(bits))}))
    marked = bitmap[: 256 + 13] + bytes([0b00100000]) + bitmap[256 + 14 :]
    assert "regions" in why_whole(PARSER, placed(made, {16 * 512: marked}), SIZE)


def test_ext4_in_a_mirror(tmp_path: Path) -> None:
    """Made by the tools at the place of the array's content; what is free there may be lost."""
    require_programs("mke2fs", "e2fsck", "mdadm")
    disk, made = tmp_path / "disk", Superblock1(8, 4096, 60_000, features=1, bitmap=8)
    with open(disk, "wb") as file:
        file.truncate(36 * _MIB)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "proof").write_bytes(b"content" * 99_999)
    offset = made.data * 512
    run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, "-E", f"offset={offset}", disk, "30000k"])
    with open(disk, "r+b") as file:
        file.seek(4096)
        file.write(made.encode())
        file.seek(16 * 512)
        file.write(build.bitmap(made.size, 65_536, UUID, bytes(64)))
    assert re.search(r"Checksum : \w+ - correct", run(["mdadm", "--examine", disk]))
    filesystem, allocation, because = looked_at_file(disk)
    assert filesystem is not None
    assert (because, filesystem.kind, filesystem.label) == (None, "md", "host:0")
    assert allocation.free.total > 20 * _MIB
    wipe(disk, free_of(allocation, disk.stat().st_size))
    inner = tmp_path / "inner"
    inner.write_bytes(disk.read_bytes()[offset:])
    run(["e2fsck", "-fn", inner])
    run(["debugfs", "-R", f"dump proof {tmp_path / 'proof'}", inner])
    assert (tmp_path / "proof").read_bytes() == (tree / "proof").read_bytes()


# What is not


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"level": 5, "disks": 3}, "spreads"),
        ({"level": 6, "disks": 4}, "spreads"),
        ({"level": 10}, "spreads"),
        ({"level": 0}, "spreads"),
        ({"level": -1}, "spreads"),
        ({"resync": 0}, "not clean"),
        ({"resync": 4096}, "not clean"),
        ({"features": 2}, "rebuilt"),
        ({"features": 16}, "rebuilt"),
        ({"features": 4}, "reshaped"),
        ({"features": 8}, "bad blocks"),
        ({"features": 64}, "features"),
        ({"features": 512}, "features"),
        ({"features": 1 << 20}, "features"),
        ({"roles": (0xFFFF, 0)}, "not an active member"),
        ({"roles": (0xFFFE, 0)}, "not an active member"),
        ({"number": 2}, "not an active member"),
        ({"own": 16}, "another place"),
        ({"data": 0}, "over its superblock"),
        ({"data": 1 << 50}, "inside of it"),
        ({"size": 0}, "inside of it"),
        ({"size": 1 << 54, "data_size": 1 << 54}, "inside of it"),
        ({"features": 1, "bitmap": 8}, "bitmap"),
        ({"features": 1, "bitmap": -4000}, "wanted of a volume"),
    ],
)
def test_other_members_are_taken_whole(more: dict[str, object], reason: str) -> None:
    made = superblock("1.2")
    for name, value in more.items():
        setattr(made, name, value)
    pieces = {4096: made.encode(), 1 << 20: build.swap(4)}
    assert reason in why_whole(PARSER, pieces, SIZE)


def test_a_wrong_checksum() -> None:
    data = bytearray(superblock("1.2").encode())
    data[200] ^= 1
    assert "checksum" in why_whole(PARSER, {4096: bytes(data)}, SIZE)


def test_class_04_more_roles_than_there_is_room() -> None:
    data = bytearray(superblock("1.2").encode())
    data[220:224] = b"\xff\xff\xff\xff"
    assert "names 4294967295 disks" in why_whole(PARSER, {4096: build.sealed_1(bytes(data))}, SIZE)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"state": 0}, "not clean"),
        ({"state": 3}, "not clean"),
        ({"minor": 91}, "reshaped"),
        ({"disk_state": 0}, "not an active"),
        ({"disk_state": 7}, "not an active"),
        ({"level": 5}, "spreads"),
        ({"size": 1 << 31}, "inside of it"),
        ({"state": 257}, "bitmap"),
    ],
)
def test_other_members_of_version_0_90(more: dict[str, int], reason: str) -> None:
    at = SIZE - 65_536
    head = build.superblock_90(more.pop("size", at // 1024), **more)  # type: ignore[arg-type]
    assert reason in why_whole(PARSER, {at: head, 0: build.swap(4)}, SIZE)


def test_class_50_bitmaps_that_are_not_up_to_date() -> None:
    made = superblock("1.2", features=1, bitmap=8)
    for bitmap in (
        build.bitmap(made.size, 65_536, UUID, bytes(64), state=2),
        build.bitmap(made.size, 65_536, bytes(16), bytes(64)),
        build.bitmap(made.size, 0, UUID, bytes(64)),
        build.bitmap(made.size, 513, UUID, bytes(64)),
        build.bitmap(0, 65_536, UUID, bytes(64)),
        build.bitmap((1 << 64) - 1, 512, UUID, bytes(64)),
        build.bitmap(made.size, 65_536, UUID, b"\x10"),
    ):
        assert "bitmap" in why_whole(PARSER, placed(made, {16 * 512: bitmap}), SIZE)


def test_a_bitmap_where_the_content_lies() -> None:
    """It would lie in what the swap space inside calls free."""
    made = superblock("1.2", features=1, bitmap=2048 - 8 + 16)
    bitmap = build.bitmap(made.size, 65_536, UUID, bytes(64))
    assert "in the content" in why_whole(PARSER, placed(made, {(2048 + 16) * 512: bitmap}), SIZE)


def test_two_superblocks() -> None:
    first, second = superblock("1.2"), superblock("1.0")
    pieces = {4096: first.encode(), second.at * 512: second.encode()}
    assert "several arrays" in why_whole(PARSER, pieces, SIZE)


def test_content_that_is_not_known() -> None:
    assert why_whole(PARSER, {4096: superblock("1.2").encode()}, SIZE) == (
        "its array holds unknown content: nothing known is in it"
    )


def test_arrays_within_arrays_end() -> None:
    """They are looked through as deep as containers are, and no deeper."""
    level, sectors = {0: build.swap(4)}, 32
    for depth in range(7):
        made = Superblock1(8, 16, sectors)
        level = {4096: made.encode()} | {8192 + at: data for at, data in level.items()}
        sectors += 16
        if depth < 4:
            _, allocation = allocation_of(PARSER, SparseSource(sectors * 512, level))
            assert allocation.free.total == 3 * 4096
        else:
            assert "more than 4 containers" in why_whole(PARSER, level, sectors * 512)
