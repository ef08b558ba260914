"""A volume with changes over it that are not written to it: the result of a replay.

What was changed is kept in pages, as many in memory as are allowed, the others in a temporary file
without a name.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipimage.errors import SourceError, StorageError
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.io.system.storage import DEFAULT, File, Storage
from aipimage.volumes.view import LayoutError, VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer

PAGE = 4096
KEPT_MAX = 32 << 20
"""Bytes of pages that are kept in memory."""
PAGES_MAX = 1 << 19
"""Pages that may be changed: 2 GiB."""


class Overlay:
    """A block source over a view of a volume; see ``BlockSource``. For one thread.

    Args:
        view: of the volume; what is read of it here does not count against its budget.
        kept_max: bytes of pages in memory. storage: where the temporary file is made.
    """

    def __init__(
        self, view: VolumeView, kept_max: int = KEPT_MAX, storage: Storage = DEFAULT
    ) -> None:
        self._source, self._base = view.source, view.offset
        self.name, self.size, self.sector_size = view.source.name, view.size, view.sector_size
        self._room = max(1, kept_max // PAGE)
        self._kept: OrderedDict[int, bytearray] = OrderedDict()
        self._slots: dict[int, int] = {}
        self._pages: set[int] = set()
        self._storage, self._path = storage, ""
        self._file: File | None = None

    # Reading

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        target = memoryview(buffer).cast("B")
        end = offset + len(target)
        if offset < 0 or end > self.size:
            raise SourceError(f"{self.name}: {len(target)} bytes at {offset} are not inside of it")
        changed = [page for page in range(offset // PAGE, -(-end // PAGE)) if page in self._pages]
        if len(changed) < -(-end // PAGE) - offset // PAGE:
            self._source.read_into(target, self._base + offset)
        for page in changed:
            low, high = max(offset, page * PAGE), min(end, (page + 1) * PAGE)
            target[low - offset : high - offset] = self._page(page)[
                low - page * PAGE : high - page * PAGE
            ]

    def read(self, offset: int, length: int) -> bytearray:
        """Return bytes; ``LayoutError`` where they are not inside, or cannot be read."""
        self._check(offset, length)
        data = bytearray(length)
        try:
            self.read_into(data, offset)
        except UnreadableRangeError as error:
            raise LayoutError(f"{length} bytes at {offset} cannot be read") from error
        return data

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``: a hole may be written over."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """That of what holds it."""
        return self._source.fingerprint()

    # Writing

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Put bytes over the volume; ``LayoutError`` where they are not inside of it."""
        self._check(offset, len(data))
        view, done = memoryview(data), 0
        while done < len(view):
            page, inside = divmod(offset + done, PAGE)
            count = min(PAGE - inside, len(view) - done)
            self._page(page)[inside : inside + count] = view[done : done + count]
            done += count

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self.size:
            raise LayoutError(f"its log writes to byte {offset:,}, which it does not have")

    def _page(self, page: int) -> bytearray:
        """A page, in memory from now on; it counts as changed."""
        found = self._kept.get(page)
        if found is not None:
            self._kept.move_to_end(page)
            return found
        found = self._loaded(page)
        self._kept[page] = found
        while len(self._kept) > self._room:
            self._put_away(*self._kept.popitem(last=False))
        return found

    def _loaded(self, page: int) -> bytearray:
        length = min(PAGE, self.size - page * PAGE)
        if page in self._slots and self._file is not None:
            return bytearray(self._file.pread(PAGE, self._slots[page] * PAGE)[:length])
        if len(self._pages) >= PAGES_MAX:
            raise LayoutError("its log changes more than can be looked at")
        data = self.read(page * PAGE, length)
        self._pages.add(page)
        return data

    # The temporary file

    def _put_away(self, page: int, data: bytearray) -> None:
        try:
            if self._file is None:
                self._file = self._new_file()
            slot = self._slots.setdefault(page, len(self._slots))
            self._file.pwrite(bytes(data).ljust(PAGE, b"\0"), slot * PAGE)
        except StorageError as error:
            raise LayoutError(f"its log needs a temporary file, which failed: {error}") from error

    def _new_file(self) -> File:
        path = os.path.join(tempfile.gettempdir(), f".aipimage-{os.urandom(8).hex()}")
        file = self._storage.create(path)
        self._path = path
        if os.name != "nt":
            self._remove()
        return file

    def _remove(self) -> None:
        self._storage.remove(self._path)
        self._path = ""

    def close(self) -> None:
        """Give memory and temporary file back; a second call does nothing."""
        file, self._file = self._file, None
        self._kept.clear()
        self._pages.clear()
        if file is not None:
            file.close()
            if self._path:
                self._remove()
