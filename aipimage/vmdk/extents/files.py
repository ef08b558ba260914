"""The file of an extent: every read is checked against its size, every failure has a type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aipimage.errors import IncompleteError, SourceError, StorageError
from aipimage.io.blocks.sources import DeviceSource, FileSource
from aipimage.io.system.storage import File


@contextmanager
def source_errors() -> Iterator[None]:
    """Turn what the system says of a source's file into ``SourceError``."""
    try:
        yield
    except StorageError as error:
        raise SourceError(str(error), error.errno) from error


class ExtentFile:
    """A file that an extent lies in.

    Attributes:
        name: its path. size: bytes, as they were when it was opened.
        source: the file as a block source, which separates medium errors from others.
    """

    def __init__(self, file: File) -> None:
        """Take ``file`` over; ``SourceError`` when its size cannot be read."""
        self.source = DeviceSource(file) if file.is_block_device else FileSource(file)
        self.name, self.size = file.name, self.source.size

    def read_into(self, view: memoryview, offset: int, what: str) -> None:
        """Fill ``view`` from ``offset``, in bytes.

        Raises:
            IncompleteError: the file does not reach so far: it is cut short, or what named the
                place is damaged.
            UnreadableRangeError, SourceError: the file cannot be read, or became shorter.
        """
        self.verified_range(offset, view.nbytes, what)
        self.source.read_into(view, offset)

    def read(self, offset: int, length: int, what: str) -> bytearray:
        """Return ``length`` bytes, none of which is reserved before the file is known to have
        them; errors as ``read_into``.
        """
        self.verified_range(offset, length, what)
        data = bytearray(length)
        self.source.read_into(data, offset)
        return data

    def verified_range(self, offset: int, length: int, what: str) -> None:
        """``IncompleteError`` unless the file holds ``length`` bytes at ``offset``."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise IncompleteError(
                f"{self.name}: {what} at byte {offset} lies past the end of the file, which has "
                f"{self.size} bytes: it was cut short or is damaged; copy it again"
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.source.close()
