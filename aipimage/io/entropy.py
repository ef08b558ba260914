"""The one place that yields randomness and the time of day.

Everything else asks here by module attribute (``entropy.new_id()``), so that tests can put
fixed values in its place; no option, variable or argument of the package can.
"""

from __future__ import annotations

import secrets
import time


def random_bytes(count: int) -> bytes:
    """Return ``count`` bytes from the system's generator."""
    return secrets.token_bytes(count)


def new_id() -> bytes:
    """Return a new id: 16 random bytes (docs/format.md, section 1)."""
    return random_bytes(16)


def now_us() -> int:
    """Return the time, in microseconds since 1970-01-01 UTC (docs/format.md, section 1)."""
    return time.time_ns() // 1000
