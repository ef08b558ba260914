"""Fuzz the readers of journals: whole journals with one transaction or more."""

from __future__ import annotations

import copy
import struct
from functools import cache

from aipimage.volumes.journals.jbd2.fastcommit import fast_commits
from aipimage.volumes.journals.jbd2.scan import scan
from aipimage.volumes.journals.jbd2.superblock import journal_of
from aipimage.volumes.view import LayoutError
from tests.volumes.journals import builtlog
from tests.volumes.journals.built import BLOCK, LIMIT, Built, added

_BLOCKS = 16
_KINDS = [(csum, is_64bit) for csum in range(4) for is_64bit in (False, True)]


def fuzz_jbd2(data: bytes) -> None:
    """``data``: a byte that chooses the kind, then the first 16 blocks of a journal and the first
    of its fast commits. They are tried as they are, and with the superblock's checksum made right.
    """
    base = _journal((data[0] if data else 0) % len(_KINDS))
    built = copy.copy(base)
    built.data = bytearray(base.data)
    head = data[1 : 1 + _BLOCKS * BLOCK]
    built.data[: len(head)] = head
    fast = data[1 + _BLOCKS * BLOCK :][:BLOCK]
    at = (built.last + 1) * BLOCK
    built.data[at : at + len(fast)] = fast
    _drive(built)
    built.superblock()
    _drive(built)


def _drive(built: Built) -> None:
    """What is accepted lies inside of the volume, each block once."""
    blocks = built.reader()
    try:
        journal = journal_of(blocks.read(0)[0].tobytes(), BLOCK, blocks.count)
        log = scan(journal, blocks, LIMIT)
        fast_commits(journal, blocks, log.sequence)
    except LayoutError:
        return
    moved = log.moved(blocks)
    numbers = moved.blocks.tolist()
    assert numbers == sorted(set(numbers))
    assert all(0 <= number < LIMIT for number in numbers)
    assert all(0 <= place < blocks._view.size for place in moved.places.tolist())
    assert len(log.blocks) <= journal.ring


@cache
def _journal(index: int) -> Built:
    csum, is_64bit = _KINDS[index]
    built = Built(csum, is_64bit, fast=16, blocks=1024 + 16)
    built.transaction([(80, bytes(BLOCK)), (81, b"\xc0;9\x98" * 256)], revoked=[70, 3000])
    built.transaction([(80, b"x" * BLOCK)])
    return built.fast_commit(0, added(900, 5), (6, bytes(132)))


def seeds_jbd2() -> list[bytes]:
    """A journal of each kind."""
    found = []
    for index in range(len(_KINDS)):
        built = _journal(index)
        at = (built.last + 1) * BLOCK
        head, fast = built.data[: _BLOCKS * BLOCK], built.data[at : at + BLOCK]
        found.append(bytes([index]) + bytes(head) + bytes(fast))
    return found


def fuzz_xfs_log(data: bytes) -> None:
    """``data``: a byte that says how it is taken. Even: the data of one record, whose checksum is
    right; odd: the blocks of the log from the first record on.
    """
    kind, rest = data[0] % 2 if data else 0, data[1:]
    if kind:
        built = _log()
        at = built.start * builtlog.BB
        rest = rest[: len(built.ring) - at]
        built.ring[at : at + len(rest)] = rest
    else:
        built = builtlog.Built(volume={60 * builtlog.BB: _CLUSTER})
        built.payload(rest[: 30 << 10] or b"x", 12)
    try:
        overlay, result = built.replay()
    except LayoutError:
        return
    assert (result.places.sum(axis=1) <= builtlog.SIZE).all()
    assert all(page * 4096 < builtlog.SIZE for page in overlay._pages)
    overlay.close()


_CLUSTER = (b"IN\0\0\3".ljust(builtlog.INODE, b"\0")) * 4


def _operations() -> list[bytes]:
    chunks = {0: b"a" * 128, 1: b"b" * 128, 3: b"c" * 128}
    core = b"NI\xa4\x81\x03\x02".ljust(176, b"\0")
    head = struct.pack("<HHIHHIQ16sqii", 0x123B, 3, 5, 0, 0, 0, 99, bytes(16), 60, 4, 512)
    items = [
        builtlog.buffer(40, 1, chunks), builtlog.cancel(44, 1), [head, core, b"x" * 32],
        builtlog.intent(0x1236, 5, [(300, 4)]),
        [struct.pack("<HH", 0x123F, 1) + struct.pack(">6I", 1, 300, 4, builtlog.INODE, 2, 7)],
    ]  # fmt: skip
    return builtlog.transaction(1, items)


def _log() -> builtlog.Built:
    built = builtlog.Built(blocks=64, volume={60 * builtlog.BB: _CLUSTER})
    operations = _operations()
    return built.record(operations[:4]).record(operations[4:])


def seeds_xfs_log() -> list[bytes]:
    """The data of a record, and a log of two."""
    built = _log()
    return [
        b"\0" + b"".join(_operations()),
        b"\1" + bytes(built.ring[built.start * builtlog.BB : (built.head + 1) * builtlog.BB]),
    ]
