"""$LogFile: whether everything that the journal says has reached the other structures.

A journal is clean where Windows closed it ("the volume is clean", or no client is left), or where
it was emptied: ntfs-3g, mkntfs and chkdsk fill it with ones once nothing in it is wanted any more.
"""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.records import fixed_up
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.view import LayoutError

LOOKED_AT = 256 << 10
"""Bytes from the start that must be ones where the journal was emptied: restart pages of every
size, and log records after them."""
_PAGE_MIN, _PAGE_MAX = 512, 64 << 10


class RestartPage(NamedTuple):
    """What one of the two restart pages says.

    Attributes:
        lsn: newer is greater. version: major and minor. clean: whether nothing is to be replayed.
    """

    lsn: int
    version: tuple[int, int]
    clean: bool


def verify_journal(mft: Mft) -> Stream:
    """Return $LogFile's content, whose state is clean; ``LayoutError`` says what it is if not."""
    record = mft.base_record(layout.LOG_FILE)
    log = mft.stream(record, layout.DATA, b"", "the journal").verified_plain()
    length = min(log.initialised, LOOKED_AT)
    if log.resident or length < 2 * _PAGE_MIN:
        raise LayoutError("its journal is too small")
    mft.view.allow(length)
    data = log.read(0, length)
    if data != b"\xff" * length:
        _verify_restart_pages(data)
    return log


def _verify_restart_pages(data: bytes) -> None:
    if data[:4] not in (layout.LOG_RESTART, layout.LOG_CHKDSK):
        raise LayoutError("its journal does not begin with a restart page")
    size = layout.RESTART_PAGE.unpack_from(data)[1]
    if not _PAGE_MIN <= size <= _PAGE_MAX or size & (size - 1) or 2 * size > len(data):
        raise LayoutError(f"its journal says pages of {size} bytes")
    # Both are always written; one that cannot be read may be the newer one, cut short.
    pages = [decode_restart_page(data[at : at + size]) for at in (0, size)]
    newest = max(pages, key=lambda page: page.lsn)
    if newest.version == (2, 0):
        raise LayoutError(
            "its journal is in the form of a running or fast-started Windows, which keeps changes "
            "in memory"
        )
    if newest.version != (1, 1):
        raise LayoutError("its journal is of version {}.{}".format(*newest.version))
    if not newest.clean or any(page.lsn == newest.lsn and not page.clean for page in pages):
        raise LayoutError("its journal was not replayed")


def decode_restart_page(data: bytes) -> RestartPage:
    """Read a restart page and its area ("$LogFile", Restart Area).

    Raises:
        LayoutError: it does not fit, or was not written as a whole.
    """
    what = "a restart page of its journal"
    magic, _, words = layout.FIXUP.unpack_from(data)
    # chkdsk may leave a page without fix-ups.
    if magic != layout.LOG_CHKDSK or words:
        kind = layout.LOG_CHKDSK if magic == layout.LOG_CHKDSK else layout.LOG_RESTART
        data = fixed_up(data, kind, what)
    chkdsk_lsn, size, _, at, minor, major = layout.RESTART_PAGE.unpack_from(data)
    if size != len(data) or at % 8 or not layout.RESTART_PAGE.size <= at:
        raise LayoutError(f"{what} does not fit the others")
    if at + layout.RESTART_AREA.size > len(data):
        raise LayoutError(f"{what} has its restart area past its end")
    area = layout.RESTART_AREA.unpack_from(data, at)
    lsn, clients, _, in_use, flags = area[:5]
    if in_use != layout.NO_CLIENT and in_use >= clients:
        raise LayoutError(f"{what} names a client that is not there")
    clean = in_use == layout.NO_CLIENT or bool(flags & layout.VOLUME_IS_CLEAN)
    is_chkdsk = magic == layout.LOG_CHKDSK
    return RestartPage(chkdsk_lsn if is_chkdsk else lsn, (major, minor), clean)
