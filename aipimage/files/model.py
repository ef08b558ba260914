"""What a reader of a file system gives, and the protocol that each of them implements.

A file system is added by a package with a function that makes a :class:`Reader` of a
:class:`~aipimage.files.window.Window`; ``opening.py`` names it. All else (paths, walking, opening,
extraction) is the same for all file systems.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from aipimage.errors import AipImageError

FILE, DIRECTORY, SYMLINK = "file", "directory", "symlink"
BLOCK, CHARACTER, FIFO, SOCKET, UNKNOWN = "block", "character", "fifo", "socket", "unknown"
RUNS_MAX = 1 << 22
"""Pieces of a file: 96 MiB of memory."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Runs = npt.NDArray[np.int64]
"""Shape (n, 3), bytes: place in the file, place in the volume, length. Ascending and not
overlapping; what lies between reads as zeros.
"""
NO_RUNS: Runs = np.empty((0, 3), np.int64)


class Time(NamedTuple):
    """A time of a file.

    Attributes:
        ns: nanoseconds since 1970, UTC. Where the zone is not known, as if it were UTC.
        resolution: nanoseconds between two times that can be told apart.
        offset: minutes east of UTC of the clock that wrote it; ``None`` where the file system does
            not say it (FAT): then ``ns`` is local time.
    """

    ns: int
    resolution: int = 1
    offset: int | None = 0

    @property
    def datetime(self) -> datetime:
        """The time to the microsecond, in its zone; without a zone where that is not known.

        Raises:
            OverflowError: it is past the year 9999.
        """
        found = _EPOCH + timedelta(microseconds=self.ns // 1000)
        if self.offset is None:
            return found.replace(tzinfo=None)
        return found.astimezone(timezone(timedelta(minutes=self.offset)))


@dataclass(frozen=True, slots=True)
class Node:
    """What is known of a file, whatever its names.

    Attributes:
        identity: see :class:`Reader`. kind: one of the texts above.
        size: bytes of the content; 0 for a directory of FAT, which does not store it.
        allocated: bytes that it takes in the volume.
        modified, accessed, changed, created: ``None`` where it is not kept.
        mode: permission bits as of ``chmod``; ``None`` where the file system has none.
        uid, gid: ``None`` likewise. links: names that it has; 1 where that is not kept.
        flags: texts such as ``"encrypted"`` or ``"read-only"``.
        device: major and minor number of a device node.
    """

    identity: int
    kind: str
    size: int = 0
    allocated: int = 0
    modified: Time | None = None
    accessed: Time | None = None
    changed: Time | None = None
    created: Time | None = None
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    links: int = 1
    flags: frozenset[str] = frozenset()
    device: tuple[int, int] | None = None


class Item(NamedTuple):
    """A name in a directory.

    Attributes:
        name: as text; what is not text has surrogates (``surrogateescape``), so that it can be
            turned back into bytes.
        identity: of the file. node: where the reader has it already.
        error: why it cannot be shown; then the others are 0 and ``None``.
    """

    name: str
    identity: int
    node: Node | None = None
    error: AipImageError | None = None


class Stream(NamedTuple):
    """A further content of a file: its name and its bytes."""

    name: str
    size: int


class Content(NamedTuple):
    """Where the bytes of a file are.

    Attributes:
        size: bytes. runs: what lies in the volume; all else reads as zeros.
        inline: the first bytes, where they lie in the file's own record; then there are no runs.
    """

    size: int
    runs: Runs = NO_RUNS
    inline: bytes | None = None


class Reader(Protocol):
    """One file system that is open for reading. Its methods are called by one thread at a time.

    An identity is a number that stands for a file as long as the volume is not written to: that of
    an inode, or the place of a directory entry. It comes from the caller and is verified.

    Attributes:
        kind: as ``blkid`` names it. root: identity of the root directory.
        warnings: sentences on what cannot be trusted.
    """

    kind: str
    root: int
    warnings: list[str]

    def node(self, identity: int) -> Node:
        """What is known of a file; ``NoFileError`` where the identity stands for none."""
        ...

    def entries(self, node: Node) -> Iterator[Item]:
        """Yield the names in a directory, without ``.`` and ``..``, in bounded memory.

        Raises:
            DamagedVolumeError: the rest of it cannot be known.
        """
        ...

    def content(self, node: Node, stream: str = "") -> Content:
        """Where the content of a file, or of one of its streams, lies.

        Raises:
            UnreadableFileError: it is encrypted, or nothing that can be read.
            DamagedVolumeError: it cannot be known. NoFileError: there is no such stream.
        """
        ...

    def target(self, node: Node) -> str:
        """What a symbolic link leads to."""
        ...

    def xattrs(self, node: Node) -> Mapping[str, bytes]:
        """The extended attributes, as the system shows them."""
        ...

    def streams(self, node: Node) -> tuple[Stream, ...]:
        """The contents besides the one without a name."""
        ...

    def same(self, directory: Node, one: str, other: str) -> bool:
        """Whether two names that differ stand for the same file in a directory: their case may not
        count.
        """
        ...
