"""Every class of hostile inputs that this release must withstand has a named test."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
CLASSES = {*range(1, 52), *range(57, 63)}
_NAME = re.compile(r"^\s*def test_(?:class|hostile)_(\d\d)_", re.MULTILINE)


def covered() -> set[int]:
    return {
        int(number)
        for path in TESTS.rglob("test_*.py")
        for number in _NAME.findall(path.read_text())
    }


def test_every_class_has_a_named_test() -> None:
    missing = CLASSES - covered()
    assert not missing, f"no test is named after classes {sorted(missing)}"
