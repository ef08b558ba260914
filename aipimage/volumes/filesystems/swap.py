"""Linux swap space: only its header is in use.

Source: Linux, include/linux/swap.h (union swap_header), mm/swapfile.c (read_swap_header), and
kernel/power/swap.c for the signatures that a suspended system leaves at the same place.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from aipimage.io.blocks.freespace import RangesFree
from aipimage.volumes.model import Allocation, FileSystem, Parser, SurveyOptions
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import LayoutError, VolumeView

SUSPENDED = "a suspended system lies in it"
PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_SIGNATURE, _OLD = b"SWAPSPACE2", b"SWAP-SPACE"
_SUSPENDED = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
_TUXONICE = bytes.fromhex("edc302e99856e50c")
_INFO_AT, _PADDING_AT, _BAD_AT = 1024, 1068, 1536
_INFO_SIZE = 44
_LAST_PAGE_AT = _INFO_AT + 4
_PAGES_MIN, _PAGES_MAX = 10, 1 << 32
"""Pages that the kernel wants, and those that the header's field can say."""


class Header(NamedTuple):
    """What is known of a swap space: where its signature is, and what that is."""

    page: int
    signature: bytes


def probe(view: VolumeView) -> FileSystem | None:
    """A signature at the end of the first page, however large a page is."""
    for page in PAGE_SIZES:
        if page > view.size:
            return None
        try:
            signature = view.read(page - 10, 10)
        except LayoutError:
            continue
        if signature in (_SIGNATURE, _OLD, *_SUSPENDED) or (
            page == PAGE_SIZES[0] and view.read(0, 8) == _TUXONICE
        ):
            return _filesystem(view, Header(page, signature))
    return None


def _filesystem(view: VolumeView, header: Header) -> FileSystem:
    info = view.read(_INFO_AT, _INFO_SIZE)
    label = info[28:44].split(b"\0")[0].decode("utf-8", "replace")
    uuid = info[12:28].hex()
    dashed = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
    named = header.signature == _SIGNATURE and uuid.strip("0")
    return FileSystem(
        "swap", label if named else "", dashed if named else "", view.size, header.page, header
    )


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See :class:`aipimage.volumes.model.Parser`."""
    header = filesystem.details
    if not isinstance(header, Header):
        raise RuntimeError("internal error: not what the probe of swap space found")
    if header.signature == _OLD:
        raise LayoutError("it is swap space of version 0")
    if header.signature != _SIGNATURE:
        raise LayoutError(SUSPENDED)
    data = view.read(0, header.page)
    # Room for a boot sector or a disk's label: another content may lie there.
    if any(data[:_INFO_AT]):
        raise LayoutError("something else lies before its header")
    end = (_last_page(data, header.page) + 1) * header.page
    if end > view.size:
        raise LayoutError("it is larger than its volume")
    free = np.array([(header.page, end - header.page)], np.uint64)
    return Allocation(RangesFree(free))


def _last_page(data: bytes, page: int) -> int:
    """The number of the last page; what else the header says must make sense."""
    version, last, bad = struct.unpack_from(f"{_order(data)}III", data, _INFO_AT)
    if version != 1 or last < 1:
        raise LayoutError("its header has an unknown version or no pages")
    if bad > (page - _BAD_AT - 10) // 4:
        raise LayoutError(f"its header lists {bad} bad pages")
    if any(data[_PADDING_AT:_BAD_AT]) or any(data[_BAD_AT + 4 * bad : page - 10]):
        raise LayoutError("something else lies in its header")
    return int(last)


def _order(data: bytes) -> str:
    """The byte order of the header, that of the machine that made it, for ``struct``."""
    return "<" if data[_INFO_AT:_LAST_PAGE_AT] == b"\x01\0\0\0" else ">"


def resized(view: VolumeView, size: int) -> list[Patch]:
    """Return what to write over a swap space so that it fills ``size`` bytes.

    Raises:
        LayoutError: it is not one, or names bad pages; or the size is less than ten pages or more
            than its header can say.
    """
    for page in PAGE_SIZES:
        if page <= view.size and view.read(page - 10, 10) == _SIGNATURE:
            break
    else:
        raise LayoutError("it has no signature of a swap area")
    data = view.read(0, _INFO_AT + _INFO_SIZE)
    order, pages = _order(data), size // page
    # A bad page may lie past the new end.
    if any(data[_LAST_PAGE_AT + 4 : _LAST_PAGE_AT + 8]):
        raise LayoutError("it has bad pages, and cannot have another size")
    if not _PAGES_MIN <= pages <= _PAGES_MAX:
        raise LayoutError(f"a swap area cannot have {pages:,} pages")
    return [(_LAST_PAGE_AT, struct.pack(f"{order}I", pages - 1))]


PARSER = Parser("swap", probe, allocation)
