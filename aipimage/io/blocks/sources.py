"""Block sources: what an image is made from.

A file, a Linux block device or any seekable binary file object, all behind ``BlockSource``. Whoever
has another kind of source writes a class with these members; nothing needs to be inherited.

A short read is never padded: a source that shrank while it was read is an error, and so is a sector
that the medium cannot give, until ``read_with_retries`` has turned it into a range that is recorded
as unreadable (hostile-inputs classes 55 and 62).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, runtime_checkable

from aipimage.errors import OptionTypeError, RequestError, SourceError, StorageError
from aipimage.io.blocks.checkedsource import CheckedSource, OwnSource
from aipimage.io.blocks.forward import Lately, reads_forward
from aipimage.io.system.storage import (
    DEFAULT,
    MEDIUM_ERRORS,
    File,
    Storage,
    StrPath,
    absolute,
    flat_view,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer, TypeIs


class UnreadableRangeError(SourceError):
    """The medium cannot give these bytes; others may still be readable.

    Attributes:
        offset: where the read that failed began, in bytes.
        length: how many bytes it asked for.
    """

    def __init__(self, message: str, offset: int, length: int, errno: int | None = None) -> None:
        super().__init__(message, errno)
        self.offset = offset
        self.length = length


_MEMBERS = ("name", "size", "sector_size", "read_into", "data_ranges", "fingerprint", "close")


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

    Whoever opened a source closes it: a source that is passed to a function of this library stays
    open, and is not used any more when the function has returned. :mod:`aipimage.testing` has a
    test of this contract.

    Attributes:
        name: for messages; a text.
        size: in bytes, fixed when the source was opened; need not be whole sectors.
        sector_size: the logical sector size in bytes, a power of two from 512 to 65536.
        place: optional; a text that tells the source from others from one image to the next, where
            its name does not.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def sector_size(self) -> int: ...

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """Fill all of `buffer` from `offset`, which together end within `size`; thread-safe.

        Returns nothing; the number of bytes of the whole buffer will do too.

        Raises:
            UnreadableRangeError: the medium cannot give these bytes.
            SourceError: anything else, such as a source that has become shorter.
        """
        ...

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) within [start, end) that may hold data, in bytes, ascending and
        not overlapping; all else in the range reads as zeros. One that holds all will do.
        """
        ...

    def fingerprint(self) -> dict[str, int | str]:
        """Return what tells, before a resume, that the source is still the same as it was: a
        dictionary of texts to numbers and texts, such as size and time of the last change.
        """
        ...

    def close(self) -> None:
        """Give the source up; a second call does nothing. Called by whoever opened it."""
        ...


class FileSource(OwnSource):
    """A regular file. Its holes are seen where the file system shows them."""

    sector_size = 512

    def __init__(self, file: File) -> None:
        """Take over `file`; ``SourceError`` when its size cannot be read."""
        self._file = file
        self.name = file.name
        with _source_errors():
            self.size = file.size()
        file.advise_sequential()

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        _read_exactly(self._file, buffer, offset, self.size)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of [start, end) outside the file's holes, as the file system says."""
        end = min(end, self.size)
        while start < end:
            with _source_errors():
                data = self._file.seek_data(start)
                if data is None:
                    # Nothing but a hole up to the end: true only while the end is where it was.
                    self._check_not_shrunk()
                    return
                hole = self._file.seek_hole(data)
            if data >= end:
                return
            if hole is None:
                self._check_not_shrunk()
                hole = end
            # The file may change between the two questions; progress is made in any case.
            stop = min(max(hole, data + 1), end)
            yield data, stop - data
            start = stop

    def fingerprint(self) -> dict[str, int | str]:
        """Return size, time of the last change and inode, read now."""
        with _source_errors():
            info = self._file.info()
        return {"kind": "file", "size": info.size, "mtime_ns": info.mtime_ns, "inode": info.inode}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _check_not_shrunk(self) -> None:
        now = self._file.size()
        if now < self.size:
            raise _shrank(self.name, self.size, now)


