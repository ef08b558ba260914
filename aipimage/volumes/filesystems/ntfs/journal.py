"""$LogFile: whether everything that the journal says has reached the other structures.

A journal is closed where Windows says so ("the volume is clean", or no client is left), or where
it was emptied: ntfs-3g, mkntfs and chkdsk fill it with ones once nothing in it is wanted any more.
"""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.journals.ntfslog import layout as ntfslog
from aipimage.volumes.journals.ntfslog.reading import OpenLog
from aipimage.volumes.journals.ntfslog.restart import RestartPage, Shape, restart_pages, shape_of
from aipimage.volumes.view import LayoutError

LOOKED_AT = 256 << 10
"""Bytes from the start that must be ones where the journal was emptied: restart pages of every
size, and log records after them."""


class Journal(NamedTuple):
    """A journal.

    Attributes:
        stream: its content. pages: its restart pages, the one in force first; none where it was
            emptied.
    """

    stream: Stream
    pages: list[RestartPage]

    @property
    def is_closed(self) -> bool:
        """Whether nothing in it is wanted any more. In version 2.0, that of a Windows that runs or
        may be asleep, it is looked at in any case.
        """
        if not self.pages:
            return True
        newest = self.pages[0]
        same = [page for page in self.pages if page.lsn == newest.lsn]
        return newest.version == (1, 1) and all(page.clean for page in same)

    def open_log(self, mft: Mft) -> OpenLog:
        """The log, to be read from its oldest record on; each piece is read twice at most.

        Raises:
            LayoutError: it is of a kind that is not known.
        """
        return log_of(mft, self.stream, shape_of(self.pages, self.stream.initialised))


def log_of(mft: Mft, stream: Stream, shape: Shape) -> OpenLog:
    """The log of a shape in a stream."""

    def read(offset: int, length: int) -> bytes:
        mft.view.allow(length)
        return stream.read(offset, length)

    return OpenLog(read, shape)


def journal_stream(mft: Mft) -> Stream:
    """The content of a volume's journal; ``LayoutError`` where it has none."""
    record = mft.base_record(layout.LOG_FILE)
    return mft.stream(record, layout.DATA, b"", "the journal").verified_plain()


def journal_of(mft: Mft) -> Journal:
    """Find a volume's journal; ``LayoutError`` where it makes no sense."""
    log = journal_stream(mft)
    length = min(log.initialised, LOOKED_AT)
    if log.resident or length < 2 * ntfslog.PAGE_MIN:
        raise LayoutError("its journal is too small")
    mft.view.allow(length)
    data = log.read(0, length)
    if data == b"\xff" * length:
        return Journal(log, [])
    return Journal(log, restart_pages(data))
