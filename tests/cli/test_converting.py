"""``aipimage convert``, and virtual disks in ``createimage`` and ``info``."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import COMMAND, Ran, done, invoke

import aipimage  # isort: skip - after helpers, which skip where click is missing

MIB = 1 << 20
RESULT = {
    "source", "source_format", "target", "format", "subformat", "disks", "size", "data", "stored",
    "files", "unreadable", "cid", "digest", "resumed", "seconds", "notes", "warnings",
}  # fmt: skip
# The command with a checkpoint before every write, and a target that is slow.
SLOW = (
    "import sys, time; from aipimage.cli import main; from aipimage.converting import "
    "rawfile; rawfile.CHECKPOINT_BYTES = 1; write = rawfile.RawFile.writev; "
    "rawfile.RawFile.writev = lambda *a: (time.sleep(0.05), write(*a)); "
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of whole MiB, half of it zeros."""
    path = tmp_path_factory.mktemp("convert") / "disk.raw"
    chance = random.Random(4)
    path.write_bytes(b"".join(chance.randbytes(65_536) + bytes(65_536) for _ in range(32)))
    return path


@pytest.fixture
def vmdk(raw: Path, tmp_path: Path) -> Path:
    """The same as a virtual disk."""
    done("convert", raw, tmp_path / "disk.vmdk", "--cid", "00abcdef")
    return tmp_path / "disk.vmdk"


def test_there_and_back(raw: Path, tmp_path: Path) -> None:
    """Names tell all formats; the same bytes come back."""
    done("createimage", "-o", tmp_path / "1.aiv", raw)
    done("convert", tmp_path / "1.aiv", tmp_path / "2.vmdk")
    done("convert", tmp_path / "2.vmdk", tmp_path / "3.vmdk", "--subformat", "streamoptimized")
    done("convert", tmp_path / "3.vmdk", tmp_path / "4.aiv", "--compress", "zstd:1")
    done("convert", tmp_path / "4.aiv", tmp_path / "5.img")
    assert (tmp_path / "5.img").read_bytes() == raw.read_bytes()


def test_json(raw: Path, tmp_path: Path) -> None:
    """One object with these members."""
    ran = done("convert", raw, tmp_path / "a.vmdk", "--cid", "1A2b", "--json")
    assert set(ran.json) == RESULT
    assert (ran.json["cid"], ran.json["format"], ran.json["subformat"]) == (
        "00001a2b",
        "vmdk",
        "monolithicSparse",
    )
    assert ran.json["files"] == [str(tmp_path / "a.vmdk")]
    assert (ran.json["size"], ran.json["disks"]) == (raw.stat().st_size, [0])


def test_for_people(raw: Path, tmp_path: Path) -> None:
    ran = done("convert", raw, tmp_path / "a.vmdk", "--subformat", "vmfs")
    assert ran.out.startswith(f"{tmp_path / 'a.vmdk'}: vmdk vmfs, 4.00 MiB, 2.00 MiB of it data")
    assert "in 2 files" in ran.out
    assert "driver" in ran.out


def test_encrypted(secret: Path, disk: Path, password: Path, tmp_path: Path) -> None:
    """The password of the source, or of the target; an odd size fits no virtual disk."""
    done("convert", secret, tmp_path / "a.img", "--password-file", password)
    assert (tmp_path / "a.img").read_bytes() == disk.read_bytes()
    assert "(--password-file FILE" in invoke("convert", secret, tmp_path / "b.img").error
    ran = invoke("convert", secret, tmp_path / "b.vmdk", "--password-file", password)
    assert (ran.code, "whole sectors" in ran.error) == (1, True)
    done(
        "convert",
        tmp_path / "a.img",
        tmp_path / "c.aiv",
        "--encrypt",
        "aes-256",
        "--password-file",
        password,
    )
    done("verify", tmp_path / "c.aiv", "--password-file", password)
    assert sorted(os.listdir(tmp_path)) == ["a.img", "c.aiv"]


