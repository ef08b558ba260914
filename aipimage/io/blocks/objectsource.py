"""A binary file object as a source."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from aipimage.errors import RequestError, SourceError
from aipimage.io.blocks.filesources import check_bounds, shrank
from aipimage.io.blocks.forward import Lately, reads_forward
from aipimage.io.blocks.model import OwnSource, UnreadableRangeError
from aipimage.io.system.storage import MEDIUM_ERRORS, flat_view

if TYPE_CHECKING:
    from typing_extensions import Buffer


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
        check_bounds(self.name, view.nbytes, offset, self.size)
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
            raise shrank(self.name, self.size, offset + done)

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
