"""What each command loads: what it does not need costs every user time at every start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import program

from aipimage.cli.app import COMMANDS  # isort: skip - after helpers

# The command, which then writes down what is loaded.
LISTING = """
import json, pathlib, sys
from aipimage.cli import main
status = main(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(json.dumps([status, *sys.modules]))
"""
HEAVY = {"numpy", "zstandard", "blake3", "cryptography", "_cffi_backend"}
BAR = {"rich.console", "rich.progress"}
PARSERS = {"aipimage.volumes.survey", "aipimage.volumes.filesystems", "aipimage.volumes.tables"}
THREADS = {"concurrent.futures", "logging"}
SECRETS = {"hmac", "_hashlib", "secrets", "random"}
CONVERTING = {f"aipimage.converting.{each}" for each in ("convert", "sources", "targets", "raw")}
FURTHER = {"aipimage.vmdk", "aipimage.io.merge", "aipimage.io.repair"} | CONVERTING


def loaded(place: Path, *arguments: object, status: int = 0) -> set[str]:
    """The modules that a command has loaded when it ends."""
    listing = place / "modules.json"
    command = [sys.executable, "-c", LISTING, str(listing), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ended, *modules = json.loads(listing.read_text())
    assert ended == status, done.stderr
    return set(modules)


def of_packages(modules: set[str], packages: set[str]) -> set[str]:
    """Those that are one of the packages, or in one."""
    return {each for each in modules if any(f"{each}.".startswith(f"{p}.") for p in packages)}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        *(([name, "--help"], 0) for name in COMMANDS),
        (["frobnicate"], 2),
        (["info"], 2),
        (["restoredisk", "a.aiv", "t", "--disk", "-1"], 2),
        (["passwd", "a.aiv", "--remove", "x"], 2),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else str(each),
)
def test_help_and_wrong_usage_load_no_library(
    arguments: list[str], status: int, tmp_path: Path
) -> None:
    modules = loaded(tmp_path, *arguments, status=status)
    assert "aipimage.cli.app" in modules
    library = {"aipimage.io", "aipimage.volumes", "aipimage.converting"}
    assert not of_packages(modules, HEAVY | BAR | library)


def test_one_command_does_not_load_the_others(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "merge", "--help")
    others = {f"aipimage.cli.{each}" for each in COMMANDS.values()} - {"aipimage.cli.merging"}
    assert "aipimage.cli.merging" in modules
    assert not modules & others


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        (
            ["info"],
            PARSERS
            | FURTHER
            | THREADS
            | {"aipimage.io.creating.job", "aipimage.io.reading.restore"},
        ),
        (["info", "--chain"], PARSERS | FURTHER | {"aipimage.io.creating.job"}),
        (["verify"], PARSERS | FURTHER | {"aipimage.io.creating.job"}),
        (["verify", "--keyless"], PARSERS | FURTHER | {"aipimage.io.creating.job"}),
    ],
    ids=["info", "info chain", "verify", "keyless"],
)
def test_an_image_without_a_key_loads_what_reads_it(
    command: list[str], absent: set[str], made: Path, tmp_path: Path
) -> None:
    """No cipher, no parser of file systems, nothing that writes images, no progress bar."""
    modules = loaded(tmp_path, *command, made / "plain.aiv")
    assert "aipimage.io.stream.instream" in modules
    assert not of_packages(modules, absent | BAR | SECRETS | {"cryptography", "rich"})


def test_restoring_to_a_file_of_the_same_size_loads_no_parser(made: Path, tmp_path: Path) -> None:
    """Nor what moves and shrinks file systems, and runs their tools."""
    target = tmp_path / "copy.raw"
    modules = loaded(tmp_path, "restoredisk", made / "plain.aiv", target)
    assert target.read_bytes() == (made / "disk.raw").read_bytes()
    absent = PARSERS | FURTHER | BAR | SECRETS | {"subprocess", "tempfile", "cryptography"}
    assert not of_packages(modules, absent | {"aipimage.volumes.restoring.adapted"})


def test_the_process_loads_numpy_without_threads_for_algebra(plain: Path) -> None:
    """As the process that a user starts does; a value that the user has set stays."""
    code = "import os, sys\nfrom aipimage.cli import main\nstatus = main()\n"
    code += "print(status, os.environ['OPENBLAS_NUM_THREADS'])"
    for given, expected in (({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")):
        without = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-c", code, "info", plain],
            capture_output=True,
            text=True,
            check=True,
            env=without | given,
        )
        assert done.stdout.splitlines()[-1] == f"0 {expected}"


def test_calling_the_command_changes_no_setting(plain: Path, tmp_path: Path) -> None:
    """Another program that calls ``main`` with arguments keeps its environment and its collector
    of garbage.
    """
    code = "import gc, os, sys\nfrom aipimage.cli import main\n"
    code += (
        "before = dict(os.environ), gc.get_threshold()\nassert main(['info', sys.argv[1]]) == 0\n"
    )
    code += (
        "assert before == (dict(os.environ), gc.get_threshold())\nassert not gc.get_freeze_count()"
    )
    subprocess.run([sys.executable, "-c", code, plain], check=True, capture_output=True)


def test_creating_loads_neither_virtual_disks_nor_ciphers(disk: Path, tmp_path: Path) -> None:
    modules = loaded(tmp_path, "createimage", "-o", tmp_path / "n.aiv", disk)
    assert not of_packages(modules, FURTHER | BAR | {"cryptography"})


def test_every_command_is_found() -> None:
    """By its name, and in the help."""
    assert sorted(COMMANDS) == list(COMMANDS)
    context = program.make_context("aipimage", [], resilient_parsing=True)
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        assert command.name == name
