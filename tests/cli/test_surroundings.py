"""What surrounds a command: closed and full streams, no home, other locales, folders that are gone.
Whatever it is, there is no traceback and no internal error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import aipimage
from tests.cli.running import PASSWORD, invoke, spawn

CLOSINGS = (
    "<&-",
    ">&-",
    "2>&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    "2>/dev/full",
    "</dev/null >/dev/full 2>&1",
)
COMMANDS = (
    "--version",
    "info --help",
    "bogus",
    "info none.aiv --json",
    "verify secret.aiv --password-file -",
    "createimage -o n.aiv disk.raw",
)


def shell(line: str, where: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m aipimage.cli {line}', sys.executable],
        cwd=where,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        **more,
    )


def sound(ended: subprocess.CompletedProcess[str]) -> None:
    """An exit status of ours, and no word of an accident."""
    said = ended.stdout + ended.stderr
    for word in ("Traceback", "internal error", "Exception ignored"):
        assert word not in said, said
    assert ended.returncode in (0, 1, 2, 3), said


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("closing", CLOSINGS)
def test_closed_and_full_streams(closing: str, folder: Path) -> None:
    for command in COMMANDS:
        sound(shell(f"{command} {closing}", folder))


def test_a_closed_standard_input_has_no_password(folder: Path) -> None:
    ended = shell("verify secret.aiv --password-file - <&-", folder)
    assert ended.returncode == 1
    assert ended.stderr == ("aipimage: error: standard input: is closed; no password can be read\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["--help", "info --help", "--version", ""])
def test_help_that_cannot_be_printed(command: str, folder: Path) -> None:
    ended = shell(f"{command} >/dev/full", folder)
    assert ended.returncode == 1
    assert ended.stderr == (
        "aipimage: error: standard output: cannot write: No space left on device\n"
    )


def test_nothing_that_is_opened_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    """A tool that writes to its standard output must never write into an image."""
    script = (
        "import os, sys, aipimage\n"
        "from aipimage.cli import main\n"
        "real = os.open\n"
        "lowest = []\n"
        "def opened(*args, **more):\n"
        "    number = real(*args, **more)\n"
        "    if str(args[0]).endswith('.aiv'):\n"
        "        lowest.append(number)\n"
        "    return number\n"
        "os.open = opened\n"
        "sys.argv = ['aipimage', 'verify', 'plain.aiv']\n"
        "code = main()\n"
        "sys.exit(code if lowest and min(lowest) > 2 else 9)\n"
    )
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, script],
        cwd=folder,
        check=False,
    )
    assert ended.returncode == 0


def test_without_arguments_it_prints_its_help() -> None:
    ran = spawn()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == spawn("--help").out
    assert "createimage" in ran.out


SURROUNDINGS: dict[str, dict[str, str | None]] = {
    "no home": {"HOME": None, "USER": None, "LOGNAME": None, "PATH": None},
    "ASCII": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "a locale that is not there": {"LANG": "xx_YY.UTF-8", "LC_ALL": "xx_YY.UTF-8"},
    "no terminal": {"TERM": "dumb", "COLUMNS": "nonsense"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_other_environments(name: str, folder: Path) -> None:
    """With names that ASCII lacks."""
    env = os.environ | {k: v for k, v in SURROUNDINGS[name].items() if v is not None}
    for variable, value in SURROUNDINGS[name].items():
        if value is None:
            env.pop(variable, None)
    env["PYTHONPATH"] = os.path.dirname(os.path.dirname(aipimage.__file__))
    for line in (
        "createimage -o größe.aiv disk.raw",
        "info größe.aiv",
        "info größe.aiv --json",
        "createimage -o größe-2.aiv --parent . disk.raw",
        "info größe-2.aiv --chain",
        "merge größe-m.aiv größe.aiv größe-2.aiv",
        "convert plain.aiv größe.vmdk --overwrite",
        "restoredisk größe.aiv größe.raw",
        "verify größe-m.aiv",
        "info nicht-da-ä.aiv",
    ):
        sound(shell(line, folder, env=env))
    assert (folder / "größe-m.aiv").exists()


def test_a_working_directory_that_is_gone(folder: Path) -> None:
    """Whole paths work; relative ones are refused, in one line."""
    env = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(aipimage.__file__))}
    for line, code in (
        ("info {0}/plain.aiv", 0),
        ("verify {0}/plain.aiv", 0),
        ("info {0}/plain.aiv --chain", 0),
        ("createimage -o {0}/n.aiv {0}/disk.raw", 0),
        ("createimage -o n.aiv {0}/disk.raw", 1),
        ("createimage -o {0}/p.aiv --parent {0} {0}/disk.raw", 0),
        ("merge m.aiv {0}/n.aiv {0}/p.aiv", 1),
        ("merge {0}/m.aiv {0}/n.aiv {0}/p.aiv", 0),
        ("convert {0}/plain.aiv n.vmdk", 1),
        ("convert {0}/plain.aiv n.raw", 1),
        ("convert {0}/plain.aiv n.ova", 1),
        ("restoredisk {0}/plain.aiv n.raw", 1),
        ("restoredisk {0}/plain.aiv {0}/n.raw", 0),
        ("split {0}/plain.aiv s.aiv --size 64K", 1),
        ("repair {0}/plain.aiv r.aiv", 1),
        ("info plain.aiv", 1),
    ):
        gone = tempfile.mkdtemp()
        ended = subprocess.run(
            [
                "sh",
                "-c",
                f'rmdir "$1"; exec "$0" -m aipimage.cli {line.format(folder)}',
                sys.executable,
                gone,
            ],
            cwd=gone,
            env=env,
            check=False,
            capture_output=True,
            text=True,
        )
        sound(ended)
        assert ended.returncode == code, (line, ended.stderr)


# Text that editors leave in a file with a password


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"\xef\xbb\xbfsecret\r\n", "secret"),
        (b"\xef\xbb\xbfsecret", "secret"),
        (b"secret\r\nmore", "secret"),
        (b"secret \n", "secret "),
        (b" secret\n", " secret"),
        ("geheim\u00a0\n".encode(), "geheim\u00a0"),
        (b"se\rcret\n", "se\rcret"),
    ],
)
def test_what_is_read(content: bytes, password: str, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    out = tmp_path / "a.aiv"
    ran = invoke("createimage", "-o", out, disk, "--encrypt", "aes-128", "--password-file", path)
    assert ran.code == 0, ran.err
    odd = password != "secret"
    assert ("the new password" in ran.err) == odd, ran.err
    with aipimage.open(out, password) as image:
        assert image.devices
    # Who opens it is told nothing: it is as it is.
    ran = invoke("info", out, "--password-file", path)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    "content",
    [
        "secret\r\n".encode("utf-16"),
        "secret".encode("utf-16-be"),
        b"\xfe\xff\x00s",
        "secret\n".encode("utf-16-le"),
    ],
)
def test_utf_16_is_refused_in_words(content: bytes, disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    out = tmp_path / "a.aiv"
    ran = invoke("createimage", "-o", out, disk, "--encrypt", "aes-128", "--password-file", path)
    assert (ran.code, ran.error) == (
        1,
        f"{path}: its first line is UTF-16, or no text; save it as UTF-8",
    )
    assert not out.exists()


def test_new_passwords_of_an_image(secret: Path, tmp_path: Path) -> None:
    image = Path(shutil.copy(secret, tmp_path / "a.aiv"))
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(PASSWORD)
    new.write_text("with a blank \n")
    for path in (old, new):
        path.chmod(0o600)
    options = ("--password-file", old, "--new-password-file", new)
    ran = invoke("passwd", image, "--add", *options)
    assert ran.code == 0
    assert f"{new}: the new password begins or ends with a space" in ran.err
    ran = invoke(
        "passwd",
        image,
        "--change",
        "--password-file",
        old,
        "--new-password-env",
        "ODD",
        env={"ODD": "zero\u200bwidth"},
    )
    assert ran.code == 0
    assert "ODD: the new password has control characters or others that cannot be seen" in ran.err
