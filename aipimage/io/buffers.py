"""Buffers that are used again: a new one of some megabytes costs a page fault for every page."""

from __future__ import annotations

import threading

_local = threading.local()


class Buffers:
    """Buffers that go from one thread to another and back."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, length: int) -> bytearray:
        """Return a buffer of at least ``length`` bytes."""
        # list.pop and list.append are atomic; a buffer that is too small is given up.
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(length)
        return buffer if len(buffer) >= length else bytearray(length)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        self._free.append(buffer)


def thread_buffer(name: str, length: int) -> memoryview:
    """``length`` bytes that belong to this thread until it asks for the same ``name`` again."""
    buffer: bytearray | None = getattr(_local, name, None)
    if buffer is None or len(buffer) < length:
        buffer = bytearray(length)
        setattr(_local, name, buffer)
    return memoryview(buffer)[:length]
