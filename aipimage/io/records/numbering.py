"""Record numbers: the one place that assigns them (docs/format.md, 4.6 and 5).

A nonce is (type, number) under keys that belong to one origin. A pair repeats if two runs share
an origin, or if one run gives a number twice. So the origin id and its counters are born
together and die together: no argument takes an old id or a start value.
"""

from __future__ import annotations

import os
import threading

from aipimage.io.system import entropy

_NUMBER_LIMIT = 1 << 64


class RecordNumbers:
    """The counters of one origin; each writing run, retry, resume or fork makes its own.

    Attributes:
        origin: the new random id of the run.
    """

    def __init__(self) -> None:
        self.origin = entropy.new_id()
        self._next: dict[int, int] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def claim(self, record_type: int, count: int = 1) -> int:
        """Claim ``count`` numbers of a record type in a row; return the first.

        Any thread may call this. Numbers run from 0 in the order of writing (docs/format.md,
        section 5), so a claim is made where the order of writing is decided.
        """
        # After os.fork() both processes would count on from here under the same keys.
        if os.getpid() != self._process:
            raise RuntimeError("internal error: record numbers were carried into another process")
        if not 1 <= record_type <= 255 or count < 1:
            raise RuntimeError(f"internal error: claim of {count} numbers of type {record_type}")
        with self._lock:
            first = self._next.get(record_type, 0)
            if first + count > _NUMBER_LIMIT:
                raise RuntimeError("internal error: record numbers are used up")
            self._next[record_type] = first + count
        return first

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("internal error: record numbers cannot be copied")
