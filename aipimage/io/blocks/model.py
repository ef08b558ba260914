"""What is read and what is written: block sources and block sinks.

Nothing needs to be inherited: any class with the members of :class:`BlockSource` is a source, and
any class with those of :class:`BlockSink` a sink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from aipimage import hints
from aipimage.errors import SourceError


class UnreadableRangeError(SourceError):
    """The medium cannot deliver these bytes; others may still be readable.

    Attributes:
        offset: where the read that failed began, in bytes.
        length: how many bytes it asked for.
    """

    def __init__(self, message: str, offset: int, length: int, errno: int | None = None) -> None:
        super().__init__(message, errno)
        self.offset = offset
        self.length = length


@runtime_checkable
class BlockSource(Protocol):
    """What an image is made from: a fixed number of bytes that can be read anywhere, by any thread.

    Nothing needs to be inherited. Several threads call ``read_into`` at once; the other members
    are called by one at a time. Requests are of any size from one byte to 4 MiB, most of them of
    64 KiB or more and at multiples of 4096; while a file system is looked at, they are small and
    anywhere, and go back as well. What is free or a hole is not read. Answers are compared with
    this contract: what contradicts it is a ``SourceError``, and no image is made.

    What a member raises beside :class:`SourceError` becomes one, with that as its cause:
    ``OSError`` with ``EIO``, ``ENODATA``, ``EILSEQ`` or ``EREMOTEIO`` in ``read_into`` is an
    unreadable range, as ``UnreadableRangeError`` is. Such ranges are tried again in smaller
    pieces, down to sectors, and recorded as unreadable.

    Its opener closes a source: one that is passed to a function of this library stays open, and is
    not used any more when the function has returned. :mod:`aipimage.testing` has a
    test of this contract.

    Attributes:
        name: for messages; a text.
        size: in bytes, fixed when the source was opened; need not be whole sectors.
        sector_size: the logical sector size in bytes, a power of two from 512 to 65536.
        place: optional; a text that identifies the source from one image to the next, where its
            name does not.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def sector_size(self) -> int: ...

    def read_into(self, buffer: hints.Buffer, offset: int) -> None:
        """Fill all of `buffer` from `offset`, which together end within `size`; thread-safe.

        Returns nothing; the number of bytes of the whole buffer will do too.

        Raises:
            UnreadableRangeError: the medium cannot deliver these bytes.
            SourceError: anything else, such as a source that has become shorter.
        """
        ...

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) within [start, end) that may hold data, in bytes, ascending and
        not overlapping; all else in the range reads as zeros. One that holds all will do.
        """
        ...

    def fingerprint(self) -> dict[str, int | str]:
        """Return what shows, before a resume, that the source is still the same as it was: a
        dictionary of texts to numbers and texts, such as size and time of the last change.
        """
        ...

    def close(self) -> None:
        """Release the source; a second call does nothing. Its opener calls this."""
        ...


class SourceFacts(Protocol):
    """What a source may also say of itself; :mod:`aipimage.io.blocks.sources` asks for it.

    All of these are optional. A source that wraps another one passes them on.
    """

    @property
    def place(self) -> str:
        """A text that identifies the source from one image to the next."""

    @property
    def chain(self) -> Sequence[str]:
        """Paths of the disks that it is the newest state of, such as a virtual disk and its
        parents.
        """

    @property
    def files(self) -> Sequence[str]:
        """Paths of all files that it is read from."""

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences for the result of a job that reads it."""

    @property
    def reads_forward(self) -> bool:
        """Whether going back is expensive, as in a compressed member of an archive."""


class OwnSource:
    """A source of this library, whose answers are not compared with the contract."""


@runtime_checkable
class BlockSink(Protocol):
    """What an image is restored to. ``write``, ``zero`` and ``discard`` may come from any thread,
    in any order.

    Attributes:
        name: for messages.
        size: in bytes; ``None`` for a file that grows with what is written.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int | None: ...

    def write(self, buffer: hints.Buffer, offset: int) -> None:
        """Write all of `buffer` at `offset` (bytes). ``StorageError`` when that fails."""
        ...

    def writev(self, buffers: Sequence[hints.Buffer], offset: int) -> None:
        """Write all of `buffers`, one after the other, from `offset` on; like ``write``."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros, as cheaply as the target can. ``StorageError`` likewise."""
        ...

    def discard(self, offset: int, length: int) -> None:
        """Drop what the range holds: it reads as zeros in a file afterwards, and as anything on
        a device. ``StorageError`` likewise.
        """
        ...

    def finish(self) -> None:
        """Give the target its final size and name and make it durable; then it is closed."""
        ...

    def abort(self) -> None:
        """Give up: leave nothing that looks whole where that can be helped. Raises nothing."""
        ...
