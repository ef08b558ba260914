"""Making a new image out of what a survey found (docs/format.md, sections 9.5 and 11)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from aipimage import checks
from aipimage.errors import AipImageError, FormatError, IntegrityError, RequestError
from aipimage.format import constants as c
from aipimage.format.constants import Compatible, ImageKind, Incompatible, RecordType
from aipimage.format.header import Header
from aipimage.format.origins import encode_name
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import Seal, SealDevice
from aipimage.io.chain.chain import ChainMembers, open_in_chain
from aipimage.io.chain.finding import PlaceOfChain
from aipimage.io.checking.verify import verify_image
from aipimage.io.creating.heading import tool
from aipimage.io.creating.imagewriter import sealed_header
from aipimage.io.creating.target import open_target
from aipimage.io.merge.assemble import Assembly
from aipimage.io.reading.explaining import explain_what_is_missing
from aipimage.io.reading.members import ForeignFiles, MemberFiles, peek_header, searched
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import OtherFile, RecordReader
from aipimage.io.repair.addresses import Addresses
from aipimage.io.repair.beginning import Beginning, read_beginning, with_shifts
from aipimage.io.repair.copying import copy_whole
from aipimage.io.repair.described import description_of, result_of, warnings_of
from aipimage.io.repair.devices import DeviceMaker
from aipimage.io.repair.digests import whole_digest_roots
from aipimage.io.repair.doubts import Doubts
from aipimage.io.repair.facts import find_facts
from aipimage.io.repair.mapping import MapOrigins
from aipimage.io.repair.parent import as_chain_file, find_parent_image
from aipimage.io.repair.report import LostRanges, RepairResult
from aipimage.io.repair.stream import SalvageStream, open_salvage
from aipimage.io.repair.survey import survey
from aipimage.io.repair.tables import OriginTables, TableMaker
from aipimage.io.stream.outstream import PARTIAL, FileStream
from aipimage.io.system import entropy
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import Progress, ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, StrPath, chosen

_ATTEMPTS = 4
"""Each may find more that does not fit together, once what was found before is lost."""


@with_notices
def repair_image(
    path: StrPath,
    out: StrPath,
    *,
    password: str | None = None,
    search: Sequence[StrPath] | None = None,
    zero_lost: bool = False,
    progress: ProgressCallback | None = None,
    storage: Storage | None = None,
) -> RepairResult:
    """Make a new image of all that is whole of a damaged, cut or unfinished one.

    The damaged image is never written. What cannot be saved is :attr:`Kind.LOST` in the new
    image: reading it raises ``IntegrityError``. The new image has an id of its own; where the seal
    of the old one was whole it stands for it in its chain, so that later images keep working
    where what they need is not lost.

    Args:
        path: of the image, of a ``.partial`` file, or of any part of a split image; missing parts
            are holes.
        out: of the new image, in one file; it must not be there yet.
        search: directories with the other images of its chain, besides that of ``path``.
        zero_lost: lost ranges become :attr:`Kind.UNREADABLE` instead, which reads as zeros, and
            which a reader can distinguish from zeros that were saved.

    The new image is verified in full before it gets its name. What does not pass is lost too.

    Raises:
        FormatError, IntegrityError: it is not known how the records are to be read, there is none,
            or what is whole makes no image that verifies.
        PasswordError: missing, not wanted or wrong. TargetError: ``out`` is there already.
        StorageError: the new image cannot be written.
    """
    name, target = checks.path("path", path), checks.path("out", out)
    checks.secrets(password=password)
    checks.flags(zero_lost=zero_lost)
    checks.paths("search", search)
    checks.jobs(None, progress)
    storage = chosen(storage)
    if storage.resolve(name) == storage.resolve(target):
        raise RequestError(f"{target}: is the damaged image itself; use another name")
    doubts = Doubts()
    for _ in range(_ATTEMPTS):
        with open_salvage(storage, name) as stream:
            files = MemberFiles(storage, [os.path.dirname(name), *searched(search)])
            job = _Repair(
                stream, name, target, password, files, zero_lost, progress, storage, doubts
            )
            result = job.run()
        if result is not None:
            return result
    raise IntegrityError(
        f"{name}: what is whole of it makes no image that verifies ({doubts.text}); nothing was "
        "written; restore what can be read of it instead"
    )


class _Repair:
    """One run of :func:`repair_image`."""

    def __init__(
        self,
        stream: SalvageStream,
        path: str,
        out: str,
        password: str | None,
        files: MemberFiles,
        zero_lost: bool,
        progress: ProgressCallback | None,
        storage: Storage,
        doubts: Doubts,
    ) -> None:
        self._doubts = doubts
        self._stream, self._path, self._out, self._storage = stream, path, out, storage
        self._files, self._zero_lost = files, zero_lost
        self._reporter = Reporter("repair", 3 * stream.size, progress)
        self._beginning = self._begin(password)
        self._lost = LostRanges()

    def _begin(self, password: str | None) -> Beginning:
        beginning = read_beginning(self._stream, password)
        self._trust_pages = True
        if beginning.is_made_up:
            siblings = [self._peeked(each.path) for each in self._files.all()]
            found = with_shifts(beginning, [each for each in siblings if each is not None])
            self._trust_pages = found is not beginning
            return found
        return beginning

    def _peeked(self, path: str) -> Header | None:
        try:
            return peek_header(self._storage, path)
        except AipImageError:
            return None

    def run(self) -> RepairResult | None:
        """Survey, then build and verify, or clean up and raise; ``None`` where what was built does
        not verify, and ``doubts`` say why.
        """
        self._survey = survey(self._stream, self._beginning, lambda at: self._tick(at))
        self._facts = find_facts(self._survey)
        self._refuse_nothing()
        self._addresses = Addresses(self._survey, self._facts.segments, self._facts.origins)
        self._parent = find_parent_image(
            self._files, self._beginning, self._facts.place, self._path
        )
        header, keys = self._beginning.header, self._beginning.keys
        self._foreign = foreign = ForeignFiles(self._files, header, keys, self._path)
        explain_what_is_missing(foreign, self, _Repair._chain)
        self._records = RecordReader(self._read, keys)
        self._records.others = self._in_other_files
        numbers = RecordNumbers()
        stream = open_target(self._storage, self._out, numbers.origin, None)
        try:
            result = self._write(stream, numbers)
            if not self._is_sound(stream):
                stream.abort(keep=False)
                return None
            self._reporter.report(3 * self._stream.size, stream.position, final=True)
            stream.finish()
        except BaseException:
            stream.abort(keep=False)
            raise
        finally:
            foreign.close()
            if self._parent is not None:
                self._parent.close()
        return result

    def _is_sound(self, stream: FileStream) -> bool:
        """Verify the new image under the name that it has while it is written."""
        keys = self._beginning.keys
        name = stream.path + PARTIAL
        with open_in_chain(name, keys=keys, files=self._files, storage=self._storage) as image:
            done, size = 2 * self._stream.size, max(1, image.stored)

            def progress(found: Progress) -> None:
                at = min(found.done, size) * self._stream.size // size
                self._reporter.report(done + at, stream.position)

            found = verify_image(image, None, None, None, progress)
            return self._doubts.add(image, found, bool(self._zero_lost and self._lost.sectors))

    def _tick(self, at: int) -> None:
        self._reporter.report(at, at)

    def _refuse_nothing(self) -> None:
        if not self._survey.whole:
            raise FormatError(
                f"{self._path}: holds no whole record of an image; there is nothing to repair"
            )

    def _read(self, origin: bytes, offset: int, length: int) -> bytearray:
        """Stored bytes at an address, of this file or of another one of the chain."""
        if self._holds(origin):
            return self._stream.pread(length, self._addresses.locate(origin, offset, length))
        if not self._beginning.chain_known:
            raise FormatError("the image's chain is not known")
        return self._foreign.read(origin, offset, length)

    def _holds(self, origin: bytes) -> bool:
        return self._addresses.holds(origin) or origin in self._facts.origins

    def _in_other_files(self, ref: Reference) -> Iterator[OtherFile]:
        """Further files that hold a record of another image."""
        is_own = self._holds(ref.origin) or not self._beginning.chain_known
        return iter(()) if is_own else self._foreign.others(ref)

    def _chain(self) -> ChainMembers:
        """The chain of the damaged image, as far as it is known what the image was."""
        size, header = self._stream.size, self._beginning.header
        place = PlaceOfChain(self._files, header.chain_id, self._beginning.keys)
        return ChainMembers(place, as_chain_file(self._facts, self._path, size, header))

    # Writing

    def _write(self, stream: FileStream, numbers: RecordNumbers) -> RepairResult:
        facts, survey = self._facts, self._survey
        roots = self._old_digest_roots()
        header = self._header(numbers.origin, roots)
        assembly = Assembly(stream, header, self._beginning.keys, numbers)
        assembly.begin(self._beginning.key_area)
        description = assembly.writer.write_metadata(description_of(survey, facts, self._zero_lost))
        copy_whole(survey, self._addresses, assembly, self._reporter)
        maker = TableMaker(survey, self._addresses, self._records, assembly.records)
        tables = OriginTables(maker, survey, facts, encode_name(os.path.basename(self._out)))
        origins = MapOrigins(
            numbers.origin, survey, facts.origins, self._may_be_foreign(), tables.entry
        )
        origins.learn(facts.last.seal.origins if facts.last else ())
        devices = self._devices(origins, assembly, roots)
        rows = tables.of_seal(origins, devices)
        lost, lost_bytes = self._lost.in_bytes([each.size for each in facts.devices])
        replaced = self._replaced()
        facts.warnings += warnings_of(
            survey, facts, self._doubts, lost_bytes, replaced, self._parent is not None,
            roots is not None,
        )  # fmt: skip
        image_id, digest = assembly.finish(
            description, result_of(facts, lost, lost_bytes), devices, facts.place, rows, replaced
        )
        return RepairResult(
            self._out,
            image_id.hex(),
            digest.hex(),
            tables.frames,
            tables.frames_lost,
            sum(each.size for each in facts.devices) - lost_bytes,
            stream.position,
            lost,
            lost_bytes,
            tuple(facts.used),
            tuple(self._stream.warnings + facts.warnings),
            time.monotonic() - self._reporter.started,
        )

    def _devices(
        self, origins: MapOrigins, assembly: Assembly, roots: dict[int, Reference] | None
    ) -> list[SealDevice]:
        maker = DeviceMaker(
            self._survey,
            self._facts,
            self._records,
            origins,
            self._parent,
            self._doubts,
            self._trust_pages,
            self._zero_lost,
        )
        self._lost = maker.lost
        return [
            maker.make(index, assembly, (roots or {}).get(index, NO_REFERENCE))
            for index in range(len(self._facts.devices))
        ]

    def _header(self, file_id: bytes, roots: dict[int, Reference] | None) -> Header:
        old = self._beginning.header
        incompatible = Incompatible(old.incompatible)
        if self._may_be_foreign():
            incompatible |= Incompatible.FOREIGN_ORIGINS
        # What is not known here was not rebuilt either.
        compatible = old.compatible & int(Compatible.CHECKPOINTS)
        if roots is not None:
            compatible |= int(Compatible.BLOCK_DIGESTS)
        header = replace(
            old,
            file_id=file_id,
            created=entropy.now_us(),
            incompatible=int(incompatible),
            compatible=compatible,
            creator=tool(),
            core_length=0,
            minor=c.MINOR,
        )
        return sealed_header(header, self._beginning.keys)

    def _old_digest_roots(self) -> dict[int, Reference] | None:
        """The roots of the block digests, if all of them are whole."""
        last = self._facts.last
        if last is None or not self._trust_pages or self._doubts.drop_digests:
            return None
        if not self._beginning.header.compatible & Compatible.BLOCK_DIGESTS:
            return None
        return whole_digest_roots(self._records, last.seal, self._beginning.header.stripe_shift)

    def _may_be_foreign(self) -> bool:
        """Whether the map may name origins that other files hold."""
        return self._facts.place.kind != ImageKind.FULL and self._beginning.chain_known

    # The end

    def _replaced(self) -> list[Reference]:
        """Seals of images that the new one stands for; their metadata must be whole too."""
        found: list[Reference] = []
        for each in self._facts.replaced:
            address = self._addresses.of(each.ref.offset)
            if address is not None and self._has_metadata(each.seal):
                found.append(each.ref._replace(offset=address))
        return found[-c.REPLACED_MAX :]

    def _has_metadata(self, seal: Seal) -> bool:
        try:
            for ref in (seal.description, seal.result):
                self._records.fetch(ref, RecordType.METADATA)
        except AipImageError:
            return False
        return True
