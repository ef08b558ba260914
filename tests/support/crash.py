"""A disk that loses power: what may be found on it afterwards (hostile-inputs class 59).

``RecordingSystemCalls`` does the real calls below one directory and keeps a journal of all that
changes it. ``crash_states`` then gives the states that a disk may be in when the power goes after
any prefix of the journal, each of which can be written into a fresh directory.

The model, harsher than most file systems:

- Data, and the size, of a file are sure to be there once the file was synced, after the write.
  Before that, each write and truncation may or may not have reached the disk, in any combination.
- A write is torn at multiples of 512 bytes only.
- Names (a creation, renaming, removal) are sure once their directory was synced; until then some
  prefix of the changes to that directory has reached the disk: file systems journal names in order.
  Syncing a file does not make its name sure.
- A rename is one step, and says nothing about the data of the file that was renamed.
- All that was in the directory before recording began is on the disk.

Not modelled: directories that are themselves created or renamed, links, and devices.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aipimage.io.system.storage import SystemCalls

SECTOR = 512


@dataclass(frozen=True)
class Write:
    """Bytes at an offset of a file; a punched hole is a write of zeros that does not extend."""

    inode: int
    offset: int
    data: bytes
    extends: bool = True


@dataclass(frozen=True)
class Truncate:
    """A new size of a file."""

    inode: int
    size: int


@dataclass(frozen=True)
class Name:
    """A change of one directory: names that it loses, and at most one that leads to a file."""

    directory: str
    removed: tuple[str, ...]
    added: str | None = None
    inode: int = -1


@dataclass(frozen=True)
class SyncFile:
    """The data of a file is on the disk."""

    inode: int


@dataclass(frozen=True)
class SyncDirectory:
    """The names of a directory are on the disk."""

    directory: str


@dataclass(frozen=True)
class Mark:
    """Something that the program under test told its user, such as "done"."""

    text: str


Entry = Write | Truncate | Name | SyncFile | SyncDirectory | Mark


@dataclass
class Disk:
    """The contents of a disk: names (absolute paths) lead to inodes, inodes to bytes."""

    names: dict[str, int] = field(default_factory=dict)
    data: dict[int, bytearray] = field(default_factory=dict)
    _own: set[int] = field(default_factory=set)

    def copy(self) -> Disk:
        """Return a disk that changes on its own; what neither changes is shared."""
        self._own = set()
        return Disk(dict(self.names), dict(self.data))

    def _changing(self, inode: int) -> bytearray:
        """The bytes of a file that no copy shares."""
        if inode not in self._own:
            self._own.add(inode)
            self.data[inode] = bytearray(self.data.get(inode, b""))
        return self.data[inode]

    def apply(self, entry: Entry, keep: int | None = None) -> None:
        """Carry out one entry; of a write only the first `keep` bytes."""
        if isinstance(entry, Write):
            content = self._changing(entry.inode)
            data = entry.data[:keep]
            if not entry.extends:
                data = data[: max(0, len(content) - entry.offset)]
            if data:
                content.extend(bytes(max(0, entry.offset - len(content))))
                content[entry.offset : entry.offset + len(data)] = data
        elif isinstance(entry, Truncate):
            content = self._changing(entry.inode)
            del content[entry.size :]
            content.extend(bytes(entry.size - len(content)))
        elif isinstance(entry, Name):
            for name in entry.removed:
                self.names.pop(name, None)
            if entry.added is not None:
                self.names[entry.added] = entry.inode


class Recorder(Protocol):
    """Whoever keeps a journal: the changes below ``root``, and what was there before."""

    root: str
    journal: list[Entry]
    initial: Disk


class RecordingSystemCalls(SystemCalls):
    """Real calls, with a journal of all that they change below `root`.

    One lock around every changing call keeps the journal in the order of the effects.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__()
        self.root = os.path.realpath(root)
        self.journal: list[Entry] = []
        self._lock = threading.RLock()
        self._open: dict[int, int | str] = {}
        self._names: dict[str, int] = {}
        self._next_inode = 0
        self.initial = Disk()
        for folder, _, files in os.walk(self.root):
            for name in files:
                path = os.path.join(folder, name)
                self.initial.data[self._new_inode(path)] = bytearray(Path(path).read_bytes())
        self.initial.names = dict(self._names)

    def mark(self, text: str) -> None:
        """Note what the user was told: from here on it must be true after a crash."""
        with self._lock:
            self.journal.append(Mark(text))

    def _new_inode(self, path: str) -> int:
        self._names[path] = self._next_inode
        self._next_inode += 1
        return self._names[path]

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        with self._lock:
            descriptor = super().open(path, flags, mode)
            path = os.path.abspath(path)
            if os.path.isdir(path):
                self._open[descriptor] = path
            elif path.startswith(self.root + os.sep):
                if path not in self._names:
                    inode = self._new_inode(path)
                    self.journal.append(Name(os.path.dirname(path), (), path, inode))
                self._open[descriptor] = self._names[path]
            return descriptor

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor, None)
            super().close(descriptor)

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        with self._lock:
            done = super().pwritev(descriptor, buffers, offset)
            data = b"".join(buffers)[:done]
            self._note(descriptor, lambda inode: Write(inode, offset, data))
            return done

    def punch_hole(self, descriptor: int, offset: int, length: int) -> None:
        with self._lock:
            super().punch_hole(descriptor, offset, length)
            zeros = bytes(length)
            self._note(descriptor, lambda inode: Write(inode, offset, zeros, extends=False))

    def ftruncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            super().ftruncate(descriptor, size)
            self._note(descriptor, lambda inode: Truncate(inode, size))

    def fsync(self, descriptor: int) -> None:
        # The real sync is left out: nobody cuts this machine's power, and it would cost time.
        with self._lock:
            target = self._open.get(descriptor)
            if isinstance(target, str):
                self.journal.append(SyncDirectory(target))
            else:
                self._note(descriptor, SyncFile)

    def replace(self, old: str, new: str) -> None:
        with self._lock:
            super().replace(old, new)
            old, new = os.path.abspath(old), os.path.abspath(new)
            assert os.path.dirname(old) == os.path.dirname(new), "not modelled"
            inode = self._names[new] = self._names.pop(old)
            self.journal.append(Name(os.path.dirname(new), (old,), new, inode))

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            path = os.path.abspath(path)
            self._names.pop(path, None)
            self.journal.append(Name(os.path.dirname(path), (path,)))

    def _note(self, descriptor: int, make: Callable[[int], Entry]) -> None:
        inode = self._open.get(descriptor)
        if isinstance(inode, int):
            self.journal.append(make(inode))


