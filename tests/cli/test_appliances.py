"""Appliances in ``info``, ``verify``, ``convert`` and ``createimage``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cli.running import done, invoke

MIB = 1 << 20


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An appliance of two disks, beside what they hold."""
    place = tmp_path_factory.mktemp("ova")
    chance = random.Random(7)
    for number in (0, 1):
        data = bytearray((number + 2) * MIB)
        data[MIB : MIB + 70_000] = chance.randbytes(70_000)
        (place / f"{number}.raw").write_bytes(data)
    done("createimage", "-o", place / "m.aiv", place / "0.raw", place / "1.raw")
    done("convert", place / "m.aiv", place / "m.ova")
    return place / "m.ova"


def test_info(ova: Path) -> None:
    ran = done("info", ova)
    assert "m-disk2.vmdk" in ran.out
    assert "2 disks" in ran.out
    values = done("info", ova, "--json").json
    assert (values["kind"], values["name"], values["manifest"]) == ("ova", "m", True)
    assert [each["size"] for each in values["disks"]] == [2 * MIB, 3 * MIB]
    assert sum(each["size"] for each in values["files"]) < ova.stat().st_size


def test_verify(ova: Path, tmp_path: Path) -> None:
    values = done("verify", ova, "--json").json
    assert values["ok"]
    data = bytearray(ova.read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "bad.ova").write_bytes(data)
    ran = invoke("verify", tmp_path / "bad.ova")
    assert ran.code == 3
    assert "not what the manifest says" in ran.out


def test_a_disk_of_it(ova: Path, tmp_path: Path) -> None:
    """The first unless named, with a warning that there are more."""
    assert "has 2 disks" in done("convert", ova, tmp_path / "a.raw").err
    done("convert", ova, tmp_path / "b.raw", "--disk", "1")
    assert (tmp_path / "a.raw").read_bytes() == (ova.parent / "0.raw").read_bytes()
    assert (tmp_path / "b.raw").read_bytes() == (ova.parent / "1.raw").read_bytes()
    ran = invoke("convert", ova, tmp_path / "c.raw", "--disk", "2")
    assert "has no disk 2; it has 2" in ran.error


def test_an_image_of_all_its_disks(ova: Path, tmp_path: Path) -> None:
    done("createimage", "-o", tmp_path / "i.aiv", ova)
    done("restoredisk", tmp_path / "i.aiv", tmp_path / "r", "--disk", "1")
    assert (tmp_path / "r").read_bytes() == (ova.parent / "1.raw").read_bytes()


def test_the_same_as_several_files(ova: Path, tmp_path: Path) -> None:
    """A descriptor with its disks beside it does all that an OVA does."""
    ovf = tmp_path / "m.ovf"
    done("convert", ova.parent / "m.aiv", ovf)
    values = done("info", ovf, "--json").json
    assert (values["kind"], values["name"], values["manifest"]) == ("ovf", "m", True)
    assert [each["name"] for each in values["files"]] == [
        "m.ovf", "m.mf", "m-disk1.vmdk", "m-disk2.vmdk",
    ]  # fmt: skip
    assert done("verify", ovf, "--json").json["ok"]
    done("convert", ovf, tmp_path / "b.raw", "--disk", "1")
    assert (tmp_path / "b.raw").read_bytes() == (ova.parent / "1.raw").read_bytes()
    done("createimage", "-o", tmp_path / "i.aiv", ovf)
    done("restoredisk", tmp_path / "i.aiv", tmp_path / "r", "--disk", "1")
    assert (tmp_path / "r").read_bytes() == (ova.parent / "1.raw").read_bytes()
    ran = invoke("createimage", "--overwrite", "-o", tmp_path / "m-disk1.vmdk", ovf)
    assert (ran.code, "or a file of it" in ran.error) == (1, True)
    (tmp_path / "m-disk2.vmdk").unlink()
    ran = invoke("verify", ovf)
    assert (ran.code, "m-disk2.vmdk is missing" in ran.out) == (3, True)


def test_plain_bytes(ova: Path, tmp_path: Path) -> None:
    done("convert", ova, tmp_path / "r.raw", "--source-format", "raw")
    assert (tmp_path / "r.raw").read_bytes() == ova.read_bytes()


def test_refused(ova: Path, tmp_path: Path) -> None:
    (tmp_path / "x.ovf").write_text("<Envelope/>")
    ran = invoke("convert", tmp_path / "x.ovf", tmp_path / "y.raw")
    assert (ran.code, "x.ovf: " in ran.error) == (1, True)
    (tmp_path / "no.ova").write_bytes(bytes(4096))
    for command in (["info"], ["convert"], ["createimage", "-o", tmp_path / "i.aiv"]):
        more = [tmp_path / "y.raw"] if command[0] == "convert" else []
        ran = invoke(*command, tmp_path / "no.ova", *more)
        assert (ran.code, ran.error.count("\n")) == (1, 0), command
        assert "no.ova" in ran.error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.ova", "x.ovf"]
    ran = invoke("createimage", "-o", ova, ova)
    assert ran.code == 1
