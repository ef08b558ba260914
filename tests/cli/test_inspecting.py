"""``aipimage info`` and ``aipimage verify``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import aipimage
from aipimage.format.digest import digest
from aipimage.io.stream.spare import metadata_copies
from tests.cli.running import PASSWORD, done, invoke

INFO = {
    "path": str, "kind": str, "sequence": int, "parent_id": type(None), "image_id": str,
    "chain_id": str, "digest": str, "created": str,
    "tool": str, "host": str, "comment": str, "encryption": (str, type(None)), "parts": int,
    "stored": int, "size": int, "data": int, "ratio": float, "devices": list,
    "volumes": list, "warnings": list,
}  # fmt: skip
DEVICE = {
    "index", "name", "size", "sector_size", "data", "zero", "unused", "unreadable", "lost",
    "partition_table", "signature", "disk_guid",
}  # fmt: skip
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
    same = ("path", "kind", "image_id", "created", "stored", "digest", "sequence", "parent_id")
    assert {name: member[name] for name in same} == {name: values[name] for name in same}
    assert (member["state"], member["this"], member["depth"]) == ("whole", True, 0)
    assert member["changed"] == values["data"]
    assert values["chain_ok"] is True
    assert "\nchain\n  full 0  " in done("info", plain, "--chain").out


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


def test_what_was_read_from_its_copy_is_a_warning(plain: Path, disk: Path, tmp_path: Path) -> None:
    """Of ``info``, and of what takes the image for whole: the data is right, and a second damage
    could cost it.
    """
    with aipimage.open(plain) as image:
        description, result = (image.locate(ref) for ref in image.metadata_records.references)
        seal, size = image.trailer.seal.offset, image.stored
    assert "warning" not in done("info", plain).err
    for what, at in (
        ("header", 60),
        ("seal", seal + 70),
        ("trailer", size - 9),
        ("metadata", description + 60),
        ("metadata", result + 60),
    ):
        path = damaged(plain, tmp_path, at)
        said = f"{path}: its {what} is damaged and was read from its copy; repair the image"
        ran = done("info", path)
        assert ran.err.startswith(f"aipimage: warning: {said}")
        assert ran.err.count("\n") == 1
        ran = done("info", path, "--json")
        assert ran.json["warnings"] == [ran.err.strip().removeprefix("aipimage: warning: ")]
        raw, other = tmp_path / "t.raw", tmp_path / "t.img"
        for command in (
            ("restoredisk", path, raw, "--force"),
            ("convert", path, other, "--overwrite"),
        ):
            if what != "metadata":  # which they need not read
                assert said in done(*command).err
        if what != "metadata":
            assert raw.read_bytes() == other.read_bytes() == disk.read_bytes()


def test_metadata_that_is_lost_is_a_warning(plain: Path, tmp_path: Path) -> None:
    """In both its places: the rest is shown."""
    data = bytearray(plain.read_bytes())
    with aipimage.open(plain) as image:
        [description, _] = image.metadata_records.references
        copies = metadata_copies(image.trailer, *image.metadata_records.references)
        for place in (image.locate(description), copies[0]):
            data[place + 60] ^= 1
    path = tmp_path / "lost.aiv"
    path.write_bytes(data)
    ran = done("info", path, "--json")
    assert (ran.json["created"], ran.json["kind"]) == ("", "full")
    [warning] = ran.json["warnings"]
    assert warning.startswith(f"{path}: its description cannot be read, the data is not concerned")
    assert f"aipimage: warning: {warning}\n" == ran.err


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
        [member] = values["chain"]
        assert (member["path"], member["ok"]) == (str(secret), True)
        assert member["frames"] == values["frames"]


def test_verify_finds_a_damaged_frame(plain: Path, disk: Path, tmp_path: Path) -> None:
    """Exit status 3, and which bytes of which device are gone."""
    path = damaged(plain, tmp_path, 5000)
    ran = invoke("verify", path, "--json")
    assert ran.code == 3
    assert ran.err == ""
    [found] = ran.json["damage"]
    assert set(found) == {"what", "path", "origin", "frame", "ranges"}
    assert found["path"] is None
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
    """Header, trailer and magic bytes, which have copies; cut anywhere; foreign bytes behind."""
    size = plain.stat().st_size
    for at in (0, 3, 7, 13, 60, 100, size - 1, size - 100, size - 256):
        ran = invoke("verify", damaged(plain, tmp_path, at), "--json")
        assert ran.code == 3, (at, ran)
        assert ran.json["damage"]
        assert "reads whole from the other copy" in str(ran.json["damage"])
        assert invoke("info", damaged(plain, tmp_path, at)).code == 0
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


# Chains


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full image, two increments, and a differential."""
    directory = tmp_path_factory.mktemp("chain")
    disk = directory / "disk.raw"
    content = bytearray(os.urandom(400_000))

    def image(name: str, at: int, parent: str | None, kind: str) -> None:
        content[at : at + 100] = os.urandom(100)
        disk.write_bytes(content)
        below = None if parent is None else directory / parent
        aipimage.create(directory / name, disk, kind=kind, parent=below)

    image("a.aiv", 0, None, "full")
    image("b.aiv", 100_000, "a.aiv", "incremental")
    image("c.aiv", 200_000, "b.aiv", "incremental")
    image("d.aiv", 300_000, "a.aiv", "differential")
    return directory


