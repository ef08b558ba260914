"""System calls that count what is opened, read and written."""

from __future__ import annotations

import os
from collections.abc import Sequence

from aipimage.io.system.storage import SystemCalls


class CountingSystem(SystemCalls):
    """The real system.

    Attributes:
        opened: paths of files that were opened, each time one. reads: calls that read.
        bytes_read, bytes_written: bytes. listed: directories that were listed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.opened: list[str] = []
        self.listed: list[str] = []
        self.reads = self.bytes_read = self.bytes_written = 0

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        found = super().open(path, flags, mode)
        self.opened.append(os.path.basename(path))
        return found

    def listdir(self, path: str) -> list[str]:
        self.listed.append(path)
        return super().listdir(path)

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        done = super().preadv(descriptor, buffers, offset)
        self.reads += 1
        self.bytes_read += done
        return done

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        done = super().pwritev(descriptor, buffers, offset)
        self.bytes_written += done
        return done
