"""The running digest over the records of a stream: docs/format.md, section 11."""

from __future__ import annotations

from aipimage._core import blake3_chain
from aipimage.errors import IntegrityError
from aipimage.format import constants as c
from aipimage.format.checkpoint import Checkpoint, Continuation

_SIZE = len(c.ZERO_DIGEST)


class Running:
    """What binds all records of a stream up to some place, in their order.

    Attributes:
        records: how many there were. value: 32 bytes.
    """

    __slots__ = ("records", "value")

    def __init__(self, value: bytes, records: int = 0) -> None:
        """Begin with the ``header_digest`` of the stream, or continue from a known place."""
        self.records, self.value = records, value

    def add(self, digests: bytes | memoryview) -> None:
        """Continue over the next records: their digests, 32 bytes each, one after the other."""
        self.value = blake3_chain(self.value, digests)
        self.records += len(digests) // _SIZE

    def copy(self) -> Running:
        """Another one, for the same place."""
        return Running(self.value, self.records)

    def check(self, record: Checkpoint | Continuation) -> None:
        """Compare with what a checkpoint or continuation says of the records before it.

        Raises:
            IntegrityError: records were dropped, doubled, moved or exchanged.
        """
        what = "checkpoint" if isinstance(record, Checkpoint) else "continuation"
        if record.records != self.records:
            raise IntegrityError(
                f"a {what} counts {record.records} records before it, and there are {self.records}"
            )
        if record.running != self.value:
            raise IntegrityError(f"the records before a {what} are not those that it binds")
