"""The images that a merge makes one of: read, put in order, and checked to be a run
(docs/format.md, sections 9.4 and 9.5).
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aipimage.errors import (
    AipImageError,
    CancelledError,
    FormatError,
    IntegrityError,
    PasswordError,
    RequestError,
    StorageError,
    naming,
    reworded,
)
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.seal import Seal, decode_seal
from aipimage.format.segments import Segment
from aipimage.io.chain.chain import ChainMembers, members_of
from aipimage.io.reading.explaining import explain_what_is_missing
from aipimage.io.reading.image import open_reader
from aipimage.io.reading.members import ForeignFiles, MemberFiles
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import OpenedRecord, OtherFile, RecordReader
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header, unlock_header
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.stream.spare import heal_record, metadata_copies
from aipimage.io.stream.tail import Tail, check_header_keys, check_sizes, check_twins
from aipimage.io.system.filepool import FilePool
from aipimage.io.system.storage import Storage


class Link(NamedTuple):
    """What a child says of its parent (section 9)."""

    digest: bytes
    sequence: int
    kind: int


@dataclass(slots=True)
class RunMember:
    """A file of the run, as far as a merge needs its seal; thousands of them are open at once.

    Attributes:
        seal: reference to it. segments: in the order of the stream, the seal among them.
        origins: of its seal.
        place: (parent_id, what the seal says of the parent).
    """

    path: str
    stream: InStream
    header: Header
    seal: Reference
    link: Link
    place: tuple[bytes, Link]
    replaced: tuple[Reference, ...]
    segments: list[Segment]
    held: SegmentMap
    origins: tuple[OriginEntry, ...]

    @property
    def image_id(self) -> bytes:
        """The origin of its seal."""
        return self.seal.origin

    @property
    def names(self) -> list[bytes]:
        """All ids that it stands for, oldest first, its own last."""
        return [*(ref.origin for ref in self.replaced), self.image_id]

    def address_of(self, at: int) -> tuple[bytes, int]:
        """The (origin, address) of a place in the stream that a segment covers."""
        index = bisect_right(self.segments, at, key=lambda each: each.stream_start) - 1
        segment = self.segments[index]
        return segment.origin, segment.origin_start + at - segment.stream_start

    def read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Stored bytes from an address on."""
        return self.stream.pread(length, self.held.locate(origin, offset, length))


