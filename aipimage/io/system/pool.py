"""Keeps few of many things open: what was used longest ago is closed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from aipimage.errors import ClosedError
from aipimage.io.system.storage import Closable, close_all

_Key = TypeVar("_Key", bound=Hashable)
_Thing = TypeVar("_Thing", bound=Closable)


class Pooled(Generic[_Thing]):
    """Something open, and how many uses of it are under way."""

    __slots__ = ("thing", "users")

    def __init__(self, thing: _Thing) -> None:
        self.thing, self.users = thing, 0


class Pool(Generic[_Key, _Thing]):
    """Opens what is used, for any number of threads; what is in use is never closed.

    Args:
        limit: how many stay open. closed: the text of the ``ClosedError`` that names a key, after
            :meth:`close`.
    """

    def __init__(self, limit: int, closed: Callable[[_Key], str]) -> None:
        self._limit, self._closed = limit, closed
        self._things: OrderedDict[_Key, Pooled[_Thing]] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def check_open(self, key: _Key) -> None:
        """Raise ``ClosedError`` after :meth:`close`."""
        if self._is_closed:
            raise ClosedError(self._closed(key))

    def put(self, key: _Key, thing: _Thing) -> None:
        """Take over something that is open already, or close it where the key is open too."""
        with self._lock:
            if key in self._things:
                idle = [thing]
            else:
                self._things[key] = Pooled(thing)
                idle = self._surplus()
        close_all(idle)

    def lend(self, key: _Key, opener: Callable[[], _Thing]) -> Pooled[_Thing]:
        """Return what ``opener`` opens, which stays open until :meth:`take_back`."""
        with self._lock:
            if self._is_closed:
                self.check_open(key)
            opened = self._things.get(key)
            if opened is None:
                # Under the lock: two threads that want one thing must not open it twice.
                opened = self._things[key] = Pooled(opener())
            else:
                self._things.move_to_end(key)
            opened.users += 1
            return opened

    def take_back(self, opened: Pooled[_Thing]) -> None:
        """End a use that :meth:`lend` began."""
        with self._lock:
            opened.users -= 1
            if len(self._things) <= self._limit and not self._is_closed:
                return
            idle = self._surplus()
        close_all(idle)

    @contextmanager
    def lent(self, key: _Key, opener: Callable[[], _Thing]) -> Iterator[_Thing]:
        """Yield what ``opener`` opens, open as long as the context lasts."""
        opened = self.lend(key, opener)
        try:
            yield opened.thing
        finally:
            self.take_back(opened)

    def _surplus(self) -> list[_Thing]:
        """Take out what was used longest ago and is not in use now, down to the limit."""
        over = len(self._things) - (0 if self._is_closed else self._limit)
        if over <= 0:
            return []
        idle = [key for key, opened in self._things.items() if not opened.users]
        return [self._things.pop(key).thing for key in idle[:over]]

    def close(self) -> None:
        """Close all for good; what is in use is closed when that use ends."""
        with self._lock:
            self._is_closed = True
            idle = self._surplus()
        close_all(idle)