def test_an_appliance(raw: Path, tmp_path: Path) -> None:
    done("createimage", "-o", tmp_path / "1.aiv", raw, raw)
    options = ("--name", "box", "--cpus", 1, "--memory", "1G", "--network", "A", "--network", "B",
               "--nic", "VmxNet3", "--firmware", "efi", "--os", "linux", "--manifest", "none",
               "--adapter", "sata", "--hardware", 11, "--level", "dense")  # fmt: skip
    ran = done("convert", tmp_path / "1.aiv", tmp_path / "a.ova", *options, "--json")
    assert ran.json["disks"] == [0, 1]
    text = (tmp_path / "a.ova").read_bytes()[:20_000].decode(errors="replace")
    for word in ("box", "VmxNet3", "efi", "vmx-11"):
        assert word in text
    ran = done("convert", tmp_path / "1.aiv", tmp_path / "b.ova", "--disk", 1, "--json")
    assert ran.json["disks"] == [1]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["a"], 1, "its name does not show the format; pass it (--format)"),
        (["a.vmdk", "--subformat", "qcow2"], 2, "Invalid value for '--subformat'"),
        (["a.vmdk", "--adapter", "nvme"], 2, "Invalid value for '--adapter'"),
        (["a.vmdk", "--adapter", "pvscsi"], 1, "unknown adapter 'pvscsi'"),
        (["a.vmdk", "--cid", "xyz"], 2, "has not 1 to 8 hexadecimal digits"),
        (["a.vmdk", "--cid", "ffffffff"], 1, "CID of 0xffffffff is not possible"),
        (["a.vmdk", "--split", "0"], 2, "Invalid value for '--split'"),
        (["a.vmdk", "--split", "1G"], 1, "cannot be split"),
        (["a.vmdk", "--compress", "zstd"], 1, "compress belongs to a target of format aiv"),
        (["a.vmdk", "--cpus", "1"], 1, "appliance belongs to a target of format ova or ovf"),
        (["a.aiv", "--compress", "lzma"], 2, "Invalid value for '--compress'"),
        (["a.aiv", "--encrypt", "aes-256"], 1, "needs a password"),
        (["a.raw", "--level", "fast"], 1, "level belongs to"),
        (["a.raw", "--disk", "1"], 1, "has no disk 1"),
        (["a.raw", "--disk", "0", "--disk", "0"], 1, "name each disk once"),
        (["a.ova", "--firmware", "uboot"], 2, "Invalid value for '--firmware'"),
        (["a.ova", "--nic", "ne2000"], 1, "unknown network adapter"),
        (["a.raw", "--source-format", "aiv"], 1, "not an .aiv image"),
        (["a.raw", "--source-format", "vmdk"], 1, "disk.raw"),
        (["-"], 2, "use --format"),
        (["-", "--format", "raw", "--json"], 2, "--json prints where the disk goes"),
        (["no/a.vmdk"], 1, "no such directory"),
        (["/dev/no.vmdk"], 1, "there is no such device"),
    ],
)
def test_what_is_wrong_is_one_line(
    options: list[str], code: int, message: str, raw: Path, tmp_path: Path
) -> None:
    """Nothing is written."""
    target = options[0] if options[0][0] in "-/" else tmp_path / options[0]
    ran = invoke("convert", raw, target, *options[1:])
    assert ran.code == code, ran
    assert message in ran.error
    assert not list(tmp_path.iterdir())


