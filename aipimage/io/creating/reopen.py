"""Opening a partial image to resume it, or to give it its name where it is whole: everything is
looked at before anything is changed (docs/format.md, section 11).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from aipimage.errors import (
    AipImageError,
    CancelledError,
    FormatError,
    IncompleteError,
    IntegrityError,
    PasswordError,
    RequestError,
    StorageError,
    reworded,
)
from aipimage.extents import SECTOR
from aipimage.format.checkpoint import Continuation, encode_continuation
from aipimage.format.constants import Compatible, Incompatible, RecordType
from aipimage.format.header import Header
from aipimage.format.tables import FrameExtents, unpack_at
from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError
from aipimage.io.creating.finished import FinishedImage, finished_stream, read_finished
from aipimage.io.creating.imagewriter import EarlierOrigin, ImageWriter, PlaceInChain
from aipimage.io.creating.options import CreateOptions
from aipimage.io.creating.partialsurvey import (
    PartialSurvey,
    Surveyor,
    frame_extents,
    has_checkpoint,
    survey_partial,
)
from aipimage.io.creating.resume import ResumedState
from aipimage.io.creating.target import check_replaceable
from aipimage.io.index.trees import TableBuilder
from aipimage.io.records.codec import parse_compression
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import OpenedRecord, RecordReader, no_references
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.opening import begins_an_image, read_header, unlock_header
from aipimage.io.stream.outstream import PARTIAL, FileStream
from aipimage.io.stream.partial import PartialStream, open_partial
from aipimage.io.stream.tail import check_header_keys
from aipimage.io.system import entropy
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.storage import Storage


class FullBegunError(RequestError):
    """What is to be resumed is a full image that was begun in place of the one asked for, because
    the parent could not be read.
    """


def reopen_partial(
    storage: Storage,
    path: str,
    sources: list[BlockSource],
    options: CreateOptions,
    place: PlaceInChain,
    keys: ChainKeys | None = None,
    check: Callable[[dict[str, Any]], None] = lambda values: None,
) -> ResumedState | FinishedImage | None:
    """Open what an interrupted creation of ``path`` left; ``None`` where there is nothing to
    resume. Until all of it was looked at nothing is changed.

    Args:
        place: of the image in its chain. keys: of that chain, if it has a parent.
        check: looks at the description, and raises where it is another image's.

    Returns:
        the state to resume from; or the image, where the creation was over and only its name is
        missing.

    Raises:
        RequestError: the sources or the options are not those of the interrupted creation.
        TargetError: ``path`` is there and is not to be replaced.
        FormatError, IntegrityError: it was damaged or changed, so that it cannot be resumed.
    """
    if storage.exists(path):
        # Known now, not only when all is written and wants its name.
        check_replaceable(storage, path, options.split, options.overwrite)
    stream = open_partial(storage, path, options.split)
    if stream is None:
        return None
    try:
        found = None
        if begins_an_image(stream):
            found = _reopened(stream, path, sources, options, place, keys, check)
    except BaseException:
        stream.close()
        raise
    if found is None:
        stream.close()
    return found


def _reopened(
    stream: PartialStream,
    path: str,
    sources: list[BlockSource],
    options: CreateOptions,
    place: PlaceInChain,
    keys: ChainKeys | None,
    check: Callable[[dict[str, Any]], None],
) -> ResumedState | FinishedImage | None:
    """See :func:`reopen_partial`; ``None`` where there is no checkpoint."""
    with _naming(path):
        header = read_header(stream)
    if place.parent_kind:
        check_header_keys(stream, header, keys)
    else:
        keys = _unlock(stream, header, options)

    def refuse(values: dict[str, Any]) -> None:
        _check_same_sources(path, values, sources)
        check(values)

    surveyor = Surveyor(header, [source.size for source in sources], refuse)
    if (whole := finished_stream(stream, header)) is not None:
        with _leaving_finished(path, bool(stream.footers)):
            _check_same_options(path, header, options, bool(place.parent_kind))
            found = read_finished(stream, whole, header, keys)
            _check_finished(found, whole, header, keys, surveyor, sources, place, options)
            return found
    _check_same_options(path, header, options, bool(place.parent_kind))
    with _naming(path):
        survey = _surveyed(stream, header, keys, surveyor, options)
    if survey.checkpoint is None:
        return None
    _compare_with_sources(stream, keys, survey, sources)
    return _continue(stream, header, keys, survey, options)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say which file it is, that it is as it was, and what to do."""
    try:
        yield
    except (FormatError, IntegrityError, IncompleteError) as error:
        what = str(error).removeprefix(f"{path}: ")
        raise reworded(
            error,
            f"{path}{PARTIAL}: cannot be resumed and was left as it is: {what}; to begin anew, "
            "remove it or create without resuming",
        ) from error


def _unlock(stream: PartialStream, header: Header, options: CreateOptions) -> ChainKeys | None:
    if header.suite != Suite.parse(options.encrypt):
        raise PasswordError(
            f"{stream.name}{PARTIAL}: was begun with other encryption; use the same, or begin anew "
            "without resuming"
        )
    return unlock_header(stream, header, options.password)


@contextlib.contextmanager
def _leaving_finished(path: str, in_parts: bool) -> Iterator[None]:
    """Refuse to name a finished image that is damaged or another one; it is kept as it is."""
    try:
        yield
    except (FullBegunError, PasswordError, StorageError, CancelledError):
        raise
    except AipImageError as error:
        why = str(error).removeprefix(f"{path}{PARTIAL}: ").removeprefix(f"{path}: ")
        parts = ", and the other parts likewise" if in_parts else ""
        raise RequestError(
            f"{path}{PARTIAL}: is a finished image and was left as it is; rename it to "
            f"{path}{parts}, or remove it ({why.partition(';')[0]})"
        ) from error


