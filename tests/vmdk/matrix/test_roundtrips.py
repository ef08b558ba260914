"""There and back: ours to qemu, qemu's to ours, through an image, and through a pipe; always the
same bytes as in the raw file that it began with.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

import aipimage
from aipimage import vmdk
from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.vmdk.model import ADAPTERS, SUBFORMATS
from tests.support.tools import require_programs, run
from tests.support.virtual.disks import MIB, SECTOR, SMALL, Disk

QEMU = tuple(name for name in SUBFORMATS if name != "vmfs")
"""What qemu-img writes; it reads vmfs too."""
CHOSEN = tuple(
    disk
    for disk in SMALL
    if disk.name.startswith(("odd", "full", "alternating", "incompressible", "borders"))
)
ROUND = CHOSEN[0]
STEP = 4 * MIB


def digest(source: BlockSource, size: int) -> str:
    """SHA-256 of the first ``size`` bytes of a source, what follows being zeros."""
    found = hashlib.sha256()
    for offset in range(0, source.size, STEP):
        data = bytearray(min(STEP, source.size - offset))
        source.read_into(data, offset)
        found.update(data[: max(0, size - offset)])
        assert not any(data[max(0, size - offset) :])
    return found.hexdigest()


def digest_of(path: Path, size: int) -> str:
    """The same of a file, by name: a virtual disk or a raw file."""
    with_reader = path.suffix == ".vmdk"
    source: BlockSource = vmdk.open(path) if with_reader else open_source(path)
    try:
        return digest(source, size)
    finally:
        source.close()


def by_qemu(path: Path, target: Path) -> Path:
    """Let qemu-img make a raw file of a virtual disk."""
    run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, target], timeout=60)
    return target


def to_vmdk_by_qemu(raw: Path, target: Path, subformat: str) -> Path:
    options = ["-O", "vmdk", "-o", f"subformat={subformat}"]
    run(["qemu-img", "convert", "-f", "raw", *options, raw, target], timeout=60)
    return target


def written(source_path: Path, target: Path, subformat: str) -> Path:
    """Write a virtual disk of a raw file or of another virtual disk."""
    with_reader = source_path.suffix == ".vmdk"
    source: BlockSource = vmdk.open(source_path) if with_reader else open_source(source_path)
    try:
        vmdk.write(target, source, subformat=subformat)
    finally:
        source.close()
    return target


@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("disk", CHOSEN, ids=lambda disk: disk.name)
def test_ours_to_qemu_and_back(disk: Disk, subformat: str, tmp_path: Path) -> None:
    require_programs("qemu-img")
    raw = disk.make(tmp_path / "source.raw")
    ours = written(raw, tmp_path / "ours.vmdk", subformat)
    theirs = by_qemu(ours, tmp_path / "theirs.raw")
    expected = digest_of(raw, disk.size)
    assert digest_of(theirs, disk.size) == expected
    again = written(theirs, tmp_path / "again.vmdk", subformat)
    assert digest_of(again, disk.size) == expected


@pytest.mark.parametrize("subformat", QEMU)
@pytest.mark.parametrize("disk", CHOSEN, ids=lambda disk: disk.name)
def test_qemus_to_ours_and_back(disk: Disk, subformat: str, tmp_path: Path) -> None:
    require_programs("qemu-img")
    raw = disk.make(tmp_path / "source.raw")
    theirs = to_vmdk_by_qemu(raw, tmp_path / "theirs.vmdk", subformat)
    expected = digest_of(raw, disk.size)
    assert digest_of(theirs, disk.size) == expected
    ours = written(theirs, tmp_path / "ours.vmdk", subformat)
    assert digest_of(by_qemu(ours, tmp_path / "back.raw"), disk.size) == expected


@pytest.mark.parametrize("to", SUBFORMATS)
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_each_of_ours_to_each_other(subformat: str, to: str, tmp_path: Path) -> None:
    require_programs("qemu-img")
    raw = ROUND.make(tmp_path / "source.raw")
    first = written(raw, tmp_path / "first.vmdk", subformat)
    second = written(first, tmp_path / "second.vmdk", to)
    run(["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "raw", second, raw], timeout=60)


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_an_image_to_a_virtual_disk_and_back(subformat: str, tmp_path: Path) -> None:
    require_programs("qemu-img")
    raw = ROUND.make(tmp_path / "source.raw")
    aipimage.create(tmp_path / "one.aiv", [raw], compress="zstd:1")
    path = tmp_path / "disk.vmdk"
    with aipimage.open(tmp_path / "one.aiv") as image:
        vmdk.write(path, image.devices[0], subformat=subformat)
    run(["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "raw", path, raw], timeout=60)
    with vmdk.open(path) as source:
        aipimage.create(tmp_path / "two.aiv", [source], compress="zstd:1")
    with aipimage.open(tmp_path / "two.aiv") as image:
        image.restore(tmp_path / "back.raw")
    assert digest_of(tmp_path / "back.raw", ROUND.size) == digest_of(raw, ROUND.size)


def test_the_members_of_a_chain_to_virtual_disks(tmp_path: Path) -> None:
    """Each point in time of a chain gives the disk as it was then."""
    require_programs("qemu-img")
    raw = ROUND.make(tmp_path / "source.raw")
    states, images = [], []
    for number in range(3):
        with raw.open("r+b") as file:
            file.seek(number * 5 * MIB + 7 * SECTOR)
            file.write(bytes([number + 1]) * 3 * SECTOR)
        states.append(raw.read_bytes())
        images.append(tmp_path / f"{number}.aiv")
        aipimage.create(images[-1], [raw], parent=images[-2] if number else None)
    for number, (state, path) in enumerate(zip(states, images, strict=True)):
        for subformat in ("monolithicSparse", "streamOptimized"):
            target = tmp_path / f"{number}-{subformat}.vmdk"
            with aipimage.open(path) as image:
                vmdk.write(target, image.devices[0], subformat=subformat)
            back = by_qemu(target, tmp_path / "back.raw").read_bytes()
            assert back == state.ljust(len(back), b"\0")


@pytest.mark.parametrize("level", ["fast", "dense"])
def test_a_stream_through_a_pipe_is_the_file(level: str, tmp_path: Path) -> None:
    raw = ROUND.make(tmp_path / "source.raw")
    source = open_source(raw)
    piped, direct = tmp_path / "piped.vmdk", tmp_path / "direct.vmdk"
    try:
        with (
            piped.open("wb") as out,
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out) as cat,
        ):
            assert cat.stdin is not None
            vmdk.write(cat.stdin, source, subformat="streamOptimized", cid=0x1234, level=level)
            cat.stdin.close()
            assert cat.wait(60) == 0
        vmdk.write(direct, source, subformat="streamOptimized", cid=0x1234, level=level)
    finally:
        source.close()
    # The descriptor names the file, so that may differ; everything behind it may not.
    assert piped.stat().st_size == direct.stat().st_size
    assert digest_of(piped, ROUND.size) == digest_of(raw, ROUND.size)
    assert piped.read_bytes()[64 * 1024 :] == direct.read_bytes()[64 * 1024 :]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_adapters_are_what_qemu_and_libvmdk_read(
    adapter: str, subformat: str, tmp_path: Path
) -> None:
    require_programs("qemu-img", "vmdkinfo")
    raw = ROUND.make(tmp_path / "source.raw")
    path, source = tmp_path / "disk.vmdk", open_source(raw)
    try:
        vmdk.write(path, source, subformat=subformat, adapter=adapter, cid=0xCAFE)
    finally:
        source.close()
    with vmdk.open(path) as disk:
        assert disk.descriptor.ddb["adapterType"] == adapter
        assert disk.descriptor.ddb["geometry.heads"] == ("16" if adapter == "ide" else "255")
    assert "0x0000cafe" in run(["vmdkinfo", path], timeout=120)
    assert "cid: 51966" in run(["qemu-img", "info", "-f", "vmdk", path], timeout=120)
    run(["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "raw", path, raw], timeout=60)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
@pytest.mark.parametrize("disk", CHOSEN, ids=lambda disk: disk.name)
def test_a_disk_that_nbdkit_serves(disk: Disk, subformat: str, tmp_path: Path) -> None:
    """Read over NBD, where a file ends with its last whole sector and nothing lies beside it."""
    require_programs("qemu-img", "nbdkit")
    raw = disk.make(tmp_path / "source.raw")
    path = written(raw, tmp_path / "disk.vmdk", subformat)
    server = "file.driver=nbd,file.server.type=unix,file.server.path=$unixsocket"
    compare = f"qemu-img compare --image-opts driver=vmdk,{server} driver=raw,file.filename={raw}"
    run(["nbdkit", "-U", "-", "-r", "file", path, "--run", compare], timeout=60)
