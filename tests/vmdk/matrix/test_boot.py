"""The newest point in time of a chain becomes a virtual disk, and a machine starts from it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from aipimage.io.blocks.sources import open_source
from aipimage.vmdk.guest import examine
from tests.volumes.booting import parts as boot_parts
from tests.volumes.booting.disks import BootDisk, Parts, make_disk, make_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FIRMWARE = {"mbr": "bios", "gpt": "bios", "efi": "efi"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    boot_parts.require_all()
    return make_parts(tmp_path_factory.mktemp("boot"))


@pytest.fixture(scope="module")
def disk(
    request: pytest.FixtureRequest, parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> BootDisk:
    """A disk by its name, and beside it a chain of two images: ``full.aiv`` of an earlier content,
    from which the console would say something else, and ``now.aiv`` of this one.
    """
    at = tmp_path_factory.mktemp(request.param)
    proof = parts.tree / "proof"
    now = proof.read_bytes()
    proof.write_bytes(now[::-1])
    made = make_disk(request.param, parts, at)
    aipimage("createimage", "-o", at / "full.aiv", made.path)
    proof.write_bytes(now)
    made = make_disk(request.param, parts, at)
    aipimage("createimage", "-o", at / "now.aiv", "--parent", at / "full.aiv", made.path)
    return made


def aipimage(*arguments: object) -> str:
    words = [sys.executable, "-m", "aipimage.cli", *(str(word) for word in arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("disk", FIRMWARE, indirect=True, scope="module")
def test_what_is_said_of_it(disk: BootDisk) -> None:
    """Of disks that are known to start, the right firmware is named."""
    source = open_source(disk.path)
    info = examine(source)
    source.close()
    assert (info.firmware, info.starts, info.family) == (FIRMWARE[disk.name], True, "linux")
    assert info.efi == disk.efi


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
@pytest.mark.parametrize("disk", FIRMWARE, indirect=True, scope="module")
def test_a_machine_starts(subformat: str, disk: BootDisk, tmp_path: Path) -> None:
    virtual = tmp_path / "disk.vmdk"
    image = disk.path.parent / "now.aiv"
    said = aipimage("convert", image, virtual, "--subformat", subformat)
    assert {"bios": "a BIOS", "efi": "EFI firmware"}[FIRMWARE[disk.name]] in said
    assert disk.line in boot_parts.booted(virtual, disk.efi, tmp_path, "vmdk")


@pytest.mark.parametrize("disk", ["efi"], indirect=True, scope="module")
def test_an_appliance_starts(disk: BootDisk, tmp_path: Path) -> None:
    """From the disk in it, and its OVF names the firmware."""
    appliance = tmp_path / "machine.ova"
    aipimage("convert", disk.path.parent / "now.aiv", appliance)
    with tarfile.open(appliance) as archive:
        archive.extractall(tmp_path, filter="data")
    (virtual,) = tmp_path.glob("*.vmdk")
    (envelope,) = tmp_path.glob("*.ovf")
    assert 'vmw:key="firmware" vmw:value="efi"' in envelope.read_text("utf-8")
    assert disk.line in boot_parts.booted(virtual, disk.efi, tmp_path, "vmdk")
