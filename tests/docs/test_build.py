"""The documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aipimage

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"]

PROSE = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages of a sentence a line; in the changelog a line is a change."""
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("aipimage", "benchmarks", "csrc", "docs", "tests")
    for kind in ("py", "c")
    for path in (ROOT / folder).rglob(f"*.{kind}")
)

OTHERS = ("aipimage.vmdk", "aipimage.tracking", "aipimage.retention", "aipimage.testing")
"""Modules with public names of their own, as the page says."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files(page: Path) -> None:
    """Every relative link names a file that is there."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_the_project_are_there(page: Path) -> None:
    """A file named in the text exists: with a folder it is the end of one path and no more."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"(?<![\w/.*-])((?:[\w-]+/)*[\w-]+\.(?:py|c))\b", text):
        found = [path for path in SOURCES if f"/{path}".endswith(f"/{name}")]
        assert found, f"{page.name} names {name}"
        whole = [path for path in found if path == name] or found
        assert "/" not in name or len(whole) == 1, f"{page.name}: {name} is one of {found}"


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_a_line_is_a_sentence(page: Path) -> None:
    """No line of prose is longer than 200 characters: tables and blocks of code may be."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > 200 and not line.startswith("|")]
    assert not long, f"{page.name}: {long[0][:60]}…"


@pytest.mark.slow
def test_sphinx_build(tmp_path: Path) -> None:
    """As in ``.ci/run``; needs the extra ``docs``."""
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module, reason="needs the extra docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_api_page_has_every_public_name() -> None:
    """And names nothing that is not public."""
    page = (ROOT / "docs/api.md").read_text("utf-8")
    told = set(re.findall(r"^\.\. auto(?:class|function|data):: ([\w.]+)", page, re.MULTILINE))
    elsewhere = {name for name in told if "." in name}
    errors = {name for name in aipimage.__all__ if name.endswith("Error")}
    assert told - elsewhere | errors | {"__version__"} == set(aipimage.__all__)
    for name in elsewhere:
        module, _, own = name.rpartition(".")
        assert module in OTHERS
        assert own in importlib.import_module(module).__all__
