"""Every command with every kind of file: it works, or says in one sentence what the file is."""

from __future__ import annotations

import os
import random
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

import aipimage
from tests.cli.running import Ran, invoke

IMAGES = ["ok.aiv", "split.aiv", "split.aiv.002", "renamed.img", "finished.aiv.partial"]
COMMANDS: dict[str, list[str]] = {
    "info": ["info", "FILE"],
    "info-chain": ["info", "--chain", "FILE"],
    "verify": ["verify", "FILE"],
    "keyless": ["verify", "--keyless", "FILE"],
    "createimage": ["createimage", "-o", "out.aiv", "FILE"],
    "parent": ["createimage", "-o", "out.aiv", "--parent", "FILE", "disk.raw"],
    "convert": ["convert", "FILE", "out.raw"],
    "restoredisk": ["restoredisk", "FILE", "out.raw"],
    "restorevolume": ["restorevolume", "FILE", "out.raw"],
    "split": ["split", "FILE", "out.aiv", "--size", "64K"],
    "join": ["join", "FILE", "out.aiv"],
    "repair": ["repair", "FILE", "out.aiv"],
    "passwd": ["passwd", "FILE", "--list"],
    "merge": ["merge", "out.aiv", "ok.aiv", "FILE"],
}
READS_IMAGES = [each for each in COMMANDS if each not in ("createimage", "convert")]
# What is said of a file by commands that want an image.
SAID: dict[str, str] = {
    "disk.raw": "is not an .aiv image",
    "text.txt": "is not an .aiv image",
    "a.iso": "is not an .aiv image",
    "empty.img": "is empty (0 bytes)",
    "empty.aiv": "is empty (0 bytes)",
    "noise.aiv": "is called like an .aiv image and does not",
    "m.ovf": "is an appliance by its name; make an image of its disks first",
    "m.mf": "holds the digests of an appliance's files",
    "x.vmdk.partial.state": "belongs to an interrupted conversion",
    "flat-flat.vmdk": "is a file of a virtual disk; pass the small .vmdk file with its descriptor",
    "split-s001.vmdk": "is a file of a virtual disk; pass the small .vmdk file with its",
    "flat.vmdk": "is a virtual disk by its name; make an image of it first",
    "m.ova": "is an appliance by its name; make an image of its disks first",
    "c.img": "begins like a qcow2 disk",
    "z.gz": "begins like a gzip file; unpack it first",
    "v.img": "begins like a VMDK disk; make an image of it first",
    "directory": "is a directory",
    "pipe": "is a named pipe",
    "missing.aiv": "No such file",
    "missing.vmdk": "No such file",
    "broken.aiv": "No such file",
    "/dev/null": "character device",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    noise = random.Random(1).randbytes(200_000)
    (folder / "disk.raw").write_bytes(noise.ljust(1 << 20, b"\0"))
    aipimage.create(folder / "ok.aiv", folder / "disk.raw")
    aipimage.create(folder / "split.aiv", folder / "disk.raw", split=128 << 10)
    for name in ("renamed.img", "finished.aiv.partial"):
        (folder / name).write_bytes((folder / "ok.aiv").read_bytes())
    aipimage.convert(folder / "disk.raw", folder / "flat.vmdk", subformat="monolithicFlat")
    aipimage.convert(folder / "disk.raw", folder / "split.vmdk", subformat="twoGbMaxExtentSparse")
    aipimage.convert(folder / "disk.raw", folder / "m.ova")
    with tarfile.open(folder / "m.ova") as tar:
        for name in ("m.ovf", "m.mf"):
            (folder / name).write_bytes(tar.extractfile(name).read())  # type: ignore[union-attr]
    for name, data in {
        "text.txt": b"hello world\n",
        "empty.img": b"",
        "empty.aiv": b"",
        "empty.vmdk": b"",
        "empty.ova": b"",
        "x.vmdk.partial.state": b"{}",
        "noise.aiv": noise,
        "c.img": b"QFI\xfb" + bytes(600),
        "z.gz": b"\x1f\x8b\x08\0" + bytes(600),
        "v.img": (folder / "flat.vmdk").read_bytes(),
        "a.iso": bytes(32768) + b"\1CD001\1" + bytes(9000),
    }.items():
        (folder / name).write_bytes(data)
    (folder / "directory").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "broken.aiv").symlink_to("missing")
    return folder


