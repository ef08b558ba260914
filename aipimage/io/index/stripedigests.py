"""Block digests of frames that pass by in their order, compared with leaves (docs/format.md,
sections 8 and 11).
"""

from __future__ import annotations

from aipimage import _core
from aipimage.errors import FormatError, IntegrityError
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.digest import block_digest
from aipimage.format.tables import FrameExtents, unpack_at

_SECTORS = c.BLOCK // SECTOR
_ZERO = bytes(c.BLOCK_DIGEST)


class StripeDigests:
    """The block digests of one stripe after the other; memory for one block, whatever a stripe's
    size.
    """

    def __init__(self, stripe_shift: int) -> None:
        self._per_leaf = 1 << (stripe_shift - 16)
        self._stripe: tuple[int, int] | None = None
        self._found: dict[int, bytes] = {}
        self._has_leaf = True
        self._block = -1
        self._content = bytearray(c.BLOCK)

    def add(self, extents: FrameExtents, plain: memoryview) -> None:
        """Take the sectors of the next frame, which ascend."""
        at = 0
        for start, sectors in extents.tolist():
            end = at + sectors * SECTOR
            self._put(*unpack_at(start), plain[at:end])
            at = end

    def leaf(self, first: int, digests: bytes) -> None:
        """Compare a leaf with the frames of its stripe, the last of which was added before.

        Raises:
            FormatError: it stands in the wrong place. IntegrityError: a digest is wrong.
        """
        self._end_block()
        if self._has_leaf or self._stripe is None or self._stripe[1] * self._per_leaf != first:
            raise FormatError("a block digest leaf is not where it belongs")
        self._has_leaf = True
        count = len(digests) // c.BLOCK_DIGEST
        if any(block >= first + count for block in self._found):
            raise IntegrityError("a block digest leaf leaves out a block that a frame names")
        wanted = b"".join(self._found.get(first + index, _ZERO) for index in range(count))
        if wanted != digests:
            raise IntegrityError("a block digest leaf does not fit the frames of its stripe")

    def end(self) -> None:
        """The stripe is complete: ``IntegrityError`` where it has data and no leaf."""
        self._end_block()
        if self._found and not self._has_leaf:
            raise IntegrityError("the block digest leaf of a stripe is missing")

    def _put(self, device: int, sector: int, view: memoryview) -> None:
        while view.nbytes:
            block, inside = divmod(sector, _SECTORS)
            taken = min(view.nbytes, (_SECTORS - inside) * SECTOR)
            self._begin(device, block)
            self._content[inside * SECTOR : inside * SECTOR + taken] = view[:taken]
            view, sector = view[taken:], sector + taken // SECTOR

    def _begin(self, device: int, block: int) -> None:
        stripe = (device, block // self._per_leaf)
        if stripe != self._stripe:
            self.end()
            self._stripe, self._found, self._has_leaf = stripe, {}, False
        elif self._has_leaf:
            raise FormatError("a frame stands after the block digest leaf of its stripe")
        if block != self._block:
            self._end_block()
            self._block = block

    def _end_block(self) -> None:
        if self._block >= 0:
            if not _core.is_zero(self._content):
                self._found[self._block] = block_digest(self._content)
                self._content[:] = bytes(c.BLOCK)
            self._block = -1
