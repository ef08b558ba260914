"""Chains of deltas: what is read through them, beside qemu and libvmdk."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from aipimage.errors import FormatError
from aipimage.vmdk.descriptor import NO_PARENT
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.pieces import State
from aipimage.vmdk.source import VmdkSource
from tests.support.tools import require_programs, run
from tests.support.virtual.esx import Grains, disk, random_grains

SECTOR = 512
GRAINS = {"hosted": 65536, "cowd": 512, "sesparse": 4096, "flat": 512}
MIXES = [
    ("hosted", "hosted", "hosted"),
    ("flat", "cowd", "cowd"),
    ("flat", "sesparse", "sesparse"),
    ("hosted", "cowd", "sesparse", "hosted"),
    ("cowd", "sesparse"),
]


def chain(
    folder: Path, kinds: tuple[str, ...], sectors: int, seed: int = 0
) -> tuple[list[Path], list[bytes]]:
    """Disks from the base on, each in the kind that is said, and what each must read as."""
    chance = random.Random(seed)
    content = bytearray(sectors * SECTOR)
    paths: list[Path] = []
    expected: list[bytes] = []
    for number, kind in enumerate(kinds):
        zeros = 8 if kind in ("hosted", "sesparse") and number else 0
        grains = random_grains(chance, sectors * SECTOR, GRAINS[kind], zeros=zeros)
        path = folder / (f"disk-{number:06}.vmdk" if number else "disk.vmdk")
        parent, hint = (0x1000 + number - 1, paths[-1].name) if number else (NO_PARENT, None)
        paths.append(disk(path, kind, sectors, grains, 0x1000 + number, parent, hint))
        content = grains.onto(content)
        expected.append(bytes(content))
    return paths, expected


def read(source: VmdkSource, step: int = 1 << 20) -> bytes:
    """All of a disk; what is no data must read as zeros."""
    data = bytearray(source.size)
    for at in range(0, source.size, step):
        source.read_into(memoryview(data)[at : at + step], at)
    ranges = bytearray(source.size)
    for at, length in source.data_ranges(0, source.size):
        ranges[at : at + length] = data[at : at + length]
    assert ranges == data
    return bytes(data)


@pytest.mark.parametrize("kinds", MIXES, ids="-".join)
@pytest.mark.parametrize("sectors", [5_000, 33_000])
def test_a_chain_reads_as_qemu_reads_it(
    tmp_path: Path, kinds: tuple[str, ...], sectors: int
) -> None:
    require_programs("qemu-img")
    paths, expected = chain(tmp_path, kinds, sectors)
    for path, wanted in zip(paths, expected, strict=True):
        with open_vmdk(path) as source:
            assert read(source) == wanted
            assert source.chain == tuple(map(str, reversed(paths[: paths.index(path) + 1])))
        run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, tmp_path / "raw"])
        assert (tmp_path / "raw").read_bytes() == wanted


def test_what_qemu_writes_into_a_delta(tmp_path: Path) -> None:
    """Three deltas that qemu made and wrote to, with zeroed grains and without."""
    require_programs("qemu-img", "qemu-io")
    size = 20 << 20
    chance = random.Random(7)
    base = tmp_path / "base.vmdk"
    run(["qemu-img", "create", "-q", "-f", "vmdk", base, str(size)])
    paths, content, expected = [base], bytearray(size), []
    for number in range(4):
        commands = []
        for _ in range(6):
            offset, length = (chance.randrange(1, 19 << 8) * 4096, chance.randrange(1, 50) * 4096)
            length, pattern = min(length, size - offset), chance.randrange(1, 255)
            zero = number and chance.random() < 0.3
            commands.append(f"write {'-z' if zero else f'-P {pattern}'} {offset} {length}")
            content[offset : offset + length] = bytes([0 if zero else pattern]) * length
        flags = [word for command in commands for word in ("-c", command)]
        run(["qemu-io", "-f", "vmdk", *flags, paths[-1]])
        expected.append(bytes(content))
        if number < 3:
            new = tmp_path / f"delta{number}.vmdk"
            run(["qemu-img", "create", "-q", "-f", "vmdk", "-b", paths[-1].name, "-F", "vmdk",
                 "-o", f"zeroed_grain={'on' if number else 'off'}", new], cwd=tmp_path)  # fmt: skip
            paths.append(new)
    for path, wanted in zip(paths, expected, strict=True):
        with open_vmdk(path) as source:
            assert read(source) == wanted


LIBVMDK = """
import sys, pyvmdk
handles = []
for path in sys.argv[2:]:
    handle = pyvmdk.handle()
    handle.open(path)
    handle.open_extent_data_files()
    if handles:
        handle.set_parent(handles[-1])
    handles.append(handle)
