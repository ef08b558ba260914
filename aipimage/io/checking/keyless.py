"""Checking every stored byte without any key (docs/format.md, section 13)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import BinaryIO, NamedTuple

from aipimage import checks
from aipimage.errors import AipImageError, FormatError, naming
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.digest import digest
from aipimage.format.record import decode_record_header
from aipimage.io.checking.findings import DAMAGE_MAX, Damage
from aipimage.io.checking.runningcheck import MARKS, Follower
from aipimage.io.checking.verify import VerifyResult
from aipimage.io.records.damage import damage_text
from aipimage.io.records.records import open_record
from aipimage.io.records.walk import Piece, hop
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header, read_key_area
from aipimage.io.stream.spare import read_trailer, spare_damage
from aipimage.io.stream.tail import check_twins
from aipimage.io.system.buffers import Buffers
from aipimage.io.system.openers import Input, Opener
from aipimage.io.system.pipeline import executor_for, in_order
from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, StrPath

_DIGEST = len(c.ZERO_DIGEST)


def verify_keyless(
    path: StrPath | BinaryIO | Sequence[BinaryIO],
    *,
    chain: bool = False,
    search: Sequence[StrPath] | None = None,
    expected_digest: str | None = None,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    storage: Opener | Storage | None = None,
) -> VerifyResult:
    """Check every stored byte against the digests beside it, without any key (section 13).

    Finds damage; does not find tampering by somebody who recomputes digests.

    Args:
        chain: also check the images that this one needs; of an encrypted chain, where nobody can
            tell without its key which these are, all of its chain.
        search: directories to find them in, besides the image's own.
        path: of the image; or a seekable binary file object, or those of all of its parts.
        storage: opens ``path``, which is one of its names, and the images of its chain.
        expected_digest: the image digest that was kept elsewhere; another one is damage.

    Raises:
        FormatError, IncompleteError: it is no whole image. IntegrityError: header or trailer are
            damaged.
    """
    found = Input("path", path, storage)
    path, storage = found.path, found.storage
    expected_digest = checks.hex_digest("expected_digest", expected_digest)
    checks.flags(chain=chain)
    checks.paths("search", search)
    checks.jobs(executor, progress)
    threads = checks.threads(threads)
    if chain:
        from aipimage.io.checking.chainkeyless import verify_chain_keyless

        return verify_chain_keyless(
            path, expected_digest, search, executor, threads, progress, storage
        )
    with open_stream(storage, path) as stream:
        return _keyless(stream, expected_digest, executor, threads, progress)


def _keyless(
    stream: InStream,
    expected_digest: str | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    reporter = Reporter("verify", stream.size, progress)
    damage: list[Damage] = []
    header = read_header(stream)
    with naming(stream.name):
        trailer = read_trailer(stream)
        try:
            check_twins(header, trailer)
        except FormatError as error:
            damage.append(Damage(str(error)))
        if expected_digest not in (None, trailer.seal.digest.hex()):
            damage.append(Damage("not the image that was expected: its digest differs"))
        if header.suite:
            _, damaged = read_key_area(stream, header)
            damage += [Damage(f"copy {copy} of the key area is damaged") for copy in damaged]
        damage += [Damage(text) for text in spare_damage(stream, trailer, None)]
    frames, done = 0, header.records_start
    follower = Follower(header)
    buffers = Buffers()
    last = b""
    end = trailer.records_end
    try:
        with executor_for(executor, threads, "verify") as (pool, in_flight):
            pieces = hop(stream, done, end, buffers)
            for piece in in_order(pool, partial(_check_piece, buffers), pieces, in_flight):
                frames += piece.frames
                done += piece.length
                damage += [Damage(f"record at byte {offset} is damaged") for offset in piece.bad]
                if not header.suite and not damage:
                    _follow(follower, piece)
                last = piece.digests[-_DIGEST:]
                reporter.report(done, done)
    except AipImageError as error:
        damage.append(Damage(damage_text(error)))
    if not damage and last != trailer.seal.digest:
        damage.append(Damage("the last record is not the seal that the trailer names"))
    reporter.report(stream.size, done, final=True)
    seconds = time.monotonic() - reporter.started
    checked = done + trailer.spare_length + c.TRAILER
    return VerifyResult("keyless", frames, checked, seconds, tuple(damage[:DAMAGE_MAX]))


def _follow(follower: Follower, checked: _Checked) -> None:
    """What checkpoints and continuations of a plain image say of the records before them."""
    done = 0
    for index, place, record in checked.marks:
        at = index * _DIGEST
        follower.add(checked.digests[done:at])
        header = decode_record_header(record, 0)
        follower.check(place, header, open_record(memoryview(record), header, None).plain)
        done = at
    follower.add(checked.digests[done:])


class _Checked(NamedTuple):
    """What a worker says of a piece; ``marks``: checkpoints and continuations, each with its number
    in the piece and its place in the stream.
    """

    frames: int
    length: int
    bad: list[int]
    digests: bytes
    marks: list[tuple[int, int, bytes]]


def _check_piece(buffers: Buffers, piece: Piece) -> _Checked:
    """In a worker: compare the digest of each record with its check."""
    bad: list[int] = []
    digests: list[bytes] = []
    marks: list[tuple[int, int, bytes]] = []
    data = memoryview(piece.buffer)
    frames = at = 0
    for end in piece.ends:
        record = data[at:end]
        found = digest(record[: -c.CHECK])
        if found[: c.CHECK] != record[-c.CHECK :]:
            bad.append(piece.offset + at)
        frames += record[4] == RecordType.FRAME
        if record[4] in MARKS:
            marks.append((len(digests), piece.offset + at, bytes(record)))
        digests.append(found)
        at = end
    buffers.give(piece.buffer)
    return _Checked(frames, at, bad, b"".join(digests), marks)
