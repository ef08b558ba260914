"""README's table, docs/command.md and the command's own help agree."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text("utf-8")
COMMAND_PAGE = (ROOT / "docs/command.md").read_text("utf-8")
TABLE = re.findall(r"^\| `(\w+)` \|", README.split("| command |")[1].split("\n\n")[0], re.MULTILINE)


@functools.cache
def help_of(*arguments: str) -> str:
    """What ``aipimage … --help`` prints on a wide terminal."""
    command = [sys.executable, "-m", "aipimage.cli", *arguments, "--help"]
    wide = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=wide).stdout


def options_in(text: str) -> set[str]:
    """The long options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))


def section(name: str) -> str:
    """The section of docs/command.md about a command."""
    found = re.search(rf"^## `{name}`.*?(?=^## |\Z)", COMMAND_PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/command.md has no section about {name}"
    return found[0]


def test_readme_lists_every_command() -> None:
    listed = help_of().split("Commands:")[1]
    assert sorted(TABLE) == sorted(re.findall(r"^  (\w+)(?:  |$)", listed, re.MULTILINE))


@pytest.mark.parametrize("name", TABLE)
def test_command_page_has_every_option(name: str) -> None:
    """No option is missing in docs/command.md, and none is made up."""
    common = options_in(section("Common options"))
    told = options_in(section(name)) | common
    has = options_in(help_of(name).split("Options:")[1]) | {"--help", "--json"}
    assert has - told == set(), "not in docs/command.md"
    assert options_in(section(name)) - has == set(), "only in docs/command.md"
