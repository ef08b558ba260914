"""Stopping an operation at every step, on a disk in memory (hostile-inputs classes 57 to 60).

An operation is a function of a storage and a progress callback. :func:`stops` runs it and yields
what it may leave when it ends early in any of these ways; a test then runs it again on each, and
compares with the run that was not stopped::

    for stop in stops(operation, base):
        system = stop.system()
        operation(Storage(system), None)

Ways of ending, each at every step (a call that changes the disk):

- ``killed``: all until then is there, nothing of what would have tidied up was done;
- ``power``: only what was synced is there, or some of what was not, or a write is torn;
- ``error``: the call fails once, and the operation tidies up;
- ``full``: from then on no write fits on the disk;
- ``cancelled``: the callback says no, at each of its calls.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from blake3 import blake3

from aipimage.errors import AipImageError, CancelledError
from aipimage.io.creating.results import CreateResult
from aipimage.io.system import progress as progressing
from aipimage.io.system.storage import Storage, SystemCalls
from tests.support import crash
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.memory import ROOT, MemorySystem

Operation = Callable[[Storage, Any], object]
Files = Mapping[str, "bytes | bytearray"]
WAYS = ("killed", "power", "error", "full", "cancelled")
#: Calls that change the disk: what counts as a step.
STEPS = ("open", "pwritev", "fsync", "ftruncate", "replace", "unlink", "punch_hole")
#: Calls that change nothing. A test finds calls that are in neither list.
HARMLESS = (
    "close", "fstat", "stat", "lstat", "realpath", "listdir", "preadv", "lseek", "flock", "ioctl",
    "advise_sequential",
)  # fmt: skip


class SharedMemory(MemorySystem):
    """A disk in memory that shares its files with others until somebody opens one to write."""

    def __init__(self, files: Files) -> None:
        super().__init__()
        self.files.update(files)  # type: ignore[arg-type]

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        with self._lock:
            if flags & (os.O_RDWR | os.O_WRONLY) and isinstance(self.files.get(path), bytes):
                self.files[path] = bytearray(self.files[path])
            return super().open(path, flags, mode)

    def snapshot_shared(self, base: Files) -> dict[str, bytes]:
        """All files; those that are as in ``base`` are the same objects."""
        with self._lock:
            found = {}
            for path, data in self.files.items():
                same = path in base and base[path] == data
                found[path] = bytes(base[path] if same else data)
            return found


class RecordingMemory(SharedMemory):
    """The same, with a journal of all that changes it; see ``crash.RecordingSystemCalls``."""

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        self.root, self.journal = ROOT, list[crash.Entry]()
        self.initial = crash.Disk({path: n for n, path in enumerate(files)})
        self.initial.data = dict(enumerate(files.values()))  # type: ignore[arg-type]
        self._inodes = dict(self.initial.names)
        self._next_inode = len(self._inodes)
        self._of: dict[int, int | None] = {}

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        with self._lock:
            descriptor = super().open(path, flags, mode)
            if path != ROOT and path not in self._inodes:
                self._inodes[path] = self._next_inode
                self.journal.append(crash.Name(ROOT, (), path, self._next_inode))
                self._next_inode += 1
            self._of[descriptor] = self._inodes.get(path)
            return descriptor

    def pwritev(self, descriptor: int, buffers: Any, offset: int) -> int:
        with self._lock:
            data = b"".join(buffers)
            self.journal.append(crash.Write(self._inode(descriptor), offset, data))
            return super().pwritev(descriptor, [memoryview(data)], offset)

    def ftruncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            super().ftruncate(descriptor, size)
            self.journal.append(crash.Truncate(self._inode(descriptor), size))

    def fsync(self, descriptor: int) -> None:
        with self._lock:
            super().fsync(descriptor)
            inode = self._of[descriptor]
            named = crash.SyncDirectory(ROOT)
            self.journal.append(named if inode is None else crash.SyncFile(inode))

    def replace(self, old: str, new: str) -> None:
        with self._lock:
            super().replace(old, new)
            inode = self._inodes[new] = self._inodes.pop(old)
            self.journal.append(crash.Name(ROOT, (old,), new, inode))

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            del self._inodes[path]
            self.journal.append(crash.Name(ROOT, (path,)))

    def _inode(self, descriptor: int) -> int:
        inode = self._of[descriptor]
        assert inode is not None
        return inode


@dataclass(frozen=True)
class Stop:
    """What an operation left when it ended early.

    Attributes:
        label: how and where it ended, for messages. way: one of :data:`WAYS`.
        done: whether it had reported success before, which only a power cut can follow.
    """

    label: str
    way: str
    files: Files = field(repr=False)
    done: bool = False

    def system(self) -> SharedMemory:
        """A disk with these files, for the caller alone."""
        # Files that were open for writing are somebody's bytearrays: the others never change.
        return SharedMemory(self.files)

    def __str__(self) -> str:
        return self.label


def stops(
    operation: Operation,
    base: Files,
    *,
    ways: Collection[str] = WAYS,
    most: int = 10**9,
    tears: int = 1,
    shuffles: int = 1,
) -> Iterator[Stop]:
    """Yield what ``operation`` leaves on a disk with ``base`` when it ends early, each once.

    Args:
        most: about so many steps are tried, spread evenly, the first two and the last seven
            always. All when it is not given.
    """
    base = {path: bytes(data) for path, data in base.items()}
    known: set[bytes] = set()
    for stop in _all_stops(operation, base, ways, most, tears, shuffles):
        key = _key(stop.files, base)
        if key not in known:
            known.add(key)
            yield stop


def _all_stops(
    operation: Operation, base: Files, ways: Collection[str], most: int, tears: int, shuffles: int
) -> Iterator[Stop]:
    if "killed" in ways or "power" in ways:
        yield from _powerless(operation, base, ways, most, tears, shuffles)
    for way in ("error", "full"):
        if way in ways:
            yield from _failing(operation, base, way, most)
    if "cancelled" in ways:
        yield from _cancelled(operation, base, most)


def spread(count: int, most: int) -> list[int]:
    """About ``most`` of ``range(count)``, evenly, with the first two and the last seven: an image
    ends with the spare area, the trailer and the name, and all before each of them is synced.
    """
    if count <= most:
        return list(range(count))
    ends = {0, 1, *range(max(0, count - 7), count)}
    middle = {n * count // max(1, most - 7) for n in range(max(1, most - 7))}
    return sorted(ends | middle)


def _key(files: Files, base: Files) -> bytes:
    """What tells two states apart; files as they were before are known by their place."""
    hasher = blake3()
    for path, data in sorted(files.items()):
        same = base.get(path) is data
        content = b"as before" if same else blake3(data).digest()
        hasher.update(path.encode() + b"\0" + content)
    return hasher.digest()


def _powerless(
    operation: Operation, base: Files, ways: Collection[str], most: int, tears: int, shuffles: int
) -> Iterator[Stop]:
    """Killed, and without power: from one run's journal."""
    recorder = RecordingMemory(base)
    operation(Storage(recorder), None)
    end = len(recorder.journal)
    recorder.journal.append(crash.Mark("done"))
    points = spread(end + 2, most)
    for state in crash.crash_states(recorder, shuffles=shuffles, tears=tears, only=points):
        way = "killed" if state.label.startswith("everything") else "power"
        if way in ways:
            names = state.disk.names.items()
            files = {path: bytes(state.disk.data.get(inode, b"")) for path, inode in names}
            yield Stop(f"{way}: {state.label}", way, files, bool(state.marks))


