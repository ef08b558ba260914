"""Every form of ``changed`` that a caller may pass, as ranges: docs/tracking.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, IntegrityError, RequestError, UnsupportedError, naming
from aipimage.extents import Extent
from aipimage.format.constants import DEVICE_SIZE_MAX
from aipimage.io.changes import changefile, trackerfile
from aipimage.io.changes.changefile import read_changes, write_change_file
from aipimage.io.changes.changeset import Changes, verified_image_id
from aipimage.io.changes.chunkmap import chunk_ranges, merged
from aipimage.io.changes.nbdmap import read_nbd_map
from aipimage.io.changes.trackerfile import Consumer
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath
from aipimage.ranges import (
    ByteRanges,
    aligned,
    cut,
    granules_of,
    joined,
    no_ranges,
    ranges_of_runs,
    verified_granularity,
)

__all__ = [
    "ByteRanges",
    "ChangedBitmap",
    "ChangedLike",
    "Changes",
    "HasChanges",
    "aligned",
    "changes_from",
    "write_changes",
]


def verified_size(size: int, what: str) -> int:
    """Return a disk size in bytes within docs/format.md, section 9.1, else ``RequestError``."""
    if not 1 <= size <= DEVICE_SIZE_MAX:
        raise RequestError(f"{what} is {size} bytes, not within 1 to {DEVICE_SIZE_MAX}")
    return size


@dataclass(frozen=True, slots=True, eq=False)
class ChangedBitmap:
    """A bitmap of what changed, one bit for each granule of a disk; the last may be short.

    Attributes:
        bits: ``bool`` array with one element a granule, or packed bits, least significant first, as
            a ``uint8`` array or bytes-like object of ceil(granules / 8) bytes.
        granularity: bytes of a granule, a power of two from 512 to 2^30.
        size: bytes of the disk.
        since: id of the image that changes are counted from, as in :class:`Changes`.
    """

    bits: npt.NDArray[np.bool_] | npt.NDArray[np.uint8] | bytes | bytearray | memoryview
    granularity: int
    size: int
    since: str | None = None

    def changes(self) -> Changes:
        """Return the set; ``RequestError`` where number of bits and size do not fit together."""
        granularity = verified_granularity(self.granularity)
        size = verified_size(self.size, "the disk of the changed-bitmap")
        count = granules_of(size, granularity)
        ranges = ranges_of_runs([(0, self._packed(count), count)], granularity, size)
        return Changes(size, ranges, self.since)

    def _packed(self, count: int) -> npt.NDArray[np.uint8]:
        if isinstance(self.bits, np.ndarray):
            bits = self.bits
        else:
            bits = np.frombuffer(self.bits, np.uint8)
        if bits.ndim != 1 or bits.dtype not in (np.bool_, np.uint8):
            raise RequestError(
                f"a changed-bitmap of shape {bits.shape} and type {bits.dtype} is not usable; pass "
                "one dimension of bool, or of packed bits as uint8"
            )
        expected = count if bits.dtype == np.bool_ else -(-count // 8)
        if len(bits) != expected:
            raise RequestError(
                f"the changed-bitmap has {len(bits)} elements; a disk of {self.size} bytes has "
                f"{count} granules of {self.granularity} bytes, that is {expected} elements"
            )
        if bits.dtype == np.bool_:
            return np.packbits(bits, bitorder="little")
        return np.ascontiguousarray(bits, np.uint8)


@runtime_checkable
class HasChanges(Protocol):
    """What knows its changes: a generation of a tracker, a :class:`ChangedBitmap`, your own."""

    def changes(self) -> Changes: ...


ChangedLike: TypeAlias = (
    StrPath
    | Changes
    | HasChanges
    | npt.NDArray[np.integer[Any]]
    | Sequence[tuple[int, int]]
    | Sequence[Extent]
)
"""Everything that :func:`changes_from` takes."""


def changes_from(
    changed: ChangedLike, size: int, storage: Storage = DEFAULT, *, parent: str | None = None
) -> Changes:
    """Return what changed on a disk of ``size`` bytes.

    Args:
        changed: ranges in bytes as an (n, 2) integer array or a sequence of (offset, length) or
            :class:`~aipimage.Extent`, in any order; a :class:`Changes` or an object whose method
            ``changes`` returns one; or the path of a file: a changed-bitmap file, a map of a dirty
            bitmap in JSON as nbdinfo prints it, or the file of a change tracker.
        parent: image id; chooses among the consumers of a tracker's file the one whose last image
            this is.

    Returns:
        a set within ``size``. Its own ``size`` is smaller where the disk has grown: what lies
        past it was not watched.

    Raises:
        RequestError: it is none of these, ranges leave the disk, or a map says nothing of changes.
        FormatError, IntegrityError: a file is damaged. A damaged tracker's file is not an error:
            the set then has a ``doubt``.
        StorageError: a file cannot be read.
    """
    verified_size(size, "the disk")
    if isinstance(changed, (str, os.PathLike)):
        with naming(changed), storage.open_read(changed) as file:
            return _fitted(_read(file, size, parent), size)
    if isinstance(changed, Changes):
        return _fitted(_verified(changed, size), size)
    if isinstance(changed, HasChanges):
        found = changed.changes()
        if not isinstance(found, Changes):
            raise RequestError(f"{type(changed).__name__}.changes() returned no Changes")
        return _fitted(_verified(found, size), size)
    return Changes(None, ranges_within(changed, size))


def write_changes(
    path: StrPath,
    changes: Changes,
    granularity: int,
    *,
    overwrite: bool = False,
    storage: Storage = DEFAULT,
) -> None:
    """Write a set of changes to a changed-bitmap file, which :func:`changes_from` reads.

    The ranges are widened to multiples of ``granularity`` (bytes, a power of two from 512 to 2^30).
    The file is durable, whole and under its name when this returns, and not there before.

    Raises:
        RequestError: the set may be incomplete, or does not know the size of its disk.
        StorageError: writing failed; with ``EEXIST``, the file is there: allow ``overwrite``.
    """
    if changes.doubt is not None:
        raise RequestError(f"a set of changes that may be incomplete is not kept: {changes.doubt}")
    if changes.size is None:
        raise RequestError("the changes do not say how large their disk is; set their size")
    verified_granularity(granularity)
    write_change_file(
        storage, path, _verified(changes, changes.size), granularity, overwrite=overwrite
    )


def _fitted(changes: Changes, size: int) -> Changes:
    """Cut what lies past the end of a disk that has shrunk."""
    if changes.size is None or changes.size <= size:
        return changes
    return Changes(size, cut(changes.ranges, size), changes.since, changes.doubt)


def _verified(changes: Changes, size_now: int) -> Changes:
    """Check a set that a caller has built; it comes out joined and in order."""
    size, ranges = changes.size, no_ranges()
    if size is not None:
        verified_size(size, "the disk of the changes")
    if changes.since is not None:
        verified_image_id(changes.since)
    if changes.doubt is None:
        ranges = ranges_within(changes.ranges, size_now if size is None else size)
    return Changes(size, ranges, changes.since, changes.doubt)


def _rows(changed: object) -> npt.NDArray[np.integer[Any]]:
    """Return an (n, 2) integer array, or refuse what is none."""
    if isinstance(changed, (list, tuple)):
        if changed and all(isinstance(each, Extent) for each in changed):
            changed = [(each.start, each.length) for each in changed]
        elif not changed:
            return no_ranges()
    try:
        rows = np.asarray(changed)
    except (ValueError, OverflowError):
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.dtype.kind not in "iu":
        raise RequestError(
            f"changed ranges of type {type(changed).__name__} are not usable; pass an array or a "
            "sequence of whole numbers (offset, length), a ChangedBitmap, a generation of a "
            "tracker, or a path"
        )
    return rows


def ranges_within(rows: object, size: int) -> ByteRanges:
    """Return an (n, 2) integer array or a sequence of pairs as a set within ``size`` bytes."""
    array = _rows(rows)
    # A negative number becomes one that is larger than every disk.
    ranges, last = array.astype(np.uint64), np.uint64(size)
    room = last - np.minimum(ranges[:, 0], last)
    outside = (ranges[:, 0] > last) | (ranges[:, 1] > room)
    if outside.any():
        offset, length = array[int(outside.argmax())].tolist()
        raise RequestError(
            f"the changed range at {offset} of {length} bytes leaves the disk of {size} bytes"
        )
    return joined(ranges)


def _read(file: File, size: int, parent: str | None) -> Changes:
    """Read a file in whichever form its content has."""
    begin = file.pread(64, 0)
    if begin.startswith(changefile.MAGIC):
        return read_changes(file)
    if begin.startswith(trackerfile.MAGIC):
        return _read_tracker(file, parent)
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FormatError("is UTF-16 text; save the map as UTF-8")
    if begin.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return _read_map(file, size)
    raise FormatError(
        "neither a changed-bitmap file, nor the file of a change tracker, nor a map of nbdinfo in "
        "JSON"
    )


def _read_map(file: File, size: int) -> Changes:
    changes = read_nbd_map(file)
    if changes.size is not None and changes.size < size:
        # The server covers its whole disk, so this is a map of another one, or of an earlier time.
        raise RequestError(
            f"the map covers {changes.size} bytes and the disk has {size}; make the map of this "
            "disk again"
        )
    return changes


def _read_tracker(file: File, parent: str | None) -> Changes:
    try:
        state = trackerfile.read_tracker(file)
    except UnsupportedError:
        raise
    except (FormatError, IntegrityError) as error:
        return Changes(None, doubt=f"the tracker is damaged: {error}")
    consumer = _chosen(state.consumers, parent)
    if consumer is None:
        return Changes(state.size, doubt="the tracker has seen no image yet")
    if state.in_use:
        doubt = "the tracker was not closed in order, or is still in use, so marks may be missing"
        return Changes(state.size, since=consumer.since, doubt=doubt)
    if consumer.doubt or consumer.since is None:
        doubt = consumer.doubt or f"consumer {consumer.name!r} of the tracker has no image yet"
        return Changes(state.size, since=consumer.since, doubt=doubt)
    chunks, watched = merged(state.segments[consumer.first :]), consumer.watched
    return Changes(watched, chunk_ranges(chunks, state.granularity, watched), consumer.since)


def _chosen(consumers: Sequence[Consumer], parent: str | None) -> Consumer | None:
    """Return the consumer whose last image is the parent, or the only one."""
    for consumer in consumers:
        if parent is not None and consumer.since == parent:
            return consumer
    if len(consumers) > 1:
        names = ", ".join(repr(consumer.name) for consumer in consumers)
        raise RequestError(
            f"the tracker has several consumers ({names}), and the parent is the last image of "
            "none of them; open it with ChangeTracker.open and pass the right consumer's generation"
        )
    return consumers[0] if consumers else None
