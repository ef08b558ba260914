"""Key derivations are remembered while the tests of this folder run, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aipimage.io.records import keys
from tests.support.images import remember_derivations


@pytest.fixture(scope="package", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the tests of other folders."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real
