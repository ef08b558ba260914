"""A virtual disk, with the parents that a delta stands on, as a block source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from aipimage import hints
from aipimage.errors import FormatError
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.io.system.closing import Gate
from aipimage.io.system.storage import DEFAULT, Storage, absolute, close_all, flat_view
from aipimage.vmdk.descriptor import Descriptor
from aipimage.vmdk.extents.files import source_errors
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.member import DiskMember
from aipimage.vmdk.overlay import overlaid
from aipimage.vmdk.pieces import PieceArray, State, joined


class VmdkSource:
    """A virtual disk: see :class:`aipimage.io.blocks.sources.BlockSource`. Any thread may read it.

    Attributes:
        name: the path that was opened. size: bytes. sector_size: 512.
        descriptor: what the disk's descriptor says. subformat: its ``createType``.
        members: the disks of the chain, newest first. chain: their paths.
        warnings: sentences on what is not as it should be, of all members.
    """

    sector_size = SECTOR

    def __init__(
        self, disk: DiskMember, parent: VmdkSource | None = None, storage: Storage = DEFAULT
    ) -> None:
        """Take over ``disk`` and ``parent``; ``FormatError`` where their sizes differ."""
        if parent is not None and parent.size != disk.size:
            raise FormatError(
                f"{disk.path}: has {disk.size} bytes, and its parent {parent.name} {parent.size}"
            )
        self.members: tuple[DiskMember, ...] = (
            disk,
            *(parent.members if parent is not None else ()),
        )
        self.name: str = disk.path
        self.size: int = disk.size
        self._storage = storage
        self._gate = Gate(disk.path, "disk")

    @property
    def place(self) -> str:
        """What identifies the disk, from one image of it to the next."""
        return absolute(self.name)

    @property
    def descriptor(self) -> Descriptor:
        return self.members[0].descriptor

    @property
    def subformat(self) -> str:
        return self.descriptor.create_type

    @property
    def chain(self) -> tuple[str, ...]:
        return tuple(member.path for member in self.members)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(text for member in self.members for text in member.warnings)

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what the whole chain has in [start, end), in bytes; ``State.ABSENT`` where no disk
        has anything, which reads as zeros.

        Raises:
            FormatError: a grain table is damaged. SourceError: a file cannot be read.
            ClosedError: the disk is closed.
        """
        self._gate.check()
        steps = self._pieces(start, end)
        while True:
            # Not inside the gate while the caller has its turn, which may last.
            with self._gate:
                rows = next(steps, None)
            if rows is None:
                return
            yield rows

    def _pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        if len(self.members) == 1:
            yield from self.members[0].pieces(start, end)
            return
        for rows in overlaid(self.members, start, end):
            rows[:, 2] = np.minimum(rows[:, 2], State.DATA)
            yield joined(rows)

    def read_into(self, buffer: hints.Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``; ``FormatError`` where the disk is damaged."""
        with self._gate:
            self._read_into(buffer, offset)

    def _read_into(self, buffer: hints.Buffer, offset: int) -> None:
        view = flat_view(buffer)
        if offset < 0 or offset + view.nbytes > self.size:
            raise RuntimeError(
                f"internal error: read of {view.nbytes} bytes at {offset} of {self.name}"
            )
        if not view.nbytes:
            return
        array = np.frombuffer(view, np.uint8)
        end = offset + view.nbytes
        try:
            for rows in overlaid(self.members, offset, end):
                for at, length, code in rows.tolist():
                    low = at - offset
                    if code < State.DATA:
                        array[low : low + length] = 0
                    else:
                        member = self.members[code - State.DATA]
                        member.read_data(view[low : low + length], at)
        except UnreadableRangeError as error:
            # Where it lies in its file is in the message; the range is the disk's.
            raise UnreadableRangeError(str(error), offset, view.nbytes, error.errno) from error

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what is kept anywhere in the chain, neighbours merged."""
        low = stop = start
        for rows in self.pieces(start, min(end, self.size)):
            for at, length, _ in rows[rows[:, 2] == State.DATA].tolist():
                if at != stop:
                    if low < stop:
                        yield low, stop - low
                    low = at
                stop = at + length
        if low < stop:
            yield low, stop - low

    def fingerprint(self) -> dict[str, int | str]:
        """Return the size, and a digest of what the system knows of all files now."""
        self._gate.check()
        facts = hashlib.sha256()
        for member in self.members:
            for path in member.files:
                with source_errors():
                    info = self._storage.stat(path)
                facts.update(repr((info.size, info.mtime_ns, info.inode, info.device)).encode())
        return {"kind": "vmdk", "size": self.size, "files": facts.hexdigest()}

    def close(self) -> None:
        """Close all files of the chain, after the reads under way; a second call does nothing."""
        self._gate.shut()
        close_all(self.members)

    def __enter__(self) -> VmdkSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
