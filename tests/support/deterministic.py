"""Fixed ids, salts, nonces and times for tests; the package itself has no switch for this."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from unittest import mock

from aipimage.io.system import entropy

EPOCH_US = 1_700_000_000_000_000


@contextlib.contextmanager
def deterministic(seed: int = 0, start_us: int = EPOCH_US) -> Iterator[None]:
    """Make ids, salts and nonces follow from ``seed``, and time advance 1 s with each look at it.

    Two runs with one seed give the same bytes as long as one thread asks.
    """
    generator = random.Random(seed)
    clock = itertools.count(start_us, 1_000_000)
    with (
        mock.patch.object(entropy, "random_bytes", generator.randbytes),
        mock.patch.object(entropy, "now_us", clock.__next__),
    ):
        yield