def _failing(operation: Operation, base: Files, way: str, most: int) -> Iterator[Stop]:
    """A call fails, once or from then on; whatever is done afterwards is done."""
    kinds = STEPS if way == "error" else ("pwritev", "ftruncate")
    number = errno.EIO if way == "error" else errno.ENOSPC
    counting = FaultySystemCalls(inner=SharedMemory(base))
    operation(Storage(counting), None)
    for at in spread(sum(counting.counts[kind] for kind in kinds), most):
        inner = SharedMemory(base)
        fault = Fault(at, number, kinds, short=way == "full", permanent=way == "full")
        try:
            operation(Storage(FaultySystemCalls(fault, inner=inner)), None)
        except AipImageError:
            yield Stop(f"{way}: {fault}", way, inner.snapshot_shared(base))
            continue
        # A call that may fail, such as the removal of what nobody needs.
        yield Stop(f"{way}: {fault}, and it was done", way, inner.snapshot_shared(base), True)


def _cancelled(operation: Operation, base: Files, most: int) -> Iterator[Stop]:
    """The clock runs fast, so that the callback is asked each time."""
    for reports in spread(_reports(operation, base), most):
        inner, seen = SharedMemory(base), 0

        def callback(_: object, reports: int = reports) -> bool:
            nonlocal seen
            seen += 1
            return seen <= reports

        try:
            _with_fast_clock(operation, inner, callback)
        except CancelledError:
            yield Stop(f"cancelled at report {reports}", "cancelled", inner.snapshot_shared(base))


def _reports(operation: Operation, base: Files) -> int:
    seen: list[object] = []
    _with_fast_clock(operation, SharedMemory(base), seen.append)
    return len(seen)


def _with_fast_clock(operation: Operation, system: SystemCalls, callback: Any) -> None:
    clock = iter(range(10**9))
    with mock.patch.object(progressing, "time", mock.Mock(monotonic=lambda: next(clock))):
        operation(Storage(system), callback)


def only_named(result: CreateResult) -> bool:
    """Whether a creation found a whole image of an earlier run, which only lacked its name."""
    return any("had finished this image" in text for text in result.warnings)
