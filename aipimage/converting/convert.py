"""Conversion between images, virtual disks and plain bytes, in one pass and without a copy in
between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, BinaryIO

from aipimage import checks
from aipimage.checks import Size
from aipimage.converting.formats import check_options, format_of_source, format_of_target
from aipimage.converting.raw import to_raw
from aipimage.converting.request import ConvertResult, Request
from aipimage.converting.sources import open_for_conversion, refuse_file
from aipimage.converting.targets import to_appliance, to_disk, to_image
from aipimage.errors import PasswordError
from aipimage.io.notices import with_notices
from aipimage.io.openers import Input, Opener
from aipimage.io.progress import ProgressCallback
from aipimage.io.storage import Storage, StrPath

__all__ = ["ConvertResult", "convert"]


@with_notices
def convert(
    source: StrPath | BinaryIO | Sequence[BinaryIO],
    target: StrPath | BinaryIO,
    *,
    format: str | None = None,
    subformat: str | None = None,
    disk: int | Sequence[int] | None = None,
    password: str | None = None,
    search: StrPath | Sequence[StrPath] | None = None,
    source_format: str | None = None,
    allow_outside: bool = False,
    adapter: str | None = None,
    hardware: int | None = None,
    cid: int | None = None,
    split: Size | None = None,
    level: str | None = None,
    compress: str | None = None,
    encrypt: str | None = None,
    comment: str = "",
    include_free: bool = False,
    appliance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    storage: Opener | Storage | None = None,
) -> ConvertResult:
    """Convert a disk; the public form, with what each argument means, is
    :func:`aipimage.convert`. ``storage``: how files are reached.
    """
    checks.flags(
        allow_outside=allow_outside, include_free=include_free, overwrite=overwrite, resume=resume
    )
    checks.optional_texts(
        format=format, subformat=subformat, source_format=source_format, adapter=adapter,
        level=level, compress=compress, encrypt=encrypt,
    )  # fmt: skip
    checks.texts(comment=comment)
    checks.secrets(password=password)
    checks.jobs(executor, progress)
    threads, split = checks.threads(threads), checks.optional_size("split", split)
    hardware = checks.optional_whole("hardware", hardware)
    cid = checks.optional_whole("cid", cid, 0, 0xFFFF_FFFF)
    disk = _disks(disk)
    appliance = _appliance(appliance) or None
    if checks.is_path(target):
        checks.path("target", target)
    elif not callable(getattr(target, "write", None)):
        raise checks.wrong_type("target", target, "a path, or a binary file object to write to")
    found = Input("source", source, storage)
    source, storage = found.path, found.storage
    stream = not isinstance(target, (str, os.PathLike))
    name = None if stream else target
    kind = format_of_target(name, format, storage)  # type: ignore[arg-type]
    disk_options = {
        "subformat": subformat, "adapter": adapter, "hardware": hardware, "cid": cid,
        "split": split, "level": level,
    }  # fmt: skip
    image_options = {"compress": compress, "encrypt": encrypt, "comment": comment, "split": split}
    check_options(
        kind,
        disk_options | image_options
        | {"include_free": include_free, "appliance": appliance, "resume": resume},
    )  # fmt: skip
    request = Request(
        target, kind, disk, _given(disk_options),
        _given(image_options) | {"include_free": include_free}, dict(appliance or {}),
        overwrite, resume, threads, executor, progress, storage, password,
    )  # fmt: skip
    own = format_of_source(source, source_format) == "aiv"
    if password is not None and not own and encrypt is None:
        raise PasswordError(
            "a password is of use only for an .aiv image, or one to be encrypted", "unwanted"
        )
    with open_for_conversion(
        source, source_format, password=password if own else None,
        search=checks.paths("search", search),
        allow_outside=allow_outside, storage=storage,
    ) as opened:  # fmt: skip
        if request.path is not None:
            refuse_file(request.path, opened.files, storage)
        if kind == "raw":
            return to_raw(request, opened)
        if kind == "aiv":
            return to_image(request, opened)
        if kind == "vmdk":
            return to_disk(request, opened)
        return to_appliance(request, opened)


def _disks(disk: object) -> int | list[int] | None:
    """A number of a disk, several, or ``None``."""
    if disk is None or not isinstance(disk, Sequence) or isinstance(disk, (str, bytes)):
        return checks.optional_whole("disk", disk)
    return [checks.whole(f"disk[{at}]", each) for at, each in enumerate(disk)]


_APPLIANCE = ("name", "os", "firmware", "cpus", "memory", "networks", "nic", "manifest")


def _appliance(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of an appliance, each of its type."""
    if options is None:
        return {}
    checks.instance("appliance", options, Mapping, "a dictionary of options, or None")
    found = dict(options)
    for name, value in found.items():
        checks.choice("appliance", name, _APPLIANCE)
        if value is None:
            continue
        if name == "cpus":
            found[name] = checks.whole("cpus", value, 1)
        elif name == "memory":
            found[name] = checks.size("memory", value)
        elif name == "networks":
            found[name] = checks.words("networks", value)
        else:
            checks.texts(**{name: value})
    return _given(found)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
