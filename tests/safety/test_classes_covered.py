"""Every class of docs/hostile-inputs.md has a named test, and no other class is cited."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
PAGE = (ROOT / "docs/hostile-inputs.md").read_text("utf-8")
LISTED = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
# Serving images as disks is not there yet; the page says so.
LATER = {52, 53, 54, 56}
_NAME = re.compile(r"^\s*def test_(?:class|hostile)_(\d\d)_", re.MULTILINE)
_CITED = re.compile(r"hostile[- ]inputs(?:\.md)?,? class(?:es)? (\d+)|\(class (\d+)\)")


def covered() -> set[int]:
    return {
        int(number)
        for path in TESTS.rglob("test_*.py")
        for number in _NAME.findall(path.read_text())
    }


def test_the_page_lists_every_number_once() -> None:
    numbers = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, 63))


def test_every_class_has_a_named_test() -> None:
    missing = LISTED - LATER - covered()
    assert not missing, f"no test is named after classes {sorted(missing)}"


def test_every_cited_class_is_listed() -> None:
    sources = [
        path
        for folder in ("aipimage", "csrc", "docs", "tests")
        for kind in ("py", "c", "md")
        for path in (ROOT / folder).rglob(f"*.{kind}")
    ]
    cited = {
        int(one or other)
        for path in sources
        for one, other in _CITED.findall(path.read_text("utf-8"))
    }
    assert cited
    assert cited <= LISTED
