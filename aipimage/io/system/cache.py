"""A least-recently-used cache of decoded frames, filled once however many threads ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class _Loading:
    """A value that one thread loads; others may wait for it."""

    __slots__ = ("done", "value")

    def __init__(self) -> None:
        # Made only when somebody waits, because nearly always nobody does.
        self.done: threading.Event | None = None
        self.value: memoryview | None = None


class FrameCache:
    """Keeps at most ``limit`` bytes of values; each value is loaded by one thread only."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._values: OrderedDict[Hashable, memoryview] = OrderedDict()
        self._loading: dict[Hashable, _Loading] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], memoryview]) -> memoryview:
        """Return the value for ``key``, loading it outside of the lock where it is not there."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                return value
            other = self._loading.get(key)
            if other is None:
                mine = self._loading[key] = _Loading()
            elif other.done is None:
                other.done = threading.Event()
        if other is None:
            return self._load(key, load, mine)
        assert other.done is not None
        other.done.wait()
        if other.value is None:
            # It failed for the other thread; whether it fails for this one too shows by trying.
            return self.get(key, load)
        return other.value

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values or key in self._loading

    def _load(self, key: Hashable, load: Callable[[], memoryview], mine: _Loading) -> memoryview:
        value: memoryview | None = None
        try:
            value = load()
        finally:
            with self._lock:
                del self._loading[key]
                mine.value = value
                if value is not None:
                    self._keep(key, value)
                if mine.done is not None:
                    mine.done.set()
        return value

    def _keep(self, key: Hashable, value: memoryview) -> None:
        self._values[key] = value
        self._used += value.nbytes
        while self._used > self._limit and len(self._values) > 1:
            _, old = self._values.popitem(last=False)
            self._used -= old.nbytes
