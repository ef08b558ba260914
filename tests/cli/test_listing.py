"""``ls``, ``find`` and ``cat`` on an image, a raw disk and a virtual disk."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import aipimage
from tests.cli.running import COMMAND, Ran, invoke
from tests.support.tools import require_programs, run
from tests.volumes.ext.made import MIB, make

SECOND = 1_700_000_000


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A disk with one ext4 in its second partition, raw, as an image and as a virtual disk."""
    require_programs("mke2fs", "sfdisk")
    at = tmp_path_factory.mktemp("disks")
    tree = at / "tree"
    (tree / "folder/inner").mkdir(parents=True)
    (tree / "folder/small").write_text("small")
    (tree / "folder/inner/large.bin").write_bytes(os.urandom(3 << 20))
    (tree / "folder/to\x1b[31mred").write_text("x")
    (tree / "link").symlink_to("folder/small")
    (tree / "folder/small").chmod(0o4751)
    for path in (tree / "folder/small", tree / "folder/inner/large.bin"):
        os.utime(path, (SECOND, SECOND))
    raw = at / "disk.raw"
    make(at / "ext", 16 * MIB, "-t", "ext4", "-E", "root_owner=0:0", content=tree)
    with open(raw, "wb") as file:
        file.truncate(24 * MIB)
    (at / "script").write_text("label: dos\nstart=2048,size=2048\nsize=32768\n")
    run(["sh", "-c", f"sfdisk -q {raw} < {at / 'script'}"])
    with open(raw, "r+b") as file:
        file.seek(2 * MIB)
        file.write((at / "ext").read_bytes())
    found = {name: str(at / f"disk.{name}") for name in ("raw", "aiv", "vmdk")}
    aipimage.create(found["aiv"], [found["raw"]])
    aipimage.convert(found["aiv"], found["vmdk"])
    return found | {"large": str(tree / "folder/inner/large.bin")}


@pytest.mark.parametrize("kind", ["raw", "aiv", "vmdk"])
def test_listing(disks: dict[str, str], kind: str) -> None:
    image = disks[kind]
    names = invoke("ls", image, "2:/folder").out.splitlines()
    assert sorted(names) == ["inner", "small", "to\\x1b[31mred"]
    assert invoke("ls", image).out.splitlines() == invoke("ls", image, "0.2:").out.splitlines()
    everything = invoke("ls", "-R", image, "2:").out.splitlines()
    assert {"2:/folder/inner/large.bin", "2:/link", "2:/folder/small"} <= {*everything}
    assert invoke("ls", "-R", image, "/folder/inner").out == "/folder/inner/large.bin\n"
    (line,) = invoke("ls", "-l", image, "2:/folder/small").out.splitlines()
    assert line.split()[:4] == ["-rwsr-x--x", "1", "0:0", "5"]
    links = [each for each in invoke("ls", "-l", image, "2:").out.splitlines() if "->" in each]
    assert links[0].endswith("link -> folder/small")


def test_json_is_a_line_for_each(disks: dict[str, str]) -> None:
    ran = invoke("ls", "-R", "--json", disks["aiv"], "2:/folder")
    rows = {row["path"]: row for row in map(json.loads, ran.out.splitlines())}
    assert len(rows) == 4
    small = rows["/folder/small"]
    assert (small["kind"], small["size"], small["mode"]) == ("file", 5, "4751")
    assert small["modified"] == {"ns": SECOND * 10**9, "resolution": 1, "offset": 0}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--name", "*.bin"], {"2:/folder/inner/large.bin"}),
        (["--size", "+1M"], {"2:/folder/inner/large.bin"}),
        (["--size", "5"], {"2:/folder/small"}),
        (["--type", "l"], {"2:/link"}),
        (["--type", "d", "--name", "in*"], {"2:/folder/inner"}),
        (["--name", "small", "--newer", "2023-11-14T22:13:19+00:00"], {"2:/folder/small"}),
        (["--name", "small", "--newer", "2023-11-14T22:13:20+00:00"], set()),
    ],
)
def test_finding(disks: dict[str, str], options: list[str], wanted: set[str]) -> None:
    ran = invoke("find", disks["raw"], "2:/", *options)
    assert (ran.code, {*ran.out.splitlines()}) == (0, wanted)


@pytest.mark.parametrize("kind", ["raw", "aiv", "vmdk"])
def test_a_file_comes_out_byte_for_byte(disks: dict[str, str], kind: str) -> None:
    command = [*COMMAND, "cat", disks[kind], "2:/folder/inner/large.bin"]
    done = subprocess.run(command, check=True, capture_output=True)
    assert done.stdout == Path(disks["large"]).read_bytes()
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("ls", "DISK", "2:/none"), 1, "there is no 'none' in /"),
        (("ls", "DISK", "9:/"), 1, "has no volume 9; it has 1 (unknown), 2 (ext4)"),
        (("ls", "DISK", "1.2:/"), 1, "has no disk 1"),
        (("cat", "DISK", "2:/folder"), 1, "is a directory, not a file"),
        (("cat", "DISK", "2:/folder/../link"), 1, "no '..'"),
        (("find", "DISK", "--newer", "yesterday"), 2, "is not a time"),
        (("find", "DISK", "--size", "+x"), 2, "is not a size"),
        (("ls", "DISK", "1:/"), 1, "no file system that is known"),
    ],
)
@pytest.mark.parametrize("kind", ["raw", "aiv", "vmdk"])
def test_refusals(
    disks: dict[str, str], arguments: tuple[str, ...], code: int, text: str, kind: str
) -> None:
    ran: Ran = invoke(*(disks[kind] if each == "DISK" else each for each in arguments))
    assert ran.code == code
    assert text in ran.err
    assert ran.out == ""


def test_damage_is_reported_and_the_rest_listed(disks: dict[str, str], tmp_path: Path) -> None:
    data = bytearray(Path(disks["raw"]).read_bytes())
    at = data.index(b"\x05\x01small")
    data[at + 4] ^= 1
    path = tmp_path / "disk.raw"
    path.write_bytes(data)
    ran = invoke("ls", "-R", str(path), "2:")
    assert ran.code == 1
    assert "wrong checksum" in ran.err
    assert "2:/link" in ran.out.splitlines()
    assert "small" not in ran.out
