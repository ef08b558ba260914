"""``aipimage restoredisk`` and ``aipimage restorevolume``, to files and to loop devices."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.cli.helpers import Ran, done, invoke
from tests.support import loop_device

RESTORED = {"image", "target", "device", "size", "written", "unreadable", "seconds"}
MIB = 1 << 20


def mbr(*entries: tuple[int, int, int, int]) -> bytes:
    """A boot sector with these (status, type, start, length)."""
    packed = b"".join(struct.pack("<B3xB3xII", *entry) for entry in entries)
    return bytes(446) + packed.ljust(64, b"\0") + b"\x55\xaa"


def image_of(content: bytes, tmp_path: Path) -> Path:
    """An image of a disk that begins so."""
    (tmp_path / "source.raw").write_bytes(content.ljust(MIB, b"\0"))
    done("createimage", "-o", tmp_path / "o.aiv", tmp_path / "source.raw")
    return tmp_path / "o.aiv"


@pytest.mark.parametrize("command", ["restoredisk", "restorevolume"])
def test_bit_by_bit(command: str, secret: Path, password: Path, disk: Path, tmp_path: Path) -> None:
    """To a new file; the object tells."""
    target = tmp_path / "t.raw"
    values = done(command, secret, target, "--password-file", password, "--json").json
    assert target.read_bytes() == disk.read_bytes()
    assert set(values) == RESTORED
    assert (values["size"], values["device"]) == (disk.stat().st_size, 0)
    assert 0 < values["written"] < values["size"]
    assert os.listdir(tmp_path) == ["t.raw"]


def test_for_people(parts: Path, tmp_path: Path) -> None:
    """One line."""
    ran = done("restoredisk", parts, tmp_path / "t.raw")
    assert ran.out.startswith(f"{tmp_path / 't.raw'}: restored ")
    assert (ran.out.count("\n"), ran.err) == (1, "")


def test_the_disk_that_was_asked_for(tmp_path: Path) -> None:
    """They count from 0."""
    for number in (0, 1):
        (tmp_path / f"{number}.raw").write_bytes(bytes([number + 1]) * 4096)
    done("createimage", "-o", tmp_path / "o.aiv", tmp_path / "0.raw", tmp_path / "1.raw")
    for command, option in (("restoredisk", "--disk"), ("restorevolume", "--volume")):
        done(command, tmp_path / "o.aiv", tmp_path / "t.raw", option, 1, "--force")
        assert (tmp_path / "t.raw").read_bytes() == bytes([2]) * 4096
        ran = invoke(command, tmp_path / "o.aiv", tmp_path / "new.raw", option, 2)
        assert (ran.code, ran.error) == (1, f"{tmp_path}/o.aiv: has no device 2; it has 2")
    assert not (tmp_path / "new.raw").exists()


def test_full_targets(plain: Path, disk: Path, tmp_path: Path) -> None:
    """Nothing is lost without --force; a size changes only with --set-size."""
    target, size = tmp_path / "t.raw", disk.stat().st_size
    target.write_bytes(b"precious")
    ran = invoke("restoredisk", plain, target)
    assert (ran.code, target.read_bytes()) == (1, b"precious")
    assert "--force" in ran.error
    ran = invoke("restoredisk", plain, target, "--force")
    assert (ran.code, target.read_bytes()) == (1, b"precious")
    assert "--set-size" in ran.error
    done("restoredisk", plain, target, "--force", "--set-size")
    assert target.read_bytes() == disk.read_bytes()
    target.write_bytes(b"x" * (size + MIB))
    done("restoredisk", plain, target, "--force")
    assert target.read_bytes() == disk.read_bytes() + bytes(MIB)


@pytest.mark.parametrize(
    ("command", "option"),
    [("restoredisk", "--mbr"), ("restoredisk", "--signature"), ("restorevolume", "--expand")],
)
def test_of_a_later_release(command: str, option: str, plain: Path, tmp_path: Path) -> None:
    """Refused clearly, nothing written."""
    ran = invoke(command, plain, tmp_path / "t.raw", option)
    assert ran.code == 1
    assert ran.error == f"{option} comes with the volumes release; nothing was written"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (mbr((0x80, 7, 63, 1000)), "an MBR partition table"),
        (mbr((0, 0, 0, 0), (0, 0x83, 2, 100)), "an MBR partition table"),
        (mbr((0, 0xEE, 1, 2047)) + b"EFI PART", "a GPT"),
        (bytes(512) + b"EFI PART", "a GPT"),
        (bytes(4096) + b"EFI PART", "a GPT"),
    ],
)
def test_a_disk_is_no_volume(content: bytes, says: str, tmp_path: Path) -> None:
    """It would be written whole over a partition: restoredisk is named."""
    image = image_of(content, tmp_path)
    ran = invoke("restorevolume", image, tmp_path / "t.raw")
    assert ran.code == 1
    assert f"is a disk with {says}, not a volume; restoredisk restores the disk" in ran.error
    assert not (tmp_path / "t.raw").exists()
    done("restoredisk", image, tmp_path / "t.raw")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        mbr(),
        bytes(510) + b"\x55\xaa",
        b"\xeb\x52\x90NTFS    " + b"\x90" * 499 + b"\x55\xaa",
        (b"\xeb\x58\x90" + bytes(79) + b"FAT32   ").ljust(446, b"\0")
        + mbr((0x80, 7, 63, 99))[446:],
        mbr((0x33, 7, 63, 1000)),  # code, not a status
        mbr((0x80, 7, 0, 1000)),  # a partition on its own table
        mbr((0x80, 7, 4096, 1000)),  # behind the end
    ],
)
def test_a_volume_is_no_disk(content: bytes, tmp_path: Path) -> None:
    """Boot sectors of volumes end in 55 AA as well."""
    done("restorevolume", image_of(content, tmp_path), tmp_path / "t.raw")


def test_from_and_to_loop_devices(disk: Path, password: Path, tmp_path: Path) -> None:
    """The issue's own commands: encrypted, split, a device as source and as target."""
    source = tmp_path / "source.raw"
    source.write_bytes(disk.read_bytes().ljust(2 * MIB, b"\1"))
    for name, size in (("target", 2 * MIB), ("small", MIB)):
        (tmp_path / name).write_bytes(b"old" * (size // 3) + bytes(size % 3))
    key = ("--password-file", password)
    image = tmp_path / "d.aiv"
    with loop_device(source) as device:
        done("createimage", "-o", image, "--compress", "zstd:1", "--encrypt", "aes-256",
             *key, "--split", "64K", device)  # fmt: skip
        done("verify", tmp_path / "d.aiv", *key)
    with loop_device(tmp_path / "target") as device:
        values = done("restoredisk", tmp_path / "d.aiv", device, *key, "--json").json
        assert values["target"] == device
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    before = (tmp_path / "small").read_bytes()
    with loop_device(tmp_path / "small") as device:
        assert_refused(invoke("restoredisk", image, device, "--force", *key), "too small")
        # A file that is attached to a loop device is in use, --force or not.
        ran = invoke("restoredisk", tmp_path / "d.aiv", tmp_path / "small", "--force", *key)
        assert_refused(ran, "attached to the loop device")
    assert (tmp_path / "small").read_bytes() == before


def assert_refused(ran: Ran, says: str) -> None:
    """Exit status 1 and one line that says so."""
    assert ran.code == 1
    assert says in ran.error
