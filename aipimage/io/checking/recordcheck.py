"""Checking the bytes of one stream against the digests beside them, without any key."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from aipimage import _core
from aipimage.errors import AipImageError, FormatError, naming
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.record import decode_record_header
from aipimage.format.trailer import Trailer
from aipimage.io.checking.findings import DAMAGE_MAX
from aipimage.io.checking.results import Damage, VerifyResult
from aipimage.io.checking.runningcheck import MARKS, Follower
from aipimage.io.records.damage import damage_text
from aipimage.io.records.records import open_record
from aipimage.io.records.walk import FramedPiece, framed_pieces
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.opening import read_header, read_key_area
from aipimage.io.stream.spare import read_trailer, spare_damage
from aipimage.io.stream.tail import check_twins
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import ProgressCallback, Reporter

_DIGEST = len(c.ZERO_DIGEST)


def check_stored_bytes(
    stream: InStream,
    expected_digest: str | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    """Check every byte of a stream.

    Args:
        expected_digest: the image digest that was kept elsewhere; another one is damage.

    Raises:
        FormatError, IncompleteError: not a whole image. IntegrityError: header or trailer are
            damaged.
    """
    reporter = Reporter("verify", stream.size, progress)
    header = read_header(stream)
    with naming(stream.name):
        trailer = read_trailer(stream)
        damage = _damage_outside_records(stream, header, trailer, expected_digest)
    records = _Records(header, damage, reporter)
    try:
        with executor_for(executor, threads, "verify") as (pool, in_flight):
            pieces = framed_pieces(
                stream, header.records_start, trailer.records_end, records.buffers
            )
            for piece in in_order(pool, records.check, pieces, in_flight):
                records.take(piece)
    except AipImageError as error:
        damage.append(Damage(damage_text(error)))
    if not damage and records.last != trailer.seal.digest:
        damage.append(Damage("the last record is not the seal that the trailer names"))
    reporter.report(stream.size, records.done, final=True)
    seconds = time.monotonic() - reporter.started
    checked = records.done + trailer.spare_length + c.TRAILER
    return VerifyResult("keyless", records.frames, checked, seconds, tuple(damage[:DAMAGE_MAX]))


def _damage_outside_records(
    stream: InStream, header: Header, trailer: Trailer, expected_digest: str | None
) -> list[Damage]:
    """What is wrong with header, trailer, key area and spare area, which all hold copies."""
    damage: list[Damage] = []
    try:
        check_twins(header, trailer)
    except FormatError as error:
        damage.append(Damage(str(error)))
    if expected_digest not in (None, trailer.seal.digest.hex()):
        damage.append(Damage("not the image that was expected: its digest differs"))
    if header.suite:
        _, damaged = read_key_area(stream, header)
        damage += [Damage(f"copy {copy} of the key area is damaged") for copy in damaged]
    return damage + [Damage(text) for text in spare_damage(stream, trailer, None)]


class _Checked(NamedTuple):
    """What a worker says of a piece; ``marks``: checkpoints and continuations, each with its number
    in the piece and its place in the stream.
    """

    frames: int
    length: int
    bad: list[int]
    digests: bytes
    marks: list[tuple[int, int, bytes]]


class _Records:
    """The records of a stream, piece by piece.

    Attributes:
        frames: that were checked. done: where the records end that were. last: digest of the last.
    """

    def __init__(self, header: Header, damage: list[Damage], reporter: Reporter) -> None:
        self._header, self._damage, self._reporter = header, damage, reporter
        self._follower = Follower(header)
        self.buffers = Buffers()
        self.frames, self.done, self.last = 0, header.records_start, b""

    def check(self, piece: FramedPiece) -> _Checked:
        """In a worker: compare the digest of each record with its check."""
        data, ends = memoryview(piece.buffer), piece.ends.astype(np.int64)
        digests, types, differs = _core.check_records(data, piece.ends)
        starts = np.concatenate(([0], ends[:-1]))
        bad = starts[np.unpackbits(differs, count=len(ends), bitorder="little") == 1]
        marks = [
            (row, piece.offset + int(starts[row]), bytes(data[starts[row] : ends[row]]))
            for row in np.flatnonzero(np.isin(types, MARKS)).tolist()
        ]
        frames = int((types == RecordType.FRAME).sum())
        self.buffers.give(piece.buffer)
        places = (bad + piece.offset).tolist()
        return _Checked(frames, int(ends[-1]), places, digests.tobytes(), marks)

    def take(self, checked: _Checked) -> None:
        """Take what a worker found, in the order of the stream."""
        self.frames += checked.frames
        self.done += checked.length
        self._damage += [Damage(f"record at byte {offset} is damaged") for offset in checked.bad]
        if not self._header.suite and not self._damage:
            self._follow(checked)
        self.last = checked.digests[-_DIGEST:]
        self._reporter.report(self.done, self.done)

    def _follow(self, checked: _Checked) -> None:
        """What checkpoints and continuations of a plain image say of the records before them."""
        follower, done = self._follower, 0
        for index, place, record in checked.marks:
            at = index * _DIGEST
            follower.add(checked.digests[done:at])
            header = decode_record_header(record, 0)
            follower.check(place, header, open_record(memoryview(record), header, None).plain)
            done = at
        follower.add(checked.digests[done:])
