"""``aipimage passwd``, and where passwords come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import aipimage
from tests.cli.running import PASSWORD, Ran, done, invoke, spawn

ENV = {"OLD": PASSWORD, "NEW": "another one", "WRONG": "not it", "BAD": "a\udcffb"}
SLOT = {"slot", "state", "label", "created", "memory", "passes", "lanes"}


@pytest.fixture
def image(secret: Path, tmp_path: Path) -> Path:
    """An image of this test's own."""
    return Path(shutil.copy(secret, tmp_path / "own.aiv"))


def change(image: Path, *arguments: object, old: str = "OLD") -> Ran:
    """Run ``passwd`` with a password from the environment."""
    return invoke("passwd", image, *arguments, "--password-env", old, env=ENV)


def opens(image: Path, password: str) -> bool:
    """Whether the password opens the image."""
    try:
        aipimage.open(image, password).close()
    except aipimage.PasswordError:
        return False
    return True


def test_list(image: Path) -> None:
    """Without a password."""
    values = done("passwd", image, "--list", "--json").json
    assert set(values) == {"path", "slots"}
    [slot] = values["slots"]
    assert set(slot) == SLOT
    assert (slot["slot"], slot["state"]) == (0, "password")
    assert "\n  0  password  20" in done("passwd", image, "--list").out


def test_add_change_remove(image: Path) -> None:
    """The whole life of a password."""
    ran = change(image, "--add", "--new-password-env", "NEW", "--label", "the office", "--json")
    assert ran.json == {"path": str(image), "action": "add", "slot": 1}
    assert opens(image, PASSWORD)
    assert opens(image, ENV["NEW"])
    assert "the office" in done("passwd", image, "--list").out
    ran = change(image, "--remove", "0", "--json", old="NEW")
    assert ran.json == {"path": str(image), "action": "remove", "slot": 0}
    assert not opens(image, PASSWORD)
    ran = change(image, "--change", "--new-password-env", "OLD", "--json", old="NEW")
    assert ran.json == {"path": str(image), "action": "change"}
    assert opens(image, PASSWORD)
    assert not opens(image, ENV["NEW"])


def test_recovery(image: Path) -> None:
    """A key that is printed once, and opens."""
    ran = change(image, "--recovery", "--json")
    assert set(ran.json) == {"path", "action", "recovery_key"}
    assert opens(image, ran.json["recovery_key"])
    assert "recovery key" in change(image, "--recovery").out


@pytest.mark.parametrize(
    ("arguments", "old", "says"),
    [
        (("--add", "--new-password-env", "NEW"), "WRONG", "password"),
        (("--add", "--new-password-env", "OLD"), "OLD", "opens key slot 0 already"),
        (("--add", "--new-password-env", "EMPTY"), "OLD", "EMPTY is not set"),
        (("--remove", "0"), "OLD", "is the last one"),
        (("--remove", "5"), "OLD", "key slot 5 is not in use"),
        (("--remove", "99"), "OLD", "key slot 99 is not in use"),
    ],
)
def test_refused(arguments: tuple[str, ...], old: str, says: str, image: Path) -> None:
    """Exit status 1, one line, no byte changed."""
    before = image.read_bytes()
    ran = change(image, *arguments, old=old)
    assert ran.code == 1
    assert says in ran.error
    assert image.read_bytes() == before


def test_a_plain_image_has_none(plain: Path) -> None:
    """And none can be given to it."""
    for ran in (invoke("passwd", plain, "--list"), change(plain, "--recovery")):
        assert (ran.code, "not protected by a password" in ran.error) == (1, True)


@pytest.mark.parametrize(
    ("content", "opened"),
    [
        (PASSWORD.encode(), True),
        (PASSWORD.encode() + b"\r\nmore\n", True),
        (PASSWORD.encode() + b" \n", False),
        (b"\n" + PASSWORD.encode(), None),
        (b"", None),
        (b"\xff\xfe\n", None),
        (b"x" * 70_000, None),
    ],
)
def test_password_files(content: bytes, opened: bool | None, secret: Path, tmp_path: Path) -> None:
    """The first line, without its end, as it is; nothing else is guessed."""
    file = tmp_path / "p"
    file.write_bytes(content)
    file.chmod(0o600)
    ran = invoke("info", secret, "--password-file", file)
    assert ran.code == (0 if opened else 1)
    if opened is None:
        assert ran.error.startswith(f"{file}: its first line is ")


def test_password_from_standard_input(secret: Path) -> None:
    """``-``, as elsewhere."""
    done("info", secret, "--password-file", "-", stdin=PASSWORD + "\n")
    assert invoke("info", secret, "--password-file", "-").code == 1


def test_warns_where_others_can_read(secret: Path, tmp_path: Path) -> None:
    """The command goes on: it is the owner's choice."""
    file = tmp_path / "p"
    file.write_text(PASSWORD)
    for mode, warns in ((0o600, False), (0o640, True), (0o604, True), (0o400, False)):
        file.chmod(mode)
        ran = done("info", secret, "--password-file", file)
        assert ran.err.startswith(f"aipimage: warning: {file}: other users can read") == warns


def test_no_secret_gets_out(image: Path, disk: Path, tmp_path: Path) -> None:
    """Not in output, errors, or tracebacks, however it fails."""
    env = {"OLD": PASSWORD, "WRONG": "ultra-secret", "AIPIMAGE_DEBUG": "1"}
    bad = tmp_path / "bad"
    bad.write_bytes(b"ultra-secret\xff\n")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for arguments in (
        ("info", image, "--password-env", "WRONG"),
        ("info", image, "--password-file", bad),
        ("verify", disk, "--password-env", "WRONG"),
        ("createimage", "-o", tmp_path / "o.aiv", disk, "--password-env", "WRONG"),
        ("createimage", "-o", tmp_path / "o", empty, "--authenticate", "--password-env", "WRONG"),
        ("passwd", image, "--add", "--password-env", "OLD", "--new-password-file", bad),
        ("passwd", image, "--change", "--password-env", "OLD", "--new-password-env", "OLD"),
    ):
        ran = spawn(*arguments, env=env)
        assert ran.code == 1, ran
        assert "Traceback" in ran.err
        for secret in ("ultra-secret", PASSWORD):
            assert secret not in ran.out + ran.err
