"""The documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import aipimage

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"]


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
    named = r"^\.\. auto(?:class|function|data):: (\w+)(?!\w*\.)"
    told = set(re.findall(named, page, re.MULTILINE))
    errors = {name for name in aipimage.__all__ if name.endswith("Error")}
    assert told | errors | {"__version__"} == set(aipimage.__all__)
