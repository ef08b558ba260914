"""Conversion to an ``.aiv`` image, of used clusters only unless told otherwise."""

from __future__ import annotations

import time

from aipimage.errors import RequestError
from aipimage.io.create import CreateOptions, create_image
from aipimage.vmdk.converting.request import Request, chosen_disks
from aipimage.vmdk.converting.result import ConvertResult
from aipimage.vmdk.converting.sources import Opened
from aipimage.volumes.layout import Preparation


def to_image(request: Request, opened: Opened) -> ConvertResult:
    """Make a full image of the source.

    Raises:
        RequestError: the source is an image already; or as :func:`aipimage.create` raises.
    """
    started = time.monotonic()
    if opened.image is not None:
        raise RequestError(
            f"{opened.path}: is an .aiv image already; merge, split and join make other images of "
            "it"
        )
    disks = chosen_disks(request, opened)
    given = dict(request.image_options)
    options = CreateOptions(
        password=request.password, overwrite=request.overwrite, resume=request.resume,
        threads=request.threads, prepare=Preparation(bool(given.pop("include_free"))),
        **given,
    )  # fmt: skip
    sources = [opened.disks[disk] for disk in disks]
    made = create_image(request.target, sources, options, request.progress, request.storage)
    path = request.path
    files = () if path is None else (path,)
    return ConvertResult(
        opened.path, opened.format, path, "aiv", None, disks, made.size, made.data, made.stored,
        files, made.unreadable, None, made.digest, made.resumed, time.monotonic() - started, (),
        tuple(dict.fromkeys((*opened.warnings, *made.warnings))),
    )  # fmt: skip
