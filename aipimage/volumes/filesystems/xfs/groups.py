"""The headers of allocation groups: a superblock, the AGF, the AGI and the AGFL, a sector each.

"XFS Algorithms & Data Structures", sections AG Free Space Management and AG Inode Management.
Groups are looked at in batches: whatever is said of one is an element of an array.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.xfs import layout
from aipimage.volumes.filesystems.xfs.layout import Records
from aipimage.volumes.filesystems.xfs.superblock import Superblock, check_copies, check_crc
from aipimage.volumes.view import LayoutError, VolumeView

Numbers = npt.NDArray[np.int64]

BATCH_BYTES = 4 << 20
"""Of headers that are looked at together."""
_LEVELS_MAX = 9
"""XFS_BTREE_MAXLEVELS."""


class Groups(NamedTuple):
    """Allocation groups next to each other; arrays with an element each, ``int64``.

    Attributes:
        numbers: of the groups. lengths: blocks. freeblks, longest: free blocks in all, and of the
            longest run. flcount: blocks on the free list. btreeblks: blocks of B+trees without
            roots, as the AGF says. rmap_blocks: those of the reverse map, 0 without one.
        bno_root, cnt_root: blocks of the group; bno_level, cnt_level: from 1.
        in_use: blocks of the *volume* that the headers take and name, without the B+trees of free
            space: (first, count), shape (n, 2).
    """

    numbers: Numbers
    lengths: Numbers
    freeblks: Numbers
    longest: Numbers
    flcount: Numbers
    btreeblks: Numbers
    rmap_blocks: Numbers
    bno_root: Numbers
    bno_level: Numbers
    cnt_root: Numbers
    cnt_level: Numbers
    in_use: Numbers


def read_groups(
    view: VolumeView, superblock: Superblock, head: int, first: int, count: int
) -> Groups:
    """Return ``count`` groups from number ``first`` on; ``LayoutError`` where anything is amiss.

    ``head``: log sequence number that no structure can have reached.
    """
    sector = superblock.sectsize
    view.allow(4 * sector * count)
    rows = np.empty((count, 4 * sector), np.uint8)
    step = superblock.agblocks * superblock.blocksize
    for index in range(count):
        rows[index] = view.read_array((first + index) * step, 4 * sector)
    numbers = np.arange(first, first + count, dtype=np.int64)
    copies, agf, agi, agfl = (rows[:, at : at + sector] for at in range(0, 4 * sector, sector))
    check_copies(superblock, copies)
    lengths = superblock.lengths(numbers)
    free = _checked(superblock, head, agf, layout.AGF, b"XAGF", "free space header")
    inodes = _checked(superblock, head, agi, layout.AGI, b"XAGI", "inode header")
    for kind in (free, inodes):
        wrong = (kind["seqno"] != numbers) | (kind["length"] != lengths) | (kind["versionnum"] != 1)
        if wrong.any():
            raise LayoutError("a header of an allocation group is not that of its group")
    _check_counts(superblock, free, lengths)
    roots = [*_roots(superblock, free, inodes)]
    inside = [(root >= superblock.header_blocks) & (root < lengths) for root in roots]
    if not np.all(inside):
        raise LayoutError("the root of a B+tree lies outside of its allocation group")
    listed = _free_list(superblock, head, agfl, free, numbers, lengths)
    starts = numbers * superblock.agblocks
    used = [np.column_stack((starts, np.full(count, superblock.header_blocks)))]
    used += [np.column_stack((starts + root, np.ones_like(root))) for root in roots]
    own = {name: free[name].astype(np.int64) for name in _FROM_AGF}
    if not superblock.rmap:
        own["rmap_blocks"] = np.zeros(count, np.int64)
    return Groups(numbers, lengths, in_use=np.concatenate([*used, listed]), **own)


_FROM_AGF = sorted({*Groups._fields} - {"numbers", "lengths", "in_use"})


def _checked(
    superblock: Superblock,
    head: int,
    sectors: npt.NDArray[np.uint8],
    kind: np.dtype[np.void],
    magic: bytes,
    what: str,
) -> Records:
    """The records of a kind of header, with magic and, in version 5, what describes themselves."""
    found = layout.records(sectors, kind)
    if (found["magic"] != magic).any():
        raise LayoutError(f"the {what} of an allocation group has no magic")
    if superblock.version == 5:
        check_crc(
            sectors,
            layout.offset_of(kind, "crc"),
            f"the checksum of the {what} of an allocation group is wrong",
        )
        check_own(superblock, head, found, f"the {what} of an allocation group")
    return found


def check_own(superblock: Superblock, head: int, found: Records, what: str) -> None:
    """Check that structures of version 5 belong to this file system, and are not newer than its
    log is.
    """
    uuids = np.ascontiguousarray(found["uuid"]).view(np.uint8).reshape(len(found), 16)
    if (uuids != np.frombuffer(superblock.meta_uuid, np.uint8)).any():
        raise LayoutError(f"{what} belongs to another file system")
    lsn = found["lsn"].astype(np.uint64)
    if ((lsn > np.uint64(head)) & (lsn != np.uint64(layout.NULL_LSN))).any():
        raise LayoutError(f"{what} is newer than the log")


def _check_counts(superblock: Superblock, free: Records, lengths: Numbers) -> None:
    room = lengths - superblock.header_blocks
    wrong = (
        (free["freeblks"] > room)
        | (free["longest"] > free["freeblks"])
        | (free["btreeblks"] > room)
        | (free["bno_level"] < 1)
        | (free["bno_level"] > _LEVELS_MAX)
        | (free["cnt_level"] < 1)
        | (free["cnt_level"] > _LEVELS_MAX)
    )
    if superblock.rmap:
        wrong |= (free["rmap_blocks"] < 1) | (free["rmap_blocks"] > room)
    if wrong.any():
        raise LayoutError("the counts of an allocation group are out of range")


def _roots(superblock: Superblock, free: Records, inodes: Records) -> list[Numbers]:
    """The roots of all other B+trees that a file system of these features has."""
    found = [inodes["root"]]
    if superblock.rmap:
        found.append(free["rmap_root"])
    if superblock.reflink:
        found.append(free["refcount_root"])
    if superblock.finobt:
        found.append(inodes["free_root"])
    return [root.astype(np.int64) for root in found]


def _free_list(
    superblock: Superblock,
    head: int,
    sectors: npt.NDArray[np.uint8],
    free: Records,
    numbers: Numbers,
    lengths: Numbers,
) -> Numbers:
    """Blocks of the volume, as (first, 1), that the allocator keeps for its own trees: a ring from
    ``flfirst`` to ``fllast`` in the AGFL.
    """
    if superblock.version == 5:
        own = _checked(superblock, head, sectors, layout.AGFL, b"XAFL", "free list")
        if (own["seqno"] != numbers).any():
            raise LayoutError("the free list of an allocation group is not that of its group")
        sectors = sectors[:, layout.AGFL_HEADER :]
    size = sectors.shape[1] // 4
    first, last, count = (free[name].astype(np.int64) for name in ("flfirst", "fllast", "flcount"))
    spans = (last - first) % size + 1
    if ((first >= size) | (last >= size) | ((count != 0) & (count != spans))).any():
        raise LayoutError("the ends of a free list do not agree with its count")
    blocks = np.ascontiguousarray(sectors[:, : 4 * size]).view(">u4").astype(np.int64)
    active = (np.arange(size) - first[:, None]) % size < count[:, None]
    group = np.nonzero(active)[0]
    listed = blocks[active]
    if ((listed < superblock.header_blocks) | (listed >= lengths[group])).any():
        raise LayoutError("a block on a free list lies outside of its allocation group")
    listed += numbers[group] * superblock.agblocks
    return np.column_stack((listed, np.ones_like(listed)))