def piped(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    """The command with standard output in a pipe."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("format", ["vmdk", "raw", "aiv", "ova"])
def test_standard_output(format: str, raw: Path, tmp_path: Path) -> None:
    """Nothing but the bytes goes there; what else there is to say, to standard error."""
    ran = piped("convert", raw, "-", "--format", format)
    assert ran.returncode == 0, ran.stderr
    assert b"aipimage: note: standard output: " in ran.stderr
    path = tmp_path / f"a.{format}"
    path.write_bytes(ran.stdout)
    if format == "ova":
        subprocess.run(["tar", "-tf", path], check=True, capture_output=True, timeout=60)
        return
    done("convert", path, tmp_path / "b.img")
    assert (tmp_path / "b.img").read_bytes() == raw.read_bytes()


def test_a_reader_that_goes_away(raw: Path) -> None:
    """One line and a status, no traceback."""
    process = subprocess.Popen(
        [*COMMAND, "convert", str(raw), "-", "--format", "raw"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    error = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1
    assert error.startswith("aipimage: error: <stdout>: cannot write")
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(number: signal.Signals, tmp_path: Path) -> None:
    """The partial file is kept, named, and gone on with."""
    source, target = tmp_path / "large.raw", tmp_path / "a.img"
    source.write_bytes(random.Random(6).randbytes(64 * MIB))
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "convert", str(source), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(3000):
        if (tmp_path / "a.img.partial.state").exists() or process.poll() is not None:
            break
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    ran = Ran(process.returncode, out, err)
    assert ran.code == 128 + number
    assert ran.error == (
        f"stopped by {number.name}; {target}.partial is kept; the same command with --resume "
        "continues it"
    )
    assert sorted(os.listdir(tmp_path)) == ["a.img.partial", "a.img.partial.state", "large.raw"]
    assert done("convert", source, target, "--resume", "--json").json["resumed"]
    assert hashlib.sha256(target.read_bytes()).digest() == (
        hashlib.sha256(source.read_bytes()).digest()
    )


# Virtual disks in other commands


def test_createimage_opens_a_virtual_disk(vmdk: Path, raw: Path, tmp_path: Path) -> None:
    """By its name, and as plain bytes where that is asked for."""
    done("createimage", "-o", tmp_path / "1.aiv", vmdk)
    with aipimage.open(tmp_path / "1.aiv") as image:
        assert image.devices[0].size == raw.stat().st_size
        assert image.devices[0].open().readall() == raw.read_bytes()
    done("createimage", "-o", tmp_path / "2.aiv", vmdk, "--source-format", "raw")
    with aipimage.open(tmp_path / "2.aiv") as image:
        assert image.devices[0].open().readall() == vmdk.read_bytes()


def test_increments_of_a_virtual_disk(vmdk: Path, raw: Path, tmp_path: Path) -> None:
    """The directory of the chain is enough, as for any disk."""
    done("createimage", "-o", tmp_path / "1.aiv", vmdk)
    changed = tmp_path / "changed.raw"
    data = bytearray(raw.read_bytes())
    data[:4096] = bytes(4096)
    changed.write_bytes(data)
    done("convert", changed, vmdk, "--overwrite")
    ran = done(
        "createimage",
        "-o",
        tmp_path / "2.aiv",
        os.path.relpath(vmdk),
        "--parent",
        tmp_path,
        "--json",
    )
    assert (ran.json["kind"], ran.json["changes"][0]["changed"]) == ("incremental", 4096)
    done("convert", tmp_path / "2.aiv", tmp_path / "3.img")
    assert (tmp_path / "3.img").read_bytes() == data


def test_class_37_createimage_goes_by_the_name(raw: Path, tmp_path: Path) -> None:
    """Plain bytes that begin like a descriptor stay plain; an extent is refused with advice."""
    text = (
        b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="vmfs"\n'
        b'RW 8 VMFS "disk.raw"\n'
    )
    for name in ("guest.raw", "guest-flat.vmdk"):
        (tmp_path / name).write_bytes(text.ljust(MIB, b"\0"))
    done("createimage", "-o", tmp_path / "1.aiv", tmp_path / "guest.raw")
    with aipimage.open(tmp_path / "1.aiv") as image:
        assert image.devices[0].size == MIB
    ran = invoke("createimage", "-o", tmp_path / "2.aiv", tmp_path / "guest-flat.vmdk")
    assert "is an extent of a virtual disk; use the .vmdk file with the descriptor" in ran.error
    assert not (tmp_path / "2.aiv").exists()
    done(
        "createimage",
        "-o",
        tmp_path / "2.aiv",
        tmp_path / "guest-flat.vmdk",
        "--source-format",
        "raw",
    )


def test_createimage_does_not_replace_an_extent(raw: Path, tmp_path: Path) -> None:
    disk, flat = tmp_path / "a.vmdk", tmp_path / "a-flat.vmdk"
    done("convert", raw, disk, "--subformat", "monolithicFlat")
    for target in (disk, flat):
        ran = invoke("createimage", "-o", target, disk, "--overwrite")
        assert "is the source itself, or a file of it" in ran.error
    assert flat.read_bytes() == raw.read_bytes()


def test_class_36_extents_outside_are_refused(raw: Path, tmp_path: Path) -> None:
    """Unless allowed, in every command that opens a virtual disk."""
    disk = tmp_path / "a.vmdk"
    disk.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW {raw.stat().st_size // 512} FLAT "{raw}" 0\n'
    )
    for command in (
        ("convert", disk, tmp_path / "a.img"),
        ("createimage", "-o", tmp_path / "a.aiv", disk),
        ("info", disk),
    ):
        ran = invoke(*command)
        assert (ran.code, "outside of the descriptor's folder" in ran.error) == (1, True)
    assert os.listdir(tmp_path) == ["a.vmdk"]
    done("convert", disk, tmp_path / "a.img", "--allow-outside")
    assert (tmp_path / "a.img").read_bytes() == raw.read_bytes()
    done("createimage", "-o", tmp_path / "a.aiv", disk, "--allow-outside")


@pytest.mark.parametrize("option", ["--allow-outside", "--search"])
def test_createimage_refuses_what_has_no_use(option: str, raw: Path, tmp_path: Path) -> None:
    more = [option, "."] if option == "--search" else [option]
    assert (
        "is of use only with" in invoke("createimage", "-o", tmp_path / "a.aiv", raw, *more).error
    )


def test_info_of_a_virtual_disk(vmdk: Path, raw: Path) -> None:
    values = done("info", vmdk, "--json").json
    assert values["kind"] == "vmdk"
    assert (values["subformat"], values["cid"], values["parent_cid"], values["adapter"]) == (
        "monolithicSparse",
        "00abcdef",
        "ffffffff",
        "lsilogic",
    )
    assert (values["size"], values["chain"]) == (raw.stat().st_size, [str(vmdk)])
    [extent] = values["extents"]
    assert (extent["type"], extent["name"], extent["sectors"]) == (
        "SPARSE",
        "disk.vmdk",
        raw.stat().st_size // 512,
    )
    assert values["partition_table"] == "none"
    ran = done("info", vmdk)
    for word in ("monolithicSparse", "00abcdef", "lsilogic", "4.00 MiB SPARSE, RW"):
        assert word in ran.out


def test_info_of_an_extent_is_that_of_plain_bytes(raw: Path, tmp_path: Path) -> None:
    """As before: what is in it, if there is anything known."""
    done("convert", raw, tmp_path / "a.vmdk", "--subformat", "monolithicFlat")
    assert "not an .aiv image" in invoke("info", tmp_path / "a-flat.vmdk").error
