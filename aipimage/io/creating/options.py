"""What the creation of an image is asked for, and which requests are refused before anything is
opened or written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import BinaryIO

from aipimage import checks
from aipimage.errors import OptionError, PasswordError, RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.creating.packer import CLUSTER
from aipimage.io.records import keys as keyring
from aipimage.io.records.codec import parse_compression
from aipimage.io.records.keys import Suite
from aipimage.io.system.defaults import DEFAULT_FRAME_SHIFT

SourceLike = str | os.PathLike[str] | BinaryIO | BlockSource
KINDS = ("full", "incremental", "differential")
COMPARISONS = ("auto", "digests", "data")
GRAINS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What :func:`create` was asked for; the fields are its arguments.

    ``prepare`` takes the number of a source and the source, and returns what is imaged in its
    place: a :class:`~aipimage.io.blocks.usedsource.UsedSource` where free space is to be left out.
    """

    compress: str = "zstd"
    encrypt: str | None = None
    password: str | None = field(default=None, repr=False)
    recovery_key: str | None = field(default=None, repr=False)
    split: int | None = None
    comment: str = ""
    rate: int | None = None
    threads: int | None = None
    block_digests: bool = True
    stop_on_error: bool = False
    overwrite: bool = False
    resume: bool = False
    checkpoint_bytes: int = 1 << 30
    checkpoint_seconds: float = 30.0
    frame_shift: int = DEFAULT_FRAME_SHIFT
    stripe_shift: int = 22
    kind: str | None = None
    parent: str | os.PathLike[str] | None = None
    changed: object = None
    compare: str = "auto"
    grain: int = CLUSTER
    search: Sequence[str | os.PathLike[str]] | None = None
    prepare: Callable[[int, BlockSource], BlockSource] | None = None
    created: datetime | None = None
    tags: Mapping[str, str] | None = None
    argon2: keyring.Argon2Parameters = keyring.DEFAULT_PARAMETERS


def checked_types(options: CreateOptions, target: object, progress: object) -> CreateOptions:
    """The options with sizes as numbers; each is of its type and within its bounds.

    Raises:
        OptionTypeError, OptionError: one is not; it is named.
    """
    if checks.is_path(target):
        checks.path("path", target)
    elif not callable(getattr(target, "write", None)):
        raise checks.wrong_type("path", target, "a path, or a binary file object to write to")
    checks.texts(compress=options.compress, comment=options.comment, compare=options.compare)
    checks.optional_texts(encrypt=options.encrypt, kind=options.kind)
    checks.secrets(password=options.password, recovery_key=options.recovery_key)
    checks.flags(
        block_digests=options.block_digests,
        stop_on_error=options.stop_on_error,
        overwrite=options.overwrite,
        resume=options.resume,
    )
    checks.jobs(None, progress)
    if options.parent is not None:
        checks.path("parent", options.parent)
    checks.paths("search", options.search)
    if options.created is not None:
        checks.moment("created", options.created)
    if options.tags is not None:
        checks.tags("tags", options.tags)
    return replace(
        options,
        split=checks.optional_size("split", options.split),
        rate=checks.optional_size("rate", options.rate),
        threads=checks.threads(options.threads),
        checkpoint_bytes=checks.size("checkpoint_bytes", options.checkpoint_bytes, 0),
        checkpoint_seconds=checks.number("checkpoint_seconds", options.checkpoint_seconds, 0, 1e12),
        frame_shift=checks.whole("frame_shift", options.frame_shift),
        grain=checks.whole("grain", options.grain),
    )


def check_options(options: CreateOptions, target: object) -> None:
    """Refuse what cannot be done before anything is opened or written."""
    parse_compression(options.compress)
    suite = Suite.parse(options.encrypt)
    _check_chain_options(options)
    if suite == Suite.NONE and options.password is not None and options.parent is None:
        raise PasswordError(
            "a password was passed without encryption; choose aes-128, aes-256 or authenticate",
            "unwanted",
        )
    if suite != Suite.NONE and options.password is None:
        raise PasswordError(f"{options.encrypt} needs a password", "missing")
    if options.password is not None:
        keyring.normalised(options.password)
    if not 12 <= options.frame_shift <= 22 or not options.frame_shift < options.stripe_shift:
        raise OptionError("the frame size must be 4 KiB to 4 MiB and smaller than a stripe")
    if not isinstance(target, (str, os.PathLike)) and (options.split or options.resume):
        raise RequestError("an image that is written to a pipe cannot be split or resumed")


def _check_chain_options(options: CreateOptions) -> None:
    if options.kind not in (None, *KINDS):
        raise OptionError(f"unknown kind {options.kind!r}: use one of {', '.join(KINDS)}")
    if options.compare not in COMPARISONS:
        raise OptionError(
            f"unknown comparison {options.compare!r}: use one of {', '.join(COMPARISONS)}"
        )
    if options.grain not in GRAINS:
        raise OptionError(f"a grain of {options.grain} bytes is not possible: use one of {GRAINS}")
    if options.parent is None and options.kind not in (None, "full"):
        raise RequestError(
            f"an image of kind {options.kind} needs a parent: pass an image, or the directory of "
            "its chain"
        )
    if options.changed is not None and (options.parent is None or options.kind == "full"):
        raise RequestError("what changed is of use only for an incremental or differential image")