class DeviceSource(OwnSource):
    """A block device. All of it may be data: what is not in use, its file systems know."""

    def __init__(self, file: File) -> None:
        """Take over `file`; ``SourceError`` when its size cannot be read."""
        self._file = file
        self.name = file.name
        with _source_errors():
            self.size = file.size()
            self.sector_size = file.sector_size()
        file.advise_sequential()

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        _read_exactly(self._file, buffer, offset, self.size)

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the whole range."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """Return size and device number, read now: a device has no time of change."""
        with _source_errors():
            return {
                "kind": "device",
                "size": self._file.size(),
                "device_number": self._file.info().device_number,
            }

    def close(self) -> None:
        """Close the device."""
        self._file.close()


class BinaryFileSource(OwnSource):
    """Any seekable binary file object; read under a lock, because it has one position for all.

    The object stays the caller's: it is not closed, and its position is left anywhere.

    Attributes:
        reads_forward: going back means to read again from the start, such as a compressed member of
            an archive does.
    """

    sector_size = 512

    def __init__(self, stream: BinaryIO, name: str | None = None) -> None:
        """Ask `stream` for its size; ``RequestError`` when it is not seekable or not binary."""
        self._stream: Any = stream
        self._lock = threading.Lock()
        own_name = getattr(stream, "name", None)
        self.name = name or (own_name if isinstance(own_name, str) else "<file object>")
        if not all(hasattr(stream, method) for method in ("read", "seek", "tell")):
            raise RequestError(f"{self.name}: not a path, a binary file object or a block source")
        try:
            if isinstance(stream.read(0), str):
                raise RequestError(f"{self.name}: opened as text; open it in binary mode")
            stream.seek(0, os.SEEK_END)
            self.size = stream.tell()
            self.reads_forward = reads_forward(stream)
            if self.reads_forward:
                self._stream = Lately(stream)
        except RequestError:
            raise
        except Exception as error:
            raise RequestError(f"{self.name}: not a seekable file object: {error}") from error

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        view = flat_view(buffer)
        _check_bounds(self.name, view.nbytes, offset, self.size)
        try:
            with self._lock:
                self._stream.seek(offset)
                done = self._read_on(view)
        except OSError as error:
            message = f"{self.name}: cannot read {view.nbytes} bytes at offset {offset}: {error}"
            if error.errno in MEDIUM_ERRORS:
                raise UnreadableRangeError(message, offset, view.nbytes, error.errno) from error
            raise SourceError(message, error.errno) from error
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{self.name}: cannot read the file object: {error}") from error
        if done < view.nbytes:
            raise _shrank(self.name, self.size, offset + done)

    def _read_on(self, view: memoryview) -> int:
        """Fill `view` from the position on; return the bytes read, fewer only at the end."""
        done = 0
        while done < view.nbytes:
            rest = view[done:]
            if hasattr(self._stream, "readinto"):
                got = self._stream.readinto(rest)
            else:
                part = self._stream.read(rest.nbytes)
                got = None if part is None else len(part)
                if got and got <= rest.nbytes:
                    rest[:got] = part
            if got is None:
                raise SourceError(f"{self.name}: a non-blocking file object; open it blocking")
            if got == 0:
                break
            if not isinstance(got, int) or not 0 < got <= rest.nbytes:
                raise SourceError(
                    f"{self.name}: the file object gave {got!r} for {rest.nbytes} bytes"
                )
            done += got
        return done

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the whole range: a file object does not show its holes."""
        if start < (end := min(end, self.size)):
            yield start, end - start

    def fingerprint(self) -> dict[str, int | str]:
        """Return the size alone; nothing more is known of a file object."""
        return {"kind": "object", "size": self.size}

    def close(self) -> None:
        """Do nothing: the object is the caller's."""


def place_of(source: BlockSource) -> str:
    """What tells a source from others, from one image to the next: the absolute path of a file or
    device; what a wrapped source calls its ``place``; the name of any other object, which is its
    owner's to choose.
    """
    place = getattr(source, "place", None)
    if isinstance(place, str):
        return place
    is_path = isinstance(source, (FileSource, DeviceSource))
    return absolute(source.name) if is_path else source.name


def is_name(text: str) -> bool:
    """Whether a text tells one source from others: what has no name is called ``<file object>``,
    ``<stdin>`` and the like, as any other is.
    """
    return bool(text) and not (text.startswith("<") and text.endswith(">"))


