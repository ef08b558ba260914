"""A least-recently-used cache of decoded frames with a bound in bytes, filled once however many
threads ask.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FrameCache:
    """Keeps at most ``limit`` bytes of values; a value being loaded is loaded by one thread
    only.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._values: OrderedDict[Hashable, memoryview] = OrderedDict()
        self._loading: dict[Hashable, Future[memoryview]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], Buffer]) -> memoryview:
        """Return the value for ``key``, loading it outside of the lock where it is not there."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
                return value
            other = self._loading.get(key)
            if other is None:
                mine: Future[memoryview] = Future()
                self._loading[key] = mine
        if other is not None:
            return other.result()
        return self._load(key, load, mine)

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._values or key in self._loading

    def _load(
        self, key: Hashable, load: Callable[[], Buffer], mine: Future[memoryview]
    ) -> memoryview:
        try:
            value = memoryview(load())
        except BaseException as error:
            # Others who wait get the same error; the next who asks tries again.
            with self._lock:
                del self._loading[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self._keep(key, value)
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: memoryview) -> None:
        self._values[key] = value
        self._used += value.nbytes
        while self._used > self._limit and len(self._values) > 1:
            _, old = self._values.popitem(last=False)
            self._used -= old.nbytes
