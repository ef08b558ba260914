"""Fast commits: what an ext4 wrote after its last transaction, in a few words each.

They lie after the ring, in blocks of their own: tags with a length, the first of them a head with
the number of the transaction that they precede. A mount replays them after the transactions. No
bitmap knows their blocks before that: all extents that they name have to be kept. How far they are
valid does not matter for this: all tags up to what is no tag any more are taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.journals.jbd2 import layout
from aipimage.volumes.journals.jbd2.blocks import JournalBlocks
from aipimage.volumes.journals.jbd2.superblock import Journal
from aipimage.volumes.view import LayoutError

_INITIALISED_MAX = 32_768
BYTES_MAX = 32 << 20
"""Of fast commits that are looked at."""


class FastCommits(NamedTuple):
    """What fast commits name.

    Attributes:
        commits: how many there are. ranges: shape (n, 2): first block of the volume, and blocks.
        inodes: as they are logged; their blocks are to be kept as well.
    """

    commits: int
    ranges: npt.NDArray[np.int64]
    inodes: list[bytes]


class _Collector:
    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self.commits = 0
        self.ranges: list[tuple[int, int]] = []
        self.inodes: list[bytes] = []

    def block(self, data: bytes, is_first: bool) -> bool:
        """Take the tags of a block; ``False`` where no more follow."""
        at = 0
        while at + layout.FAST_TAG.size < len(data):
            tag, length = layout.FAST_TAG.unpack_from(data, at)
            at += layout.FAST_TAG.size
            if at + length > len(data) or (is_first and not at > 4 and tag != layout.HEAD):
                return False
            if not self._tag(tag, data[at : at + length]):
                return False
            at += length
        return True

    def _tag(self, tag: int, value: bytes) -> bool:
        if tag == layout.HEAD:
            return self._head(value)
        if tag == layout.ADD_RANGE and len(value) >= layout.FAST_RANGE.size:
            _, length, high, low = layout.FAST_RANGE.unpack_from(value)
            if length > _INITIALISED_MAX:
                length -= _INITIALISED_MAX
            self.ranges.append((high << 32 | low, length))
        elif tag == layout.INODE:
            self.inodes.append(value[layout.FAST_INODE.size :])
        elif tag == layout.TAIL:
            self.commits += 1
        return layout.ADD_RANGE <= tag <= layout.TAIL

    def _head(self, value: bytes) -> bool:
        if len(value) < layout.FAST_HEAD.size:
            return False
        features, sequence = layout.FAST_HEAD.unpack_from(value)
        if sequence != self._sequence:
            return False
        if features:
            raise LayoutError(f"its fast commits have features that are not known ({features:#x})")
        return True


def fast_commits(journal: Journal, blocks: JournalBlocks, sequence: int) -> FastCommits:
    """Return the fast commits before transaction ``sequence``, the first one that is not complete.

    Raises:
        LayoutError: they are not understood.
    """
    found = _Collector(sequence)
    # The block at the end of the ring stays unused.
    numbers = range(journal.last + 1, journal.end) if journal.has_fast_commits else range(0)
    if len(numbers) * journal.block_size > BYTES_MAX:
        raise LayoutError("its fast commits are more than can be looked at")
    for number in numbers:
        if not found.block(blocks.read(number)[0].tobytes(), number == journal.last + 1):
            break
    ranges = np.array(found.ranges, np.int64).reshape(-1, 2)
    return FastCommits(found.commits, ranges, found.inodes)
