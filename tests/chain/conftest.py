"""What tests of chains share."""

from __future__ import annotations

import pytest

from tests.safety.memory import MemorySystem


@pytest.fixture
def system() -> MemorySystem:
    """An empty disk in memory."""
    return MemorySystem()
