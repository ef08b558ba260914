"""Messages of the library name arguments, and those of the command its flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import aipimage
from tests.cli.running import done, invoke

import click  # isort: skip - helpers skip where it is missing

from aipimage.cli.app import program  # isort: skip
from aipimage.cli.hints import FLAGS, with_flags  # isort: skip

ROOT = Path(aipimage.__file__).parent
OTHER_PROGRAMS = ("nbdinfo", "qemu-", "ntfsclone")


def messages() -> Iterator[tuple[str, str]]:
    """Name of the file and text, of every text of the library that is no docstring."""
    for path in ROOT.rglob("*.py"):
        if path.is_relative_to(ROOT / "cli"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in told:
                yield str(path.relative_to(ROOT)), node.value


def flags() -> set[str]:
    """Of all commands."""
    context = click.Context(program)
    commands = [program.get_command(context, name) for name in program.list_commands(context)]
    return {flag for each in commands if each for one in each.params for flag in one.opts}


def test_the_library_names_no_flag_of_the_command() -> None:
    pattern = "|".join(flag for flag in sorted(flags()) if flag.startswith("--"))
    assert "--force" in pattern
    found = [
        (path, text)
        for path, text in messages()
        if re.search(rf"(?<=.)(?:{pattern})\b", text)
        and not any(each in text for each in OTHER_PROGRAMS)
    ]
    assert found == []


def test_every_argument_in_a_message_has_its_flag() -> None:
    """Those that are put together from pieces are looked at by the tests of their commands."""
    named = {each for _, text in messages() for each in re.findall(r"\(\w+=[^()]*\)", text)}
    assert "(force=True)" in named
    assert named <= set(FLAGS)
    assert set(FLAGS) - named <= {"(device=)", "(volume=)"}
    for said in FLAGS.values():
        assert set(re.findall(r"--[a-z-]+", said)) <= flags()


def test_a_name_of_a_file_stays() -> None:
    """As long as the message ends in an argument itself."""
    text = "a (force=True): already there and not empty; overwrite it (force=True)"
    assert with_flags(text) == "a (force=True): already there and not empty; overwrite it (--force)"


def test_errors_and_warnings_have_flags(plain: Path, disk: Path, tmp_path: Path) -> None:
    """Also as JSON."""
    target = tmp_path / "t.raw"
    target.write_bytes(b"precious")
    assert invoke("restoredisk", plain, target).error.endswith("; overwrite it (--force)")
    assert invoke("restoredisk", plain, target, "--json").json["error"].endswith("(--force)")
    several = tmp_path / "several.aiv"
    done("createimage", "-o", several, disk, disk)
    ran = done("convert", several, tmp_path / "o.raw", "--json")
    assert "name another one (--disk), or make an appliance of all (--format ova)" in ran.err
    assert ran.json["warnings"] == [ran.err.strip().removeprefix("aipimage: warning: ")]
