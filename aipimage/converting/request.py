"""What was asked for, and what comes back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from aipimage.io.progress import ProgressCallback
from aipimage.io.storage import Storage, StrPath


@dataclass(frozen=True, slots=True)
class Request:
    """A conversion; the fields are arguments of :func:`aipimage.converting.convert.convert`."""

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


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What was made.

    Attributes:
        source: its path. source_format: ``aiv``, ``vmdk`` or ``raw``.
        target: its path, ``None`` where it went into a stream. format: ``vmdk``, ``raw``, ``aiv``,
            ``ova`` or ``ovf``. subformat: ``createType`` of a virtual disk.
        disks: numbers of the disks of the source that were converted.
        size: bytes of the disks as a machine sees them. data: bytes of data that were written,
            before compression; the rest reads as zeros.
        stored: bytes of the target, without holes. files: paths of all files that were made.
        unreadable: bytes that could not be read, now or when the source was imaged; they are zeros.
        cid: content identity of a virtual disk. digest: image digest of an ``.aiv`` target.
        resumed: whether earlier work was continued. seconds: wall time.
        notes: what else was done. warnings: what the user should look at.
    """

    source: str
    source_format: str
    target: str | None
    format: str
    subformat: str | None
    disks: tuple[int, ...]
    size: int
    data: int
    stored: int
    files: tuple[str, ...]
    unreadable: int
    cid: int | None
    digest: str | None
    resumed: bool
    seconds: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