def _check_finished(
    found: FinishedImage,
    whole: InStream,
    header: Header,
    keys: ChainKeys | None,
    surveyor: Surveyor,
    sources: list[BlockSource],
    place: PlaceInChain,
    options: CreateOptions,
) -> None:
    """Look at every record, and whether they are those of the image that was asked for."""
    reader = RecordReader(no_references, keys)
    with executor_for(None, options.threads, "resume") as (executor, in_flight):
        end, _ = survey_partial(whole, surveyor, header.records_start, reader, executor, in_flight)
    survey = surveyor.ended()
    if end != found.trailer.records_end:
        raise IntegrityError(f"it is damaged at byte {end}")
    seal = found.seal
    wanted = place, [source.size for source in sources]
    if (PlaceInChain.of(seal), [device.size for device in seal.devices]) != wanted:
        raise RequestError("it is another image than the one asked for")
    _compare_with_sources(whole, keys, survey, sources)


def _check_same_options(
    path: str, header: Header, options: CreateOptions, with_parent: bool
) -> None:
    """What all of an image has in common cannot change in its middle; how hard to compress can."""
    compresses = parse_compression(options.compress) is not None
    has_digests = bool(header.compatible & Compatible.BLOCK_DIGESTS)
    own_digests = not header.incompatible & Incompatible.FOREIGN_ORIGINS
    wrong = None
    if compresses != bool(header.incompatible & Incompatible.ZSTD):
        wrong = "no compression" if compresses else "compression"
    elif own_digests and options.block_digests != has_digests:
        wrong = "block digests" if has_digests else "no block digests"
    # In a chain these are the parent's.
    elif not with_parent and options.frame_shift != header.frame_shift:
        wrong = f"frames of {header.frame_size} bytes"
    elif not with_parent and options.stripe_shift != header.stripe_shift:
        wrong = f"stripes of {1 << header.stripe_shift} bytes"
    if wrong is not None:
        raise RequestError(
            f"{path}{PARTIAL}: was begun with {wrong}; ask for the same, or begin anew without "
            "resuming"
        )


def _surveyed(
    stream: PartialStream,
    header: Header,
    keys: ChainKeys | None,
    surveyor: Surveyor,
    options: CreateOptions,
) -> PartialSurvey:
    reader = RecordReader(no_references, keys)
    with executor_for(None, options.threads, "resume") as (executor, in_flight):
        end, error = survey_partial(
            stream, surveyor, header.records_start, reader, executor, in_flight
        )
    survey = surveyor.whole
    cut_off = error is not None and survey.checkpoint is None
    if cut_off and has_checkpoint(stream, end, header.file_id):
        raise IntegrityError(
            f"it is damaged at byte {end}, before its first checkpoint; repair may save what is "
            "in it"
        )
    return survey


def _check_same_sources(path: str, values: dict[str, Any], sources: list[BlockSource]) -> None:
    then = [device.get("fingerprint") for device in values.get("devices", [])]
    now = [source.fingerprint() for source in sources]
    if then != now:
        raise RequestError(
            f"{path}: the source is not as it was when the image was begun; remove {path}.partial "
            "or create without resuming"
        )


def _continue(
    stream: PartialStream,
    header: Header,
    keys: ChainKeys | None,
    survey: PartialSurvey,
    options: CreateOptions,
) -> ResumedState:
    out: FileStream = stream.cut(survey.end, options.overwrite)
    running = survey.running
    writer = ImageWriter(out, header, keys, RecordNumbers(), running)
    writer.records_before = running.records
    writer.core = bytes(stream.pread(header.core_length, 0))
    if (described := survey.description) is not None:
        data = stream.pread(described.record_length, described.offset)
        writer.keep_small(described, memoryview(data))
    ends = [start for _, start in survey.origins[1:]] + [survey.end]
    for (origin, _), end in zip(survey.origins, ends, strict=True):
        writer.origins.add_run(origin)
        writer.earlier.append(EarlierOrigin(origin, TableBuilder(writer.records), end))
    previous = survey.origins[-1][0]
    record = Continuation(previous, survey.end, entropy.now_us(), running.records, running.value)
    writer.records.write(RecordType.CONTINUATION, encode_continuation(record))
    return ResumedState(stream, header, keys, survey, writer)


def _compare_with_sources(
    stream: InStream, keys: ChainKeys | None, survey: PartialSurvey, sources: list[BlockSource]
) -> None:
    """Compare a sample of the frames: a fingerprint may stay the same where content changed."""
    reader = RecordReader(no_references, keys)
    for sample in sorted(survey.samples, key=lambda each: each.offset):
        data = memoryview(stream.pread(sample.header.record_length, sample.offset))
        opened = reader.open_unreferenced(data, RecordType.FRAME)
        extents = frame_extents(opened)
        # A sector that cannot be read now is not a change.
        with contextlib.suppress(UnreadableRangeError):
            _compare_with_source(opened, extents, sources[unpack_at(int(extents["at"][0]))[0]])


def _compare_with_source(opened: OpenedRecord, extents: FrameExtents, source: BlockSource) -> None:
    plain = memoryview(opened.plain)
    at = 0
    for start, sectors in extents.tolist():
        offset = unpack_at(start)[1] * SECTOR
        length = min(sectors * SECTOR, source.size - offset)
        now = bytearray(sectors * SECTOR)
        source.read_into(memoryview(now)[:length], offset)
        if plain[at : at + len(now)] != now:
            raise RequestError(
                f"{source.name}: changed since the image was begun, at byte {offset}; "
                "create it anew, without resuming"
            )
        at += len(now)