@pytest.fixture
def chain(series: Path, tmp_path: Path) -> Path:
    """The same, to be broken."""
    for file in series.glob("*.aiv"):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_info_of_an_increment(series: Path) -> None:
    """Its kind, its number, its parent."""
    parent = done("info", series / "b.aiv", "--json").json["image_id"]
    values = done("info", series / "c.aiv", "--json").json
    assert (values["kind"], values["sequence"]) == ("incremental", 2)
    assert values["parent_id"] == parent
    out = done("info", series / "c.aiv").out
    assert "incremental, number 2 of its chain" in out
    assert f"parent      {parent}" in out


def test_info_draws_a_chain(series: Path, tmp_path: Path) -> None:
    """Branches beside the line that goes on, and the image that was asked for is marked."""
    lines = done("info", series / "b.aiv", "--chain").out.splitlines()
    drawn = [line.split() for line in lines[lines.index("chain") + 1 :]]
    assert [line[0] for line in drawn] == ["full", "├─", "incremental", "incremental"]
    assert [line[-1].rpartition("/")[2] for line in drawn] == ["a.aiv", "d.aiv", "image)", "c.aiv"]
    assert all("whole" in line and "depth" in line for line in drawn)
    values = done("info", series / "b.aiv", "--chain", "--json").json
    found = [
        (os.path.basename(each["path"]), each["depth"], each["this"]) for each in values["chain"]
    ]
    assert found == [
        ("a.aiv", 0, False),
        ("d.aiv", 1, False),
        ("b.aiv", 1, True),
        ("c.aiv", 2, False),
    ]
    assert 4096 <= values["chain"][2]["changed"] <= 3 * 4096
    assert values["chain_ok"] is True
    shutil.copy(series / "c.aiv", tmp_path)
    out = done("info", tmp_path / "c.aiv", "--chain").out
    assert "missing" in out
    assert "orphan" in out
    out = done("info", tmp_path / "c.aiv", "--chain", "--search", series, "--search", tmp_path).out
    assert "missing" not in out
    assert "copy of" in out


def test_info_tells_what_is_wrong_with_a_chain(chain: Path) -> None:
    """Nothing of it is an error: the image itself can be shown."""
    (chain / "b.aiv").write_bytes((chain / "b.aiv").read_bytes()[:-1])
    (chain / "a\nb\x1b[31m.aiv").write_bytes(b"nothing of the kind" * 20)
    ran = done("info", chain / "c.aiv", "--chain")
    assert "  damaged  " in ran.out
    assert "orphan" in ran.out
    assert "\x1b" not in ran.out
    assert r"a\nb\x1b[31m.aiv" in ran.out
    assert done("info", chain / "c.aiv", "--chain", "--json").json["chain_ok"] is False


@pytest.mark.parametrize("options", [(), ("--sample", "100"), ("--keyless",)])
def test_verify_a_chain(chain: Path, options: tuple[str, ...]) -> None:
    """Exit status 3 for damage of an older image, which a look at the newest does not find."""
    ran = done("verify", chain / "c.aiv", "--chain", *options, "--json")
    assert [os.path.basename(each["path"]) for each in ran.json["chain"]] == [
        "a.aiv",
        "b.aiv",
        "c.aiv",
    ]
    assert done("verify", chain / "c.aiv", "--chain", *options).out.count("\n  whole    ") == 3
    data = bytearray((chain / "a.aiv").read_bytes())
    data[len(data) // 2] ^= 1
    (chain / "a.aiv").write_bytes(data)
    assert invoke("verify", chain / "c.aiv", *options).code == 0
    ran = invoke("verify", chain / "c.aiv", "--chain", *options)
    assert ran.code == 3
    assert f"\n  DAMAGED  {chain / 'a.aiv'}\n" in ran.out
    ran = invoke("verify", chain / "c.aiv", "--chain", *options, "--json")
    assert [each["ok"] for each in ran.json["chain"]] == [False, True, True]
    [found] = ran.json["damage"]
    assert found["path"] == str(chain / "a.aiv")
    assert bool(found["ranges"]) == ("--keyless" not in options)


def test_verify_a_chain_that_is_not_whole(chain: Path, tmp_path: Path) -> None:
    """A missing image is damage; elsewhere it may be found."""
    (tmp_path / "elsewhere").mkdir()
    shutil.move(chain / "a.aiv", tmp_path / "elsewhere" / "x.aiv")
    for options in ((), ("--keyless",)):
        ran = invoke("verify", chain / "c.aiv", "--chain", *options)
        assert ran.code == 3
        assert "which is missing" in ran.out
        assert done(
            "verify", chain / "c.aiv", "--chain", "--search", tmp_path / "elsewhere", *options
        )
    assert invoke("verify", chain / "c.aiv").code == 3, "pages of the map are there"
    assert done("verify", chain / "c.aiv", "--search", tmp_path / "elsewhere")
