"""A block device as a sink, thin where the device can be.

Ranges of zeros are unmapped where the device promises to read them as zeros afterwards. The
ioctl BLKDISCARD makes no such promise: it is used only for ranges that may read as anything.
Small ranges of zeros are written, because the device finishes each unmapping before the next call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aipimage.errors import StorageError
from aipimage.io.blocks.filesink import check_bounds, write_zeros
from aipimage.io.system.storage import File

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ZERO_STEP = 1 << 30
_ZERO_MIN = 1 << 16
"""Smaller ranges of zeros are written. A call that unmaps one takes a hundred times as long as a
write of a cluster (docs/performance.md), and few devices keep less than this for themselves.
"""
_ZEROS = bytes(_ZERO_MIN)
_DISCARD_MIN = 1 << 20
"""Smaller ranges are left alone: a call for each costs more than it gains."""
_EDGE = 1 << 20
"""Bytes at both ends of a long free range, where a superblock would lie."""


class DeviceSink:
    """A block device, claimed for this writer alone.

    Args:
        file: the device, opened exclusively. untouched: (start, end) of what is not discarded.
    """

    def __init__(self, file: File, untouched: Sequence[tuple[int, int]] = ()) -> None:
        self.name = file.name
        self.size: int = file.size()
        self._file = file
        self._sector = file.sector_size()
        self._can_punch = True
        self._can_zero_out = True
        self._can_discard = True
        self._untouched = sorted(untouched)

    def write(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSink.write``."""
        self.writev([buffer], offset)

    def writev(self, buffers: Sequence[Buffer], offset: int) -> None:
        """See ``BlockSink.writev``."""
        length = sum(memoryview(buffer).nbytes for buffer in buffers)
        check_bounds(self.name, offset, offset + length, self.size)
        self._file.pwritev(buffers, offset)

    def zero(self, offset: int, length: int) -> None:
        """See ``BlockSink.zero``: from 64 KiB on unmapped if the device can, else zeroed by it,
        else by us.
        """
        check_bounds(self.name, offset, offset + length, self.size)
        if length < _ZERO_MIN:
            self._file.pwrite(memoryview(_ZEROS)[:length], offset)
            return
        # The device's own ways take whole sectors only.
        start = -(-offset // self._sector) * self._sector
        end = (offset + length) // self._sector * self._sector
        if start >= end:
            write_zeros(self._file, offset, length)
            return
        write_zeros(self._file, offset, start - offset)
        # In steps, because a device may take long, and nothing interrupts a call.
        for at in range(start, end, _ZERO_STEP):
            part = min(_ZERO_STEP, end - at)
            if not self._zero_sectors(at, part):
                write_zeros(self._file, at, part)
        write_zeros(self._file, end, offset + length - end)

    def _zero_sectors(self, offset: int, length: int) -> bool:
        """Have the device do it; a way that it refused once is not tried again."""
        if self._can_punch:
            # On a device this unmaps, but only where unmapped sectors are sure to read as zeros.
            self._can_punch = self._file.punch_hole(offset, length)
            if self._can_punch:
                return True
        if self._can_zero_out:
            self._can_zero_out = self._file.zero_out(offset, length)
        return self._can_zero_out

    def discard(self, offset: int, length: int) -> None:
        """See ``BlockSink.discard``: whole MiB are discarded where the device can, all else is left
        as it is. The ends of long ranges become zeros: free space at the end of a volume may hold
        an old superblock, of an array say, that would be taken for the volume's own.
        """
        check_bounds(self.name, offset, offset + length, self.size)
        at, end = offset, offset + length
        for low, high in self._untouched:
            if low < end and high > at:
                if low > at:
                    self._discard(at, low - at)
                at = max(at, high)
        if at < end:
            self._discard(at, end - at)

    def _discard(self, offset: int, length: int) -> None:
        if length >= _EDGE:
            edge = min(_EDGE, length // 2)
            self.zero(offset, edge)
            self.zero(offset + length - edge, edge)
            offset, length = offset + edge, length - 2 * edge
        start = -(-offset // _DISCARD_MIN) * _DISCARD_MIN
        end = (offset + length) // _DISCARD_MIN * _DISCARD_MIN
        for at in range(start, end, _ZERO_STEP):
            if not self._can_discard:
                return
            # A hint: a device that fails at it is not worse off than one that cannot.
            try:
                self._can_discard = self._file.discard(at, min(_ZERO_STEP, end - at))
            except StorageError:
                self._can_discard = False

    def finish(self) -> None:
        """Sync, have the system look at the partitions that are there now, and close."""
        self._file.sync()
        self._file.reread_partitions()
        self._file.close()

    def abort(self) -> None:
        """Close; what was written stays."""
        with contextlib.suppress(StorageError):
            self._file.close()
