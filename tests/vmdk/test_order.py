"""The order of the modules of ``aipimage.vmdk`` is the one that the package's map draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_layers import PACKAGE, dotted, imports

ORDER = (
    {"ovf"},
    {"lint", "linting"},
    {"writing", "feed"},
    {"p2v", "guest", "geometry"},
    {"deltas"},
    {"opening", "assembling", "parents", "paths"},
    {"source", "member", "overlay"},
    {"extents"},
    {"descriptor", "descriptortext", "textcodes"},
    {"layout", "cowdlayout", "sesparselayout", "pieces", "model", "deflate", "inflate"},
)
"""Highest first; each knows its own line and those after it."""
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names}
MODULES = sorted(path.relative_to(PACKAGE) for path in (PACKAGE / "vmdk").rglob("*.py"))


@pytest.mark.parametrize("path", [each for each in MODULES if len(each.parts) > 1], ids=str)
def test_imports_point_down_the_map(path: Path) -> None:
    own = dotted(path).split(".")
    if own == ["aipimage", "vmdk"]:
        return
    found = {name.split(".")[2] for name in imports(path) if name.startswith("aipimage.vmdk.")}
    assert {name for name in found if FLOOR[name] < FLOOR[own[2]]} == set()


def test_the_map_names_every_module() -> None:
    text = (PACKAGE / "vmdk" / "__init__.py").read_text("utf-8")
    there = {path.parts[1].removesuffix(".py") for path in MODULES} - {"__init__"}
    assert there == set(FLOOR)
    assert {name for name in there if name not in text} == set()