def run(command: str, name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.chdir(made)
    for left in made.glob("out*"):
        left.unlink()
    before = {each: each.lstat().st_mtime_ns for each in made.iterdir()}
    ran = invoke(*(name if each == "FILE" else each for each in COMMANDS[command]))
    assert "internal error" not in ran.err
    assert "Traceback" not in ran.err
    if ran.code:
        # Nothing was changed, and nothing is left.
        assert {each: each.lstat().st_mtime_ns for each in made.iterdir()} == before
    return ran


@pytest.mark.parametrize("command", READS_IMAGES)
@pytest.mark.parametrize("name", SAID)
def test_no_image(command: str, name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(command, name, made, monkeypatch)
    virtual = name.endswith((".vmdk", ".ova", ".ovf")) and name != "missing.vmdk"
    if command in ("info", "verify", "keyless") and (virtual or name in ("c.img", "z.gz", "v.img")):
        return
    if (command, name) in (("info", "a.iso"), ("parent", "directory")):
        # A file system, and a folder in which a chain may be.
        assert ran.code == 0
        return
    if command in ("verify", "keyless") and name == "empty.aiv":
        assert ran.code == 3
        assert SAID[name] in ran.out
        return
    assert ran.code == 1
    assert "magic bytes" not in ran.err
    said = SAID[name]
    if command == "repair" and name == "noise.aiv":
        said = "is not an .aiv image, or a damaged one: there is no header, and no record"
    assert said in ran.err, ran.err
    assert name in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["flat.vmdk", "m.ova", "c.img", "z.gz", "disk.raw"])
def test_info_and_verify_of_disks(name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, checked = (run(each, name, made, monkeypatch) for each in ("info", "verify"))
    assert told.code == (1 if name == "disk.raw" else 0)
    assert checked.code == (0 if name in ("flat.vmdk", "m.ova") else 1)
    assert SAID[name] in told.err + checked.err + SAID[name] * (not checked.code)
    if name == "disk.raw":
        assert "no partition table or file system that is known; createimage takes it" in told.err


@pytest.mark.parametrize("command", ["createimage", "convert", "info", "verify"])
@pytest.mark.parametrize("name", ["empty.vmdk", "empty.ova", "empty.img"])
def test_empty_files(command: str, name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(command, name, made, monkeypatch)
    assert ran.code in (1, 3)
    text = ran.err + ran.out
    assert re.search(r"is empty|size of 0 bytes|neither a descriptor nor", text), text


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("passwd", "merge")])
@pytest.mark.parametrize("name", IMAGES)
def test_images(command: str, name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under whatever name; but for who goes by names."""
    ran = run(command, name, made, monkeypatch)
    if command == "createimage":
        assert (ran.code, "begins like a" in ran.err, ".aiv image" in ran.err) == (0, True, True)
    elif command == "convert" and name in ("renamed.img", "finished.aiv.partial"):
        assert ran.code == 1
        assert "begins like an .aiv image but is not named like one; say what it is" in ran.err
    else:
        assert ran.code == 0, ran.err


@pytest.mark.parametrize("name", IMAGES)
def test_a_merge_of_images_that_do_not_follow_each_other(
    name: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with the name: an image of another chain, or twice the same."""
    ran = run("merge", name, made, monkeypatch)
    assert ran.code == 1
    other = name.startswith("split")
    assert ("another chain" if other else "both stand for image") in ran.error
    assert name in ran.error


@pytest.mark.parametrize("command", ["createimage", "convert"])
@pytest.mark.parametrize("name", SAID)
def test_whatever_may_be_a_disk(
    command: str, name: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raw disk, or one sentence that names the file."""
    ran = run(command, name, made, monkeypatch)
    if ran.code == 0:
        assert ("is taken as plain bytes" in ran.err) == (name in ("c.img", "z.gz", "v.img"))
        return
    assert ran.code == 1
    assert "magic bytes" not in ran.err
    assert ran.error.startswith(name) or name == "/dev/null"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_device_with_nothing_on_it(made: Path) -> None:
    loop = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", made / "disk.raw"],
        capture_output=True,
        text=True,
        check=False,
    )
    if loop.returncode:
        pytest.skip("has no loop devices")
    device = loop.stdout.strip()
    try:
        assert "no partition table or file system that is known" in invoke("info", device).error
        assert "is not an .aiv image; if it is a raw disk" in invoke("verify", device).error
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
