"""Every frozen chain is read as it was when it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import aipimage

CHAINS = sorted(Path(__file__).parent.glob("v*/chain-*"))


@pytest.mark.parametrize("directory", CHAINS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_frozen_chain(directory: Path) -> None:
    told = json.loads((directory / "chain.json").read_text())
    for name, wanted in told["sha256"].items():
        with aipimage.open(directory / name, told["password"]) as image:
            content = image.devices[0].open().readall()
            assert hashlib.sha256(content).hexdigest() == wanted, name
            image.chain.check()
            assert image.verify(chain=True).ok


def test_there_are_chains() -> None:
    assert len(CHAINS) >= 3
