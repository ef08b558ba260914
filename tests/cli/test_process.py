"""The command as a process: streams that break, extras that lack, terminals, and our own bugs."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import COMMAND, PASSWORD, invoke, spawn

MAIN = "from aipimage.cli import main; sys.exit(main(sys.argv[1:]))"


def script(
    before: str, *arguments: object, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Run Python lines, then the command."""
    command = [sys.executable, "-c", f"import sys; {before}; {MAIN}", *map(str, arguments)]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | (env or {}),
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra(missing: str) -> None:
    """One line that names it, also as JSON."""
    code, out, err = script(f"sys.modules[{missing!r}] = None", "info", "x.aiv")
    text = f"the command needs {missing}; install it with: pip install 'aipimage[cli]'"
    assert (code, out, err) == (1, "", f"aipimage: error: {text}\n")
    code, out, _ = script(f"sys.modules[{missing!r}] = None", "info", "x.aiv", "--json")
    assert (code, json.loads(out)) == (1, {"error": text, "type": "MissingExtraError"})


def test_importing_the_library_needs_no_extra() -> None:
    """Neither click nor rich is imported, nor the command."""
    code = "import sys, aipimage; print({'click', 'rich', 'aipimage.cli'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_the_installed_script() -> None:
    """It lies beside the interpreter where the package is installed."""
    path = Path(sys.executable).parent / "aipimage"
    if not path.exists():
        pytest.skip("the package is not installed with its script")
    ended = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == invoke("--version").out


GOLDEN = [
    ("info missing.aiv", 1, "missing.aiv: cannot open: No such file or directory", "StorageError"),
    ("info disk.raw", 1,
     "disk.raw: is not an .aiv image, and has no partition table or file system that is known; "
     "createimage takes it as a raw disk, all of it", "FormatError"),
    ("info secret.aiv", 1,
     "secret.aiv: is encrypted; pass its password (--password-file FILE or --password-env VAR)",
     "PasswordError"),
    ("info plain.aiv --password-file password", 1,
     "plain.aiv: is not encrypted, but a password was passed", "PasswordError"),
    ("createimage -o plain.aiv disk.raw", 1,
     "plain.aiv: is already there; choose another name or replace it (--overwrite)", "TargetError"),
    ("createimage -o n.aiv disk.raw --kind incremental", 1,
     "--kind incremental needs a parent: use --parent IMAGE, or the directory of "
     "its chain", "RequestError"),
    ("createimage -o n.aiv disk.raw --split 5X", 2,
     "Invalid value for '--split': '5X' is not a size; write 650M, 4G, 512K, 1T or plain bytes; "
     "see aipimage createimage --help", "UsageError"),
    ("verify plain.aiv --frob", 2, "No such option '--frob'; see aipimage verify --help",
     "UsageError"),
    ("mount plain.aiv dir", 2, "No such command 'mount'; see aipimage --help", "UsageError"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "text", "kind"), GOLDEN, ids=[g[0] for g in GOLDEN])
def test_error_lines(line: str, code: int, text: str, kind: str, made: Path) -> None:
    """What users and their scripts see, to the letter."""
    ran = spawn(*line.split(), "--json", cwd=made)
    said = ran.error.replace("option: --frob", "option '--frob'")  # click before 8.4
    assert (ran.code, said) == (code, text)
    assert ran.json["type"] == kind
    if code == 1:
        assert ran.err == f"aipimage: error: {text}\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_standard_output(plain: Path) -> None:
    """The result could not be told: that is a failure."""
    with open("/dev/full", "w") as full:
        ran = spawn("info", plain, stdout=full)
    assert (ran.code, ran.error) == (1, "standard output: cannot write: No space left on device")


def test_a_reader_that_goes_away(plain: Path, tmp_path: Path) -> None:
    """``| head`` ends nothing; what was found still is the exit status."""
    data = bytearray(plain.read_bytes())
    data[5000] ^= 1
    (tmp_path / "bad.aiv").write_bytes(data)
    for path, code in ((plain, 0), (tmp_path / "bad.aiv", 3), (tmp_path / "none", 1)):
        reading, writing = os.pipe()
        os.close(reading)
        ran = spawn("verify", path, "--json", stdout=writing)
        os.close(writing)
        assert ran.code == code
        assert "BrokenPipe" not in ran.err


def test_closed_streams(plain: Path) -> None:
    """``>&-`` and ``2>&-``."""
    for closing, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)):
        shell = f'"$0" -m aipimage.cli info "$1" {closing}'
        ended = subprocess.run(
            ["sh", "-c", shell, sys.executable, plain], capture_output=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (code, b"")
    ended = subprocess.run(
        ["sh", "-c", '"$0" -m aipimage.cli info nothing 2>&-', sys.executable], check=False
    )
    assert ended.returncode == 1


def test_output_that_ascii_cannot_show(disk: Path, tmp_path: Path) -> None:
    """Escapes instead of a failure, whatever the terminal's encoding and the file's name."""
    path = os.fsencode(tmp_path) + b"/\xff\xc3\xa4.aiv"
    env = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    for arguments in (
        [b"createimage", b"-o", path, os.fsencode(disk)],
        [b"info", path],
        [b"info", path, b"--json"],
    ):
        ended = subprocess.run(
            [*map(os.fsencode, COMMAND), *arguments], capture_output=True, env=env, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert ended.stdout.isascii()


def test_our_own_bugs() -> None:
    """One line without what the error quotes; the traceback only where it was asked for."""
    bug = f"import aipimage; aipimage.list_slots = lambda _: (lambda x: 1 / x)({PASSWORD!r})"
    code, out, err = script(bug, "passwd", "x", "--list")
    assert (code, out) == (1, "")
    assert err == (
        "aipimage: error: internal error (TypeError); set AIPIMAGE_DEBUG=1 to see where, "
        "and please report it\n"
    )
    code, _, err = script(bug, "passwd", "x", "--list", env={"AIPIMAGE_DEBUG": "1"})
    assert code == 1
    assert err.startswith("Traceback")


def test_progress_on_a_terminal(disk: Path, tmp_path: Path) -> None:
    """Drawn on standard error where that is a terminal, and nowhere else."""
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "160"}
    command = [*COMMAND, "createimage", "-o", tmp_path / "o.aiv", disk, "--rate", "4M"]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=theirs, env=env, text=True, check=True
    )
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "creating" in drawn
    assert re.search(r"100%.* of .*/s, .*:1, 0:00:0\d left", drawn)
    assert ended.stdout.startswith(f"{tmp_path}/o.aiv: full image")