@dataclass(frozen=True)
class CrashState:
    """One state that the disk may be in.

    Attributes:
        label: how it came about, for messages.
        point: how many entries of the journal had happened.
        marks: what the user had been told by then.
    """

    label: str
    point: int
    marks: tuple[str, ...]
    root: str
    disk: Disk

    def materialise(self, directory: str | os.PathLike[str]) -> Path:
        """Write the state into a new directory, which must not exist yet, and return it."""
        target = Path(directory)
        target.mkdir()
        for name, inode in self.disk.names.items():
            path = target / os.path.relpath(name, self.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.disk.data.get(inode, b""))
        return target


def crash_states(
    recorder: Recorder,
    *,
    seed: int = 0,
    shuffles: int = 2,
    tears: int = 4,
    only: Collection[int] | None = None,
) -> Iterator[CrashState]:
    """Yield the states after a crash at every point of the journal, the end included, or at those
    in `only`.

    For each point: all that was done, only what was synced, the last write torn at up to `tears`
    places, and `shuffles` random subsets of what was not synced.
    """
    chance = random.Random(seed)
    journal = recorder.journal
    everything = recorder.initial.copy()
    synced = recorder.initial.copy()
    pending: list[Entry] = []
    marks: tuple[str, ...] = ()

    def state(label: str, disk: Disk) -> CrashState:
        return CrashState(f"{label} at {point}", point, marks, recorder.root, disk.copy())

    for point in range(len(journal) + 1):
        if point:
            entry = journal[point - 1]
            if isinstance(entry, Write) and (only is None or point in only):
                for keep in _tear_points(len(entry.data), tears, chance):
                    torn = everything.copy()
                    torn.apply(entry, keep)
                    yield state(f"torn after {keep} bytes", torn)
            everything.apply(entry)
            if isinstance(entry, Mark):
                marks += (entry.text,)
            pending = _settle(synced, pending, entry)
        if only is not None and point not in only:
            continue
        yield state("everything", everything)
        yield state("only synced", synced)
        for number in range(shuffles if pending else 0):
            yield state(f"shuffle {number}", _some_of(synced, pending, chance))


def _settle(synced: Disk, pending: list[Entry], entry: Entry) -> list[Entry]:
    """Move what `entry` makes durable from `pending` to `synced`; return what stays pending."""
    if isinstance(entry, (Write, Truncate, Name)):
        return [*pending, entry]
    if isinstance(entry, Mark):
        return pending
    rest: list[Entry] = []
    for old in pending:
        if isinstance(entry, SyncFile):
            durable = not isinstance(old, Name) and getattr(old, "inode", None) == entry.inode
        else:
            durable = isinstance(old, Name) and old.directory == entry.directory
        if durable:
            synced.apply(old)
        else:
            rest.append(old)
    return rest


def _some_of(synced: Disk, pending: Sequence[Entry], chance: random.Random) -> Disk:
    """Apply any of the data changes, some of them torn, and a prefix of each directory's names."""
    disk = synced.copy()
    stopped: set[str] = set()
    for entry in pending:
        if isinstance(entry, Name):
            if entry.directory in stopped or chance.random() < 0.3:
                stopped.add(entry.directory)
            else:
                disk.apply(entry)
        elif chance.random() < 0.5:
            keep = None
            if isinstance(entry, Write) and chance.random() < 0.3:
                keep = chance.randrange(0, len(entry.data) + 1, SECTOR)
            disk.apply(entry, keep)
    return disk


def _tear_points(length: int, tears: int, chance: random.Random) -> list[int]:
    points = list(range(SECTOR, length, SECTOR))
    return sorted(chance.sample(points, min(tears, len(points))))
