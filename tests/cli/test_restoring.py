"""``aipimage restoredisk`` and ``aipimage restorevolume``, to files and to loop devices."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.cli.running import Ran, done, invoke
from tests.support import loop_device

RESTORED = {
    "image", "target", "device", "volume", "size", "written", "unused", "unreadable", "changes",
    "expanded", "notes", "warnings", "seconds",
}  # fmt: skip
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
    for command in ("restoredisk", "restorevolume"):
        done(command, tmp_path / "o.aiv", tmp_path / "t.raw", "--disk", 1, "--force")
        assert (tmp_path / "t.raw").read_bytes() == bytes([2]) * 4096
        ran = invoke(command, tmp_path / "o.aiv", tmp_path / "new.raw", "--disk", 2)
        told = f"{tmp_path}/o.aiv: has no device 2; it has 2, numbered from 0"
        assert (ran.code, ran.error) == (1, told)
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


def test_one_volume_of_several(tmp_path: Path) -> None:
    """Without a number there must be one only; the others are listed."""
    image = image_of(mbr((0, 0x83, 2, 100), (0x80, 7, 200, 300)), tmp_path)
    target = tmp_path / "t.raw"
    ran = invoke("restorevolume", image, target)
    assert ran.code == 1
    assert "has several volumes, choose one (--volume)" in ran.error
    assert "volume 2 of disk 0 (unknown, 153600 bytes)" in ran.error
    ran = invoke("restorevolume", image, target, "--volume", 3)
    assert "has no volume 3; there is volume 1 of disk 0" in ran.error
    assert not target.exists()
    values = done("restorevolume", image, target, "--volume", 2, "--json").json
    assert (values["volume"], values["size"]) == (2, 300 * 512)
    assert target.read_bytes() == (tmp_path / "source.raw").read_bytes()[200 * 512 : 500 * 512]


def test_a_volume_of_a_table_in_doubt(tmp_path: Path) -> None:
    """Where the table cannot be trusted there are no volumes, and the disk is none either."""
    image = image_of(mbr((0, 0xEE, 1, 2047)) + b"EFI PART", tmp_path)
    ran = invoke("restorevolume", image, tmp_path / "t.raw")
    assert ran.code == 1
    assert "has no volume that can be restored: the partition table of device 0" in ran.error
    assert not (tmp_path / "t.raw").exists()
    done("restoredisk", image, tmp_path / "t.raw")


@pytest.mark.parametrize(
    "content",
    [b"", mbr(), bytes(510) + b"\x55\xaa", b"\xeb\x52\x90NTFS    " + b"\x90" * 499 + b"\x55\xaa"],
)
def test_a_disk_without_partitions_is_a_volume(content: bytes, tmp_path: Path) -> None:
    """Boot sectors of volumes end in 55 AA as well."""
    image = image_of(content, tmp_path)
    done("restorevolume", image, tmp_path / "t.raw")
    assert (tmp_path / "t.raw").read_bytes() == content.ljust(MIB, b"\0")


@pytest.mark.parametrize(
    "options",
    [("--new-ids", "--mbr"), ("--new-ids", "--signature"), ("--size", "1M", "--set-size")],
)
def test_options_that_exclude_each_other(options: tuple[str, ...], tmp_path: Path) -> None:
    """Wrong usage."""
    assert invoke("restoredisk", "a.aiv", tmp_path / "t", *options).code == 2


def test_what_was_done_is_told(tmp_path: Path) -> None:
    """Partitions that moved, for people and as values."""
    image = image_of(mbr((0, 0x83, 8, 100), (0x80, 0x83, 1024, 512)), tmp_path)
    ran = done("restoredisk", image, tmp_path / "t.raw", "--size", "512K")
    assert "partition 2 was moved from byte 524288 to 262144" in ran.out
    values = done("restoredisk", image, tmp_path / "u.raw", "--size", "512K", "--json").json
    change = {"number": 2, "old_start": 524288, "old_size": 262144, "start": 262144}
    assert values["changes"] == [change | {"size": 262144}]
    assert (tmp_path / "t.raw").stat().st_size == 512 << 10


def test_boot_code_alone(plain: Path, tmp_path: Path) -> None:
    """--mbr and --signature, each on its own; what has no MBR is refused."""
    sector = bytes(range(1, 221)) * 2 + b"NEWS" + bytes(2) + mbr((0x80, 7, 63, 1000))[446:]
    image, target = image_of(sector, tmp_path), tmp_path / "t.raw"
    before = (bytes(440) + b"OLDS" + bytes(2) + mbr((0, 0x83, 8, 100))[446:]).ljust(MIB, b"x")
    target.write_bytes(before)
    assert "--force" in invoke("restoredisk", image, target, "--mbr").error
    done("restoredisk", image, target, "--mbr", "--force")
    assert target.read_bytes() == sector[:440] + before[440:]
    values = done("restoredisk", image, target, "--signature", "--force", "--json").json
    assert target.read_bytes() == sector[:444] + before[444:]
    assert values["notes"] == ["only the disk signature was restored"]
    (tmp_path / "none").write_bytes(b"x" * MIB)
    assert "no MBR" in invoke("restoredisk", image, tmp_path / "none", "--mbr", "--force").error
    assert "no MBR" in invoke("restoredisk", plain, target, "--mbr", "--force").error
    assert target.read_bytes() == sector[:444] + before[444:]
    done("restoredisk", image, tmp_path / "new.raw", "--mbr", "--signature")
    assert (tmp_path / "new.raw").read_bytes() == (tmp_path / "source.raw").read_bytes()


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
