"""The reader that is written from the text alone treats every vector as its header states."""

from __future__ import annotations

import ast
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.vectors import reader, readerimage
from tests.vectors.kit import names, unpack


def outcome(path: Path, password: str | None) -> tuple[str, Any]:
    """Stage and kind of the refusal, or the digests of all devices."""
    try:
        image = readerimage.Image(path, password)
    except reader.Refusal as refusal:
        return "open", refusal.kind
    try:
        return "", [sha256(content).hexdigest() for content in image.devices()]
    except reader.Refusal as refusal:
        return "read", refusal.kind


@pytest.mark.parametrize("name", names())
def test_vector(name: str, tmp_path: Path) -> None:
    for file, says in unpack(name, tmp_path).items():
        found = outcome(tmp_path / file, says["password"])
        if says.get("on") in ("open", "read"):
            assert found == (says["on"], says["error"]), file
        elif "devices" in says:
            assert found == ("", says["devices"]), file
        else:
            assert found[0] != "open", file


def test_it_shares_no_code_with_the_package() -> None:
    for module in (reader, readerimage):
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        modules = [each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
        plain = [
            a.name for each in ast.walk(tree) if isinstance(each, ast.Import) for a in each.names
        ]
        assert not [each for each in (*modules, *plain) if each and each.startswith("aipimage")]
