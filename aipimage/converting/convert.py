"""The whole way of a conversion, from what is asked for to what was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import BinaryIO

from aipimage import checks
from aipimage.converting.formats import check_options, format_of_source, format_of_target
from aipimage.converting.raw import to_raw
from aipimage.converting.request import ConvertOptions, ConvertResult, Request, checked, target_path
from aipimage.converting.sources import OpenedSource, open_for_conversion, refuse_file
from aipimage.converting.targets import to_appliance, to_disk, to_image
from aipimage.errors import PasswordError
from aipimage.io.system.inputs import Input
from aipimage.io.system.notices import with_notices
from aipimage.io.system.openers import Opener
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage, StrPath

_WRITERS: Mapping[str, Callable[[Request, OpenedSource], ConvertResult]] = {
    "raw": to_raw,
    "aiv": to_image,
    "vmdk": to_disk,
    "ova": to_appliance,
    "ovf": to_appliance,
}


@with_notices
def convert(
    source: StrPath | BinaryIO | Sequence[BinaryIO],
    target: StrPath | BinaryIO,
    options: ConvertOptions,
    *,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    storage: Opener | Storage | None = None,
) -> ConvertResult:
    """Convert a disk; the public form, with what each argument means, is
    :func:`aipimage.convert`. ``storage``: how files are reached.
    """
    options = checked(options)
    checks.jobs(executor, progress)
    if checks.is_path(target):
        checks.path("target", target)
    elif not callable(getattr(target, "write", None)):
        raise checks.wrong_type("target", target, "a path, or a binary file object to write to")
    found = Input("source", source, storage)
    kind = format_of_target(target_path(target), options.format, found.storage)
    check_options(kind, options)
    own = format_of_source(found.path, options.source_format) == "aiv"
    if options.password is not None and not own and options.encrypt is None:
        raise PasswordError(
            "a password is of use only for an .aiv image, or one to be encrypted", "unwanted"
        )
    request = Request(target, kind, options, executor, progress, found.storage)
    with open_for_conversion(
        found.path,
        options.source_format,
        password=options.password if own else None,
        search=checks.paths("search", options.search),
        allow_outside=options.allow_outside,
        storage=found.storage,
    ) as opened:
        if request.path is not None:
            refuse_file(request.path, opened.files, found.storage)
        return _WRITERS[kind](request, opened)