class MergeRun:
    """The members in order, oldest first; a context manager.

    Attributes:
        keys: of the chain, ``None`` for a plain one. records: reads what the members hold by its
            address, and the rest of the chain where that is found.
    """

    def __init__(
        self, storage: Storage, paths: Sequence[str], password: str | None, files: MemberFiles
    ) -> None:
        if len(paths) < 2:
            raise RequestError("a merge needs at least two images")
        self.storage, self.files = storage, files
        self._unlocked = b""
        self._pool = FilePool(storage)
        try:
            headers = _headers_of_one_chain(storage, paths)
            self.keys = self._unlock(paths, headers, password)
            members = [self._member(path) for path in paths]
            self.foreign = ForeignFiles(files, headers[0], self.keys, paths[0])
            self.members = members
            explain_what_is_missing(self.foreign, self, MergeRun._chain)
            _refuse_doubles(members)
            self._holders = _holders(members)
            self.records = _NamingReader(self)
            self.members = self._ordered(members)
            self._check_password(password)
        except BaseException:
            self._pool.close()
            raise

    def __enter__(self) -> MergeRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        try:
            self.foreign.close()
        finally:
            self._pool.close()

    @property
    def first(self) -> RunMember:
        """The oldest."""
        return self.members[0]

    @property
    def last(self) -> RunMember:
        """The newest: the point in time that the merged image is."""
        return self.members[-1]

    @property
    def kind(self) -> ImageKind:
        """Of the merged image (section 9.5)."""
        return ImageKind(self.first.link.kind)

    def holder(self, origin: bytes) -> RunMember | None:
        """The member that holds records of an origin."""
        return self._holders.get(origin)

    def read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Stored bytes of a record, from a member or from another file of the chain."""
        holder = self._holders.get(origin)
        if holder is not None:
            return holder.read(origin, offset, length)
        return self.foreign.read(origin, offset, length)

    def in_other_files(self, ref: Reference) -> Iterator[OtherFile]:
        """Further files that hold a record which no member does."""
        return iter(()) if ref.origin in self._holders else self.foreign.others(ref)

    def _chain(self) -> ChainMembers:
        """The chain of the newest member."""
        newest = max(self.members, key=lambda each: each.link.sequence)
        with open_reader(
            newest.path, keys=self.keys, files=self.files, storage=self.storage
        ) as image:
            return members_of(image)

    # Opening

    def _unlock(
        self, paths: Sequence[str], headers: Sequence[Header], password: str | None
    ) -> ChainKeys | None:
        """The keys, by the password of the newest point in time.

        Only the keys show which file that is. It is the youngest one, unless merged files, which
        are younger than their points in time, lie in front of it: so those are tried too, and
        a wrong password costs no derivation for each file of a long chain.
        """
        refused: PasswordError | None = None
        for index in sorted(range(len(paths)), key=lambda each: -headers[each].created):
            stream = open_stream(self.storage, paths[index], self._pool)
            try:
                keys = unlock_header(stream, headers[index], password)
            except PasswordError as error:
                refused = refused or error
                if not _is_merged(stream):
                    break
            else:
                self._unlocked = headers[index].file_id
                return keys
        assert refused is not None
        raise refused

    def _check_password(self, password: str | None) -> None:
        """The password opens the last image, whose passwords the merged one takes over."""
        if self.last.header.file_id != self._unlocked:
            unlock_header(self.last.stream, self.last.header, password)

    def _member(self, path: str) -> RunMember:
        stream = open_stream(self.storage, path, self._pool)
        header = read_header(stream)
        check_header_keys(stream, header, self.keys)
        with naming(stream.name):
            return _read_member(stream, header, self.keys)

    # Order

    def ends(self, member: RunMember) -> dict[bytes, Link]:
        """The ids by which a child can name a member, each with what the child must say of it.

        A merged image is also known as the last one that it stands for, which may have been a
        merged one itself.
        """
        ends = {member.image_id: member.link}
        replaced: Sequence[Reference] = member.replaced
        while replaced and replaced[-1].origin not in ends:
            seal = self.read_seal(replaced[-1])
            ends[seal.image_id] = Link(replaced[-1].digest, seal.sequence, seal.kind)
            replaced = seal.replaced
        return ends

    def read_seal(self, ref: Reference) -> Seal:
        """The seal of a member, or of an image that one replaced."""
        seal = decode_seal(self.records.fetch(ref, RecordType.SEAL).plain)
        if seal.image_id != ref.origin:
            raise FormatError("a seal was written by another run than it says")
        return seal

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Let an error about what the newest image leads to name that, if it names no file yet."""
        try:
            yield
        except (StorageError, CancelledError):
            raise
        except AipImageError as error:
            if any(member.path in str(error) for member in self.members):
                raise
            raise reworded(error, f"{self.last.path}: {error}") from error

    def _ordered(self, members: list[RunMember]) -> list[RunMember]:
        by_id = {each: member for member in members for each in member.names}
        children: dict[bytes, RunMember] = {}
        heads = []
        for member in members:
            parent = by_id.get(member.place[0])
            if parent is None:
                heads.append(member)
                continue
            self._check_link(parent, member)
            other = children.setdefault(parent.image_id, member)
            if other is not member:
                raise RequestError(
                    f"{other.path} and {member.path}: both build on {parent.path}; pass the images "
                    "of one branch"
                )
        if len(heads) > 1:
            raise _no_run(heads)
        ordered = heads[:1]
        while ordered and (child := children.get(ordered[-1].image_id)) is not None:
            ordered.append(child)
        if not heads or len(ordered) < len(members):
            raise RequestError(f"{members[0].path}: the parents of its chain run in a circle")
        return ordered

    def _check_link(self, parent: RunMember, child: RunMember) -> None:
        parent_id, said = child.place
        known = self.ends(parent)
        if parent_id not in known:
            raise RequestError(
                f"{child.path}: builds on image {parent_id.hex()}, which {parent.path} replaced "
                "together with newer ones; they are not consecutive"
            )
        if said != known[parent_id]:
            raise IntegrityError(
                f"{child.path}: its parent is another image than {parent.path}, which has the same "
                "id; one of them was exchanged"
            )