with open(sys.argv[1], "wb") as out:
    size = handles[-1].get_media_size()
    while size:
        data = handles[-1].read_buffer(min(size, 1 << 20))
        out.write(data)
        size -= len(data)
"""


@pytest.mark.parametrize("kinds", [("hosted", "hosted", "hosted"), ("hosted", "hosted")])
def test_a_chain_reads_as_libvmdk_reads_it(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """libvmdk does not know zeroed grains, hence none here."""
    python = Path("/usr/bin/python3")
    require_programs("vmdkinfo", str(python))
    sectors, content = 30_000 // 128 * 128, bytearray(30_000 // 128 * 65536)
    paths: list[Path] = []
    for number in range(len(kinds)):
        grains = random_grains(random.Random(number), len(content), 65536)
        content = grains.onto(content)
        parent, hint = (0x10 + number - 1, paths[-1].name) if number else (NO_PARENT, None)
        path = tmp_path / f"d{number}.vmdk"
        paths.append(disk(path, "hosted", sectors, grains, 0x10 + number, parent, hint))
    run([python, "-c", LIBVMDK, tmp_path / "raw", *paths])
    with open_vmdk(paths[-1]) as source:
        assert read(source) == (tmp_path / "raw").read_bytes() == bytes(content)


def test_zeros_of_a_delta_hide_what_its_parent_has(tmp_path: Path) -> None:
    full = Grains(4096, dict.fromkeys(range(16), b"x" * 4096))
    base = disk(tmp_path / "base.vmdk", "sesparse", 128, full, 1)
    gone = Grains(4096, zeros={3}, unmapped={5})
    delta = disk(tmp_path / "delta.vmdk", "sesparse", 128, gone, 2, 1, base.name)
    with open_vmdk(delta) as source:
        rows = [row for part in source.pieces(0, source.size) for row in part.tolist()]
        assert [row for row in rows if row[2] == State.ZERO] == [
            [3 * 4096, 4096, State.ZERO],
            [5 * 4096, 4096, State.ZERO],
        ]
        assert read(source) == gone.onto(full.onto(bytearray(65536)))


def test_without_parents_a_delta_is_what_it_has(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, ("flat", "cowd"), 2000)
    with open_vmdk(paths[1], parents=False) as source:
        assert source.chain == (str(paths[1]),)
        grains = Grains(512)
        kept = random.Random(0)
        random_grains(kept, 2000 * SECTOR, 512)
        grains = random_grains(kept, 2000 * SECTOR, 512)
        assert read(source) == grains.onto(bytearray(2000 * SECTOR))


def test_the_deepest_chain_that_is_opened(tmp_path: Path) -> None:
    """256 disks, each with a grain of its own; Python's own depth of calls is enough for them."""
    sectors, hint = 8 * 256, None
    paths: list[Path] = []
    for number in range(256):
        grains = Grains(4096, {number: bytes([number]) * 4096})
        parent = number - 1 + 0x100 if number else NO_PARENT
        path = disk(
            tmp_path / f"d{number:03}.vmdk",
            "sesparse",
            sectors,
            grains,
            number + 0x100,
            parent,
            hint,
        )
        paths, hint = [*paths, path], path.name
    with open_vmdk(paths[-1]) as source:
        assert len(source.chain) == 256
        assert read(source) == b"".join(bytes([number]) * 4096 for number in range(256))


def test_class_24_another_size_than_the_parent(tmp_path: Path) -> None:
    base = disk(tmp_path / "base.vmdk", "cowd", 100, Grains(512), 1)
    disk(tmp_path / "delta.vmdk", "cowd", 101, Grains(512), 2, 1, base.name)
    disk(tmp_path / "above.vmdk", "cowd", 101, Grains(512), 3, 2, "delta.vmdk")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("delta.vmdk", "above.vmdk"):
        with pytest.raises(FormatError, match=r"delta.vmdk: has 51712 bytes, .*base.vmdk 51200"):
            open_vmdk(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before
