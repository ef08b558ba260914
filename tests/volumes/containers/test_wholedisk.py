"""The partition table of a disk that is a member of an array."""

from __future__ import annotations

from aipimage.volumes.filesystems.opaque import FROM_END
from aipimage.volumes.filesystems.wholedisk import why_in_doubt
from aipimage.volumes.view import VolumeView
from tests.support.sources import SparseSource
from tests.volumes.containers import built as build

_MIB = 1 << 20
SIZE = 16 * _MIB
END_90 = SIZE - 65_536
END_10 = ((SIZE // 512 - 16) & ~7) * 512
BEYOND = [(_MIB, 2 * _MIB), (3 * _MIB, 40 * _MIB)]
INSIDE = [(_MIB, 2 * _MIB), (3 * _MIB, SIZE - 3 * _MIB)]


def why(
    pieces: dict[int, bytes],
    partitions: list[tuple[int, int]],
    bad: tuple[tuple[int, int], ...] = (),
) -> str | None:
    source = SparseSource(SIZE, pieces, bad)
    found = why_in_doubt(VolumeView(source, 0, SIZE), partitions)
    assert source.bytes_read <= 17 << 10
    return found


def test_arrays_that_spread_their_content() -> None:
    for level in (0, 4, 5, 6, 10, -1):
        old = {END_90: build.superblock_90(END_90 // 1024, level=level, disks=3)}
        new = {END_10: build.Superblock1(END_10 // 512, 0, 30_000, level=level, disks=3).encode()}
        for pieces in (old, new):
            assert "member of an array" in (why(pieces, BEYOND) or "")
            assert "member of an array" in (why(pieces, []) or "")


def test_mirrors_hold_all_of_it() -> None:
    assert why({END_90: build.superblock_90(END_90 // 1024)}, BEYOND) is None
    mirror = build.Superblock1(END_10 // 512, 0, 30_000)
    assert why({END_10: mirror.encode()}, BEYOND) is None


def test_what_the_last_partition_bears_is_its_own() -> None:
    old = {END_90: build.superblock_90(8192, level=5, disks=3)}
    assert why(old, INSIDE) is None
    assert why(old, BEYOND) is not None


def test_fake_raid() -> None:
    for _, back, magic in FROM_END:
        assert "member of an array" in (why({SIZE - back: magic}, BEYOND) or "")


def test_other_disks() -> None:
    damaged = bytearray(build.superblock_90(END_90 // 1024, level=5))
    damaged[999] ^= 1
    assert why({END_90: bytes(damaged)}, BEYOND) is None
    assert why({}, BEYOND) is None
    assert why({}, BEYOND, bad=((SIZE - 4096, 4096),)) is None
    assert why_in_doubt(VolumeView(SparseSource(512, {}), 0, 512), []) is None
