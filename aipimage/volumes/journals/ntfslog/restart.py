"""The two restart pages at the start of $LogFile, each of which says where to begin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aipimage.volumes.fixups import HEADER, fixed_up
from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.view import LayoutError

_WHAT = "a restart page of its journal"


class RestartPage(NamedTuple):
    """What one of the two restart pages says.

    Attributes:
        lsn: newer is greater. version: major and minor. clean: whether nothing is to be replayed.
        log_page: bytes of a log page. area: the restart area, up to the end of the page.
        client: index of the first client in use.
    """

    lsn: int
    version: tuple[int, int]
    clean: bool
    log_page: int
    area: bytes
    client: int

    @property
    def version_name(self) -> str:
        """Such as ``"1.1"``."""
        return "{}.{}".format(*self.version)


class Shape(NamedTuple):
    """The shape of a log, and where to begin.

    Attributes:
        size: bytes of the file that the log covers. page: bytes of a page.
        data_at: offset of the data in a page. header: bytes of a record's header.
        sequence_bits: of the 64 of an LSN, those that count the turns of the ring.
        first: page at which the ring begins. copies_have_place: whether a copy of a page says where
            it belongs in a field of its own.
        oldest: LSN of the oldest record that is needed. older: of that which the other restart page
            asks for. checkpoint: of the last checkpoint; 0 for
            none. current: of the last record that was known. client: whose records count.
    """

    size: int
    page: int
    data_at: int
    header: int
    sequence_bits: int
    first: int
    copies_have_place: bool
    oldest: int
    older: int
    checkpoint: int
    current: int
    client: int


def restart_pages(data: bytes) -> list[RestartPage]:
    """Read both pages from the start of a journal, the one in force first.

    Raises:
        LayoutError: one of them is not there or not whole: it might be the newer one, cut short.
    """
    if data[:4] not in (layout.RESTART_MAGIC, layout.CHKDSK_MAGIC):
        raise LayoutError("its journal does not begin with a restart page")
    size = layout.RESTART_PAGE.unpack_from(data)[1]
    if not layout.PAGE_MIN <= size <= layout.PAGE_MAX or size & (size - 1) or 2 * size > len(data):
        raise LayoutError(f"its journal says pages of {size} bytes")
    pages = [decode_restart_page(data[at : at + size]) for at in (0, size)]
    return sorted(pages, key=lambda page: page.lsn, reverse=True)


def decode_restart_page(data: bytes) -> RestartPage:
    """Read a restart page and its area ("$LogFile", Restart Area).

    Raises:
        LayoutError: it does not fit, or was not written as a whole.
    """
    magic, _, words = HEADER.unpack_from(data)
    # chkdsk may leave a page without fix-ups.
    if magic != layout.CHKDSK_MAGIC or words:
        kind = layout.CHKDSK_MAGIC if magic == layout.CHKDSK_MAGIC else layout.RESTART_MAGIC
        data = fixed_up(data, kind, _WHAT)
    chkdsk_lsn, size, log_page, at, minor, major = layout.RESTART_PAGE.unpack_from(data)
    if size != len(data) or at % 8 or not layout.RESTART_PAGE.size <= at:
        raise LayoutError(f"{_WHAT} does not fit the others")
    if at + layout.RESTART_AREA.size > len(data):
        raise LayoutError(f"{_WHAT} has its restart area past its end")
    area = layout.RESTART_AREA.unpack_from(data, at)
    lsn, clients, _, in_use, flags = area[:5]
    if in_use != layout.NO_CLIENT and in_use >= clients:
        raise LayoutError(f"{_WHAT} names a client that is not there")
    clean = in_use == layout.NO_CLIENT or bool(flags & layout.VOLUME_IS_CLEAN)
    newest = chkdsk_lsn if magic == layout.CHKDSK_MAGIC else lsn
    return RestartPage(newest, (major, minor), clean, log_page, data[at:], in_use)


def shape_of(pages: list[RestartPage], available: int) -> Shape:
    """The shape of a log that is to be read, by both of its restart pages.

    Args:
        available: bytes of the file.

    Raises:
        LayoutError: it is of a version that is not known, or the two do not belong together.
    """
    shapes = [_shape(page, available) for page in pages]
    newest, other = shapes
    same = other._replace(
        oldest=newest.oldest,
        older=newest.older,
        checkpoint=newest.checkpoint,
        current=newest.current,
    )
    if same != newest:
        raise LayoutError("the restart pages of its journal say different sizes")
    # Of a page that is being replaced the older one may be what a driver reads.
    return newest._replace(older=min(newest.oldest, other.oldest))


def usual_shapes(available: int) -> Iterator[Shape]:
    """The shapes that a log of Windows has, where no restart page says so; ``available``: bytes of
    the file.
    """
    size = min(available, layout.LOG_MAX) // layout.PAGE_USUAL * layout.PAGE_USUAL
    bits = 64 - (size.bit_length() - 3)
    for version, first in layout.VERSIONS.items():
        if size >= (first + 2) * layout.PAGE_USUAL:
            yield Shape(
                size, layout.PAGE_USUAL, layout.DATA_AT_USUAL, layout.RECORD.size, bits, first,
                version != (1, 1), 0, 0, 0, 0, 0,
            )  # fmt: skip


def _shape(page: RestartPage, available: int) -> Shape:
    first = layout.VERSIONS.get(page.version)
    if first is None:
        raise LayoutError(f"its journal is of version {page.version_name}")
    area, size = page.area, page.log_page
    bits, length, clients_at = layout.RESTART_AREA.unpack_from(area)[5:]
    client_at = clients_at + page.client * layout.CLIENT_BYTES
    if client_at + layout.CLIENT_BYTES > min(length, len(area)):
        raise LayoutError(f"{_WHAT} has its clients past its end")
    total, _, header, data_at = layout.RESTART_SIZES.unpack_from(area)
    _check_sizes(size, total, header, data_at, available, bits, first)
    oldest, checkpoint, _, following, _, named = layout.CLIENT.unpack_from(area, client_at)
    name_at = client_at + layout.CLIENT.size
    is_ours = area[name_at : name_at + named] == layout.CLIENT_NAME
    if not is_ours or following != layout.NO_CLIENT:
        raise LayoutError("its journal is not that of NTFS alone")
    current = layout.RESTART_AREA.unpack_from(area)[0]
    has_place = page.version != (1, 1)
    return Shape(
        total, size, data_at, header, bits, first, has_place, oldest, oldest, checkpoint, current,
        page.client,
    )  # fmt: skip


def _check_sizes(
    page: int, total: int, header: int, data_at: int, available: int, bits: int, first: int
) -> None:
    """Every number that later sizes or divides anything."""
    if not layout.PAGE_MIN <= page <= layout.PAGE_MAX or page & (page - 1):
        raise LayoutError(f"its journal says log pages of {page} bytes")
    if not layout.PAGE_HEADER_MIN <= data_at < page - layout.RECORD.size or data_at % 8:
        raise LayoutError(f"the data of its log pages begins at byte {data_at}")
    if header != layout.RECORD.size:
        raise LayoutError(f"its log records have headers of {header} bytes")
    if not (first + 2) * page <= total <= min(available, layout.LOG_MAX) or total % page:
        raise LayoutError(f"its journal of {available:,} bytes says that it has {total:,}")
    if not 1 <= bits <= 63 or total > 8 << (64 - bits):
        raise LayoutError(f"its journal counts its turns in {bits} bits")
