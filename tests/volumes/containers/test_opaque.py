"""Swap space, and contents that are encrypted or not known in detail."""

from __future__ import annotations

import random
import re
import struct
import subprocess
from pathlib import Path

import pytest

from aipimage.volumes.filesystems import opaque
from aipimage.volumes.filesystems.swap import PARSER as SWAP
from aipimage.volumes.filesystems.swap import resized
from aipimage.volumes.view import LayoutError, VolumeView
from tests.fuzz.mutate import loop
from tests.support.sources import SparseSource, view_of
from tests.support.tools import PATH, require_programs, run
from tests.volumes.containers import built as build
from tests.volumes.containers.fuzz import fuzz_containers, seeds
from tests.volumes.containers.made import (
    allocation_of,
    free_of,
    looked_at,
    looked_at_file,
    why_whole,
)
from tests.volumes.fat.built import fat32

_MIB = 1 << 20
PAGES = (4096, 8192, 16_384, 32_768, 65_536)


def said_by_blkid(volume: Path) -> dict[str, str]:
    text = run(["blkid", "-p", "-o", "export", volume])
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


@pytest.mark.parametrize("page", PAGES)
def test_swap_that_mkswap_makes(page: int, tmp_path: Path) -> None:
    """Only its header is in use; label and UUID are those of ``blkid``."""
    require_programs("mkswap", "blkid")
    rng = random.Random(page)
    for number in range(13):
        volume, size = tmp_path / "swap", rng.randint(12 * page, 300 * _MIB) & ~511
        with open(volume, "wb") as file:
            file.truncate(size)
        label = ["-L", f"label {number}"] if number % 2 else []
        said = run(["mkswap", "--pagesize", str(page), *label, volume])
        told, (filesystem, allocation, because) = said_by_blkid(volume), looked_at_file(volume)
        assert because is None
        assert filesystem is not None
        assert (filesystem.kind, filesystem.cluster_size) == ("swap", page)
        assert filesystem.uuid == told["UUID"]
        assert filesystem.label == told.get("LABEL", "").replace("\\", "")
        made = re.search(r"\((\d+) bytes\)", said)
        assert made is not None
        assert free_of(allocation, size) == [(page, int(made[1]))]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("page", PAGES)
def test_swap_of_every_machine(page: int, order: str) -> None:
    """With bad pages, of either byte order."""
    head = build.swap(100, page, order=order, bad=[3, 7], label=b"name")
    size = 101 * page + 512
    filesystem, allocation = allocation_of(SWAP, SparseSource(size, {0: head}))
    assert filesystem.label == "name"
    assert free_of(allocation, size) == [(page, 99 * page)]


