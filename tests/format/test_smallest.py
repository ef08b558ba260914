"""The hex dump of docs/format.md, section 16, is the image that the library makes."""

from __future__ import annotations

from pathlib import Path

import aipimage
from tests.format.smallest import CONTENT, build, section

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()


def test_the_dump_is_what_the_library_writes() -> None:
    assert section() in TEXT


def test_it_is_a_whole_image(tmp_path: Path) -> None:
    data = build()
    (tmp_path / "smallest.aiv").write_bytes(data)
    with aipimage.open(tmp_path / "smallest.aiv") as image:
        assert image.devices[0].open().readall() == CONTENT
        assert image.verify().ok
        assert f"{image.digest}" in TEXT
    assert f"{len(data):,} bytes" in TEXT