class _NamingReader(RecordReader):
    """Names the file that a damaged record lies in."""

    def __init__(self, run: MergeRun) -> None:
        super().__init__(run.read, run.keys)
        self.others = run.in_other_files
        self._run = run

    def fetch(self, ref: Reference, kind: RecordType) -> OpenedRecord:
        """See :meth:`RecordReader.fetch`."""
        holder = self._run.holder(ref.origin)
        with naming(holder.path) if holder is not None else contextlib.nullcontext():
            return super().fetch(ref, kind)


def _headers_of_one_chain(storage: Storage, paths: Sequence[str]) -> list[Header]:
    headers = []
    for path in paths:
        headers.append(_header_of(storage, path))
    first = headers[0]
    for path, header in zip(paths, headers, strict=True):
        if header.chain_id != first.chain_id:
            raise RequestError(f"{path}: belongs to another chain than {paths[0]}")
        check_sizes(path, header.shifts, first.shifts)
    return headers


def _header_of(storage: Storage, path: str) -> Header:
    """The header of an image; of another file the error says what it is."""
    with open_stream(storage, path) as stream:
        return read_header(stream)


def _is_merged(stream: InStream) -> bool:
    try:
        return Tail(stream).trailer().segments != NO_REFERENCE
    except AipImageError:
        return False


def _read_member(stream: InStream, header: Header, keys: ChainKeys | None) -> RunMember:
    tail = Tail(stream)
    trailer = tail.trailer()
    check_twins(header, trailer)
    seal, ref = tail.seal(header, trailer, keys), trailer.seal
    end = trailer.records_end
    segments = tail.segment_list(trailer, keys) or [Segment(header.file_id, 0, end, 0)]
    held = SegmentMap(segments, header.file_id, end)
    if not held.covers(ref.origin, ref.offset, ref.record_length):
        # The trailer alone leads to a seal; in the merged file its address must lead there too.
        segments.append(Segment(ref.origin, ref.offset, ref.record_length, ref.offset))
        held = SegmentMap(sorted(segments), header.file_id, end)
    for metadata, copy in zip(
        (seal.description, seal.result),
        metadata_copies(trailer, seal.description, seal.result),
        strict=True,
    ):
        _heal_metadata(stream, held, metadata, copy, keys)
    parent = Link(seal.parent_digest, seal.parent_sequence, seal.parent_kind)
    return RunMember(
        stream.name,
        stream,
        header,
        ref,
        Link(ref.digest, seal.sequence, seal.kind),
        (seal.parent_id, parent),
        seal.replaced,
        sorted(segments, key=lambda each: each.stream_start),
        held,
        seal.origins,
    )


def _heal_metadata(
    stream: InStream, held: SegmentMap, ref: Reference, copy: int, keys: ChainKeys | None
) -> None:
    """Records are copied as they stand in the stream: one that is damaged, from its copy."""
    place = held.locate(ref.origin, ref.offset, ref.record_length)
    with contextlib.suppress(IntegrityError):
        verified_record(memoryview(stream.pread(ref.record_length, place)))
        return
    heal_record(stream, ref, RecordType.METADATA, place, copy, c.TAG if keys else 0)


def _holders(members: Sequence[RunMember]) -> dict[bytes, RunMember]:
    holders: dict[bytes, RunMember] = {}
    for member in members:
        for origin in member.held.origins():
            other = holders.setdefault(origin, member)
            if other is not member:
                raise RequestError(
                    f"{other.path} and {member.path}: both hold records of one writing run; pass "
                    "one of them"
                )
    return holders


def _refuse_doubles(members: Sequence[RunMember]) -> None:
    seen: dict[bytes, RunMember] = {}
    for member in members:
        for each in member.names:
            other = seen.setdefault(each, member)
            if other is not member:
                raise RequestError(
                    f"{other.path} and {member.path}: both stand for image {each.hex()}; pass one "
                    "of them"
                )


def _no_run(heads: Sequence[RunMember]) -> RequestError:
    """Say which images have no parent among those given."""
    without = [head for head in heads if head.place[0] != c.ZERO_ID]
    if not without:
        return RequestError(
            f"{heads[0].path} and {heads[1].path}: neither builds on the other; pass consecutive "
            "images"
        )
    first = max(without, key=lambda head: head.link.sequence)
    others = [head.path for head in heads if head is not first]
    return RequestError(
        f"{first.path}: its parent, image {first.place[0].hex()}, is not among the images passed, "
        f"so that it makes no run with {others[0]}"
    )
