"""Making one image of a run of a chain, up to a synthetic full (docs/format.md, section 9.5).

Stored records are copied as they are: no frame is decrypted or decoded. The new image is called
``NAME.partial`` until it is whole and durable, and only then, if at all, are the old ones removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from aipimage import checks
from aipimage.checks import Size
from aipimage.errors import AipImageError, CancelledError, RequestError, StorageError, TargetError
from aipimage.format.header import Header
from aipimage.format.keyarea import KeyArea
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.seal import Seal
from aipimage.io.chain.chain import open_in_chain
from aipimage.io.creating.imagewriter import sealed_header
from aipimage.io.creating.target import open_target
from aipimage.io.merge.assemble import Assembly
from aipimage.io.merge.copying import CopyBatch, KeptBeginning, copied
from aipimage.io.merge.described import description_of, header_of, key_area_of, origins_of, place_of
from aipimage.io.merge.forks import Outside, look_outside
from aipimage.io.merge.note import MergeNote
from aipimage.io.merge.plan import make_plan
from aipimage.io.merge.reopen import LeftMerge
from aipimage.io.merge.run import MergeRun
from aipimage.io.reading.members import MemberFiles, searched
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.outstream import FileStream
from aipimage.io.system import entropy
from aipimage.io.system.inputs import readable_inputs, refuse_to_remove
from aipimage.io.system.notices import with_notices
from aipimage.io.system.openers import Opener
from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, absolute

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What was merged, or would be.

    Attributes:
        path: of the new image. image_id, digest: of it, as hexadecimal digits; ``None`` after a dry
            run, which writes nothing.
        kind: ``"full"`` where the run begins with a full image; ``"incremental"`` or
            ``"differential"`` likewise. sequence: its place in the chain, that of the last image.
        replaced: image ids that it stands for, oldest first.
        bytes_copied: of records, as they are stored. bytes_dropped: that the images take now and
            the new one does not need.
        frames_copied, frames_dropped: the same in frames. segments: places that the records of the
            new image come from (docs/format.md, section 9.3).
        removed: paths of the images that were removed. seconds: wall time.
        resumed: whether an interrupted merge was resumed. warnings: what the user should look
            at.
    """

    path: str
    image_id: str | None
    digest: str | None
    kind: str
    sequence: int
    replaced: tuple[str, ...]
    bytes_copied: int
    bytes_dropped: int
    frames_copied: int
    frames_dropped: int
    segments: int
    seconds: float
    removed: tuple[str, ...] = ()
    resumed: bool = False
    warnings: tuple[str, ...] = ()


@with_notices
def merge_images(
    out: StrPath, paths: Sequence[StrPath | BinaryIO], *, password: str | None = None,
    split: Size | None = None, overwrite: bool = False, resume: bool = True, dry_run: bool = False,
    remove: bool = False, search: Sequence[StrPath] | None = None, threads: int | None = None,
    progress: ProgressCallback | None = None, storage: Opener | Storage | None = None,
) -> MergeResult:  # fmt: skip
    """Merge a run of images into ``out``; the public form is :func:`aipimage.merge`.

    Args:
        resume: resume what an interrupted merge left, as it does by default: the note proves that
            the partial file is of this merge, and its images do not change. A creation has neither.
        search: directories where other images of the chain may lie that need some of the run,
            besides those of the images and of ``out``.
    """
    checks.secrets(password=password)
    checks.flags(overwrite=overwrite, resume=resume, dry_run=dry_run, remove=remove)
    checks.jobs(None, progress)
    target, threads = checks.path("path", out), checks.threads(threads)
    split = checks.optional_size("split", split)
    checks.paths("search", search)
    if isinstance(paths, (str, os.PathLike)):
        raise RequestError("pass the images to merge as a list of at least two")
    storage, names = readable_inputs("images", paths, storage)
    if remove:
        refuse_to_remove(storage)
    directories = [os.path.dirname(each) for each in (*names, target)]
    files = MemberFiles(storage, list(dict.fromkeys([*directories, *searched(search)])))
    with MergeRun(storage, names, password, files) as run:
        job = _Merge(run, target, split, overwrite, threads, progress)
        return job.run(resume, dry_run, remove)