_SUSPENDED = [b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001"]


@pytest.mark.parametrize("signature", _SUSPENDED)
def test_a_suspended_system_is_kept(signature: bytes) -> None:
    for page in PAGES:
        pieces = {0: build.swap(100, page, signature=signature)}
        assert why_whole(SWAP, pieces, 100 * page) == "a suspended system lies in it"
    other = bytearray(build.swap(100))
    other[:8] = bytes.fromhex("edc302e99856e50c")
    assert "something else" in why_whole(SWAP, {0: bytes(other)}, 100 * 4096)
    other[4086:4096] = bytes(10)
    assert "suspended" in why_whole(SWAP, {0: bytes(other)}, 100 * 4096)


def test_swap_that_makes_no_sense() -> None:
    def changed(at: int, data: bytes) -> dict[int, bytes]:
        head = bytearray(build.swap(100))
        head[at : at + len(data)] = data
        return {0: bytes(head)}

    size = 100 * 4096
    for pieces, reason in (
        (changed(1024, b"\2"), "unknown version"),
        (changed(1028, bytes(4)), "no pages"),
        (changed(1028, b"\x64\0\0\0"), "larger than its volume"),
        (changed(1028, b"\xff\xff\xff\xff"), "larger than its volume"),
        (changed(1032, b"\xff\xff\xff\xff"), "bad pages"),
        (changed(510, b"\x55\xaa"), "before its header"),
        (changed(1100, b"\1"), "in its header"),
        (changed(1536, b"\1"), "in its header"),
        (changed(4086, b"SWAP-SPACE"), "version 0"),
    ):
        assert reason in why_whole(SWAP, pieces, size)


def test_swap_that_another_file_system_was_made_over() -> None:
    """Two signatures: nothing is free."""
    pieces = {0: build.swap(1000), 0x10040: b"_BHRfS_M"}
    filesystem, allocation, because = looked_at(SparseSource(1000 * 4096, pieces))
    assert filesystem is not None
    assert allocation.free.total == 0
    assert because is not None
    assert "looks like" in because


def test_swap_of_another_size() -> None:
    """Any page size and byte order; bad pages and other contents are refused."""
    for page, order in ((4096, "<"), (65536, "<"), (4096, ">")):
        data = bytearray(page)
        data[-10:] = b"SWAPSPACE2"
        struct.pack_into(f"{order}III", data, 1024, 1, 99, 0)
        patches = resized(view_of(bytes(data), 100 * page), 50 * page + 5)
        assert patches == [(1028, struct.pack(f"{order}I", 49))]
        with pytest.raises(LayoutError):
            resized(view_of(bytes(data), 100 * page), 9 * page)
        struct.pack_into(f"{order}I", data, 1032, 1)
        with pytest.raises(LayoutError):
            resized(view_of(bytes(data), 100 * page), 50 * page)
    with pytest.raises(LayoutError):
        resized(view_of(bytes(_MIB)), _MIB)


def test_luks_that_cryptsetup_makes(tmp_path: Path) -> None:
    require_programs("cryptsetup", "blkid")
    for version in ("luks1", "luks2"):
        volume = tmp_path / version
        with open(volume, "wb") as file:
            file.truncate(32 * _MIB)
        options = ["--label", "secret"] if version == "luks2" else []
        subprocess.run(
            ["cryptsetup", "-q", "luksFormat", "--type", version, "--pbkdf", "pbkdf2",
             "--pbkdf-force-iterations", "1000", *options, str(volume), "-"],
            input=b"password", check=True, env={"PATH": PATH},
        )  # fmt: skip
        told, (filesystem, allocation, because) = said_by_blkid(volume), looked_at_file(volume)
        assert filesystem is not None
        assert (filesystem.kind, filesystem.uuid) == ("luks", told["UUID"])
        assert filesystem.label == told.get("LABEL", "")
        assert because == "its content is encrypted"
        assert allocation.free.total == 0


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        ("bitlocker", {3: b"-FVE-FS-"}),
        ("bitlocker", {3: b"MSWIN4.1", 424: bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")}),
        ("bitlocker", {3: b"MSWIN4.1", 424: bytes.fromhex("3b4da89280dd0e4d9e4eb1e3284eaed8")}),
        ("bitlocker", {3: b"MSDOS5.0", 160: bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")}),
        ("vmfs", {1 << 20: bytes.fromhex("0dd001c0")}),
        ("vmfs", {2 << 20: bytes.fromhex("5ef1ab2f")}),
        (
            "zfs_member",
            {0x4000: b"\1\1\0\0" + bytes(20) + b"\0\0\0\7version\0"}
            | {0x20000 + at * 1024: bytes.fromhex("0cb1ba0000000000") for at in range(4)},
        ),
        (
            "zfs_member",
            {0x4000: b"\1\0\0\0" + bytes(20) + b"\0\0\0\7version\0"}
            | {0x20000 + at * 4096: bytes.fromhex("0000000000bab10c") for at in range(5)},
        ),
        *((each.kind, {each.offset: each.magic}) for each in opaque.FROM_START),
        *((each.kind, {8 * _MIB - each.offset: each.magic}) for each in opaque.FROM_END),
    ],
)
def test_what_is_known_by_name_only(kind: str, pieces: dict[int, bytes]) -> None:
    filesystem, allocation, because = looked_at(SparseSource(8 * _MIB, pieces))
    assert filesystem is not None
    assert filesystem.kind == kind
    assert because
    assert allocation.free.total == 0


def test_remnants_of_zfs_are_not_zfs() -> None:
    """Labels or uberblocks alone outlive what was made over them."""
    label = {0x4000: b"\1\1\0\0" + bytes(20) + b"\0\0\0\7version\0"}
    blocks = {0x20000 + at * 1024: bytes.fromhex("0cb1ba0000000000") for at in range(9)}
    for pieces in (label, blocks):
        source = SparseSource(8 * _MIB, pieces)
        assert opaque.PARSER.probe(VolumeView(source, 0, source.size)) is None


def test_sectors_that_cannot_be_read() -> None:
    """They are no reason to fail, nor to call anything free."""
    for bad in ((0, 512), (4096, 512), (1 << 20, 4096), (65_536, 4096)):
        source = SparseSource(8 * _MIB, {0: build.swap(100)}, bad=(bad,))
        _, allocation, because = looked_at(source)
        assert because or allocation.free.total == 99 * 4096


def test_the_fuzz_target_runs() -> None:
    for seed in seeds():
        fuzz_containers(seed)
    assert loop(fuzz_containers, seeds(), 2) > 100


@pytest.mark.long
def test_the_fuzz_target_runs_long() -> None:
    loop(fuzz_containers, seeds(), 600, seed=random.randrange(1 << 30))


@pytest.mark.parametrize(
    "identifier", ["3bd66749292ed84a8399f6a339e3d001", "3b4da89280dd0e4d9e4eb1e3284eaed8"]
)
def test_bitlocker_to_go_is_recognised_though_it_looks_like_fat(identifier: str) -> None:
    """The volume that asks for the password has a boot sector, tables and a root directory."""
    volume = fat32(boot=((3, b"MSWIN4.1"), (424, bytes.fromhex(identifier))))
    filesystem, allocation, because = looked_at(volume.source())
    assert filesystem is not None
    assert (filesystem.kind, because) == ("bitlocker", "its content is encrypted")
    assert allocation.free.total == 0


def _vmfs(version: int, manager: bytes, system: bytes | None, data_at: int = 17 << 20) -> str:
    """The UUID that is told of a partition of a datastore."""
    head = bytes.fromhex("0dd001c0") + version.to_bytes(4, "little")
    head = head.ljust(0x7A, b"\0") + data_at.to_bytes(8, "little")
    pieces = {1 << 20: head.ljust(0x254, b"\0") + manager}
    if system is not None:
        magic = bytes.fromhex("5ef1ab2f") + (24).to_bytes(4, "little") + b"\0"
        pieces[data_at + (2 << 20)] = magic + system + bytes(4) + b"datastore1"
    filesystem = looked_at(SparseSource(32 * _MIB, pieces))[0]
    assert filesystem is not None
    assert filesystem.label == ("datastore1" if system is not None else "")
    return filesystem.uuid


def test_the_uuid_of_vmfs() -> None:
    """That of the volume manager, as ``blkid`` prints it; version 6 has none at that place."""
    manager, system = bytes(range(16)), bytes(range(16, 32))
    told = "03020100-07060504-0908-0a0b0c0d0e0f", "13121110-17161514-1918-1a1b1c1d1e1f"
    assert _vmfs(5, manager, system) == told[0]
    assert _vmfs(6, bytes(16), system) == told[1]
    assert _vmfs(6, manager, system) == told[1]
    assert _vmfs(6, bytes(16), system, 18 << 20) == told[1]
    assert _vmfs(5, bytes(16), system) == told[1]
    assert _vmfs(6, bytes(16), None) == ""
