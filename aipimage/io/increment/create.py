"""Creating an image: the entry that chooses between a full image that begins a chain, one inside of
a chain, and one of what changed (docs/format.md, section 9.4).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from aipimage.errors import AipImageError, PasswordError, RequestError, TargetError
from aipimage.format.constants import ImageKind
from aipimage.io.creating.job import CreateJob
from aipimage.io.creating.options import CreateOptions, SourceLike
from aipimage.io.creating.reopen import FullBegunError
from aipimage.io.creating.request import CreateRequest, opened_request
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment.job import IncrementJob
from aipimage.io.increment.parent import Parent, ParentUnusableError, find_parent
from aipimage.io.reading.members import peek_header
from aipimage.io.records.keys import Suite
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage


@with_notices
def create_image(
    target: str | os.PathLike[str] | BinaryIO,
    sources: Sequence[SourceLike],
    options: CreateOptions,
    progress: ProgressCallback | None = None,
    storage: Storage = DEFAULT,
) -> CreateResult:
    """Image ``sources`` into ``target``; the public form is :func:`aipimage.create`."""
    with opened_request(target, sources, options, progress, storage) as request:
        if request.options.parent is not None:
            return _create_in_chain(request, request.options.parent)
        return CreateJob(request).run()


def _create_in_chain(request: CreateRequest, where: str | os.PathLike[str]) -> CreateResult:
    options = request.options
    kind = ImageKind[(options.kind or "incremental").upper()]
    parent = find_parent(
        where, kind, request.sources, options.password, options.search, request.storage
    )
    if parent is None:
        return _begin_chain(request, f"{os.fspath(where)} has no image of these sources")
    with parent.image:
        _check_protection(parent, options)
        _check_target(request, parent)
        if kind == ImageKind.FULL:
            return CreateJob(request, parent.image).run()
        if any(parent.devices):
            return _incremented(request, parent)
        reason = f"{parent.path} has none of the sources"
        return CreateJob(request, parent.image, reason).run()


def _begin_chain(request: CreateRequest, reason: str) -> CreateResult:
    """Make a full image, since there is none that it could build on."""
    options = request.options
    if options.password is not None and options.encrypt is None:
        raise PasswordError(
            f"{reason}, so a new chain is started; a password needs encryption: choose aes-128, "
            "aes-256 or authenticate",
            "unwanted",
        )
    return CreateJob(request, None, reason).run()


def _incremented(request: CreateRequest, parent: Parent) -> CreateResult:
    """Make an increment; a full image inside of the chain where the parent cannot be read."""
    options = replace(request.options, changed=None)
    try:
        return IncrementJob(request, parent).run()
    except FullBegunError:
        reason = "a full image had been begun, because the parent could not be read"
    except ParentUnusableError as error:
        if request.path is None:
            raise  # The beginning of an increment is already in the pipe.
        reason = f"the parent could not be read: {error}"
        # What the increment left is not the beginning of a full image.
        options = replace(options, resume=False)
    return CreateJob(replace(request, options=options), parent.image, reason).run()


def _check_protection(parent: Parent, options: CreateOptions) -> None:
    """A chain has one suite and one chain key (section 4.1)."""
    keys = parent.image.keys
    suite = keys.suite if keys else Suite.NONE
    if options.encrypt is not None and Suite.parse(options.encrypt) != suite:
        raise RequestError(
            f"{parent.path}: an image is protected as the others of its chain are: by "
            f"{parent.image.encryption or 'nothing'}; leave the encryption out"
        )
    if options.recovery_key is not None:
        raise PasswordError("a recovery key is made with the first image of a chain", "unwanted")


def _check_target(request: CreateRequest, parent: Parent) -> None:
    """An image of the chain is never replaced by a later one, which may need it."""
    path, storage = request.path, request.storage
    if path is None or not storage.exists(path):
        return
    try:
        there = peek_header(storage, path)
    except AipImageError:
        return  # Not an image: whether it may be replaced is asked later.
    if there.chain_id == parent.image.header.chain_id:
        raise TargetError(f"{path}: is an image of the same chain; choose another name")
