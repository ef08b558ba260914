"""What was asked for, checked as far as that can be done before anything is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from aipimage.errors import RequestError
from aipimage.io.progress import ProgressCallback
from aipimage.io.storage import Storage, StrPath
from aipimage.vmdk.converting.sources import Opened


@dataclass(frozen=True, slots=True)
class Request:
    """A conversion; the fields are arguments of :func:`aipimage.vmdk.convert.convert`."""

    target: StrPath | BinaryIO
    format: str
    disk: int | Sequence[int] | None
    disk_options: Mapping[str, Any]
    image_options: Mapping[str, Any]
    appliance: Mapping[str, Any]
    overwrite: bool
    resume: bool
    threads: int | None
    executor: Executor | None
    progress: ProgressCallback | None
    storage: Storage
    password: str | None = field(default=None, repr=False)

    @property
    def path(self) -> str | None:
        """The target's path; ``None`` for a stream."""
        if isinstance(self.target, (str, os.PathLike)):
            return os.fspath(self.target)
        return None

    @property
    def stream(self) -> BinaryIO:
        """The target, where it is a stream."""
        if isinstance(self.target, (str, os.PathLike)):
            raise RuntimeError(f"internal error: {self.target!r} is no stream")
        return self.target

    @property
    def workers(self) -> dict[str, Any]:
        """The arguments that everything takes that works in parallel."""
        return {"threads": self.threads, "executor": self.executor, "progress": self.progress}


def chosen_disk(request: Request, opened: Opened) -> int:
    """The one disk of a target that holds one; where none was named the first, with a warning if
    there are others.

    Raises:
        RequestError: there is no such disk, or several were named.
    """
    numbers = chosen_disks(request, opened)
    if request.disk is None and len(numbers) > 1:
        opened.warnings.append(
            f"{opened.path}: has {len(numbers)} disks, and this is disk 0; name another one "
            "(--disk), or make an appliance of all (--format ova)"
        )
        return 0
    if len(numbers) > 1:
        raise RequestError(
            f"a target of format {request.format} holds one disk; name one of {numbers}"
        )
    return numbers[0]


def chosen_disks(request: Request, opened: Opened) -> tuple[int, ...]:
    """The disks that were named, or all, in their order.

    Raises:
        RequestError: there is no such disk, one is named twice, or none is.
    """
    there = range(len(opened.disks))
    if request.disk is None:
        return tuple(there)
    named = (request.disk,) if isinstance(request.disk, int) else tuple(request.disk)
    for number in named:
        if number not in there:
            raise RequestError(
                f"{opened.path}: has no disk {number}; it has {len(there)}, numbered from 0"
            )
    if not named or len(set(named)) < len(named):
        raise RequestError(f"{opened.path}: name each disk once; got {list(named)}")
    return named
