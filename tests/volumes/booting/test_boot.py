"""A disk is imaged, restored to a larger one, and started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.volumes.booting import parts as boot_parts
from tests.volumes.booting.disks import SIZE, BootDisk, Parts, make_disk, make_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    boot_parts.require_all()
    return make_parts(tmp_path_factory.mktemp("boot"))


@pytest.fixture(params=["mbr", "gpt", "efi"])
def disk(request: pytest.FixtureRequest, parts: Parts, tmp_path: Path) -> BootDisk:
    return make_disk(request.param, parts, tmp_path)


def aipimage(*arguments: object) -> None:
    words = [sys.executable, "-m", "aipimage.cli", *(str(word) for word in arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_disk_itself_boots(disk: BootDisk, tmp_path: Path) -> None:
    assert disk.line in boot_parts.booted(disk.path, disk.efi, tmp_path)


def test_a_restored_disk_boots(disk: BootDisk, tmp_path: Path) -> None:
    """On a larger disk, which held something else."""
    image, target = tmp_path / "d.aiv", tmp_path / "restored.raw"
    aipimage("createimage", "-o", image, disk.path)
    disk.path.unlink()
    _fill(target, SIZE + (48 << 20))
    aipimage("restoredisk", image, target, "--force")
    assert target.stat().st_size == SIZE + (48 << 20)
    assert disk.line in boot_parts.booted(target, disk.efi, tmp_path)


def _fill(target: Path, size: int) -> None:
    """A file in which nothing is zero, so that a byte which is not restored shows."""
    piece = b"\xa5" * (1 << 20)
    with open(target, "wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)
