"""A request to create an image, checked, and its sources opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from aipimage.errors import RequestError
from aipimage.format import constants as c
from aipimage.io.blocks.ratedsource import RatedSource
from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.io.creating.options import CreateOptions, SourceLike, check_options, checked_types
from aipimage.io.creating.target import refuse_source_as_target
from aipimage.io.system.progress import ProgressCallback, RateLimit, Reporter
from aipimage.io.system.storage import Storage


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What is to be imaged, where to, and how.

    Attributes:
        target: path of the image, or a binary file object that takes it in one pass.
        sources: open; closed by :func:`opened_request` where it opened them.
    """

    target: str | os.PathLike[str] | BinaryIO
    sources: list[BlockSource]
    options: CreateOptions
    progress: ProgressCallback | None
    storage: Storage

    @property
    def path(self) -> str | None:
        """The path of the image, or ``None`` where it goes into a pipe."""
        return os.fspath(self.target) if isinstance(self.target, (str, os.PathLike)) else None


@contextlib.contextmanager
def opened_request(
    target: str | os.PathLike[str] | BinaryIO,
    sources: Sequence[SourceLike],
    options: CreateOptions,
    progress: ProgressCallback | None,
    storage: Storage,
) -> Iterator[CreateRequest]:
    """Check what was asked for and open the sources; those that are opened here are closed.

    Raises:
        OptionTypeError, OptionError, PasswordError, RequestError: it cannot be done.
        SourceError: a source cannot be opened.
    """
    options = checked_types(options, target, progress)
    check_options(options, target)
    if not sources:
        raise RequestError("no source was passed")
    if len(sources) > c.DEVICES_MAX:
        raise RequestError(f"{len(sources)} sources are over the limit of {c.DEVICES_MAX}")
    with ExitStack() as stack:
        opened = [
            _opened(stack, source, number, options, storage, progress)
            for number, source in enumerate(sources)
        ]
        refuse_source_as_target(target, opened, storage)
        yield CreateRequest(target, opened, options, progress, storage)


def _opened(
    stack: ExitStack,
    source: SourceLike,
    number: int,
    options: CreateOptions,
    storage: Storage,
    progress: ProgressCallback | None,
) -> BlockSource:
    opened = open_source(source, storage)
    if opened is not source:
        stack.callback(opened.close)
    if not 0 < opened.size <= c.DEVICE_SIZE_MAX:
        raise RequestError(
            f"{opened.name}: has a size of {opened.size} bytes; there is nothing to image"
        )
    if options.prepare is None:
        return opened
    if options.rate is None:
        return options.prepare(number, opened)
    reporter = Reporter("create", opened.size, progress)
    rated = RatedSource(opened, RateLimit(options.rate), reporter.again)
    with rated.limited():
        return options.prepare(number, rated)
