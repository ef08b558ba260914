"""File objects that go back by reading again from the start: what was read lately is kept.

Worker threads read neighbouring ranges of a source nearly in the order of the disk. In a compressed
member of an archive each step back would cost as much as all that lies before it.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any

_DECOMPRESSING = frozenset({"zipfile", "gzip", "bz2", "lzma", "compression", "zstandard"})
_KEPT_MAX = 64 << 20
"""Bytes that are kept: more than all that threads have in hand at a time."""
_STEP, _LEAST = 1 << 20, 64 << 10
_DEPTH = 4


def reads_forward(stream: object) -> bool:
    """Whether a file object decompresses, or reads from one that does: going back is dear."""
    for _ in range(_DEPTH):
        if type(stream).__module__.split(".")[0] in _DECOMPRESSING:
            return True
        # io.BufferedReader, and a member of tarfile.
        stream = getattr(stream, "raw", None) or getattr(stream, "fileobj", None)
        if stream is None:
            return False
    return False


class Lately:
    """A file object around another one, with ``seek``, ``tell``, ``read`` and ``readinto``; what it
    read or passed lately is returned again without going back.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._parts: deque[bytes] = deque()
        # What is kept begins at one byte and ends before the other, which is the place of the
        # object below; and the place of this one.
        self._start: int = stream.tell()
        self._end: int = self._start
        self._at: int = self._start

    def tell(self) -> int:
        """The place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; nothing is read before the next read."""
        if whence != os.SEEK_SET:
            offset = int(self._stream.seek(offset, whence))
            self._forget(offset)
        self._at = offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as there is something; 0 at the end."""
        if not self._start <= self._at <= self._end + _KEPT_MAX:
            self._forget(self._stream.seek(self._at))
        while self._end < self._at and self._more(min(_STEP, self._at - self._end)):
            pass
        if self._at == self._end:
            self._more(max(len(buffer), _LEAST))
        data = self._kept(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read(self, length: int) -> bytes:
        """The same as bytes; nothing for a length of 0."""
        buffer = bytearray(length)
        return bytes(buffer[: self.readinto(memoryview(buffer))]) if length else b""

    def _more(self, length: int) -> bool:
        data = self._stream.read(length)
        if not data:
            return False
        self._parts.append(data)
        self._end += len(data)
        while self._end - self._start - len(self._parts[0]) >= _KEPT_MAX:
            self._start += len(self._parts.popleft())
        return True

    def _kept(self, offset: int, length: int) -> bytes:
        """What is kept from a place on, in one piece: the first part that has some of it."""
        at = self._end
        for part in reversed(self._parts):
            at -= len(part)
            if at <= offset:
                return part[offset - at : offset - at + length]
        return b""

    def _forget(self, place: int) -> None:
        self._parts.clear()
        self._start = self._end = place
