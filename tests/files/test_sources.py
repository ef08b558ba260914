"""The same file from a full image, an increment, an encrypted split image, a virtual disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import aipimage
from aipimage import files, vmdk
from aipimage.errors import PasswordError, RequestError
from tests.support.tools import require_programs, run
from tests.volumes.ext.made import MIB, make

DATA = random.Random(3).randbytes(300_000)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT with an ext4, a FAT, a swap and an empty partition."""
    require_programs("mke2fs", "mkfs.fat", "mcopy", "sfdisk", "mkswap")
    at = tmp_path_factory.mktemp("disk")
    (at / "tree").mkdir()
    (at / "tree/file").write_bytes(DATA)
    make(at / "ext", 16 * MIB, "-t", "ext4", content=at / "tree")
    (at / "fat").write_bytes(bytes(8 * MIB))
    run(["mkfs.fat", at / "fat"])
    run(["mcopy", "-i", at / "fat", at / "tree/file", "::"])
    (at / "swap").write_bytes(bytes(4 * MIB))
    run(["mkswap", at / "swap"])
    path = at / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(40 * MIB)
    script = "label: gpt\n" + "".join(f"size={size}MiB\n" for size in (16, 8, 4, 2))
    (at / "script").write_text(script)
    run(["sh", "-c", f"sfdisk -q {path} < {at / 'script'}"])
    with open(path, "r+b") as file:
        for start, name in ((1, "ext"), (17, "fat"), (25, "swap")):
            file.seek(start * MIB)
            file.write((at / name).read_bytes())
    return path


def check(volume: files.Files) -> None:
    with volume, volume.open("/file") as file:
        assert file.read() == DATA
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]


@pytest.mark.parametrize("number", [1, 2])
def test_from_everywhere(disk: Path, tmp_path: Path, number: int) -> None:
    check(files.open(disk, volume=number))
    with open(disk, "rb") as file:
        check(files.open(file, volume=number))
    full, later, locked = (str(tmp_path / name) for name in ("full.aiv", "later.aiv", "locked.aiv"))
    aipimage.create(full, [str(disk)])
    aipimage.create(later, [str(disk)], parent=full)
    aipimage.create(
        locked, [str(disk)], encrypt="aes-256", password="secret", split="1M", compress="none"
    )
    for path in (full, later):
        check(files.open(path, volume=number))
        with aipimage.open(path) as image:
            check(image.files(number))
            check(files.open(image.devices[0], volume=number))
    check(files.open(locked, volume=number, password="secret"))
    with pytest.raises(PasswordError):
        files.open(locked, volume=number)
    aipimage.convert(full, str(tmp_path / "disk.vmdk"))
    with vmdk.open(tmp_path / "disk.vmdk") as virtual:
        check(files.open(virtual, volume=number))


def test_what_is_refused_says_why(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"several volumes with files: 1 \(ext4\), 2 \(fat12\)"):
        files.open(disk)
    with pytest.raises(RequestError, match="has no volume 9"):
        files.open(disk, volume=9)
    with pytest.raises(files.UnreadableFileError, match="files of swap cannot be read yet"):
        files.open(disk, volume=3)
    with pytest.raises(files.UnreadableFileError, match="no file system that is known"):
        files.open(disk, volume=4)
    with pytest.raises(PasswordError, match="needs no password"):
        files.open(disk, volume=1, password="secret")
    path = str(tmp_path / "one.aiv")
    aipimage.create(path, [str(disk)], volumes=[1])
    with aipimage.open(path) as image:
        check(image.files())
        with pytest.raises(RequestError, match="has no volume 2"):
            image.files(2)
        with pytest.raises(RequestError, match="no disk 1"):
            image.files(1, device=1)
        volume = image.files(1)
    with volume, pytest.raises(aipimage.AipImageError):
        volume.stat("/file")
