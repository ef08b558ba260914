"""The tracker, and one consumer's generation of changes: docs/tracking.md."""

from __future__ import annotations

import errno
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from aipimage.errors import (
    AipImageError,
    FormatError,
    IntegrityError,
    RequestError,
    StorageError,
    TargetError,
    UnsupportedError,
    naming,
)
from aipimage.io.changes.changeset import Changes, verified_image_id
from aipimage.io.changes.chunkmap import (
    CHUNK,
    CHUNK_SHIFT,
    FrozenChunks,
    chunk_ranges,
    merged,
    set_granules,
    set_ranges,
)
from aipimage.io.changes.forms import ranges_within, verified_size
from aipimage.io.changes.trackerfile import (
    HEAD,
    IN_USE,
    Head,
    TrackerState,
    decode_head,
    read_tracker,
    verified_magic,
)
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath
from aipimage.ranges import verified_granularity
from aipimage.tracking.ledger import Account, Ledger
from aipimage.tracking.store import TrackerStore

DEFAULT_GRANULARITY = 65_536
_BYTE_MASK = CHUNK - 1


class ChangeTracker:
    """Remembers which granules of a disk were written, for any number of consumers.

    Every method may be called from any thread. Memory follows what was written: a bit a granule,
    in pieces of 4 KiB; at most 128 MiB for 64 TiB at the default granularity, and that for every
    consumer whose last image is of another time.

    Args:
        size: bytes of the disk.
        granularity: bytes that one bit stands for, a power of two from 512 to 2^30.

    This makes a tracker without a file, which is lost with the process; :meth:`create` and
    :meth:`open` make one that lasts.
    """

    def __init__(self, size: int, granularity: int = DEFAULT_GRANULARITY) -> None:
        self._size = verified_size(size, "the disk")
        self._granularity = verified_granularity(granularity)
        self._shift = granularity.bit_length() - 1
        self._lock = threading.Lock()
        self._ledger = Ledger(size)
        self._store: TrackerStore | None = None
        # Whether a change must go through _disturb first: one test where marks are counted.
        self._quiet = False
        self._altered = False
        self._closed = False

    @classmethod
    def create(
        cls,
        path: StrPath,
        size: int,
        granularity: int = DEFAULT_GRANULARITY,
        *,
        storage: Storage = DEFAULT,
    ) -> ChangeTracker:
        """Begin a tracker with a new file.

        Raises:
            TargetError: the file is already there. StorageError: it cannot be written.
        """
        tracker = cls(size, granularity)
        if storage.exists(path):
            raise TargetError(f"{path}: is already there; open it, or remove it and begin anew")
        tracker._store = TrackerStore(storage, storage.resolve(path), None, None)
        try:
            tracker._write(overwrite=False)
        except BaseException:
            tracker._store.close()
            raise
        return tracker

    @classmethod
    def open(
        cls,
        path: StrPath,
        *,
        size: int | None = None,
        granularity: int = DEFAULT_GRANULARITY,
        expected_epoch: str | None = None,
        storage: Storage = DEFAULT,
    ) -> ChangeTracker:
        """Open the file of a tracker, and continue with it.

        A file that cannot be trusted (not closed in order, damaged, of another size or epoch) opens
        all the same: what its consumers then get has a ``doubt``, until each has its next image.

        Args:
            size: bytes that the disk has now. Without it a damaged file cannot be opened, and
                a change of the disk's size goes unnoticed.
            granularity: for a file that is damaged; else the file's own counts.
            expected_epoch: what :attr:`epoch` was after the last ``save`` or ``close``, kept
                elsewhere: shows that the file is not an older copy.

        Raises:
            FormatError: not the file of a tracker. IntegrityError: damaged, and no size is given.
            TargetError: another process has it, or others made it or can change it.
            StorageError: it cannot be read or written.
        """
        name = storage.resolve(path)
        file = storage.open_left(name)
        if file is None:
            raise StorageError(f"{name}: cannot open: there is no such file", errno.ENOENT)
        try:
            with naming(name):
                file.lock()
                return cls._opened(storage, file, size, granularity, expected_epoch)
        except BaseException:
            file.close()
            raise

    @classmethod
    def _opened(
        cls, storage: Storage, file: File, size: int | None, granularity: int, epoch: str | None
    ) -> ChangeTracker:
        verified_magic(file.pread(HEAD, 0))
        try:
            state = read_tracker(file)
        except UnsupportedError:
            raise
        except (FormatError, IntegrityError) as error:
            if size is None:
                raise
            state = TrackerState(size, granularity, b"", (), ())
            doubt: str | None = f"the tracker's file was damaged: {error}"
        else:
            doubt = _doubt_of(state, size, epoch)
        tracker = cls(state.size if size is None else size, state.granularity)
        tracker._ledger = Ledger(tracker.size, state.consumers, state.segments, doubt)
        tracker._store = TrackerStore(storage, file.name, file, _head_of(file, tracker))
        tracker._quiet = True
        if doubt is not None:
            tracker.distrust(doubt)
        return tracker

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self._size

    @property
    def granularity(self) -> int:
        """Bytes that one bit stands for."""
        return self._granularity

    @property
    def consumers(self) -> Mapping[str, str | None]:
        """The last image's id of every consumer, ``None`` where it has none yet."""
        with self._lock:
            return {name: each.since for name, each in self._ledger.accounts.items()}

    @property
    def epoch(self) -> str | None:
        """Id (32 hexadecimal digits) of what the file was last written with; another each time."""
        return self._store.epoch if self._store else None

    def mark(self, offset: int, length: int) -> None:
        """Remember that bytes were, or are about to be, written.

        The first mark after opening or saving waits until the file is durably in use; others touch
        memory only.

        Raises:
            RequestError: the range leaves the disk, or the tracker is closed.
            StorageError: the file cannot be set to "in use": the mark counts as long as this
                process lives, but is lost with it. Let the write fail, or stop using the file.
        """
        end = offset + length
        if offset < 0 or length <= 0 or end > self._size:
            self._refuse(offset, length)
            return
        first, last = offset >> self._shift, (end - 1) >> self._shift
        with self._lock:
            chunks = self._ledger.active
            if first == last:
                chunk = chunks.get(first >> CHUNK_SHIFT)
                if chunk is None:
                    chunk = chunks[first >> CHUNK_SHIFT] = bytearray(CHUNK)
                chunk[first >> 3 & _BYTE_MASK] |= 1 << (first & 7)
            else:
                set_granules(chunks, first, last)
            if self._quiet:
                self._disturb()

    def mark_many(self, ranges: npt.NDArray[np.integer[Any]] | Sequence[tuple[int, int]]) -> None:
        """Remember many ranges, an (n, 2) array of offset and length in bytes; errors as ``mark``.

        Where one of them leaves the disk, none is marked.
        """
        wanted = ranges_within(ranges, self._size)
        with self._lock:
            set_ranges(self._ledger.active, wanted, self._granularity, self._size)
            if len(wanted):
                self._changed()

    def resize(self, new_size: int) -> None:
        """The disk has another size from now on.

        What it grows by is not in ``Changes.size``, and so counts as changed.
        """
        verified_size(new_size, "the disk")
        with self._lock:
            self._size = new_size
            self._ledger.resize(new_size)
            self._changed()

    def begin(self, consumer: str) -> Generation:
        """Freeze what a consumer's last image does not have; marks go into the next generation.

        Call it before the snapshot is taken that the image is made of, while no write is between
        its mark and the disk (docs/tracking.md has the two ways to see to that).

        Raises:
            RequestError: the consumer has an open generation, its name is not usable, or the
                tracker is closed.
        """
        with self._lock:
            self._refuse_closed()
            account, segments = self._ledger.begin(consumer)
            self._altered = True
            doubt = account.doubt
            if doubt is None and account.since is None:
                doubt = f"consumer {consumer!r} of the tracker has no image yet"
            frozen = _Frozen(
                account.watched, segments, account.since, doubt, self._ledger.distrusts
            )
            return Generation(self, consumer, account, frozen)

    def forget(self, consumer: str) -> None:
        """Drop a consumer, and what only it still counted; ``RequestError`` where there is none."""
        with self._lock:
            self._refuse_closed()
            self._ledger.forget(consumer)
            self._altered = True

    def distrust(self, reason: str) -> None:
        """Say that writes may have gone past the tracker; ``reason`` is one sentence.

        What consumers get has this ``doubt`` until each has its next image, begun after this.
        """
        with self._lock:
            self._ledger.distrust(reason)
            self._changed()

    def save(self) -> None:
        """Write everything into the file, durably; nothing where it is there already.

        After this the file is trusted, until the next mark sets it to "in use". Marks wait.

        Raises:
            RequestError: there is no file, or the tracker is closed.
            StorageError: writing failed; the file is not trusted. Saving again may succeed, but not
                once the file could not be made durable: then close, and open it again.
        """
        with self._lock:
            self._refuse_closed()
            if self._store is None:
                raise RequestError("the tracker has no file; ChangeTracker.create makes one")
            if self._altered or not self._quiet:
                self._write()

    def close(self) -> None:
        """Save, and release the file; open generations count again. A second call does nothing.

        Raises:
            StorageError: saving failed: the file is released, and not trusted when opened again.
                To try more than once, call ``save`` before.
        """
        if self._closed:
            return
        try:
            if self._store is not None:
                self.save()
        finally:
            with self._lock:
                self._closed = self._quiet = True
                if self._store is not None:
                    self._store.close()

    def __enter__(self) -> ChangeTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except AipImageError:
            # The first failure says more than that of the close that follows it.
            if error is None:
                raise

    def _write(self, *, overwrite: bool = True) -> None:
        assert self._store is not None
        consumers, segments = self._ledger.kept()
        epoch = secrets.token_bytes(16)
        state = TrackerState(self._size, self._granularity, epoch, consumers, segments)
        try:
            self._store.write(state, overwrite=overwrite)
            self._altered = False
        finally:
            self._quiet = self._store.quiet

    def _changed(self) -> None:
        self._altered = True
        if self._quiet:
            self._disturb()

    def _disturb(self) -> None:
        """Nothing may be remembered in memory alone while the file on the disk looks complete."""
        self._refuse_closed()
        # Before the attempt: where it fails, saving must not find that there is nothing to save.
        self._altered = True
        if self._store is not None:
            self._store.begin_use()
        self._quiet = False

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RequestError("the change tracker is closed; open it again")

    def _refuse(self, offset: int, length: int) -> None:
        if length == 0 and 0 <= offset <= self._size:
            return
        raise RequestError(
            f"cannot mark {length} bytes at {offset}: the tracked disk has {self._size} bytes"
        )

    def _commit(self, account: Account, image_id: str, distrusts: int) -> None:
        with self._lock:
            self._refuse_closed()
            self._ledger.commit(account, image_id, distrusts)
            self._altered = True

    def _rollback(self, account: Account) -> None:
        with self._lock:
            self._ledger.rollback(account)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """What a generation took along when it began."""

    size: int
    segments: Sequence[FrozenChunks]
    since: str | None
    doubt: str | None
    distrusts: int


