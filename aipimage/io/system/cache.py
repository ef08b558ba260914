"""Bounded least-recently-used caches, safe for threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class BoundedCache(Generic[_Key, _Value]):
    """Keeps the values that were used last, of at most ``limit`` in weight together, or one.

    Args:
        weight: of a value, in the unit of the limit; by default each value weighs 1.
    """

    def __init__(self, limit: int, weight: Callable[[_Value], int] = lambda value: 1) -> None:
        self._limit, self._weight, self._used = limit, weight, 0
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: _Key) -> _Value | None:
        """Return the value, if it is kept."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: _Key, value: _Value) -> None:
        """Keep a value, and drop those used longest ago, down to the limit."""
        with self._lock:
            self._keep(key, value)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()
            self._used = 0

    def __len__(self) -> int:
        """How many values are kept."""
        with self._lock:
            return len(self._values)

    def _keep(self, key: _Key, value: _Value) -> None:
        if (before := self._values.pop(key, None)) is not None:
            self._used -= self._weight(before)
        self._values[key] = value
        self._used += self._weight(value)
        while self._used > self._limit and len(self._values) > 1:
            _, old = self._values.popitem(last=False)
            self._used -= self._weight(old)


class _Loading:
    """A value that one thread loads; others may wait for it."""

    # Made only when a thread waits, because nearly always none does.
    done: threading.Event | None = None
    value: memoryview | None = None


class FrameCache(BoundedCache[Hashable, memoryview]):
    """Keeps at most ``limit`` bytes of decoded frames, grains and the like.

    However many threads ask for a value, one of them loads it.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit, attrgetter("nbytes"))
        self._loading: dict[Hashable, _Loading] = {}

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
