"""Sources of the system: regular files and block devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipimage.errors import SourceError, StorageError
from aipimage.io.blocks.model import OwnSource, UnreadableRangeError
from aipimage.io.system.storage import MEDIUM_ERRORS, File

if TYPE_CHECKING:
    from typing_extensions import Buffer


class FileSource(OwnSource):
    """A regular file. Its holes are seen where the file system shows them."""

    sector_size = 512

    def __init__(self, file: File) -> None:
        """Take over `file`; ``SourceError`` when its size cannot be read."""
        self._file = file
        self.name = file.name
        with source_errors():
            self.size = file.size()
        file.advise_sequential()

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        _read_exactly(self._file, buffer, offset, self.size)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of [start, end) outside the file's holes, as the file system says."""
        end = min(end, self.size)
        while start < end:
            with source_errors():
                data = self._file.seek_data(start)
                if data is None:
                    # Nothing but a hole up to the end: true only while the end is where it was.
                    self._check_not_shrunk()
                    return
                hole = self._file.seek_hole(data)
            if data >= end:
                return
            if hole is None:
                self._check_not_shrunk()
                hole = end
            # The file may change between the two questions; progress is made in any case.
            stop = min(max(hole, data + 1), end)
            yield data, stop - data
            start = stop

    def fingerprint(self) -> dict[str, int | str]:
        """Return size, time of the last change and inode, read now."""
        with source_errors():
            info = self._file.info()
        return {"kind": "file", "size": info.size, "mtime_ns": info.mtime_ns, "inode": info.inode}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_not_shrunk(self) -> None:
        now = self._file.size()
        if now < self.size:
            raise shrank(self.name, self.size, now)


class DeviceSource(OwnSource):
    """A block device. All of it may be data: what is not in use, its file systems know."""

    def __init__(self, file: File) -> None:
        """Take over `file`; ``SourceError`` when its size cannot be read."""
        self._file = file
        self.name = file.name
        with source_errors():
            self.size = file.size()
            self.sector_size = file.sector_size()
        file.advise_sequential()

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        _read_exactly(self._file, buffer, offset, self.size)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the whole range."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """Return size and device number, read now: a device has no time of change."""
        with source_errors():
            return {
                "kind": "device",
                "size": self._file.size(),
                "device_number": self._file.info().device_number,
            }

    def close(self) -> None:
        """Close the device."""
        self._file.close()


def _read_exactly(file: File, buffer: Buffer, offset: int, size: int) -> None:
    length = memoryview(buffer).nbytes
    check_bounds(file.name, length, offset, size)
    try:
        got = file.pread_into(buffer, offset)
    except StorageError as error:
        if error.errno in MEDIUM_ERRORS:
            raise UnreadableRangeError(str(error), offset, length, error.errno) from error
        raise SourceError(str(error), error.errno) from error
    if got < length:
        raise shrank(file.name, size, offset + got)


def check_bounds(name: str, length: int, offset: int, size: int) -> None:
    if offset < 0 or offset + length > size:
        raise RuntimeError(
            f"internal error: read of {length} bytes at {offset} from {name}, which has {size}"
        )


def shrank(name: str, size: int, now: int) -> SourceError:
    return SourceError(
        f"{name}: shrank while it was read, from {size} bytes to {now}; "
        "make a snapshot of it, or stop what changes it, and try again"
    )


@contextlib.contextmanager
def source_errors() -> Iterator[None]:
    """What fails on a source is the source's failure, not the image's."""
    try:
        yield
    except StorageError as error:
        raise SourceError(str(error), error.errno) from error
