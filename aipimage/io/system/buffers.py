"""Buffers that are used again: a new one of some megabytes costs a page fault for every page."""

from __future__ import annotations

import threading

_local = threading.local()


_POOLED = 1 << 17
"""Bytes: below this the C library's allocator keeps the pages itself."""
_STEP = 1 << 18
"""Lengths are rounded up to it, so that somewhat longer ones fit later."""
_KEPT = 64 << 20
"""Bytes that a pool keeps at most while they are not in use."""


class Buffers:
    """Buffers that go from one thread to another and back."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, length: int) -> bytearray:
        """Return a buffer of at least ``length`` bytes."""
        if length < _POOLED:
            return bytearray(length)
        with self._lock:
            # Not one that is far too large: another caller may need that one.
            fits = [at for at, free in enumerate(self._free) if length <= len(free) <= 4 * length]
            if fits:
                buffer = self._free.pop(min(fits, key=lambda at: len(self._free[at])))
                self._bytes -= len(buffer)
                return buffer
        return bytearray(-(-length // _STEP) * _STEP)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        if len(buffer) < _POOLED:
            return
        with self._lock:
            self._free.append(buffer)
            self._bytes += len(buffer)
            while self._bytes > _KEPT:
                self._bytes -= len(self._free.pop(0))


def thread_buffer(name: str, length: int) -> memoryview:
    """``length`` bytes that belong to this thread until it asks for the same ``name`` again."""
    buffer: bytearray | None = getattr(_local, name, None)
    if buffer is None or len(buffer) < length:
        buffer = bytearray(length)
        setattr(_local, name, buffer)
    return memoryview(buffer)[:length]