class _Merge:
    """One run of :func:`merge_images`."""

    def __init__(
        self,
        run: MergeRun,
        out: str,
        split: int | None,
        overwrite: bool,
        threads: int | None,
        progress: ProgressCallback | None,
    ) -> None:
        self._run, self._out, self._storage = run, out, run.storage
        self._split, self._overwrite, self._threads = split, overwrite, threads
        self._progress, self._started = progress, time.monotonic()
        self._kept: KeptBeginning | None = None
        self._assembly: Assembly | None = None
        self._stream: FileStream | None = None
        self._note = MergeNote(
            self._storage,
            out,
            run.last.header.chain_id,
            [member.link.digest for member in run.members],
            run.keys,
        )

    def run(self, resume: bool, dry_run: bool, remove: bool) -> MergeResult:
        """Plan, and copy unless only the plan was asked for."""
        self._refuse_target()
        outside = look_outside(self._run, remove)
        if remove:
            _refuse_unreadable(outside)
        self._seal, self._metadata = self._read_last()
        tick = Reporter("plan", 0, self._progress).again
        self._plan = make_plan(self._run, self._seal, tick)
        if dry_run:
            return self._result(None, None, sum(len(each) for each in self._plan.ranges))
        self._reporter = Reporter("merge", self._plan.length, self._progress)
        try:
            image_id, digest = self._write(resume)
        except BaseException as error:
            self._give_up(error)
            raise
        self._note.remove()
        self._check()
        assert self._assembly is not None
        removed = self._remove() if remove else ()
        self._reporter.report(self._plan.length, self._assembly.stream.position, final=True)
        result = self._result(image_id, digest, len(self._assembly.placed))
        return replace(result, removed=removed, resumed=self._kept is not None)

    def _read_last(self) -> tuple[Seal, dict[str, Any]]:
        """Seal and metadata of the point in time that the new image is."""
        path, run = self._run.last.path, self._run
        with (
            open_in_chain(path, storage=self._storage, keys=run.keys, files=run.files) as last,
            run.naming(),
        ):
            return last.seal, last.metadata

    def _refuse_target(self) -> None:
        target = self._storage.resolve(self._out)
        for member in self._run.members:
            if target in [self._storage.resolve(file.name) for file in member.stream.files]:
                raise RequestError(f"{self._out}: is one of the images itself; use another name")
        if self._storage.exists(self._out) and not self._overwrite:
            raise TargetError(
                f"{self._out}: is already there; choose another name or replace it (overwrite=True)"
            )

    # Writing

    def _write(self, resume: bool) -> tuple[bytes, bytes]:
        area = key_area_of(self._run)
        numbers = RecordNumbers()
        header = sealed_header(header_of(self._run, self._plan, numbers.origin), self._run.keys)
        self._new = header, area, numbers
        if resume:
            left = LeftMerge(self._run, self._out, self._split, self._note)
            self._kept = left.reopen(header, area)
        if self._kept is None:
            self._begin(*self._new)
        copied(self._run.members, self._plan.ranges, self._threads, self._take)
        assembly = self._going_on()
        ids = assembly.finish(
            description_of(self._run, self._plan, self._metadata["description"]),
            {**self._metadata["result"], "finished": entropy.time_text(entropy.now_us())},
            self._seal.devices,
            place_of(self._run, self._seal),
            origins_of(self._run, self._seal, assembly.records.origin, self._out),
            self._plan.replaced,
        )
        assert self._stream is not None
        self._stream.finish()
        return ids

    def _begin(self, header: Header, area: KeyArea | None, numbers: RecordNumbers) -> None:
        """Begin anew: first the note, so that what is left after a failure is known for ours. Until
        the earlier file is replaced, the note names that one too.
        """
        noted = self._note.read()
        self._note.write([header.file_id, *(noted.files[:1] if noted else ())])
        self._stream = open_target(
            self._storage, self._out, header.file_id, self._split, self._overwrite
        )
        self._assembly = Assembly(self._stream, header, self._run.keys, numbers)
        self._assembly.begin(area)
        # Without its header it is not known what the file is.
        self._stream.sync()

    def _take(self, batch: CopyBatch) -> None:
        if self._assembly is not None or not self._kept or not self._kept.take(batch):
            self._going_on().copy(batch.addresses(), batch.data, batch.count)
        assembly, kept = self._assembly, self._kept
        at = assembly.stream.position if assembly else kept.position if kept else 0
        self._reporter.report(min(at, self._plan.length), at)

    def _going_on(self) -> Assembly:
        """The new image, after what is kept of an interrupted merge, if anything is."""
        if self._kept is not None and self._assembly is None and not self._kept.running.records:
            # A continuation follows a record (section 11): without one it is begun anew.
            self._kept.stream.close()
            self._kept = None
            self._begin(*self._new)
        if self._assembly is None:
            kept = self._kept
            assert kept is not None
            header = read_header(kept.stream)
            self._stream = kept.stream.cut(kept.position, self._overwrite)
            self._assembly = Assembly(
                self._stream, header, self._run.keys, RecordNumbers(), kept.placed
            )
            self._assembly.copied = kept.running.records
            self._assembly.writer.core = bytes(kept.stream.pread(header.core_length, 0))
            self._assembly.go_on(kept.previous, kept.running)
        return self._assembly

    def _give_up(self, error: BaseException) -> None:
        """Keep what was copied for a later attempt, unless that would only fail again."""
        foreseen = isinstance(error, AipImageError)
        keep = not foreseen or isinstance(error, (StorageError, CancelledError))
        if self._stream is not None:
            self._stream.abort(keep)
            if not keep:
                self._note.remove()
        elif self._kept is not None:
            self._kept.stream.close()

    def _result(self, image_id: bytes | None, digest: bytes | None, segments: int) -> MergeResult:
        plan = self._plan
        stored = sum(member.stream.size for member in self._run.members)
        return MergeResult(
            self._out,
            image_id.hex() if image_id else None,
            digest.hex() if digest else None,
            self._run.kind.name.lower(),
            self._seal.sequence,
            tuple(ref.origin.hex() for ref in plan.replaced),
            plan.length,
            stored - plan.length,
            plan.frames,
            plan.frames_held - plan.frames,
            segments,
            time.monotonic() - self._started,
        )

    # Afterwards

    def _check(self) -> None:
        """Open the new image and look at every place that its seal leads to."""
        files = MemberFiles(self._storage, self._run.files.directories)
        with open_in_chain(
            self._out, storage=self._storage, keys=self._run.keys, files=files
        ) as image:
            for ref in _roots(image.seal):
                if image.segments.holds(ref.origin):
                    found = image.records.read(ref.origin, ref.offset, ref.record_length)
                    if verified_record(memoryview(found)) != ref.digest:
                        raise RuntimeError("internal error: a merged record is another one")

    def _remove(self) -> tuple[str, ...]:
        """Remove the old images, newest first, so that none outlives one that it needs."""
        removed = []
        directories = []
        for member in reversed(self._run.members):
            # Part 1 goes last: without it a part that is left would go unnoticed.
            for name in reversed([file.name for file in member.stream.files]):
                self._storage.remove(name, missing_ok=True)
            removed.append(member.path)
            directories.append(os.path.dirname(absolute(member.path)))
        for directory in dict.fromkeys(directories):
            self._storage.sync_directory(directory)
        return tuple(removed)


def _refuse_unreadable(outside: Outside) -> None:
    for path, why in outside.unreadable:
        raise RequestError(
            f"{path}: is unreadable, so it may depend on an image that is to be removed; move it "
            f"away, or merge without removing ({why})"
        )


def _roots(seal: Seal) -> list[Reference]:
    refs = [seal.description, seal.result, *seal.replaced]
    for device in seal.devices:
        refs += [device.map_root, device.digest_root]
    refs += [origin.table_root for origin in seal.origins]
    return [ref for ref in refs if ref != NO_REFERENCE]
