"""One virtual disk of a chain: its extents, one after the other."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence

from aipimage.errors import FormatError
from aipimage.io.system.storage import close_all
from aipimage.vmdk.descriptor import Descriptor
from aipimage.vmdk.model import ExtentReader
from aipimage.vmdk.pieces import PieceArray


class DiskMember:
    """A disk without its parents; see :class:`aipimage.vmdk.model.ExtentReader`.

    Attributes:
        path: the file that was opened: the descriptor, or the single file of the disk.
        descriptor: what it says. extents: in the order of the disk. size: bytes.
        files: the paths of all its files, ``path`` first.
        warnings: sentences on what is not as it should be.
    """

    def __init__(
        self,
        path: str,
        descriptor: Descriptor,
        extents: Sequence[ExtentReader],
        files: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> None:
        """Take over the extents; ``FormatError`` where they have no sector."""
        self.path = self.name = path
        self.descriptor, self.extents = descriptor, tuple(extents)
        self.files, self.warnings = tuple(dict.fromkeys((path, *files))), tuple(warnings)
        self._starts = [0, *itertools.accumulate(extent.size for extent in self.extents)]
        self.size = self._starts[-1]
        if not self.size:
            raise FormatError(f"{path}: a virtual disk without a single sector")

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what the disk's own extents say, without its parents."""
        end = min(end, self.size)
        number = bisect.bisect_right(self._starts, start) - 1
        while start < end:
            base, stop = self._starts[number], min(self._starts[number + 1], end)
            if start < stop:
                for rows in self.extents[number].pieces(start - base, stop - base):
                    rows[:, 0] += base
                    yield rows
                start = stop
            number += 1

    def read_data(self, view: memoryview, offset: int) -> None:
        """See ``ExtentReader.read_data``; a range of data may reach over several extents."""
        end = offset + view.nbytes
        number = bisect.bisect_right(self._starts, offset) - 1
        at = offset
        while at < end:
            stop = min(self._starts[number + 1], end)
            if at < stop:
                part = view[at - offset : stop - offset]
                self.extents[number].read_data(part, at - self._starts[number])
                at = stop
            number += 1

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        close_all(self.extents)
