"""``aipimage info`` and ``aipimage verify``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import aipimage
from aipimage.format.digest import digest
from tests.cli.helpers import PASSWORD, done, invoke

INFO = {
    "path": str, "kind": str, "image_id": str, "chain_id": str, "digest": str, "created": str,
    "tool": str, "host": str, "comment": str, "encryption": (str, type(None)), "parts": int,
    "stored": int, "size": int, "data": int, "ratio": float, "devices": list,
}  # fmt: skip
DEVICE = {"index", "name", "size", "sector_size", "data", "zero", "unused", "unreadable", "lost"}
VERIFIED = {"path", "mode", "ok", "frames", "bytes", "seconds", "damage"}


def damaged(image: Path, tmp_path: Path, at: int) -> Path:
    """A copy with one bit flipped."""
    data = bytearray(image.read_bytes())
    data[at] ^= 1
    path = tmp_path / "damaged.aiv"
    path.write_bytes(data)
    return path


def test_info_json(plain: Path, disk: Path) -> None:
    """One object, these members, and they are true."""
    values = done("info", plain, "--json").json
    assert set(values) == set(INFO)
    for name, kind in INFO.items():
        assert isinstance(values[name], kind), name
    [device] = values["devices"]
    assert set(device) == DEVICE
    assert (device["name"], device["size"]) == ("disk.raw", disk.stat().st_size)
    assert (values["encryption"], values["kind"], values["parts"]) == (None, "full", 1)


def test_info_for_people(secret: Path, password: Path) -> None:
    """The digest, the cipher, the device."""
    ran = done("info", secret, "--password-file", password)
    assert "aes-256" in ran.out
    assert "disk.raw" in ran.out
    with aipimage.open(secret, PASSWORD) as image:
        assert image.digest in ran.out


def test_info_chain(plain: Path) -> None:
    """A full image is its chain."""
    values = done("info", plain, "--chain", "--json").json
    [member] = values["chain"]
    assert member == {
        name: values[name] for name in ("path", "kind", "image_id", "created", "stored")
    }
    assert "\nchain\n  full  " in done("info", plain, "--chain").out


def test_info_by_any_part(parts: Path) -> None:
    """The second part leads to the set."""
    second = Path(f"{parts}.002")
    assert done("info", second, "--json").json == done("info", parts, "--json").json


def test_info_needs_the_password(secret: Path, plain: Path, password: Path) -> None:
    """None, a wrong one, and one too many."""
    ran = invoke("info", secret)
    assert (ran.code, ran.out) == (1, "")
    assert ran.error.endswith("(--password-file FILE or --password-env VAR)")
    wrong = invoke("info", secret, "--password-env", "P", env={"P": "wrong"}, stdin="")
    assert wrong.code == 1
    assert "--password-file" not in wrong.error
    assert invoke("info", plain, "--password-file", password).code == 1


def test_info_never_steers_the_terminal(disk: Path, tmp_path: Path) -> None:
    """What an image says is shown, not obeyed: neither escapes nor markup."""
    path = tmp_path / "o.aiv"
    comment = "a\x1b[31m\r\nb [bold]c[/] \u202e"
    done("createimage", "-o", path, disk, "--comment", comment)
    out = done("info", path).out
    assert r"comment     a\x1b[31m\r\nb [bold]c[/] \u202e" in out
    assert done("info", path, "--json").json["comment"] == comment


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ((), "full"),
        (("--sample", "100"), "sample"),
        (("--keyless",), "keyless"),
        (("--chain",), "full"),
    ],
)
def test_verify_whole(options: tuple[str, ...], mode: str, secret: Path, password: Path) -> None:
    """Exit status 0, one object."""
    values = done("verify", secret, *options, "--password-file", password, "--json").json
    assert set(values) == VERIFIED | ({"chain"} if "--chain" in options else set())
    assert (values["mode"], values["ok"], values["damage"]) == (mode, True, [])
    assert values["frames"] > 0
    if "--chain" in options:
        assert values["chain"] == [{"path": str(secret), "ok": True}]


def test_verify_finds_a_damaged_frame(plain: Path, disk: Path, tmp_path: Path) -> None:
    """Exit status 3, and which bytes of which device are gone."""
    path = damaged(plain, tmp_path, 5000)
    ran = invoke("verify", path, "--json")
    assert ran.code == 3
    assert ran.err == ""
    [found] = ran.json["damage"]
    assert set(found) == {"what", "origin", "frame", "ranges"}
    assert all(set(each) == {"device", "offset", "length"} for each in found["ranges"])
    told = invoke("verify", path)
    assert told.code == 3
    first = found["ranges"][0]
    assert f"device 0 bytes {first['offset']} to " in told.out
    # What is named is what cannot be read.
    with aipimage.open(path) as image, pytest.raises(aipimage.IntegrityError):
        image.devices[0].read_into(bytearray(1), first["offset"])
    assert invoke("verify", path, "--keyless").code == 3
    assert invoke("restoredisk", path, tmp_path / "t.raw").code == 1
    assert not (tmp_path / "t.raw").exists()


def test_verify_finds_damage_that_hides_the_image(plain: Path, tmp_path: Path) -> None:
    """Header, trailer and magic bytes; cut anywhere; foreign bytes behind."""
    size = plain.stat().st_size
    for at in (0, 3, 7, 13, 60, 100, size - 1, size - 100, size - 256):
        ran = invoke("verify", damaged(plain, tmp_path, at), "--json")
        assert ran.code == 3, (at, ran)
        assert ran.json["damage"]
        assert invoke("info", damaged(plain, tmp_path, at)).code == 1
    for length in (0, 5, 8, 100, 4096, size // 2, size - 1):
        (tmp_path / "cut.aiv").write_bytes(plain.read_bytes()[:length])
        for options in ((), ("--keyless",)):
            assert invoke("verify", tmp_path / "cut.aiv", *options).code == 3, length
    (tmp_path / "long.aiv").write_bytes(plain.read_bytes() + b"x")
    assert invoke("verify", tmp_path / "long.aiv").code == 3


@pytest.mark.parametrize("missing", ["", ".001x", ".002"])
def test_verify_names_a_missing_part(missing: str, parts: Path, tmp_path: Path) -> None:
    """Whichever it is, the first too."""
    for file in parts.parent.glob("parts.aiv*"):
        shutil.copy(file, tmp_path)
    (tmp_path / f"parts.aiv{missing}").unlink(missing_ok=True)
    ran = invoke("verify", tmp_path / "parts.aiv", "--json")
    if missing == ".001x":
        assert ran.code == 0
        return
    assert ran.code == 3
    assert f"part {2 if missing else 1} is missing" in ran.json["damage"][0]["what"]


def test_verify_what_is_no_image(disk: Path, tmp_path: Path, secret: Path) -> None:
    """Exit status 1: it is not known to be damaged."""
    (tmp_path / "garbage.aiv").write_bytes(b"nothing of the kind" * 100)
    newer = bytearray(secret.read_bytes())
    newer[8] = 9
    length = int.from_bytes(newer[12:16], "little")
    newer[length - 32 : length] = digest(newer[: length - 32])
    (tmp_path / "newer.aiv").write_bytes(newer)
    for path in (
        disk,
        tmp_path / "garbage.aiv",
        tmp_path / "newer.aiv",
        tmp_path / "missing",
        tmp_path,
        secret,
    ):
        for options in ((), ("--keyless",)) if path != secret else ((),):
            ran = invoke("verify", path, *options, "--json")
            assert (ran.code, set(ran.json)) == (1, {"error", "type"}), path
    wrong = invoke("verify", secret, "--password-env", "P", env={"P": "wrong"})
    assert (wrong.code, wrong.out) == (1, "")


def test_verify_waits_for_no_pipe(tmp_path: Path) -> None:
    """One that bears the name of an image, or of a part."""
    os.mkfifo(tmp_path / "a.aiv")
    os.mkfifo(tmp_path / "b.aiv.002")
    for name in ("a.aiv", "b.aiv", "b.aiv.002"):
        assert invoke("verify", tmp_path / name).code == 1


def test_verify_by_digest(plain: Path, secret: Path) -> None:
    """The image that was expected, and another one in its place."""
    with aipimage.open(plain) as image:
        digest = image.digest
    assert invoke("verify", plain, "--digest", digest.upper()).code == 0
    ran = invoke("verify", plain, "--digest", "0" * 64, "--json")
    assert ran.code == 3
    assert "not the image that was expected" in ran.json["damage"][0]["what"]


def test_many_findings_are_cut_for_people(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is in the object."""
    damage = tuple(aipimage.Damage(f"frame {n}", 0, n, ((0, n, 1),)) for n in range(30))
    result = aipimage.VerifyResult("full", 30, 1000, 1.0, damage)
    monkeypatch.setattr(aipimage.Image, "verify", lambda *_, **__: result)
    lines = invoke("verify", plain).out.splitlines()
    assert lines[-1] == "  and 10 more; --json lists them"
    assert len(lines) == 22
    assert len(invoke("verify", plain, "--json").json["damage"]) == 30
