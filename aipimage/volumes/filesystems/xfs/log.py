"""Whether the log of an XFS volume is clean, and where it ends.

"XFS Algorithms & Data Structures", section Journaling Log. The log is a ring of basic blocks of 512
bytes. Each carries the number of its turn, the cycle, in its first word (a record header, behind
its magic), so that the head lies where the cycle falls by one. The log is clean where the record
that ends at the head is an unmount record. This is what a mount looks for, and here it is doubted
more: what the log may have had in flight around its head must all be of the right cycle, and the
record itself must be whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.xfs import layout
from aipimage.volumes.filesystems.xfs.layout import BASIC_BLOCK, LOG_RECORD
from aipimage.volumes.filesystems.xfs.superblock import Superblock
from aipimage.volumes.view import LayoutError, VolumeView

_IN_FLIGHT = 4096
"""Basic blocks that may be written at a time: 8 buffers of 256 KiB (XLOG_MAX_ICLOGS and
XLOG_MAX_RECORD_BSIZE)."""
_GAP_END = 512
"""Where tools format a log (xfs_repair, xfs_db) and go on with the count of its cycles, they write
an unmount record at the start and fill the log with records of the cycle before from this block on;
what is between keeps zeros until the next mount (xfsprogs, libxfs_log_clear)."""
_HEADER_COVERS = 32_768
"""Bytes of a record whose first words one header block keeps."""
_RECORD_MAX = 256 << 10
_CRC_SIZES = (328, 324)
"""Bytes of a record header that its checksum covers: 64-bit systems, and 32-bit x86."""
_EXTENDED_SIZE = 260
"""The same of each further header."""
_UNMOUNT = 0x20
_LOG_CLIENT = 0xAA
_NOT_REPLAYED = "its log was not replayed: it was not unmounted, or not cleanly"


class NotReplayedError(LayoutError):
    """The log is not clean: the volume was in use, or it is damaged."""


class CycleError(NotReplayedError):
    """Around the head are blocks of other turns than expected: what was in flight when the machine
    stopped, or damage.
    """


def clean_head(view: VolumeView, superblock: Superblock) -> int:
    """Return the log sequence number at which the next record would begin.

    Raises:
        NotReplayedError: the log is not clean. LayoutError: anything else is amiss.
    """
    log = _Log(view, superblock)
    first, last = log.cycle(0), log.cycle(log.blocks - 1)
    if first == 0:
        raise LayoutError("its log is empty, without an unmount record")
    if last not in (first, first - 1):
        raise LayoutError(f"its log begins with cycle {first} and ends with {last}")
    head = log.blocks if last == first else log.first_unlike(first)
    window, blocks = log.around(head)
    before = min(_IN_FLIGHT, log.blocks)
    expected = np.where(window < head, first, first - 1)
    cycles = _cycles(blocks)
    gap = (window >= head) & (window < _GAP_END)
    is_formatted = first > 1 and bool(gap.any()) and not cycles[gap].any()
    if is_formatted:
        expected[gap] = 0
    if (cycles != expected).any():
        raise CycleError("its log has blocks of a wrong cycle before or behind its head")
    _check_last_record(superblock, window[:before], blocks[:before])
    if is_formatted:
        # For a mount the head is the start, as no record ends where the gap does.
        _check_last_record(superblock, window[: before - head], blocks[: before - head])
        return first << 32
    return (first + 1) << 32 if head == log.blocks else first << 32 | head


class _Log:
    """The ring of basic blocks of a volume's own log."""

    def __init__(self, view: VolumeView, superblock: Superblock) -> None:
        self._start = superblock.logstart * superblock.blocksize
        self.blocks = superblock.logblocks * superblock.blocksize // BASIC_BLOCK
        self._view = view
        view.allow((3 * _IN_FLIGHT + 2 + self.blocks.bit_length()) * BASIC_BLOCK)

    def cycle(self, index: int) -> int:
        """The cycle of one block."""
        return int(_cycles(self._read(index, 1))[0])

    def first_unlike(self, cycle: int) -> int:
        """The first block that is of another cycle, where the first is of it and the last not."""
        low, high = 0, self.blocks - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.cycle(middle) == cycle:
                low = middle
            else:
                high = middle
        return high

    def around(self, head: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """The numbers and bytes of the blocks before ``head`` and, where the log is long enough,
        behind it; in the order in which the ring has them.
        """
        before = min(_IN_FLIGHT, self.blocks)
        count = min(2 * _IN_FLIGHT, self.blocks)
        numbers = (head - before + np.arange(count, dtype=np.int64)) % self.blocks
        wrap = np.flatnonzero(np.diff(numbers) != 1) + 1
        parts = [self._read(int(part[0]), len(part)) for part in np.split(numbers, wrap)]
        return numbers, np.concatenate(parts)

    def _read(self, index: int, count: int) -> npt.NDArray[np.uint8]:
        data = self._view.read_array(self._start + index * BASIC_BLOCK, count * BASIC_BLOCK)
        return data.reshape(-1, BASIC_BLOCK)


def _cycles(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    words = np.ascontiguousarray(blocks[:, :8]).view(">u4").astype(np.int64)
    return np.where(words[:, 0] == layout.LOG_MAGIC, words[:, 1], words[:, 0])


def _check_last_record(
    superblock: Superblock, window: npt.NDArray[np.int64], blocks: npt.NDArray[np.uint8]
) -> None:
    """Check that the last record of some blocks is an unmount record, and ends with them.

    ``window``: the numbers of the blocks.
    """
    words = np.ascontiguousarray(blocks[:, :4]).view(">u4")[:, 0]
    headers = np.flatnonzero(words == layout.LOG_MAGIC)
    if not len(headers):
        raise LayoutError("no record lies before the head of its log")
    at = int(headers[-1])
    record = layout.records(blocks[at : at + 1], LOG_RECORD)[0]
    length, here = int(record["len"]), len(blocks) - at
    data = at + _header_blocks(superblock, record)
    if data + -(-length // BASIC_BLOCK) != len(blocks) or record["num_logops"] != 1:
        raise NotReplayedError(_NOT_REPLAYED)
    lsn = int(record["lsn"])
    cycle, block = divmod(lsn, 1 << 32)
    if not 12 <= length <= _RECORD_MAX or cycle != record["cycle"] or block != window[at]:
        raise LayoutError(f"the last record of its log, of {here} blocks, is damaged")
    uuid = record["uuid"].tobytes()
    if uuid not in (superblock.uuid, bytes(16)):
        raise LayoutError("its log belongs to another file system")
    operation = layout.records(blocks[data : data + 1], layout.LOG_OPERATION)[0]
    if not operation["flags"] & _UNMOUNT or operation["clientid"] != _LOG_CLIENT:
        raise NotReplayedError(_NOT_REPLAYED)
    more = -(-length // _HEADER_COVERS) - 1
    covered = blocks[at + 1 : at + 1 + more, :_EXTENDED_SIZE].tobytes()
    covered += blocks[data:].tobytes()[:length]
    if int(record["crc"]) and not _crc_is_right(blocks[at].tobytes(), covered, int(record["crc"])):
        raise LayoutError("the unmount record of its log is damaged")


def _header_blocks(superblock: Superblock, record: np.void) -> int:
    """Records of version 2 whose buffers are larger than 32 KiB have more headers."""
    if superblock.log_v2 and int(record["version"]) & 2:
        return max(1, -(-int(record["size"]) // _HEADER_COVERS))
    return 1


def _crc_is_right(header: bytes, covered: bytes, stored: int) -> bool:
    """Whether the checksum of a record is that of its header, its further headers and its data."""
    blank = header[:32] + bytes(4) + header[36:]
    return any(crc32c(covered, crc32c(blank[:size])) ^ 0xFFFFFFFF == stored for size in _CRC_SIZES)
