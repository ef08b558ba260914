"""A stream of plain bytes as a target: a pipe, standard output, an upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from aipimage.errors import StorageError
from aipimage.io.storage import flat_view

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ZEROS = bytes(1 << 20)


class RawStream:
    """A block sink: a stream that all bytes go into, zeros too.

    Attributes:
        position: bytes written so far.
    """

    def __init__(self, target: BinaryIO, size: int) -> None:
        name = getattr(target, "name", None)
        self.name = name if isinstance(name, str) else "<stream>"
        self.size, self.position = size, 0
        self._target = target

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``; offsets ascend."""
        if offset < self.position:
            raise RuntimeError(f"internal error: write at {offset} behind {self.position}")
        self._fill(offset)
        for buffer in buffers:
            self._put(flat_view(buffer))

    def _fill(self, end: int) -> None:
        while self.position < end:
            self._put(memoryview(_ZEROS)[: end - self.position])

    def _put(self, view: memoryview) -> None:
        while view.nbytes:
            try:
                done = self._target.write(view)
            except OSError as error:
                raise StorageError.from_os_error("write", self.name, error) from error
            if not 0 < (done or 0) <= view.nbytes:
                raise StorageError(f"{self.name}: the stream took no bytes; open it blocking")
            self.position += done
            view = view[done:]

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: written along with the data that follows, or at the end."""

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: likewise."""

    def finish(self) -> None:
        """Write the zeros at the end, and flush."""
        self._fill(self.size)
        try:
            self._target.flush()
        except OSError as error:
            raise StorageError.from_os_error("write", self.name, error) from error

    def abort(self) -> None:
        """Nothing can be taken back from a stream."""