class Generation:
    """What changed for one consumer until :meth:`ChangeTracker.begin`; pass it as ``changed``.

    As a context manager it rolls back at the end of the block unless it was committed.
    """

    def __init__(
        self, tracker: ChangeTracker, consumer: str, account: Account, frozen: _Frozen
    ) -> None:
        self._tracker, self._account, self._frozen = tracker, account, frozen
        self._open = True
        self.consumer = consumer

    def __repr__(self) -> str:
        return f"<Generation of {self.consumer!r} since {self._frozen.since}>"

    def changes(self) -> Changes:
        """Return what changed since the image that the consumer committed last.

        ``since`` is that image, and ``size`` the smallest that the disk had since then. Where there
        is a ``doubt``, an image must be made by comparison; committing it ends the doubt.
        """
        frozen = self._frozen
        if frozen.doubt is not None:
            return Changes(frozen.size, since=frozen.since, doubt=frozen.doubt)
        granularity = self._tracker.granularity
        ranges = chunk_ranges(merged(frozen.segments), granularity, frozen.size)
        return Changes(frozen.size, ranges, frozen.since)

    def commit(self, image_id: str) -> None:
        """The image that has these changes is durable, and is what the consumer counts from now.

        Raises:
            RequestError: it was committed or rolled back before, the id is none, or the tracker is
                closed.
        """
        verified_image_id(image_id)
        self._end()
        self._tracker._commit(self._account, image_id, self._frozen.distrusts)

    def rollback(self) -> None:
        """No image has these changes: they count again the next time; errors as ``commit``."""
        self._end()
        self._tracker._rollback(self._account)

    def _end(self) -> None:
        with self._tracker._lock:
            if not self._open:
                raise RequestError(f"{self!r} was committed or rolled back already; begin another")
            self._open = False

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open:
            self.rollback()


def _doubt_of(state: TrackerState, size: int | None, epoch: str | None) -> str | None:
    """Return why a file that is whole must not be trusted."""
    if state.in_use:
        return "the tracker's file was not closed in order, so marks may be missing"
    if size is not None and size != state.size:
        return f"the tracker's file is of a disk of {state.size} bytes, and this one has {size}"
    if epoch is not None and epoch != state.epoch.hex():
        return f"the tracker's file has epoch {state.epoch.hex()} and not the one expected"
    return None


def _head_of(file: File, tracker: ChangeTracker) -> Head:
    """Return the file's head; for a damaged one, a head that fits no content."""
    try:
        return decode_head(file.pread(HEAD, 0))
    except (FormatError, IntegrityError):
        epoch = secrets.token_bytes(16)
        return Head(IN_USE, tracker.granularity, tracker.size, epoch, 0, 0, 0, 0, bytes(32))
