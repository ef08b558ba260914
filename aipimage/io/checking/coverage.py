"""Which bytes of a stream were looked at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aipimage.ranges import difference, joined, no_ranges

_NEW_MAX = 1 << 14


class Coverage:
    """Ranges that were added. Its memory follows their fragmentation, not their number."""

    def __init__(self) -> None:
        self._ranges = no_ranges()
        self._new: list[tuple[int, int]] = []

    def add(self, start: int, length: int) -> None:
        """Add a range; overlaps are allowed."""
        if self._new and sum(self._new[-1]) == start:
            start, length = self._new[-1][0], self._new.pop()[1] + length
        self._new.append((start, length))
        if len(self._new) >= _NEW_MAX:
            self._join()

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of what was not added between ``start`` and ``end``."""
        self._join()
        whole = np.array([(start, max(0, end - start))], np.uint64)
        for at, length in difference(joined(whole), self._ranges).tolist():
            yield at, at + length

    def _join(self) -> None:
        rows = np.array(self._new, np.uint64).reshape(-1, 2)
        self._ranges = joined(np.concatenate((self._ranges, rows)))
        self._new.clear()
