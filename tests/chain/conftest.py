"""What tests of chains share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aipimage.io.records import keys
from tests.support.memory import MemorySystem


@pytest.fixture(scope="package", autouse=True)
def derivations_are_not_remembered_elsewhere() -> Iterator[None]:
    """Some tests here derive each key once; other folders get the real function back."""
    real = keys._slot_keys
    yield
    keys._slot_keys = real


@pytest.fixture
def system() -> MemorySystem:
    """An empty disk in memory."""
    return MemorySystem()
