"""``aipimage createimage``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import aipimage
from tests.cli.running import PASSWORD, Ran, done, invoke

CREATED = {
    "path": str, "image_id": str, "digest": str, "kind": str, "size": int, "data": int, "zero": int,
    "unreadable": int, "stored": int, "parts": int, "ratio": float, "seconds": float,
    "resumed": bool, "unreadable_ranges": list, "warnings": list, "parent_id": type(None),
    "sequence": int, "changes": list,
}  # fmt: skip


def create(path: Path, *arguments: object, **more: Any) -> Ran:
    """Make an image at ``path``."""
    return invoke("createimage", "-o", path, *arguments, **more)


def test_json(disk: Path, tmp_path: Path) -> None:
    """One object, these members, these types; and they are true."""
    values = done("createimage", "-o", tmp_path / "o.aiv", disk, "--json").json
    assert {name: type(value) for name, value in values.items()} == CREATED
    with aipimage.open(tmp_path / "o.aiv", expected_digest=values["digest"]) as image:
        assert image.image_id == values["image_id"]
        assert image.stored == values["stored"] == (tmp_path / "o.aiv").stat().st_size
        assert image.devices[0].open().read() == disk.read_bytes()
    assert values["size"] == disk.stat().st_size
    assert values["size"] <= values["data"] + values["zero"] < values["size"] + 512


def test_for_people(disk: Path, tmp_path: Path) -> None:
    """What was made, and the digest to keep."""
    ran = done("createimage", "-o", tmp_path / "o.aiv", disk)
    with aipimage.open(tmp_path / "o.aiv") as image:
        assert f"digest {image.digest}\n" in ran.out
    assert ran.out.startswith(f"{tmp_path}/o.aiv: full image of ")
    assert ran.err == ""


def test_all_options(disk: Path, tmp_path: Path, password: Path) -> None:
    """Each reaches the library."""
    path = tmp_path / "o.aiv"
    values = done(
        "createimage", "--output", path, disk, disk, "--kind", "full", "--compress", "zstd:-1",
        "--encrypt", "aes-128", "--password-file", password, "--split", "64K", "--include-free",
        "--rate", "1G/s", "--comment", "a comment", "--stop-on-error", "--no-digests",
        "--threads", "1", "--resume", "--json",
    ).json  # fmt: skip
    assert values["parts"] == len(list(tmp_path.iterdir())) > 1
    with aipimage.open(path, PASSWORD) as image:
        assert image.encryption == "aes-128"
        assert len(image.devices) == 2
        assert image.metadata["description"]["comment"] == "a comment"


def test_authenticate_and_environment(disk: Path, tmp_path: Path) -> None:
    """Not encrypted, but under a password, which came from the environment."""
    path = tmp_path / "o.aiv"
    env = {"BACKUP_PASSWORD": PASSWORD}
    assert (
        create(path, disk, "--authenticate", "--password-env", "BACKUP_PASSWORD", env=env).code == 0
    )
    with aipimage.open(path, PASSWORD) as image:
        assert image.encryption == "authenticate"


def test_recovery_key_is_shown_once_and_opens(disk: Path, tmp_path: Path, password: Path) -> None:
    """In the JSON object, or on a line of its own."""
    secret = ("--encrypt", "aes-256", "--password-file", password, "--recovery-key")
    values = create(tmp_path / "a.aiv", disk, *secret, "--json").json
    with aipimage.open(tmp_path / "a.aiv", values["recovery_key"]) as image:
        assert image.digest == values["digest"]
    lines = create(tmp_path / "b.aiv", disk, *secret).out.splitlines()
    [line] = [line for line in lines if line.startswith("recovery key ")]
    with aipimage.open(tmp_path / "b.aiv", line.split()[2]):
        pass
    assert (
        values["recovery_key"]
        not in done("info", tmp_path / "a.aiv", "--password-file", password).out
    )


def test_existing_image_is_kept_or_replaced(disk: Path, tmp_path: Path) -> None:
    """Nothing is overwritten unless asked."""
    path = tmp_path / "o.aiv"
    create(path, disk)
    before = path.read_bytes()
    ran = create(path, disk)
    assert (ran.code, path.read_bytes()) == (1, before)
    assert "already there" in ran.error
    assert create(path, disk, "--overwrite").code == 0
    assert path.read_bytes() != before
    assert os.listdir(tmp_path) == ["o.aiv"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--encrypt", "aes-256"], "a password (--password-file FILE or --password-env VAR)"),
        (["--split", "1K"], "too small"),
        (["--password-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
        (["--password-file", "/no/such/file"], "/no/such/file: cannot read the password"),
        (["--password-file", "/dev/null"], "its first line is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused(options: list[str], says: str, disk: Path, tmp_path: Path) -> None:
    """Exit status 1, one line, nothing made."""
    ran = create(tmp_path / "o.aiv", disk, *options)
    assert ran.code == 1
    assert says in ran.error
    assert not list(tmp_path.iterdir())


def test_sources_that_cannot_be(tmp_path: Path) -> None:
    """A missing one, a directory, an empty file, a profile."""
    (tmp_path / "empty").touch()
    for source in ("missing", ".", "empty"):
        ran = create(tmp_path / "o.aiv", tmp_path / source)
        assert (ran.code, os.listdir(tmp_path)) == (1, ["empty"])
        assert str(tmp_path) in ran.error
    ran = invoke("createimage", "nightly.ini")
    assert (ran.code, "profiles come with a later release" in ran.error) == (1, True)


def test_unreadable_sectors_are_told(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a warning, as lines and in the object; the image is made all the same."""
    result = aipimage.CreateResult(
        "o.aiv", "0" * 32, "0" * 64, "full", 4096, 2048, 1024, 1024, 5000, 1, 0.5,
        ((0, 512, 1024),), False, ("2 sectors of the source could not be read",),
    )  # fmt: skip
    monkeypatch.setattr(aipimage, "create", lambda *_, **__: result)
    ran = create(tmp_path / "o.aiv", disk)
    assert ran.code == 0
    assert ran.err == "aipimage: warning: 2 sectors of the source could not be read\n"
    assert "device 0: 1024 bytes at 512 could not be read" in ran.out
    values = create(tmp_path / "o.aiv", disk, "--json").json
    assert values["unreadable_ranges"] == [{"device": 0, "offset": 512, "length": 1024}]


def test_a_failure_midway_says_what_is_left(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, with and without a checkpoint to go on from."""

    def full(path: str, *_: object, **__: object) -> None:
        raise aipimage.StorageError(f"{path}.partial: cannot write: No space left on device", 28)

    monkeypatch.setattr(aipimage, "create", full)
    path = tmp_path / "o.aiv"
    assert create(path, disk).error.endswith(f"No space left on device; no {path} was made")
    Path(f"{path}.partial").touch()
    assert f"{path}.partial is kept; the same command with --resume" in create(path, disk).error
