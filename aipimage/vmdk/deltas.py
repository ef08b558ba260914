"""What changed between two disks of a chain of deltas.

A delta has the grains that were written since it was made; all else is its parent's. So what the
deltas between two members have is what changed, and feeds an incremental image::

    import aipimage
    from aipimage import vmdk
    from aipimage.vmdk.deltas import changed_between

    with vmdk.open("base.vmdk") as base:
        aipimage.create("monday.aiv", base)
    with vmdk.open("disk-000001.vmdk") as now, vmdk.open("base.vmdk") as before:
        changed = changed_between(now, before)
        aipimage.create("tuesday.aiv", now, parent="monday.aiv", changed=changed)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aipimage import checks
from aipimage.errors import RequestError
from aipimage.io.system.storage import Storage, chosen
from aipimage.ranges import ByteRanges, aligned, joined, no_ranges
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.member import DiskMember
from aipimage.vmdk.pieces import State
from aipimage.vmdk.source import VmdkSource

RANGES_MAX = 1 << 21
"""Ranges that are kept; where there are more they are widened, 32 MiB instead of gigabytes."""


def changed_between(
    newer: VmdkSource, older: VmdkSource, *, storage: Storage | None = None
) -> ByteRanges:
    """Return what may differ between two members of a chain, for ``aipimage.create(changed=…)``.

    That is what the members above ``older`` have, data and zeros, whole grains: never less than
    what changed, and more where the same was written again.

    Returns:
        ``uint64`` array of shape (n, 2): offset and length in bytes, ascending and disjoint.

    Raises:
        RequestError: ``older`` is not an ancestor of ``newer``, or is not as it was when ``newer``
        was opened. FormatError: a member is damaged. SourceError, StorageError: it cannot be read.
    """
    storage = chosen(storage)
    for name, value in (("newer", newer), ("older", older)):
        checks.instance(name, value, VmdkSource, "a disk that aipimage.vmdk.open gave")
    # Told apart as files: the same may have been opened by another path.
    files = [_identity(path, storage) for path in newer.chain]
    first = _identity(older.chain[0], storage)
    if first not in files:
        raise RequestError(
            f"{older.name}: is not in the chain of {newer.name}; pass a member that it is built on"
        )
    depth = files.index(first)
    ours = [member.descriptor for member in newer.members[depth:]]
    if ours != [member.descriptor for member in older.members]:
        raise RequestError(
            f"{older.name}: its chain differs from the one below {newer.name}; open both again,"
            " with the same directories"
        )
    return _touched(newer.members[:depth], newer.size)


def _identity(path: str, storage: Storage) -> tuple[int, int]:
    info = storage.stat(path)
    return info.device, info.inode


def _touched(members: Iterable[DiskMember], size: int) -> ByteRanges:
    """What any of the disks has, widened where there would be over ``RANGES_MAX`` ranges."""
    found: list[npt.NDArray[np.uint64]] = [no_ranges()]
    total, grain = 0, SECTOR
    for member in members:
        for rows in member.pieces(0, size):
            there = joined(rows[rows[:, 2] != State.ABSENT, :2].astype(np.uint64))
            found.append(there)
            total += len(there)
            while total > RANGES_MAX:
                grain *= 2
                found = [aligned(joined(np.concatenate(found)), grain, size)]
                total = len(found[0])
    return aligned(joined(np.concatenate(found)), grain, size)
