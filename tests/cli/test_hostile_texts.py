"""Texts of images, disks and appliances that would steer a terminal: no command prints them raw.
JSON has them as they are.
"""

from __future__ import annotations

import io
import json
import platform
import random
import tarfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage.cli.output import Report, say, write_report
from aipimage.io.blocks.sources import open_source
from aipimage.io.creating.job import CreateJob
from aipimage.vmdk.ovf import write_ova
from tests.cli.running import Ran, invoke

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\u202eevil\u2066\u200f\u2028\x9b31m\x00\ud800\U000e0041"
NAMES_MAY = "\x1b]0;owned\x07\n\u202eevil\x9b31m"
"""What the name of a file can have of it."""
_EXACT = {"kind", "parent_id", "parent_digest", "fingerprint", "scheme"}


def hostile(value: Any, name: str = "") -> Any:
    """The same metadata with every text made hostile, numbers as they are."""
    if isinstance(value, dict):
        return {key: each if key in _EXACT else hostile(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, name) for each in value]
    return value + EVIL.replace("\ud800", "") if isinstance(value, str) else value


def clean(ran: Ran) -> Ran:
    """Nothing but lines of what can be printed, each with what belongs there."""
    for line in (ran.out + ran.err).splitlines():
        assert line.isprintable(), ascii(line)
    assert "internal error" not in ran.err
    assert "Traceback" not in ran.err
    return ran


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a table and hostile names; a chain of images whose every text is hostile."""
    place = tmp_path_factory.mktemp("hostile") / f"d{NAMES_MAY}"
    place.mkdir()
    disk = place / f"disk{NAMES_MAY}.raw"
    chance = random.Random(1)
    data = bytearray(b"".join(chance.randbytes(4096) + bytes(4096) for _ in range(256)))
    disk.write_bytes(data)
    real = CreateJob._describe
    with (
        mock.patch.object(CreateJob, "_describe", lambda self: hostile(real(self))),
        mock.patch.object(platform, "node", return_value="host" + NAMES_MAY),
    ):
        first = place / f"0{NAMES_MAY}.aiv"
        options = {"encrypt": "authenticate", "password": "x"}
        aipimage.create(first, [disk], comment=NAMES_MAY)
        disk.write_bytes(data.replace(b"\0" * 4096, b"\1" * 4096, 1))
        aipimage.create(place / "1.aiv", [disk], parent=first, comment=NAMES_MAY)
        aipimage.create(place / "locked.aiv", [disk], **options)
    with mock.patch("aipimage.io.records.keys._checked_label", lambda label: label):
        aipimage.add_password(place / "locked.aiv", "x", "y", label="label\x1b[2J\u202e")
    cut = bytearray(first.read_bytes())
    cut[len(cut) // 2] ^= 1
    (place / f"hurt{NAMES_MAY}.aiv").write_bytes(cut)
    return place


@pytest.mark.parametrize("line", [
    "info 0", "info 1 --chain", "info raw", "info locked", "info hurt", "info hurt --chain",
    "verify 0", "verify 1 --chain", "verify hurt", "verify none", "verify 0 --digest " + "0" * 64,
    "passwd locked --list", "passwd 0 --list", "createimage -o out.aiv raw",
    "createimage -o 0 raw", "createimage -o out2.aiv --parent . raw",
    "merge m.aiv 0 1", "merge m.aiv 0 hurt", "repair hurt out3.aiv",
    "split 0 s.aiv --size 64K", "join 0 j.aiv", "restoredisk 0 r.raw",
    "restorevolume 0 v.raw", "convert 0 c.vmdk", "convert 0 c.ova", "convert raw c.raw",
    "convert hurt c2.vmdk", "convert none c3.vmdk", "bogus", "info none",
])  # fmt: skip
def test_no_command_prints_them_raw(
    line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {
        "0": f"0{NAMES_MAY}.aiv",
        "1": "1.aiv",
        "raw": f"disk{NAMES_MAY}.raw",
        "hurt": f"hurt{NAMES_MAY}.aiv",
        "locked": "locked.aiv",
        "none": f"none{NAMES_MAY}",
    }
    monkeypatch.chdir(folder)
    words = [paths.get(word, word) for word in line.split()]
    words = [
        f"{tmp_path}/{word}"
        if word.startswith(("out", "m.", "s.", "j.", "r.", "v.", "c")) and "." in word
        else word
        for word in words
    ]
    clean(invoke(*words))
    again = [word.replace("c.", "k.").replace("out", "new") for word in words]
    ran = clean(invoke(*again, "--json"))
    if ran.out:
        json.loads(ran.out)


def test_json_is_exact(folder: Path) -> None:
    values = invoke("info", folder / f"0{NAMES_MAY}.aiv", "--json").json
    assert values["path"] == str(folder / f"0{NAMES_MAY}.aiv")
    assert values["comment"].startswith(NAMES_MAY)
    assert "\u202e" in values["host"]
    slots = invoke("passwd", folder / "locked.aiv", "--list", "--json").json["slots"]
    assert slots[1]["label"] == "label\x1b[2J\u202e"
    missing = invoke("info", f"/none{NAMES_MAY}", "--json").json
    assert missing["error"].startswith(f"/none{NAMES_MAY}: ")


def test_appliances_and_virtual_disks(folder: Path, tmp_path: Path) -> None:
    """Names of members and of the machine, texts of a descriptor."""
    disk = tmp_path / "d.raw"
    disk.write_bytes(bytes(range(256)) * 4096)
    write_ova(tmp_path / "a.ova", [open_source(disk)], name="machine")
    bad = tmp_path / f"bad{NAMES_MAY}.ova"
    with (
        tarfile.open(tmp_path / "a.ova") as old,
        tarfile.open(bad, "w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old.getmembers():
            content = old.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name.endswith(".mf"):
                continue
            if member.name.endswith(".ovf"):
                data = data.replace(b"machine</", "machine\u202e&#x85;&#xa;</".encode())
                data = data.replace(b"Name>", b"Name>")
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
        extra = tarfile.TarInfo(f"notes{NAMES_MAY}.txt")
        new.addfile(extra, io.BytesIO(b""))
    for words in (("info", bad), ("verify", bad), ("convert", bad, tmp_path / "o.raw")):
        clean(invoke(*words))
        clean(invoke(*words, "--json"))
    aipimage.convert(disk, tmp_path / "f.vmdk", format="vmdk", subformat="monolithicFlat")
    flat = tmp_path / f"flat{NAMES_MAY}.vmdk"
    text = (tmp_path / "f.vmdk").read_text()
    text = text.replace('"lsilogic"', '"lsi\x1b[2J\u202elogic"').replace(
        'createType="', 'createType="\x1b[2J\u202e'
    )
    flat.write_text(text)
    for words in (("info", flat), ("verify", flat), ("convert", flat, tmp_path / "p.raw")):
        clean(invoke(*words))
        clean(invoke(*words, "--json"))


@pytest.mark.parametrize("evil", [EVIL, "\x1b[2J", "\x07", "\u202e", "\n", "\ud800", "\x85"])
def test_every_text_of_a_volume(
    evil: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of its file system too, which another program may have written."""
    volume = aipimage.VolumeInfo(
        0, 1, 0, 1 << 20, evil, evil, evil, filesystem=evil, label=evil, uuid=evil,
        whole_because=evil, left_out=(evil,), notes=(evil,),
    )  # fmt: skip
    monkeypatch.setattr(aipimage.Image, "volumes", (volume,))
    monkeypatch.setattr(aipimage.Image, "kept_bytes", lambda _: (0,))
    ran = clean(invoke("info", folder / "1.aiv"))
    assert "taken whole" in ran.out
    assert invoke("info", folder / "1.aiv", "--json").json["volumes"][0]["filesystem"] == evil
    say("warning", evil)
    write_report(Report({}, [evil], warnings=(evil,)), as_json=False)
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
