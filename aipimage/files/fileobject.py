"""An open file of a volume: a standard binary file, and a block source at once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from aipimage import checks, hints
from aipimage.errors import ClosedError, OptionError, SourceError
from aipimage.files.model import Content
from aipimage.io.blocks.model import OwnSource

if TYPE_CHECKING:
    from aipimage.files.entry import Entry
    from aipimage.files.window import Window

SECTOR = 512


class FileExtent(NamedTuple):
    """A piece of a file.

    Attributes:
        offset, length: in the file, bytes.
        place: byte of the volume that it lies at; ``None`` for a hole, which reads as zeros, and
            for what lies in the file's own record.
        is_hole: whether nothing is stored for it.
    """

    offset: int
    length: int
    place: int | None
    is_hole: bool


class FileObject(io.RawIOBase, OwnSource):
    """A read-only, seekable binary file over a file of a volume.

    It is a :class:`~aipimage.BlockSource` too: a virtual disk in a volume is read, imaged or
    converted without a copy. Reading moves a position; :meth:`read_into` takes an offset and is
    safe for threads.
    """

    def __init__(self, window: Window, entry: Entry, content: Content, name: str) -> None:
        super().__init__()
        self._window, self._content, self._position = window, content, 0
        self.entry, self.name, self.mode = entry, name, "rb"
        self.size, self.sector_size = content.size, SECTOR
        self._starts = content.runs[:, 0]
        self._ends = self._starts + content.runs[:, 2]

    # As a file

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; past the end is allowed, before the start is ``ValueError``."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise checks.wrong_value("whence", whence, "0, 1 or 2")
        offset = checks.whole("offset", offset, -checks.SIZE_MAX)
        if base + offset < 0:
            raise OptionError(f"cannot seek to {base + offset}, before the start")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: hints.Buffer, /) -> int:
        """Fill ``buffer`` from the position on and move it; returns the bytes read, 0 at the
        end.
        """
        self._check_open()
        view = checks.writable("buffer", buffer)
        count = max(0, min(len(view), self.size - self._position))
        if count:
            self.read_into(view[:count], self._position)
        self._position += count
        return count

    def write(self, data: hints.Buffer, /) -> NoReturn:
        """Raise ``io.UnsupportedOperation``: a volume is never changed."""
        self._check_open()
        raise io.UnsupportedOperation(f"{self.name}: not writable")

    # As a block source

    def read_into(self, buffer: hints.Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``: exactly the bytes of the file, zeros where it has none.

        Raises:
            SourceError: the volume cannot be read. IntegrityError: its image is damaged.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        end = offset + len(view)
        if offset < 0 or end > self.size:
            raise SourceError(f"{self.name}: {len(view)} bytes at {offset} are not inside of it")
        if self._content.inline is not None:
            part = self._content.inline[offset:end]
            view[: len(part)] = part
            view[len(part) :] = bytes(len(view) - len(part))
            return
        at = offset
        for start, place, length in self._content.runs[self._between(offset, end)].tolist():
            low, high = max(start, offset), min(start + length, end)
            _clear(view[at - offset : low - offset])
            self._window.read_into(view[low - offset : high - offset], place + low - start)
            at = high
        _clear(view[at - offset :])

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``."""
        for each in self.extents():
            low, high = max(start, each.offset), min(end, each.offset + each.length)
            if low < high and not each.is_hole:
                yield low, high - low

    def extents(self) -> Iterator[FileExtent]:
        """Yield all of the file in order, its holes as well."""
        self._check_open()
        if self._content.inline is not None:
            if self.size:
                yield FileExtent(0, self.size, None, False)
            return
        at = 0
        for start, place, length in self._content.runs.tolist():
            if start > at:
                yield FileExtent(at, start - at, None, True)
            yield FileExtent(start, length, place, False)
            at = start + length
        if at < self.size:
            yield FileExtent(at, self.size - at, None, True)

    def fingerprint(self) -> dict[str, int | str]:
        """That of the disk, and which file of it this is."""
        entry = self.entry
        changed = max((each.ns for each in (entry.modified, entry.changed) if each), default=0)
        return self._window.source.fingerprint() | {
            "kind": "file in a volume",
            "volume_offset": self._window.offset,
            "file": entry.identity,
            "file_size": self.size,
            "file_time": changed,
        }

    def _between(self, start: int, end: int) -> slice:
        low = int(np.searchsorted(self._ends, start, "right"))
        return slice(low, int(np.searchsorted(self._starts, end, "left")))

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"{self.name}: the file is closed")
        self.entry.files.check_open()


def _clear(view: memoryview) -> None:
    if len(view):
        np.frombuffer(view, np.uint8)[:] = 0
