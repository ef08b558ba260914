"""Every test of the C core runs twice: with the plain C variants and with the processor's best."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aipimage import _core


# Of module scope, because a fixture that is made anew for each test is not made anew for each
# example of a hypothesis test.
@pytest.fixture(scope="module", params=[True, False], ids=["scalar", "best"], autouse=True)
def scalar(request: pytest.FixtureRequest) -> Iterator[bool]:
    _core.force_scalar(request.param)
    yield request.param
    _core.force_scalar(False)
