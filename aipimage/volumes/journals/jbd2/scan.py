"""The transactions of a journal, from the first to where a mount stops.

A transaction is descriptors, each followed by the blocks that it names, lists of revoked blocks,
and a commit block. It counts from its commit on. The scan ends at a block that is none of these or
of another sequence, and at a commit with a wrong checksum: that was being written when the machine
stopped. Linux, do_one_pass in PASS_SCAN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c, crc32c_rows
from aipimage.volumes.journals.jbd2 import layout
from aipimage.volumes.journals.jbd2.blocks import JournalBlocks
from aipimage.volumes.journals.jbd2.superblock import Journal
from aipimage.volumes.journals.jbd2.tags import (
    crc32_big_endian,
    has_right_commit,
    has_right_tail,
    revokes_of,
    tags_of,
)
from aipimage.volumes.journals.redirected import Moved
from aipimage.volumes.view import LayoutError

OPEN_MAX = 1 << 20
"""Blocks between the beginning and the end that are looked at: 4 GiB in blocks of 4 KiB."""
REVOKES_MAX = 1 << 21
_ALL_ONES = 0xFFFFFFFF
_AT_ONCE = 4 << 20
Numbers = npt.NDArray[np.int64]


class Transactions(NamedTuple):
    """What a journal holds. Of its arrays each has an element a logged block, in the order in which
    they were logged.

    Attributes:
        complete: how many transactions are. sequence: of the first that is not.
        blocks: of the volume. numbers: blocks of the journal at which they are logged. turns: of
            which transaction, from 0 on; ``complete`` and more for one that is not complete.
        escaped: whether the first word was replaced by zero.
        revoked: shape (n, 2): blocks, and the turn in which each was revoked, complete or not.
    """

    complete: int
    sequence: int
    blocks: Numbers
    numbers: Numbers
    turns: Numbers
    escaped: npt.NDArray[np.bool_]
    revoked: Numbers

    def moved(self, blocks: JournalBlocks) -> Moved:
        """What is read from the journal once it is replayed: the last copy of each block that no
        later transaction, or its own, has revoked.
        """
        kept = self.turns < self.complete
        revoked = self.revoked[self.revoked[:, 1] < self.complete]
        if len(revoked):
            names, at = np.unique(revoked[:, 0], return_inverse=True)
            until = np.full(len(names), -1, np.int64)
            np.maximum.at(until, at, revoked[:, 1])
            place = np.minimum(np.searchsorted(names, self.blocks), len(names) - 1)
            kept &= (names[place] != self.blocks) | (until[place] < self.turns)
        rows = np.flatnonzero(kept)[::-1]
        found, first = np.unique(self.blocks[rows], return_index=True)
        rows = rows[first]
        word = layout.MAGIC.to_bytes(4, "big")
        return Moved(found, blocks.places(self.numbers[rows]), self.escaped[rows], word)


@dataclass(slots=True)
class _Open:
    """A transaction whose commit was not seen yet."""

    tags: list[Numbers] = field(default_factory=list)
    numbers: list[Numbers] = field(default_factory=list)
    revoked: list[Numbers] = field(default_factory=list)
    is_doubtful: bool = False
    checksum: int = _ALL_ONES


class _Scan:
    def __init__(self, journal: Journal, blocks: JournalBlocks, limit: int) -> None:
        self._journal, self._blocks, self._limit = journal, blocks, limit
        self._at, self._left = journal.start, journal.ring
        self._done: list[_Open] = []
        self._now = _Open()
        self._time = self._revokes = 0

    @property
    def _sequence(self) -> int:
        return (self._journal.sequence + len(self._done)) & _ALL_ONES

    def run(self) -> Transactions:
        """Scan from the first transaction on."""
        while self._step():
            pass
        count = len(self._done)
        everything = [*self._done, self._now]
        parts = [_arrays(turn, each) for turn, each in enumerate(everything)]
        tags, revoked = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
        blocks, escaped, numbers, turns = tags.T
        if (blocks[turns < count] >= self._limit).any():
            raise LayoutError("a transaction in it writes to a block that is not there")
        return Transactions(
            count, self._sequence, blocks, numbers, turns, escaped.astype(np.bool_), revoked
        )

    def _take(self, count: int) -> Numbers:
        """The numbers of the next blocks of the ring; no block comes twice."""
        self._left -= count
        if self._left < 0 or self._journal.ring - self._left > OPEN_MAX:
            raise LayoutError("its transactions are more than can be looked at")
        journal, at = self._journal, self._at - self._journal.first
        self._at = journal.first + (at + count) % journal.ring
        return journal.first + (at + np.arange(count, dtype=np.int64)) % journal.ring

    def _step(self) -> bool:
        """Take a control block and what belongs to it; ``False`` at the end."""
        if not self._left:
            return False
        data = self._blocks.read(self._at)[0].tobytes()
        magic, kind, sequence = layout.HEADER.unpack_from(data)
        if magic != layout.MAGIC or sequence != self._sequence:
            return False
        if kind == layout.COMMIT:
            self._take(1)
            return self._commit(data)
        if kind not in (layout.DESCRIPTOR, layout.REVOKE):
            return False
        self._take(1)
        if not has_right_tail(self._journal, data):
            # It may be of an older turn of the ring: the commit tells.
            self._now.is_doubtful = True
        if kind == layout.REVOKE:
            self._revoke(data)
        else:
            self._descriptor(data)
        return True

    def _revoke(self, data: bytes) -> None:
        try:
            found = revokes_of(self._journal, data)
        except LayoutError:
            if self._now.is_doubtful:
                return
            raise
        self._revokes += len(found)
        if self._revokes > REVOKES_MAX:
            raise LayoutError("its revoked blocks are more than can be looked at")
        self._now.revoked.append(found)

    def _descriptor(self, data: bytes) -> None:
        tags = tags_of(self._journal, data, self._limit)
        numbers = self._take(len(tags))
        self._now.tags.append(tags)
        self._now.numbers.append(numbers)
        if self._journal.csum == 1:
            self._now.checksum = crc32_big_endian(data, self._now.checksum)
            for rows in self._rows(numbers):
                self._now.checksum = crc32_big_endian(rows.tobytes(), self._now.checksum)

    def _rows(self, numbers: Numbers) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield logged blocks in their order, those next to each other read at once."""
        most = max(1, _AT_ONCE // self._journal.block_size)
        heads = np.flatnonzero(np.diff(numbers, prepend=-2) != 1).tolist()
        for low, high in itertools.pairwise([*heads, len(numbers)]):
            for at in range(low, high, most):
                yield self._blocks.read(int(numbers[at]), min(most, high - at))

    def _commit(self, data: bytes) -> bool:
        seconds = layout.COMMIT_BLOCK.unpack_from(data, layout.COMMIT_AT)[3]
        if self._now.is_doubtful:
            if seconds >= self._time:
                raise LayoutError("a transaction in it has a wrong checksum")
            return False
        if not has_right_commit(self._journal, data, self._now.checksum):
            if seconds >= self._time and self._goes_on():
                raise LayoutError("a transaction in it has a wrong checksum, and others follow")
            return False
        if self._journal.csum >= 2:
            self._check_logged()
        self._done.append(self._now)
        self._now, self._time = _Open(), seconds
        return True

    def _goes_on(self) -> bool:
        """Whether the next transaction begins where this one ends."""
        magic, _, sequence = layout.HEADER.unpack_from(self._blocks.read(self._at)[0].tobytes())
        return bool(magic == layout.MAGIC and sequence == (self._sequence + 1) & _ALL_ONES)

    def _check_logged(self) -> None:
        """Compare the checksums of all blocks of a transaction, which cover them as they lie in the
        journal.
        """
        seed = crc32c(self._sequence.to_bytes(4, "big"), self._journal.seed)
        for tags, numbers in zip(self._now.tags, self._now.numbers, strict=True):
            at = 0
            for rows in self._rows(numbers):
                found = crc32c_rows(rows, seed)
                if self._journal.csum == 2:
                    found &= np.uint32(0xFFFF)
                if (found != tags[at : at + len(rows), 2]).any():
                    raise LayoutError("a block that is logged in it has a wrong checksum")
                at += len(rows)


def _arrays(turn: int, one: _Open) -> tuple[Numbers, Numbers]:
    """Logged blocks as (block, whether escaped, number, turn); revoked ones as (block, turn)."""
    nothing = np.empty((0, 3), np.int64)
    tags = np.concatenate([nothing, *one.tags])[:, :2]
    numbers = np.concatenate([nothing[:, 0], *one.numbers])
    revoked = np.concatenate([nothing[:, 0], *one.revoked])
    turns = (np.full(len(each), turn, np.int64) for each in (numbers, revoked))
    return np.column_stack((tags, numbers, next(turns))), np.column_stack((revoked, next(turns)))


def scan(journal: Journal, blocks: JournalBlocks, limit: int) -> Transactions:
    """Return the transactions of a journal of a volume of ``limit`` blocks; none where it is
    empty.

    Raises:
        LayoutError: a checksum is wrong within them, or something is not understood.
    """
    if not journal.start:
        nothing = np.empty(0, np.int64)
        return Transactions(
            0, journal.sequence, nothing, nothing, nothing, nothing.astype(np.bool_),
            nothing.reshape(0, 2),
        )  # fmt: skip
    return _Scan(journal, blocks, limit).run()
