"""``aipimage repair``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import done, invoke
from tests.support.ends import records_end

FIELDS = {
    "image", "path", "ok", "image_id", "digest", "frames", "frames_lost", "kept", "stored",
    "lost_bytes", "lost", "lost_ranges", "used", "warnings", "seconds",
}  # fmt: skip


def test_nothing_lost(plain: Path, disk: Path, tmp_path: Path) -> None:
    """An image whose end is missing: exit status 0, and the disk is the same."""
    (tmp_path / "d.aiv").write_bytes(plain.read_bytes()[: records_end(plain.read_bytes()) - 44])
    values = done("repair", tmp_path / "d.aiv", tmp_path / "o.aiv", "--json").json
    assert set(values) == FIELDS
    assert (values["ok"], values["lost"], values["lost_bytes"]) == (True, [], 0)
    done("restoredisk", tmp_path / "o.aiv", tmp_path / "t.raw")
    assert (tmp_path / "t.raw").read_bytes() == disk.read_bytes()
    ran = done("repair", tmp_path / "d.aiv", tmp_path / "p.aiv")
    assert "nothing is lost" in ran.out
    assert "aipimage: warning: " in ran.err


def test_something_lost(plain: Path, tmp_path: Path) -> None:
    """Exit status 3, and the ranges are listed."""
    data = plain.read_bytes()
    (tmp_path / "d.aiv").write_bytes(data[: len(data) // 2])
    ran = invoke("repair", tmp_path / "d.aiv", tmp_path / "o.aiv", "--json")
    assert ran.code == 3
    values = ran.json
    assert values["lost"][0]["device"] == 0
    assert sum(each["length"] for each in values["lost"]) == values["lost_bytes"] > 0
    ran = invoke("repair", tmp_path / "d.aiv", tmp_path / "z.aiv", "--zero-lost")
    assert ran.code == 3
    assert " LOST in 1 range\n  device 0 bytes " in ran.out
    done("verify", tmp_path / "o.aiv")
    assert invoke("restoredisk", tmp_path / "o.aiv", tmp_path / "t.raw").code == 1
    done("restoredisk", tmp_path / "z.aiv", tmp_path / "t.raw")


def test_with_a_password(secret: Path, password: Path, tmp_path: Path) -> None:
    """The new image has the password of the old one."""
    (tmp_path / "d.aiv").write_bytes(secret.read_bytes()[:-1])
    secrets = ("--password-file", password)
    done("repair", tmp_path / "d.aiv", tmp_path / "o.aiv", *secrets)
    done("verify", tmp_path / "o.aiv", *secrets)


@pytest.mark.parametrize(
    ("image", "says"),
    [("disk.raw", "no record"), ("missing.aiv", "No such file"), ("secret.aiv", "password")],
)
def test_refused(image: str, says: str, made: Path, tmp_path: Path) -> None:
    """Exit status 1, one line, and no new file."""
    ran = invoke("repair", made / image, tmp_path / "o.aiv")
    assert ran.code == 1
    assert says in ran.error
    assert not list(tmp_path.iterdir())
