"""The one place that yields randomness and the time of day.

Everything else asks here by module attribute (``entropy.new_id()``), so that tests can put
fixed values in its place; no option, variable or argument of the package can.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta


def random_bytes(count: int) -> bytes:
    """Return ``count`` bytes from the system's generator."""
    return os.urandom(count)


def new_id() -> bytes:
    """Return a new id: 16 random bytes (docs/format.md, section 1)."""
    return random_bytes(16)


def now_us() -> int:
    """Return the time, in microseconds since 1970-01-01 UTC (docs/format.md, section 1).

    A clock before that gives 0: a wrong one must not stop a backup.
    """
    try:
        nanoseconds = time.time_ns()
    except OverflowError:
        # Python counts nanoseconds in 64 bits, which end in April 2262.
        return int(_seconds_after_2262() * 1e6)
    return max(0, nanoseconds // 1000)


def time_text(microseconds: int) -> str:
    """Return a time as RFC 3339 has it, in whole seconds; the last one that it can write is that of
    the year 9999.
    """
    return _calendar(microseconds).isoformat(timespec="seconds")


def believed_until_us() -> int:
    """Return the time up to which other clocks are believed, in microseconds since 1970: a day from
    now, because a clock that is set to another zone's time is wrong by less.
    """
    return now_us() + 86_400_000_000


def _calendar(microseconds: int) -> datetime:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _seconds_after_2262() -> float:
    if sys.platform == "win32":
        return (2**63 - 1) / 1e9
    return time.clock_gettime(time.CLOCK_REALTIME)
