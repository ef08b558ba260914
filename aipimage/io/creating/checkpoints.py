"""When and how a creation makes what it has written durable (docs/format.md, section 11)."""

from __future__ import annotations

import time

import numpy as np

from aipimage.errors import StorageError
from aipimage.extents import Kind
from aipimage.format import constants as c
from aipimage.format.checkpoint import NOTE_DTYPE, Checkpoint, encode_checkpoint
from aipimage.format.constants import RecordType
from aipimage.format.tables import pack_at
from aipimage.io.creating.imagewriter import ImageWriter

_NOTES_MAX = 100_000
_NOTES_LIMIT = (c.PLAIN_MAX - 128) // NOTE_DTYPE.itemsize


class Checkpointer:
    """Writes a checkpoint after so many stored bytes or so many seconds, at the next stripe.

    Attributes:
        written: checkpoints in the file, those before a resume included.
        untrusted: a sync failed, so what is on the disk is not known.
    """

    def __init__(self, writer: ImageWriter, every_bytes: int, every_seconds: float) -> None:
        self._writer, self._every_bytes, self._every_seconds = writer, every_bytes, every_seconds
        self._position, self._time = writer.stream.position, time.monotonic()
        self._notes: list[tuple[int, int, int]] = []
        self.written = 1 if writer.earlier else 0
        self.untrusted = False

    @property
    def is_resumable(self) -> bool:
        """Whether a later resume can use the partial file: never after a failed sync, because what
        is on the disk is then not known.
        """
        return self.written > 0 and not self.untrusted

    def note(self, device: int, sector: int, sectors: int, kind: Kind) -> None:
        """Remember an extent that no frame names and that is not zero."""
        self._notes.append((pack_at(device, sector), sectors, kind))

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return (
            self._writer.stream.position - self._position >= self._every_bytes
            or time.monotonic() - self._time >= self._every_seconds
            or len(self._notes) >= _NOTES_MAX
        )

    def write(self, device: int, sector: int) -> None:
        """Make all records durable, then say so in a checkpoint."""
        if len(self._notes) > _NOTES_LIMIT:
            return  # It would be no legal record, and the image is whole without it.
        self._writer.flush_digests()
        self.sync()
        notes = np.array(self._notes, NOTE_DTYPE)
        self._notes = []
        running = self._writer.records.running
        if running is None:
            raise RuntimeError("internal error: a checkpoint in a stream that is not followed")
        point = Checkpoint(device, sector, notes, running.records, running.value)
        body = encode_checkpoint(point)
        self._writer.records.write(RecordType.CHECKPOINT, body)
        self.written += 1
        self._position, self._time = self._writer.stream.position, time.monotonic()

    def sync(self) -> None:
        """Sync the stream; a failure is final, and the partial file is not to be resumed."""
        try:
            self._writer.stream.sync()
        except StorageError:
            self.untrusted = True
            raise
