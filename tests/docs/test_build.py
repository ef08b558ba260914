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

OTHERS = ("aipimage.vmdk", "aipimage.tracking", "aipimage.retention", "aipimage.testing")
"""Modules with public names of their own, as the page says."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files(page: Path) -> None:
    """Every relative link names a file that is there."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


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
