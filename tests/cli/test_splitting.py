"""``aipimage split`` and ``aipimage join``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.running import done, invoke


def test_there_and_back(plain: Path, disk: Path, tmp_path: Path) -> None:
    """The joined image is the image, byte by byte."""
    values = done("split", plain, tmp_path / "s.aiv", "--size", "32K", "--json").json
    assert set(values) == {"image", "path", "parts", "stored", "warnings"}
    assert values["warnings"] == []
    assert values["parts"] == len(os.listdir(tmp_path)) > 2
    assert max(file.stat().st_size for file in tmp_path.iterdir()) == 32 << 10
    digest = done("info", plain, "--json").json["digest"]
    assert done("info", tmp_path / "s.aiv", "--json").json["digest"] == digest
    values = done("join", tmp_path / "s.aiv.002", tmp_path / "j.aiv", "--json").json
    assert set(values) == {"image", "path", "parts", "stored", "warnings"}
    assert values["warnings"] == []
    assert values["parts"] == 1
    assert (tmp_path / "j.aiv").read_bytes() == plain.read_bytes()
    done("restoredisk", tmp_path / "s.aiv", tmp_path / "t.raw")
    assert (tmp_path / "t.raw").read_bytes() == disk.read_bytes()


def test_without_the_password(secret: Path, password: Path, tmp_path: Path) -> None:
    """Sealed bytes are copied as they are."""
    ran = done("split", secret, tmp_path / "s.aiv", "--size", "50K")
    assert ran.out.startswith(f"{tmp_path}/s.aiv: ")
    done("verify", tmp_path / "s.aiv", "--password-file", password)
    assert done("join", tmp_path / "s.aiv", tmp_path / "j.aiv").out.endswith(" in 1 part\n")


def test_existing_targets(plain: Path, parts: Path, tmp_path: Path) -> None:
    """Kept; a joined one is replaced when asked."""
    target = tmp_path / "o.aiv"
    target.write_bytes(b"precious")
    for command in (("split", plain, target, "--size", "1M"), ("join", parts, target)):
        assert invoke(*command).code == 1
        assert target.read_bytes() == b"precious"
    done("join", parts, target, "--overwrite")
    done("verify", target)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("split", "plain.aiv", "OUT", "--size", "16383"), "too small"),
        (("split", "disk.raw", "OUT", "--size", "1M"), "not an .aiv image"),
        (("split", "missing.aiv", "OUT", "--size", "1M"), "missing.aiv: cannot open"),
        (("split", "plain.aiv", "plain.aiv", "--size", "1M"), "source itself"),
        (("join", "parts.aiv.002", "parts.aiv"), "source itself"),
        (("join", "plain.aiv", "no/such/directory/o.aiv"), "No such file or directory"),
    ],
)
def test_refused(arguments: tuple[str, ...], says: str, made: Path, tmp_path: Path) -> None:
    """Exit status 1, one line, nothing made and nothing lost."""
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    rest = [
        str(tmp_path / "o.aiv") if x == "OUT" else str(made / x) if "." in x else x
        for x in arguments[1:]
    ]
    ran = invoke(arguments[0], *rest)
    assert ran.code == 1
    assert says in ran.error
    assert not list(tmp_path.iterdir())
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before