def open_source(obj: StrPath | BinaryIO | BlockSource, storage: Storage = DEFAULT) -> BlockSource:
    """Return the block source for a path, a seekable binary file object, or a block source, whose
    answers are compared with the contract from then on.

    Raises:
        OptionTypeError: an object that has some members of a block source and lacks others.
        RequestError: a directory, pipe, socket or character device, or not seekable.
        SourceError: it cannot be opened.
    """
    if isinstance(obj, (str, os.PathLike)):
        with _source_errors():
            file = storage.open_read(obj)
        try:
            return DeviceSource(file) if file.is_block_device else FileSource(file)
        except BaseException:
            file.close()
            raise
    if isinstance(obj, OwnSource):
        return obj  # type: ignore[return-value]
    if _is_block_source(obj):
        return CheckedSource(obj)
    return BinaryFileSource(obj)


def _is_block_source(obj: BinaryIO | BlockSource) -> TypeIs[BlockSource]:
    """Whether something has the members of a block source; some of them are no file object."""
    if not hasattr(type(obj), "read_into"):
        return False
    missing = sorted(name for name in _MEMBERS if not _has(obj, name))
    if missing:
        raise OptionTypeError(
            f"{type(obj).__name__}: not a block source: it has no {', no '.join(missing)}"
        )
    return True


def _has(obj: object, name: str) -> bool:
    """Whether a member is there, without asking a property for its value."""
    return hasattr(type(obj), name) or name in getattr(obj, "__dict__", {})


def read_with_retries(
    source: BlockSource, buffer: Buffer, offset: int, *, sector: int = 512, retries: int = 2
) -> list[tuple[int, int]]:
    """Fill `buffer` from `offset`, reading around what the medium cannot give.

    The whole range is tried 1 + `retries` times. Then it is halved, at multiples of `sector` on the
    source, down to single sectors, each part read once: by then every bad sector has had its tries,
    as part of the reads above it. So a range of n sectors costs at most `retries` + 2n - 1 reads.
    Sectors that stay unreadable are zeros in `buffer`.

    Returns:
        the unreadable ranges (offset on the source, length) in bytes, ascending and merged.

    Raises:
        SourceError: a failure that other sectors would share, such as a source that shrank.
    """
    view = flat_view(buffer)
    if not view.nbytes:
        return []
    for _ in range(retries):
        with contextlib.suppress(UnreadableRangeError):
            source.read_into(view, offset)
            return []
    bad: list[tuple[int, int]] = []
    # A stack, not recursion; the left half is pushed last, so ranges come in ascending order.
    todo = [(offset, offset + view.nbytes)]
    while todo:
        start, end = todo.pop()
        part = view[start - offset : end - offset]
        try:
            source.read_into(part, start)
        except UnreadableRangeError:
            halves = _halves(start, end, sector)
            todo += halves
            if not halves:
                part[:] = bytes(part.nbytes)
                append_merged(bad, start, end - start)
    return bad


def _halves(start: int, end: int, sector: int) -> list[tuple[int, int]]:
    """Split at the sector boundary below the middle, right part first; none for a sector."""
    middle = (start + end) // 2 // sector * sector
    if middle <= start:
        # The range may begin inside a sector: then its first boundary is the only one.
        middle = (start // sector + 1) * sector
    return [(middle, end), (start, middle)] if middle < end else []


def append_merged(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    """Add a range behind the others, to the last one where it follows on that."""
    if ranges and sum(ranges[-1]) == start:
        start, length = ranges[-1][0], ranges.pop()[1] + length
    ranges.append((start, length))


def _read_exactly(file: File, buffer: Buffer, offset: int, size: int) -> None:
    length = memoryview(buffer).nbytes
    _check_bounds(file.name, length, offset, size)
    try:
        got = file.pread_into(buffer, offset)
    except StorageError as error:
        if error.errno in MEDIUM_ERRORS:
            raise UnreadableRangeError(str(error), offset, length, error.errno) from error
        raise SourceError(str(error), error.errno) from error
    if got < length:
        raise _shrank(file.name, size, offset + got)


def _check_bounds(name: str, length: int, offset: int, size: int) -> None:
    if offset < 0 or offset + length > size:
        raise RuntimeError(
            f"internal error: read of {length} bytes at {offset} from {name}, which has {size}"
        )


def _shrank(name: str, size: int, now: int) -> SourceError:
    return SourceError(
        f"{name}: shrank while it was read, from {size} bytes to {now}; "
        "make a snapshot of it, or stop what changes it, and try again"
    )


@contextlib.contextmanager
def _source_errors() -> Iterator[None]:
    """What fails on a source is the source's failure, not the image's."""
    try:
        yield
    except StorageError as error:
        raise SourceError(str(error), error.errno) from error
