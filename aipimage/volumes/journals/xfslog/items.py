"""What the items of an XFS log say, with every number verified against its regions.

"XFS Algorithms & Data Structures", section Journaling Log, Log Items. Items are written in the
order of bytes of the machine; only that of the usual ones is known here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.journals.xfslog.transactions import Item
from aipimage.volumes.view import LayoutError

_DAMAGED = "an item in its log is damaged"
_KNOWN = frozenset(
    {
        layout.EFI, layout.EFD, layout.INODE, layout.BUFFER, layout.DQUOT, layout.QUOTAOFF,
        layout.ICREATE, layout.RUI, layout.RUD, layout.CUI, layout.CUD, layout.BUI, layout.BUD,
        layout.ATTRI, layout.ATTRD, layout.XMI, layout.XMD,
    }
)  # fmt: skip


class BufferItem(NamedTuple):
    """Changes of a buffer.

    Attributes:
        block, length: basic blocks. flags: ``layout.CANCEL`` and others.
        chunks: (offset in the buffer, bytes).
    """

    block: int
    length: int
    flags: int
    chunks: list[tuple[int, bytes | bytearray]]

    @property
    def is_cancel(self) -> bool:
        """Whether it says that the buffer was freed."""
        return bool(self.flags & layout.CANCEL)


class InodeItem(NamedTuple):
    """A changed inode.

    Attributes:
        fields: what of it is logged. block, length: basic blocks of its cluster. offset: within
            that. device: of a device node. core: as it is in memory. forks: what is logged of the
            data fork and the attribute fork, in this order.
    """

    fields: int
    block: int
    length: int
    offset: int
    device: int
    core: bytes | bytearray
    forks: list[bytes | bytearray]


class NewInodes(NamedTuple):
    """Blocks that became inodes.

    Attributes:
        group, block, length: blocks. inodes: how many. size: bytes of each. generation: theirs.
    """

    group: int
    block: int
    length: int
    inodes: int
    size: int
    generation: int


class DquotItem(NamedTuple):
    """A changed quota; members as of an inode."""

    block: int
    length: int
    offset: int
    data: bytes | bytearray


class Intent(NamedTuple):
    """What is to be done, or (``is_done``) was: kind and id, and its extents."""

    kind: int
    number: int
    is_done: bool
    extents: list[tuple[int, int]]


def check_kind(item: Item) -> None:
    """Refuse an item of which nothing is known, such as those of realtime groups."""
    if item.kind not in _KNOWN:
        raise LayoutError(f"its log holds an item that is not known ({item.kind:#x})")


def _require(condition: bool) -> None:
    if not condition:
        raise LayoutError(_DAMAGED)


def buffer_of(item: Item) -> BufferItem:
    """Decode an item of type ``layout.BUFFER``."""
    head = item.regions[0]
    _require(len(head) >= layout.BUFFER_FORMAT.size)
    _, _, flags, length, block, words = layout.BUFFER_FORMAT.unpack_from(head)
    size = layout.BUFFER_FORMAT.size
    _require(0 < length <= layout.BUFFER_BLOCKS_MAX and block >= 0)
    _require(len(head) >= size + 4 * words)
    if flags & layout.CANCEL:
        return BufferItem(block, length, flags, [])
    bits = np.unpackbits(np.frombuffer(head[size : size + 4 * words], np.uint8), bitorder="little")
    return BufferItem(block, length, flags, _chunks(item, bits, length * layout.BASIC_BLOCK))


def _chunks(
    item: Item, bits: npt.NDArray[np.uint8], size: int
) -> list[tuple[int, bytes | bytearray]]:
    """Runs of set bits are filled by one region, or by several after each other."""
    edges = np.flatnonzero(np.diff(bits, prepend=0, append=0)).tolist()
    found, regions = [], iter(item.regions[1:])
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        while start < end:
            region = next(regions, None)
            if region is None:
                raise LayoutError(_DAMAGED)
            count = min(end - start, len(region) // layout.CHUNK)
            _require(count > 0)
            offset = start * layout.CHUNK
            _require(offset + count * layout.CHUNK <= size)
            found.append((offset, region[: count * layout.CHUNK]))
            start += count
    return found


def inode_of(item: Item) -> InodeItem:
    """Decode an item of type ``layout.INODE``."""
    head = item.regions[0]
    # Machines of 32 bits write 52 bytes.
    _require(len(head) == layout.INODE_FORMAT.size and len(item.regions) >= 2)
    _, size, fields, _, _, _, _, about, block, length, offset = layout.INODE_FORMAT.unpack(head)
    _require(block >= 0 and 0 < length <= layout.BUFFER_BLOCKS_MAX and offset >= 0)
    _require(size == len(item.regions))
    device = int.from_bytes(about[:4], "little")
    core, *forks = item.regions[1:]
    return InodeItem(fields, block, length, offset, device, core, forks)


def new_inodes_of(item: Item) -> NewInodes:
    """Decode an item of type ``layout.ICREATE``."""
    head = item.regions[0]
    _require(len(head) >= layout.ICREATE_FORMAT.size + layout.ICREATE_FIELDS.size)
    group, block, count, size, length, generation = layout.ICREATE_FIELDS.unpack_from(
        head, layout.ICREATE_FORMAT.size
    )
    return NewInodes(group, block, length, count, size, generation)


def dquot_of(item: Item) -> DquotItem:
    """Decode an item of type ``layout.DQUOT``."""
    head = item.regions[0]
    _require(len(head) >= layout.DQUOT_FORMAT.size and len(item.regions) >= 2)
    _, _, _, block, length, offset = layout.DQUOT_FORMAT.unpack_from(head)
    _require(block >= 0 and 0 < length <= layout.BUFFER_BLOCKS_MAX)
    return DquotItem(block, length, offset, item.regions[1])


def intent_of(item: Item) -> Intent | None:
    """Decode an item that announces or ends something; ``None`` for others."""
    kind, head = item.kind, item.regions[0]
    done = layout.DONE_OF.get(kind)
    if done is None and kind not in (*layout.EXTENT_FORMS, layout.ATTRI, layout.XMI):
        return None
    _require(len(head) >= layout.INTENT.size)
    _, _, count, number = layout.INTENT.unpack_from(head)
    if done is not None:
        return Intent(done, number, True, [])
    form = layout.EXTENT_FORMS.get(kind)
    if form is None:
        return Intent(kind, number, False, [])
    _require(len(head) == layout.INTENT.size + count * form.size)
    body = head[layout.INTENT.size :]
    return Intent(
        kind, number, False, [(first, length) for first, length in form.iter_unpack(body)]
    )
