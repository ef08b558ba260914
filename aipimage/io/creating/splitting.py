"""Splitting an image into parts and joining them again, by copying the stream as it is
(docs/format.md, section 12).
"""

from __future__ import annotations

from dataclasses import dataclass

from aipimage import checks
from aipimage.checks import Size
from aipimage.errors import RequestError, naming
from aipimage.io.creating.target import open_target
from aipimage.io.stream.instream import InStream, base_path, open_stream
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.outstream import FileStream
from aipimage.io.stream.spare import read_trailer
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.io.system.storage import Storage, StrPath, chosen

_COPY = 4 << 20


@dataclass(frozen=True, slots=True)
class CopyResult:
    """``path`` of the new image, ``parts`` it lies in, ``stored``: bytes of its stream, and
    ``warnings``: what the user should look at.
    """

    path: str
    parts: int
    stored: int
    warnings: tuple[str, ...] = ()


def split_image(
    source: StrPath,
    target: StrPath,
    size: Size,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    storage: Storage | None = None,
) -> CopyResult:
    """Copy an image into parts of at most ``size`` bytes each: ``target``, ``target.002``, …

    No password is needed, and the image digest stays the same. The source may be split already.

    Raises:
        RequestError: ``size`` is too small. TargetError: the target is there. IncompleteError: the
            source is not whole.
    """
    size = checks.size("size", size)
    return _copy(source, target, size, overwrite, progress, storage)


def join_image(
    source: StrPath,
    target: StrPath,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    storage: Storage | None = None,
) -> CopyResult:
    """Copy a split image into one file; ``source`` may be any of its parts. Otherwise like
    :func:`split_image`.
    """
    return _copy(source, target, None, overwrite, progress, storage)


@with_notices
def _copy(
    source: StrPath,
    target: StrPath,
    size: int | None,
    overwrite: bool,
    progress: ProgressCallback | None,
    storage: Storage | None,
) -> CopyResult:
    given, name = checks.path("source", source), checks.path("target", target)
    checks.flags(overwrite=overwrite)
    checks.jobs(None, progress)
    storage = chosen(storage)
    if _same(storage, base_path(given), name):
        raise RequestError(f"{name}: is the source itself; use another name for the target")
    with open_stream(storage, given) as stream:
        header = _check_whole(stream)
        out = open_target(storage, name, header, size, overwrite)
        try:
            _copy_stream(stream, out, progress)
            parts = out.file_count
            out.finish()
        except BaseException:
            out.abort(keep=False)
            raise
        return CopyResult(name, parts, stream.size)


def _same(storage: Storage, source: str, target: str) -> bool:
    return storage.resolve(source) == storage.resolve(target)


def _check_whole(stream: InStream) -> bytes:
    """Refuse a stream without header or trailer before anything is written; return its file id."""
    header = read_header(stream)
    with naming(stream.name):
        read_trailer(stream)
    return header.file_id


def _copy_stream(stream: InStream, out: FileStream, progress: ProgressCallback | None) -> None:
    reporter = Reporter("copy", stream.size, progress)
    for at in range(0, stream.size, _COPY):
        out.append([stream.pread(min(_COPY, stream.size - at), at)])
        reporter.report(out.position, out.position)
    reporter.report(stream.size, stream.size, final=True)
